"""Where a run stands, in one safetensors file: weights, optimizer, and what else decides how it goes on.

Nothing here is ever unpickled. Order, augmentation and dropout are made of (seed, step) alone, so no random state is
kept. A file replaces the one before in one step, so a killed process leaves the last whole one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from clipdemo.errors import TrainingError
from clipdemo.workspace import atomic_write

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Standing:
    """What a run knows about itself between two steps, tensors aside."""

    step: int = 0
    epochs_done: int = 0  # and validated
    seconds: float = 0.0
    chunk_size: int = 0
    best_epoch: int = 0
    best_top1: float = -1.0
    decayed: float = 1.0  # see `vocabulary.UsedRows`
    average_decayed: float = 1.0  # the running mean of it
    losses: list[float] = field(default_factory=list)  # of the steps since the last report


def save_checkpoint(
    path: Path,
    standing: Standing,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: dict[str, Tensor] | None = None,
) -> None:
    """Writes everything that is needed to go on bit for bit."""
    tensors = {f"weight.{name}": p.detach() for name, p in network.named_parameters()}
    tensors |= {f"buffer.{name}": b for name, b in network.named_buffers() if b is not None}
    for name, parameter in network.named_parameters():
        for moment in _MOMENTS:
            if moment in optimizer.state.get(parameter, {}):
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    tensors |= {f"average.{name}": tensor for name, tensor in (averages or {}).items()}
    # one tensor may lie in another's memory, which safetensors refuses
    tensors = {name: tensor.contiguous().cpu().clone() for name, tensor in tensors.items()}
    atomic_write(path, save(tensors, {"standing": json.dumps(asdict(standing))}))


def load_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    averages: dict[str, Tensor] | None = None,
) -> Standing:
    """Puts a run back to where it stood. Raises `TrainingError` for a file that is damaged or of another run."""
    try:
        with safe_open(path, "pt", device="cpu") as file, torch.no_grad():
            standing = Standing(**json.loads(file.metadata()["standing"]))
            tensors = {f"weight.{name}": p for name, p in network.named_parameters()}
            tensors |= {f"buffer.{name}": b for name, b in network.named_buffers() if b is not None}
            tensors |= {f"average.{name}": tensor for name, tensor in (averages or {}).items()}
            names = set(file.keys())
            kept = {name for name in names if name.partition(".")[0] not in _MOMENTS}
            if kept != tensors.keys():
                raise ValueError(f"it holds another network: {min(kept ^ tensors.keys())} is only in one of them")
            for name, tensor in tensors.items():
                tensor.copy_(_shaped(file.get_tensor(name), tensor, name))
            for name, parameter in network.named_parameters():
                state = {m: file.get_tensor(f"{m}.{name}") for m in _MOMENTS if f"{m}.{name}" in names}
                if state:  # copied: else it would lie in the file, which is replaced while we train
                    optimizer.state[parameter] = {m: t.to(parameter.device, copy=True) for m, t in state.items()}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"{path} cannot be gone on from ({type(error).__name__}: {error}): delete it, and the run starts over"
        ) from None
    return standing


def _shaped(found: Tensor, like: Tensor, name: str) -> Tensor:
    """The tensor, if it has the shape that it should have; `copy_` would spread a smaller one out."""
    if found.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(found.shape)}, not {tuple(like.shape)}")
    return found
