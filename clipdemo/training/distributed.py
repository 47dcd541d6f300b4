"""Several processes as one, started by torchrun: a batch is shared out, features are gathered, gradients add up.

Every rank holds the whole model and reads only its share of each batch. The loss needs every picture against every
text, so features travel, which are small; pictures never do. Only rank 0 writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


class Ranks:
    """The processes of one run: this one's number and how many there are. One alone talks to nobody."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """The processes that torchrun started, or this one alone."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls()
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL sends values and barriers through the current one
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size)

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This rank's part of n things in a row; parts differ by one at most and come in the order of ranks."""
        bounds = self._bounds(n)
        return slice(bounds[self.rank], bounds[self.rank + 1])

    def _bounds(self, n: int) -> list[int]:
        return [n * rank // self.size for rank in range(self.size + 1)]

    def gather(self, part: Tensor, n: int) -> Tensor:
        """All ranks' parts of n rows, in order. Backwards: the sum of all ranks' gradients for a part."""
        return part if self.size == 1 else _Gather.apply(part, self, n)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its sum over all ranks, in one message a dtype."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for group in by_type.values():
            flat = torch.cat([tensor.flatten() for tensor in group])
            dist.all_reduce(flat)
            for tensor, summed in zip(group, flat.split([t.numel() for t in group]), strict=True):
                tensor.copy_(summed.view_as(tensor))

    def same_everywhere(self, value: object) -> object:
        """Rank 0's value, on every rank; everyone waits for it."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Returns when every rank has come here."""
        if self.size > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, part: Tensor, ranks: Ranks, n: int) -> Tensor:
        ctx.ranks = ranks
        sizes = [b - a for a, b in zip(ranks._bounds(n), ranks._bounds(n)[1:], strict=False)]
        padded = part.new_zeros(max(sizes), *part.shape[1:])
        padded[: len(part)] = part
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([p[:size] for p, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # autograd may hand it to others too
        dist.all_reduce(gradient)
        return gradient[ctx.ranks.share(len(gradient))], None, None
