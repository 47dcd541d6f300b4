"""The pencil of slices (computed tomography, magnetic resonance, ultrasound) and what may lie in any of them.

A slice is painted from the skin inwards: later layers cover earlier ones. `Sketch` evaluates small shapes only around
themselves, so that two dozen of them stay cheap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy

import numpy as np

from clipdemo.sources.phantom.anatomy.shapes import Point
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, between, blob, box, capsule, ellipse, value_noise
from clipdemo.sources.phantom.scene import Layer


def varied(rng: np.random.Generator, value: float, spread: float = 0.12) -> float:
    """`value` changed by up to the fraction `spread` either way."""
    return value * between(rng, 1 - spread, 1 + spread)


def moved(rng: np.random.Generator, points: list[Point], amount: float) -> list[Point]:
    """The points, each displaced by up to `amount`."""
    return [(x + between(rng, -amount, amount), y + between(rng, -amount, amount)) for x, y in points]


def grown(rng: np.random.Generator, g: Grid, amount: float, scale: float = 1.0, cells: int = 4) -> Grid:
    """The grid bent by the patient's own growth, so that no organ is an exact ellipse, and enlarged by `scale`."""
    size, k, zoom = g.x.shape[0], np.float32(amount), np.float32(1 / scale)
    x, y = g.x * zoom + value_noise(rng, size, cells) * k, g.y * zoom + value_noise(rng, size, cells) * k
    return Grid(x, y, g.pixel / scale)


def folded(g: Grid) -> Grid:
    """Both halves laid upon each other: what is drawn at x > 0 appears on both sides.

    The patient's own growth has bent the grid before (`grown`), so no side is a copy.
    """
    return Grid(np.abs(g.x), g.y, g.pixel)


def furrows(rng: np.random.Generator, size: int, cells: int) -> Array:
    """0 along winding lines, growing to both sides: the sulci of a cortex, the edges of glands."""
    return np.abs(value_noise(rng, size, cells))


class Sketch:
    """Layers in the making. Far from it, a small shape's distance is a plain 1."""

    def __init__(self, g: Grid) -> None:
        self.grid = g
        self.layers: list[Layer] = []
        self._finder = Silhouette(g)

    def add(self, tissue: str, shape: Array, softness: float = 0.02, strength: float = 1.0) -> Array:
        """Paint a shape; comes back for further use."""
        self.layers.append(Layer(shape, tissue, softness, strength))
        return shape

    def bone(self, shape: Array, cortex: float, marrow: float = 1.0) -> None:
        """Paint a bone: a dense wall around marrow."""
        self.add("bone", shape)
        self.add("marrow", shape + np.float32(cortex), 0.03, marrow)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Array:
        """A small ellipse."""
        return self._around(ellipse, (cx, cy, rx, ry, angle), (cx,), (cy,), max(rx, ry))

    def capsule(self, ax: float, ay: float, bx: float, by: float, ra: float, rb: float | None = None) -> Array:
        """A thick line."""
        return self._around(capsule, (ax, ay, bx, by, ra, rb), (ax, bx), (ay, by), max(ra, rb or 0))

    def gather(self) -> Silhouette:
        """An empty silhouette on this grid, for shapes of many pieces."""
        pieces = copy(self._finder)
        pieces.shape = np.ones_like(self.grid.x)
        return pieces

    def path(self, points: list[Point], radius: float, end_radius: float | None = None) -> Array:
        """A thick broken line, tapering to `end_radius`."""
        end = radius if end_radius is None else end_radius
        n = len(points) - 1
        step, thick = (end - radius) / n, max(radius, end)
        blend = 0.6 * thick if thick > 0.03 else 0.0  # a bend shows in thick lines only
        pieces = self.gather()
        for i in range(n):
            pieces.capsule(*points[i], *points[i + 1], radius + step * i, radius + step * (i + 1), blend=blend)
        return pieces.shape

    def blob(self, points: list[Point]) -> Array:
        """A smooth closed outline through the points."""
        return self._around(blob, (points,), [x for x, _ in points], [y for _, y in points], 0.06)

    def box(self, cx: float, cy: float, hx: float, hy: float, corner: float, angle: float = 0.0) -> Array:
        """A small rectangle."""
        return self._around(box, (cx, cy, hx, hy, corner, angle), (cx,), (cy,), hx + hy)

    def _around(
        self, draw: Callable[..., Array], shape: tuple, xs: list | tuple, ys: list | tuple, reach: float
    ) -> Array:
        out = np.ones_like(self.grid.x)
        at = self._finder.window(xs, ys, reach + 0.04)
        if at:
            out[at] = draw(Grid(self.grid.x[at], self.grid.y[at], self.grid.pixel), *shape)
        return out


def limb(s: Sketch, outline: Array, fat: float) -> Array:
    """Skin, fat beneath it and flesh; the flesh comes back."""
    s.add("skin", outline)
    s.add("fat", outline + np.float32(0.025))
    return s.add("muscle", outline + np.float32(fat), 0.03)


def lump(
    s: Sketch, rng: np.random.Generator, at: Point, radius: float, tissue: str = "mass", core: float = 0.4
) -> Array:
    """A tumour: a bumpy outline, with a fluid core in the fraction `core` of them."""
    x, y = at
    turns = [i * math.tau / 7 + between(rng, -0.25, 0.25) for i in range(7)]
    outline = [(x + math.cos(a) * r, y + math.sin(a) * r) for a in turns for r in [radius * between(rng, 0.8, 1.25)]]
    shape = s.add(tissue, s.blob(outline), 0.03)
    if rng.random() < core:
        s.add("cyst", s.ellipse(x, y, radius * 0.5, radius * 0.42, between(rng, 0, 3)), 0.05, 0.9)
    return shape


def sac(s: Sketch, rng: np.random.Generator, at: Point, radius: float) -> Array:
    """A cyst: round and smooth."""
    flat = between(rng, 0.8, 1.0)
    return s.add("cyst", s.ellipse(*at, radius, radius * flat, between(rng, 0, 3)), 0.02)
