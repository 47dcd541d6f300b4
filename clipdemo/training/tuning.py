"""Which weights are trained: all of them, a tower, the last blocks, or a low-rank change of each (LoRA).

LoRA (Hu et al. 2021) trains W + (2 / sqrt(rank)) B A with small A and B in place of each of the blocks' matrices W,
with B = 0 at the start (the scale is that of rsLoRA, Kalajdzievski 2023). It is PyTorch's own parametrization, so
forward passes need not know of it, and `merged_state` gives plain open_clip weights back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clipdemo import towers
from clipdemo.errors import BadSettings
from clipdemo.records import RunConfig

_MATRICES = ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def choose_trained(network: nn.Module, config: RunConfig) -> None:
    """Marks what `config.tune` names as trained and everything else as fixed. The temperature is always trained.

    Raises `BadSettings` where the network has no such parts.
    """
    visual, text = network.visual, towers.text_tower(network)
    if config.tune == "everything":
        return
    image_side = set(visual.parameters())
    chosen: set[nn.Parameter] = {network.logit_scale}
    if config.tune == "image-tower":
        chosen |= image_side
    elif config.tune == "text-tower":
        chosen |= set(network.parameters()) - image_side
    else:
        image_blocks, text_blocks = _blocks(visual, config), _blocks(text, config)
        if config.tune == "last-blocks":
            for block in (*image_blocks[-config.tuned_blocks :], *text_blocks[-config.tuned_blocks :]):
                chosen |= set(block.parameters())
            chosen |= {p for p in _heads(visual, text) if isinstance(p, nn.Parameter)}
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter in chosen)  # open_clip keeps some fixed itself
    if config.tune == "lora":
        for block in (*image_blocks, *text_blocks):
            for name in _MATRICES:
                owner, _, weight = name.rpartition(".")
                parametrize.register_parametrization(
                    block.get_submodule(owner), weight, _low_rank(block.get_submodule(owner), weight, config.lora_rank)
                )


def _blocks(tower: nn.Module, config: RunConfig) -> list[nn.Module]:
    blocks = list(getattr(getattr(tower, "transformer", None), "resblocks", ()))
    if not blocks:
        raise BadSettings(
            f"tune = {config.tune!r}: the {type(tower).__name__} of {config.base!r} has no transformer blocks of "
            "open_clip's; use everything, image-tower or text-tower"
        )
    return blocks


def _heads(visual: nn.Module, text: nn.Module) -> list[object]:
    """What comes after the last blocks."""
    pools = [getattr(visual, name, None) for name in ("attn_pool", "attn_pool_contrastive")]
    modules = (visual.ln_post, text.ln_final, *(pool for pool in pools if pool is not None))
    norms = [p for module in modules for p in module.parameters()]
    projection = text.text_projection
    return [*norms, visual.proj, *(projection.parameters() if isinstance(projection, nn.Module) else (projection,))]


class _LowRank(nn.Module):
    """W -> W + scale B A."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = 2 / math.sqrt(rank)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.addmm(weight, self.up, self.down, alpha=self.scale)


def _low_rank(owner: nn.Module, name: str, rank: int) -> _LowRank:
    weight = getattr(owner, name)
    return _LowRank(*weight.shape, min(rank, *weight.shape)).to(weight.device, weight.dtype)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """open_clip's own state dict, with every low-rank change added to its weight."""
    state = {}
    for name, value in network.state_dict().items():
        owner, marked, rest = name.partition(".parametrizations.")
        if marked:
            weight = rest.split(".")[0]
            state[f"{owner}.{weight}"] = getattr(network.get_submodule(owner), weight).detach()
        else:
            state[name] = value
    return state
