import copy

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP

from clipdemo.records import RunConfig
from clipdemo.training.optimizer import make_optimizer, set_rate
from clipdemo.training.tuning import choose_trained

VISION = {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "ls_init_value": 0.1}
TEXT = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 2}
POOLED = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 3}


def build(kind=CLIP, vision=None, text=None):
    torch.manual_seed(0)
    return kind(16, VISION | (vision or {}), TEXT | (text or {}))


def config(**settings):
    return RunConfig(mode="captions", **settings)


def groups(network, optimizer):
    """Name -> the group that holds the parameter. Fails where one is held twice."""
    name_of = {parameter: name for name, parameter in network.named_parameters()}
    found = [(name_of[p], group) for group in optimizer.param_groups for p in group["params"]]
    assert len(found) == len(dict(found))
    return dict(found)


def scales(network, **settings):
    return {name: g["scale"] for name, g in groups(network, make_optimizer(network, config(**settings))).items()}


# ---- rates that fall from the output to the input


def expected_scale(name):
    """By hand for two blocks in each tower and a layer decay of a half."""
    by_part = {
        1.0: ["visual.ln_post", "visual.proj", "ln_final", "text_projection", "logit_scale"],
        0.5: ["visual.transformer.resblocks.1", "transformer.resblocks.1"],
        0.25: ["visual.transformer.resblocks.0", "transformer.resblocks.0"],
        0.125: [
            "visual.class_embedding",
            "visual.positional_embedding",
            "visual.conv1",
            "visual.ln_pre",
            "token_embedding",
            "positional_embedding",
        ],
    }
    (scale,) = [s for s, parts in by_part.items() if name.removeprefix("text.").startswith(tuple(parts))]
    return scale


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
def test_each_block_further_from_the_output_learns_half_as_fast(kind):
    network = build(kind)
    found = scales(network, layer_decay=0.5)
    assert found == {name: expected_scale(name) for name, _ in network.named_parameters()}


def test_each_tower_counts_its_own_blocks():
    found = scales(build(vision={"layers": 4}), layer_decay=0.5)
    assert found["visual.conv1.weight"] == 0.5**5 and found["token_embedding.weight"] == 0.5**3
    assert found["visual.transformer.resblocks.3.ln_1.weight"] == found["transformer.resblocks.1.ln_1.weight"] == 0.5


def test_a_low_rank_change_learns_as_fast_as_its_block():
    network = build()
    choose_trained(network, config(tune="lora"))
    found = scales(network, layer_decay=0.5)
    assert set(found) == {name for name, p in network.named_parameters() if p.requires_grad}
    for name, scale in found.items():
        assert scale == expected_scale(name), name


def test_a_pool_after_the_blocks_learns_at_the_full_rate():
    found = scales(build(vision=POOLED), layer_decay=0.5)
    assert {scale for name, scale in found.items() if name.startswith("visual.attn_pool.")} == {1.0}


def test_in_a_tower_that_is_not_known_only_what_follows_the_trunk_is_the_head():
    found = scales(build(vision={"timm_model_name": "test_vit", "image_size": 160}), layer_decay=0.5)
    trunk = {scale for name, scale in found.items() if name.startswith("visual.trunk.")}
    assert found["visual.head.proj.weight"] == 1.0 and trunk == {0.5}


def test_the_rate_is_given_out_by_scale():
    network = build()
    optimizer = make_optimizer(network, config(layer_decay=0.5))
    set_rate(optimizer, 0.08)
    rates = {name: group["lr"] for name, group in groups(network, optimizer).items()}
    assert rates == {name: 0.08 * expected_scale(name) for name in rates}


def test_a_rate_moves_a_weight_as_far_as_its_scale_says():
    """Adam's first step has the length of the rate."""
    network = build()
    before = copy.deepcopy(network)
    optimizer = make_optimizer(network, config(layer_decay=0.5, weight_decay=0))
    set_rate(optimizer, 0.01)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for (name, new), old in zip(network.named_parameters(), before.parameters(), strict=True):
        step = torch.full_like(old, 0.01 * expected_scale(name))
        torch.testing.assert_close(old.detach() - new.detach(), step, rtol=1e-3, atol=1e-6)


# ---- decay


def test_biases_norms_layer_scales_and_the_temperature_do_not_decay():
    network = build(text={"proj_bias": True})
    held = groups(network, make_optimizer(network, config(weight_decay=0.3, layer_decay=0.9)))
    assert len(held) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        still = name.endswith(("bias", "gamma", "logit_scale", "class_embedding")) or ".ln_" in f".{name}"
        assert held[name]["weight_decay"] == (0 if still else 0.3), name
        assert still == (parameter.ndim < 2)


def test_fixed_weights_are_not_held():
    network = build()
    choose_trained(network, config(tune="last-blocks", tuned_blocks=1))
    held = groups(network, make_optimizer(network, config(tune="last-blocks")))
    assert set(held) == {name for name, p in network.named_parameters() if p.requires_grad}


# ---- twin


def open_clips_optimizer(network, rate, decay):
    """As open_clip_train/main.py sets AdamW up for a ViT."""

    def excluded(name, parameter):
        return parameter.ndim < 2 or "bn" in name or "ln" in name or "bias" in name or "logit_scale" in name

    named = list(network.named_parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for n, p in named if excluded(n, p)], "weight_decay": 0.0},
            {"params": [p for n, p in named if not excluded(n, p)], "weight_decay": decay},
        ],
        lr=rate,
        betas=(0.9, 0.98),
        eps=1e-6,
    )


def test_without_layer_decay_steps_are_open_clips_adamw():
    ours = build().double()
    theirs = copy.deepcopy(ours)
    pair = (
        (ours, make_optimizer(ours, config(learning_rate=0.01, weight_decay=0.2))),
        (theirs, open_clips_optimizer(theirs, 0.01, 0.2)),
    )
    for step in range(4):
        for network, optimizer in pair:
            torch.manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
