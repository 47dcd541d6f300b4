import copy

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clipdemo.models import BUILT_IN_FOLDER

pytest.importorskip("transformers", reason="transformers, of requirements-dev.txt, is not installed")

from benchmarks.peers import OpenClipPeer, Pairs, TransformersPeer, attention_mask, image_processor, transformers_model

TEXTS = [
    "a chest",
    "",
    'A "quoted" scan, with commas',
    "Axial CT image " * 60,
    "胸部 X-ray",
    *("word " * n for n in range(1, 12)),
]
PEERS = pytest.mark.parametrize("peer", [OpenClipPeer, TransformersPeer])
TINY_VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
TINY_TEXT = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1}


@pytest.fixture(scope="module")
def network():
    return open_clip.create_model(f"local-dir:{BUILT_IN_FOLDER}")


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.get_tokenizer(f"local-dir:{BUILT_IN_FOLDER}")


@pytest.fixture(scope="module")
def batch(tokenizer):
    """Normalised pictures and tokens of texts of all lengths, also cut ones."""
    images = torch.randn(len(TEXTS), 3, 72, 72, generator=torch.Generator().manual_seed(0))
    return images, tokenizer(TEXTS)


@pytest.fixture
def pairs(tmp_path):
    """16 PNGs of the model's size, which no peer has to resize, with a text each."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 72, 72, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(16)]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    return Pairs(paths, [f"picture {i} of a series" for i in range(16)])


def make(peer, network, tokenizer, batch_size=8, **options):
    preprocessing = open_clip.get_model_preprocess_cfg(network)
    return peer(network, tokenizer, preprocessing, batch_size, learning_rate=1e-4, workers=0, **options)


def tiny_network(quick_gelu=True):
    """Sizes that all differ, and no weight that is 0 or 1 before training."""
    network = open_clip.CLIP(24, TINY_VISION, TINY_TEXT, quick_gelu=quick_gelu).double()
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value), alpha=0.05)
    return network


@pytest.fixture(scope="module")
def tiny_batch(tokenizer):
    return torch.randn(len(TEXTS), 3, 32, 32, dtype=torch.float64), tokenizer(TEXTS, context_length=20)


def plain_loss(network, images, tokens):
    with torch.no_grad():
        image_features, text_features, logit_scale = network(images, tokens)[:3]
        return open_clip.ClipLoss()(image_features, text_features, logit_scale).item()


def assert_same_model(network, images, tokens, tolerance):
    theirs = transformers_model(network)
    output = theirs(input_ids=tokens, pixel_values=images, attention_mask=attention_mask(tokens), return_loss=True)
    image_features, text_features, logit_scale = network(images, tokens)[:3]
    torch.testing.assert_close(output.image_embeds, image_features, rtol=0, atol=tolerance)
    torch.testing.assert_close(output.text_embeds, text_features, rtol=0, atol=tolerance)
    loss = open_clip.ClipLoss()(image_features, text_features, logit_scale)
    torch.testing.assert_close(output.loss, loss, rtol=0, atol=10 * tolerance)


def test_attention_mask_ends_with_the_text():
    tokens = torch.tensor([[49406, 5, 7, 49407, 0], [49406, 49407, 0, 0, 0], [49406, 5, 7, 9, 49407]])
    assert attention_mask(tokens).tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]


def test_transformers_model_has_open_clips_features_and_loss(network, batch):
    assert_same_model(network, *batch, tolerance=1e-6)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_any_form_of_vit_is_read_off_the_module(quick_gelu, tiny_batch):
    assert_same_model(tiny_network(quick_gelu), *tiny_batch, tolerance=1e-12)


def test_what_clip_model_cannot_hold_is_refused(network):
    other = copy.deepcopy(network)
    other.text_pool_type = "last"
    with pytest.raises(ValueError, match="'last'"):
        transformers_model(other)


@PEERS
def test_first_step_is_at_open_clips_loss_and_trains_a_copy(peer, network, tokenizer, batch):
    before = copy.deepcopy(network.state_dict())
    trained = make(peer, network, tokenizer)
    first = trained.step_only(*batch)
    assert first == pytest.approx(plain_loss(network, *batch), rel=1e-5)
    assert trained.step_only(*batch) < first
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_both_peers_learn_the_same_in_float64(tokenizer, tiny_batch):
    """Twin: after some steps all weights agree, so gradients, optimizer, decay and clamp are alike too."""
    network = tiny_network()
    with torch.no_grad():
        network.logit_scale.fill_(4.7)  # is clamped to ln(100) = 4.605
    theirs, usual = (make(peer, network, tokenizer) for peer in (OpenClipPeer, TransformersPeer))
    for _ in range(4):
        assert theirs.step_only(*tiny_batch) == pytest.approx(usual.step_only(*tiny_batch), rel=1e-12)
    expected = transformers_model(theirs.network).state_dict()
    for name, value in usual.network.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-10, msg=name)


@PEERS
def test_an_epoch_in_one_batch_starts_at_open_clips_loss(peer, network, tokenizer, pairs):
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in pairs.images])
    cfg = open_clip.get_model_preprocess_cfg(network)
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(cfg["mean"]).view(3, 1, 1)) / torch.tensor(
        cfg["std"]
    ).view(3, 1, 1)
    figures = make(peer, network, tokenizer, batch_size=16).epoch(pairs)
    assert figures.losses == [pytest.approx(plain_loss(network, images, tokenizer(pairs.texts)), rel=1e-4)]
    assert figures.images == 16 and figures.seconds > 0


def test_epochs_of_both_peers_from_one_seed_are_the_same(network, tokenizer, pairs):
    def losses(peer):
        torch.manual_seed(5)
        trained = make(peer, network, tokenizer, batch_size=5, epochs=2, warmup_steps=2)
        torch.manual_seed(6)
        return [trained.epoch(pairs) for _ in range(2)]

    theirs, usual = losses(OpenClipPeer), losses(TransformersPeer)
    assert [figures.images for figures in theirs] == [figures.images for figures in usual] == [15, 15]
    for a, b in zip(theirs, usual, strict=True):
        assert len(a.losses) == 3
        assert a.losses == pytest.approx(b.losses, rel=1e-4)


@PEERS
def test_too_few_pairs_for_a_batch_are_refused(peer, network, tokenizer, pairs):
    with pytest.raises(ValueError, match="16 pairs"):
        make(peer, network, tokenizer, batch_size=17).epoch(pairs)


def test_a_text_that_the_csv_would_change_is_refused(network, tokenizer, pairs):
    with pytest.raises(ValueError, match="'NA'"):
        make(OpenClipPeer, network, tokenizer).epoch(Pairs(pairs.images, ["NA", *pairs.texts[1:]]))


def test_processors_differ_by_one_level_at_most_in_a_resized_picture(network):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8))
    cfg = open_clip.get_model_preprocess_cfg(network)
    theirs = image_transform_v2(PreprocessCfg(**cfg), is_train=False)(picture)
    usual = image_processor(cfg)(images=picture, return_tensors="pt")["pixel_values"][0]
    assert ((theirs - usual).abs() * torch.tensor(cfg["std"]).view(3, 1, 1) * 255).max() < 1.01
