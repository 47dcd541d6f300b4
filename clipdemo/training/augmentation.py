"""Pictures a little changed at every look, on whatever device they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ZOOM, SHIFT, BRIGHTNESS, CONTRAST = (0.8, 1.0), 0.08, 0.1, 0.2


def augmented(pixels: Tensor, seed: int, n: int | None = None, rows: slice = slice(None)) -> Tensor:
    """float32 (n, size, size, 3) in [0, 255]: zoomed in, shifted, and with other brightness and contrast.

    `pixels` is uint8 of the same shape, or the `rows` of a batch of `n`. The same seed gives the same change on any
    device and for any share of a batch. No mirroring: captions say left and right.
    """
    numbers = torch.rand(n or len(pixels), 5, generator=torch.Generator().manual_seed(seed))[rows]
    numbers = numbers.to(pixels.device, non_blocking=True)
    zoom = ZOOM[0] + (ZOOM[1] - ZOOM[0]) * numbers[:, 0]
    shift = SHIFT * (2 * numbers[:, 1:3] - 1)
    theta = torch.zeros(len(pixels), 2, 3, device=pixels.device)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    x = pixels.permute(0, 3, 1, 2).float()
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast = 1 + CONTRAST * (2 * numbers[:, 3, None, None, None] - 1)
    offset = 255 * BRIGHTNESS * (2 * numbers[:, 4, None, None, None] - 1)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean + offset).clamp(0, 255).permute(0, 2, 3, 1)
