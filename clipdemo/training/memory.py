"""How many pairs fit into memory at a time, found out with a few of them."""

from __future__ import annotations

import torch
from torch import Tensor

from clipdemo.machine import available_bytes
from clipdemo.models import Clip
from clipdemo.towers import text_tower
from clipdemo.training.gradients import text_features
from clipdemo.training.pairs import Batch

USABLE = 0.7  # of what is free: backward passes need room of their own
PROBE_PAIRS = 3


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
    if n == 1:
        return 1
    trained = sum(p.numel() * p.element_size() for p in clip.network.parameters() if p.requires_grad)
    free = available_bytes(clip.device) if free is None else free
    free -= 3 * trained  # gradients and AdamW's two moments come with the first step
    room = int(max(0, free) * USABLE) // bytes_a_pair(clip, batch)
    return n if room >= n else 1 << max(0, room.bit_length() - 1) if room else 1


def bytes_a_pair(clip: Clip, batch: Batch) -> int:
    """What one more pair adds to the memory of a step; with checkpointing, a block that is computed again included."""
    many = min(len(batch), PROBE_PAIRS)

    def measured() -> int:
        return max(1, (stored_bytes(clip, _first(batch, many)) - stored_bytes(clip, _first(batch, 1))) // (many - 1))

    towers = [getattr(t, "transformer", None) for t in (clip.network.visual, text_tower(clip.network))]
    kept = [t for t in towers if getattr(t, "grad_checkpointing", False)]
    if not kept:
        return measured()
    small = measured()
    for transformer in kept:
        transformer.grad_checkpointing = False
    try:
        whole = measured()
    finally:
        for transformer in kept:
            transformer.grad_checkpointing = True
    return small + (whole - small) // min(len(t.resblocks) for t in kept)


def _first(batch: Batch, pairs: int) -> Batch:
    """The first pictures, each with a text of its own as long as the batch's longest: no optimism."""
    longest = batch.tokens[batch.tokens.argmax(dim=1).argmax()]
    k = min(pairs, len(batch))
    return Batch(batch.pixels[:k], longest.expand(k * batch.templates, -1), batch.text_of[:k], batch.templates)
