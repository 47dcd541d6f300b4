"""Which pictures make a batch, and how fast the weights move at each step."""

from __future__ import annotations

import math

import numpy as np


def batches(n: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Positions 0..n-1 in a new order each epoch, cut into full batches; the odd ones out wait for another epoch.

    Order depends on (seed, epoch) alone, so a resumed run sees what an unbroken one would. If there are fewer than
    `batch_size` positions, they make one smaller batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n)
    size = min(batch_size, n)
    return [order[i : i + size] for i in range(0, n - size + 1, size)]


def learning_rate_at(step: int, steps: int, peak: float, warmup_fraction: float) -> float:
    """Linear warm-up to `peak`, then half a cosine down to 0: open_clip's default. Steps count from 0."""
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
