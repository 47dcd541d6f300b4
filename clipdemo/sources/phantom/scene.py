"""What lies between anatomy and look: layers of tissue, each a shape, in the order in which they are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid
from clipdemo.sources.phantom.catalogue import Case

# Every tissue that a layer may be made of, with the flat RGB in which a textbook plate prints it.
# A look has its own table from tissue to grey value, absorption or echo.
TISSUES: dict[str, tuple[float, float, float]] = {
    "air": (0.93, 0.95, 0.96),
    "lung": (0.89, 0.72, 0.72),
    "skin": (0.94, 0.80, 0.69),
    "fat": (0.96, 0.88, 0.62),
    "muscle": (0.74, 0.36, 0.33),
    "bone": (0.95, 0.91, 0.78),
    "marrow": (0.90, 0.76, 0.58),
    "cartilage": (0.75, 0.85, 0.88),
    "tendon": (0.90, 0.90, 0.84),
    "fluid": (0.62, 0.78, 0.90),
    "artery": (0.80, 0.20, 0.18),
    "vein": (0.30, 0.38, 0.66),
    "liver": (0.58, 0.28, 0.22),
    "spleen": (0.55, 0.25, 0.38),
    "kidney": (0.66, 0.30, 0.27),
    "gut": (0.88, 0.62, 0.56),
    "gland": (0.90, 0.68, 0.60),
    "grey matter": (0.80, 0.70, 0.68),
    "white matter": (0.95, 0.90, 0.85),
    "mass": (0.60, 0.45, 0.55),
    "cyst": (0.55, 0.70, 0.85),
    "blood": (0.62, 0.10, 0.12),
    "calcium": (0.98, 0.97, 0.92),
    "metal": (0.70, 0.72, 0.75),
    "tooth": (0.97, 0.95, 0.88),
    "mucosa": (0.87, 0.52, 0.48),
    "cavity": (0.34, 0.15, 0.14),
    "nucleus": (0.40, 0.28, 0.55),
    "cytoplasm": (0.90, 0.75, 0.82),
    "background": (0.97, 0.95, 0.90),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One shape of one tissue. `shape` is a signed distance (float32, size x size), negative inside.

    `softness` is the width of the edge in picture coordinates; `strength` in [0, 1] is opacity in a section and
    relative thickness in a projection (an X-ray adds layers up, a section paints later ones over earlier ones).
    """

    shape: Array
    tissue: str
    softness: float = 0.02
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A patient seen from one side, before any modality has made a picture of it."""

    case: Case
    grid: Grid
    layers: list[Layer]

    @property
    def size(self) -> int:
        """Pixels a side."""
        return self.grid.x.shape[0]


def anatomy_rng(case: Case) -> np.random.Generator:
    """The patient's own random numbers: the same for every picture of the case."""
    return np.random.default_rng(case.anatomy_seed)
