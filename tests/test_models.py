import numpy as np
import open_clip
import pytest
import torch

from clipdemo.errors import ModelError
from clipdemo.models import BUILT_IN_FOLDER, base_digest, open_model


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
