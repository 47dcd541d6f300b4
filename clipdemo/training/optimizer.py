"""AdamW as open_clip sets it up, with rates that may fall from the output to the input."""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from torch import nn

from clipdemo.records import RunConfig

_HEAD = re.compile(r"(visual\.(ln_post|proj|attn_?pool|head)|(text\.)?(ln_final|text_projection|proj)\b|logit_)")
_BLOCK = re.compile(r"(visual\.)?(?:text\.)?transformer\.resblocks\.(\d+)\.")


def make_optimizer(network: nn.Module, config: RunConfig) -> torch.optim.AdamW:
    """No decay for biases, norms and the temperature. Groups hold `scale`, the part of the learning rate they get."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    depths = _depths(network)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            scale = config.layer_decay ** depths[name]
            groups[scale, config.weight_decay if parameter.ndim >= 2 else 0.0].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "scale": scale}
            for (scale, decay), parameters in groups.items()
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives each group its part of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _depths(network: nn.Module) -> dict[str, int]:
    """How many blocks of its tower lie between a parameter and the output; the embeddings lie before all of them."""
    names = [name for name, _ in network.named_parameters()]
    blocks = {name: match for name in names if (match := _BLOCK.match(name))}
    count = {
        side: 1 + max((int(m[2]) for m in blocks.values() if m[1] == side), default=-1) for side in ("visual.", None)
    }
    depths = {}
    for name in names:
        side = "visual." if name.startswith("visual.") else None
        if name in blocks:
            depths[name] = count[side] - int(blocks[name][2])
        elif _HEAD.match(name):
            depths[name] = 0
        else:
            depths[name] = count[side] + 1
    return depths
