"""Small things that many body parts are drawn with: points, outlines, branching vessels."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between
from clipdemo.sources.phantom.catalogue import Case

Point = tuple[float, float]
Segment = tuple[float, float, float, float, float, float]  # from (x, y) to (x, y), and the radii there


def sign(case: Case) -> int:
    """The side of the picture on which the patient's side lies."""
    return 1 if case.side == "left" else -1


def everywhere(g: Grid) -> Array:
    """The shape that has no outside."""
    return np.full_like(g.x, -1)


def ring_of_points(
    rng: np.random.Generator, centre: Point, rx: float, ry: float, wobble: float, n: int = 9
) -> list[Point]:
    """Points around an ellipse, each up to the fraction `wobble` too near or too far: an outline for `blob`."""
    start = rng.random()
    turns = [2 * math.pi * (i + start) / n for i in range(n)]
    far = [1 + wobble * (2 * rng.random() - 1) for _ in range(n)]
    return [
        (centre[0] + rx * f * math.cos(t), centre[1] + ry * f * math.sin(t)) for t, f in zip(turns, far, strict=True)
    ]


def branch(tree: list[Segment], rng: np.random.Generator, x: float, y: float, heading: float, width: float) -> None:
    """Add a winding vessel that gets thinner."""
    for i in range(4):
        length = between(rng, 0.08, 0.16)
        nx, ny = x + length * math.cos(heading), y + length * math.sin(heading)
        tree.append((x, y, nx, ny, width * (1 - 0.2 * i), width * (0.8 - 0.2 * i)))
        x, y, heading = nx, ny, heading + between(rng, -0.45, 0.45)
