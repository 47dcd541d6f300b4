import copy
import math

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP

from clipdemo.errors import BadSettings
from clipdemo.models import Clip
from clipdemo.records import RunConfig
from clipdemo.towers import describe, encode_image, encode_text
from clipdemo.training.gradients import accumulate_gradient
from clipdemo.training.optimizer import make_optimizer
from clipdemo.training.pairs import Batch
from clipdemo.training.tuning import choose_trained, merged_state

VISION = {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}
MATRICES = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def build(kind=CLIP, vision=None, text=None, seed=0):
    torch.manual_seed(seed)
    return kind(16, VISION | (vision or {}), TEXT | (text or {}), quick_gelu=True)


def config(tune, **settings):
    return RunConfig(mode="captions", tune=tune, **settings)


def make_batch():
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 39, (5, 8), generator=generator)
    tokens[:, 5], tokens[:, 6:] = 39, 0
    pixels = torch.randint(0, 256, (5, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return Batch(pixels, tokens, torch.tensor([4, 2, 0, 1, 3]))


def step(network, settings):
    """One step of training. Returns the names of the weights that got a gradient."""
    optimizer = make_optimizer(network, settings)
    clip = Clip(network, None, 16, (0.5,) * 3, (0.25,) * 3, torch.device("cpu"))
    accumulate_gradient(clip, make_batch())
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    optimizer.step()
    return reached


def features(network):
    batch = make_batch()
    images = batch.pixels.permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        return encode_image(network, images), encode_text(network, batch.tokens)


def names(network, *starts):
    return {name for name, _ in network.named_parameters() if name.startswith(starts)}


# ---- which weights are trained


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
@pytest.mark.parametrize(
    ("tune", "blocks", "visual", "text"),
    [
        ("everything", 1, ["visual."], [""]),
        ("image-tower", 1, ["visual."], []),
        (
            "text-tower",
            1,
            [],
            ["transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection"],
        ),
        (
            "last-blocks",
            1,
            ["visual.transformer.resblocks.2.", "visual.ln_post.", "visual.proj"],
            ["transformer.resblocks.1.", "ln_final.", "text_projection"],
        ),
        (
            "last-blocks",
            2,
            [f"visual.transformer.resblocks.{i}." for i in (1, 2)] + ["visual.ln_post.", "visual.proj"],
            ["transformer.resblocks.", "ln_final.", "text_projection"],
        ),
        (
            "last-blocks",
            100,
            ["visual.transformer.", "visual.ln_post.", "visual.proj"],
            ["transformer.", "ln_final.", "text_projection"],
        ),
    ],
)
def test_what_is_named_is_trained_and_nothing_else_moves(tune, blocks, visual, text, kind):
    network, settings = build(kind), config(tune, tuned_blocks=blocks)
    prefix = "text." if kind is CustomTextCLIP else ""
    expected = names(network, "logit_scale", *visual, *(prefix + part for part in text))
    before = copy.deepcopy(network.state_dict())
    choose_trained(network, settings)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == expected
    assert step(network, settings) == expected
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == expected


def test_a_projection_with_a_bias_is_one_of_the_last_parts():
    network = build(text={"proj_bias": True})
    choose_trained(network, config("last-blocks"))
    assert all(p.requires_grad for p in network.text_projection.parameters())


def test_without_a_projection_the_last_blocks_are_still_found():
    network = build(text={"proj_type": "none"})
    choose_trained(network, config("last-blocks", tuned_blocks=1))
    assert network.ln_final.weight.requires_grad and not network.transformer.resblocks[0].ln_1.weight.requires_grad


def test_lora_trains_two_small_matrices_for_each_of_the_blocks_matrices():
    network, settings = build(), config("lora", lora_rank=4)
    choose_trained(network, settings)
    expected = {"logit_scale"} | {
        f"{tower}transformer.resblocks.{i}.{owner}.parametrizations.{weight}.0.{part}"
        for tower, layers in (("visual.", 3), ("", 2))
        for i in range(layers)
        for owner, _, weight in (name.rpartition(".") for name in MATRICES)
        for part in ("down", "up")
    }
    assert {name for name, p in network.named_parameters() if p.requires_grad} == expected
    assert step(network, settings) == expected


@pytest.mark.parametrize("tune", ["image-tower", "text-tower", "last-blocks", "lora"])
def test_the_temperature_is_always_trained(tune):
    network = build()
    choose_trained(network, config(tune))
    assert network.logit_scale.requires_grad


def test_positions_that_open_clip_keeps_fixed_stay_fixed():
    network = build(vision={"pos_embed_type": "sin_cos_2d"})
    choose_trained(network, config("image-tower"))
    assert not network.visual.positional_embedding.requires_grad


@pytest.mark.parametrize("tune", ["last-blocks", "lora"])
def test_a_tower_without_blocks_is_named_and_the_network_is_left_as_it_was(tune):
    network = build(vision=RESNET)
    before = names(network, "")
    with pytest.raises(BadSettings, match=rf"tune = '{tune}': the ModifiedResNet of 'builtin'.*use everything"):
        choose_trained(network, config(tune))
    assert names(network, "") == before and all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("tune", ["image-tower", "text-tower"])
def test_a_tower_without_blocks_can_be_trained_as_a_whole(tune):
    network = build(vision=RESNET)
    choose_trained(network, config(tune))
    assert all(p.requires_grad == (tune == "image-tower") for p in network.visual.parameters())


# ---- LoRA


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_lora_starts_as_the_base_and_ends_as_plain_open_clip_weights(kind):
    network, settings = build(kind), config("lora", learning_rate=0.01)
    start, said = features(network), describe(network)
    choose_trained(network, settings)
    assert describe(network) == said
    assert all(map(torch.equal, features(network), start))
    for _ in range(3):
        step(network, settings)
    tuned = features(network)
    assert min(float((a - b).abs().max()) for a, b in zip(tuned, start, strict=True)) > 1e-3
    fresh = build(kind, seed=1)
    fresh.load_state_dict(merged_state(network), strict=True)
    batch = make_batch()
    theirs = (
        fresh.encode_image(batch.pixels.permute(0, 3, 1, 2) / 255, normalize=True),
        fresh.encode_text(batch.tokens, normalize=True),
    )
    torch.testing.assert_close(tuned, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(features(fresh), tuned, rtol=0, atol=1e-6)


def test_lora_adds_the_scaled_product_of_its_two_matrices():
    network = build()
    attention = network.visual.transformer.resblocks[1].attn
    before = attention.in_proj_weight.detach().clone()
    choose_trained(network, config("lora", lora_rank=4))
    change = attention.parametrizations.in_proj_weight[0]
    assert change.up.shape == (48, 4) and change.down.shape == (4, 16)
    with torch.no_grad():
        change.up.normal_()
    expected = before + 2 / math.sqrt(4) * change.up @ change.down
    torch.testing.assert_close(attention.in_proj_weight, expected)
    merged = merged_state(network)["visual.transformer.resblocks.1.attn.in_proj_weight"]
    assert torch.equal(merged, attention.in_proj_weight) and not merged.requires_grad


def test_a_rank_larger_than_the_matrix_is_cut():
    network = build()
    choose_trained(network, config("lora", lora_rank=256))
    change = network.transformer.resblocks[0].mlp.c_fc.parametrizations.weight[0]
    assert change.up.shape == (64, 16) and change.down.shape == (16, 16)
    assert change.scale == 2 / math.sqrt(16)


def test_the_same_seed_starts_the_same_lora():
    downs = []
    for _ in range(2):
        network = build()
        choose_trained(network, config("lora"))
        downs.append(network.transformer.resblocks[0].attn.parametrizations.in_proj_weight[0].down)
    assert torch.equal(*downs)


def test_without_lora_the_merged_state_is_the_state():
    network = build()
    state, merged = network.state_dict(), merged_state(network)
    assert state.keys() == merged.keys()
    assert all(torch.equal(state[name], merged[name]) for name in state)
