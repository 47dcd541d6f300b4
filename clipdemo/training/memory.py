"""How many pairs fit into memory at a time, found out with a few of them."""

from __future__ import annotations

import torch
from torch import Tensor

from clipdemo.machine import available_bytes
from clipdemo.models import Clip
from clipdemo.training.gradients import text_features
from clipdemo.training.pairs import Batch

USABLE = 0.7  # of what is free: backward passes need room of their own
PROBE_PAIRS = 2


def stored_bytes(clip: Clip, batch: Batch) -> int:
    """What a forward pass of this batch keeps for the backward pass, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in clip.network.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = clip.image_features(batch.pixels), text_features(clip, batch.tokens, batch.templates)
    del features
    return sum(seen.values())


def chunk_that_fits(clip: Clip, batch: Batch, free: int | None = None) -> int:
    """Pairs at a time: all of the batch where they fit, else the largest power of two that does.

    `batch` should hold the longest texts that may come. Powers of two, so that a little more or less free memory
    seldom changes the choice, and with it the rounding. `free` in bytes: asked of the machine where it is None.
    """
    n = len(batch)
    few, many = (_first(batch, k) for k in (PROBE_PAIRS, 2 * PROBE_PAIRS))
    per_pair = max(1, (stored_bytes(clip, many) - stored_bytes(clip, few)) // PROBE_PAIRS)
    room = int((available_bytes(clip.device) if free is None else free) * USABLE) // per_pair
    return n if room >= n else 1 << max(0, room.bit_length() - 1) if room else 1


def _first(batch: Batch, pairs: int) -> Batch:
    """The first pictures, each with a text of its own as long as the batch's longest: no optimism."""
    longest = batch.tokens[batch.tokens.argmax(dim=1).argmax()]
    k = min(pairs, len(batch))
    return Batch(batch.pixels[:k], longest.expand(k * batch.templates, -1), batch.text_of[:k], batch.templates)
