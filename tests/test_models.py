import numpy as np
import open_clip
import pytest
import torch

from clipdemo.errors import ModelError
from clipdemo.models import BUILT_IN_FOLDER, base_digest, open_model
from clipdemo.towers import encode_text

TEXTS = ["a chest", "", "A medical image of brain", "Axial CT image " * 60, "胸部 " * 10] + [
    "word " * n for n in range(1, 40)
]


@pytest.fixture(scope="module")
def clip():
    return open_model()


def test_the_built_in_base_is_an_open_clip_folder_of_at_most_20_megabytes(clip):
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{BUILT_IN_FOLDER}")
    network.eval()
    assert sum(path.stat().st_size for path in BUILT_IN_FOLDER.iterdir()) <= 20_000_000
    pictures = np.random.default_rng(0).integers(0, 256, (3, 72, 72, 3), dtype=np.uint8)
    from PIL import Image

    theirs = network.encode_image(torch.stack([transform(Image.fromarray(p)) for p in pictures]), normalize=True)
    np.testing.assert_allclose(clip.encode_images(pictures), theirs.detach().numpy(), atol=1e-6)


def test_short_texts_are_encoded_as_open_clip_does_in_float64(clip):
    """Twin: the columns that are left out change neither features nor gradients."""
    network = open_model().network.double()
    tokens = clip.tokens(TEXTS)
    weights = list(network.parameters())
    fast, plain = encode_text(network, tokens), network.encode_text(tokens, normalize=True)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)
    probe = torch.randn_like(plain)
    ours = torch.autograd.grad((fast * probe).sum(), weights, allow_unused=True)
    theirs = torch.autograd.grad((plain * probe).sum(), weights, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_other_text_towers_run_as_they_are():
    network = open_clip.model.CustomTextCLIP(
        16,
        {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        {"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    ).eval()
    tokens = torch.randint(1, 49, (3, 12))
    torch.testing.assert_close(encode_text(network, tokens), network.encode_text(tokens, normalize=True))


def test_features_have_unit_length_and_batches_do_not_matter(clip):
    pictures = np.random.default_rng(1).integers(0, 256, (300, 72, 72, 3), dtype=np.uint8)
    features = clip.encode_images(pictures)
    assert features.shape == (300, 128)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(features[250:260], clip.encode_images(pictures[250:260]), atol=1e-5)


@pytest.mark.parametrize("base", ["ViT-B-32", "no-such-model:openai", "local-dir:/nowhere"])
def test_a_base_that_cannot_be_opened_is_named(base):
    with pytest.raises(ModelError, match=base):
        open_model(base)


def test_weights_of_another_model_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        open_model(weights=tmp_path / "w.safetensors")


def test_base_digest_changes_with_the_weights(tmp_path):
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"1")
    first = base_digest(f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"2")
    assert base_digest(f"local-dir:{tmp_path}") != first
    assert base_digest("ViT-B-32:openai") == base_digest("ViT-B-32:openai") != base_digest("ViT-B-16:openai")
