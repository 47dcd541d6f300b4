"""How layers cover one another, in grey (`painted`) and in colour (`paint_over`), and what more than one look needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between, coverage, value_noise
from clipdemo.sources.phantom.scene import Layer, Scene

Colour = tuple[float, float, float]
Table = dict[str, Colour]
Planes = list[Array]  # red, green, blue; faster to work on than one (size, size, 3) array


def clipped(x: Array) -> Array:
    """Held between 0 and 1."""
    return np.minimum(np.maximum(x, np.float32(0)), np.float32(1))


# In grey -----------------------------------------------------------------------------------------------------------


def painted(scene: Scene, table: Mapping[str, float], rng: np.random.Generator, outside: float, spread: float) -> Array:
    """All layers with their tissue's value, each tissue's value off by up to `spread` of it."""
    picture = np.full_like(scene.grid.x, outside)
    values: dict[str, float] = {}
    for layer in scene.layers:
        if layer.tissue not in values:
            values[layer.tissue] = table[layer.tissue] * between(rng, 1 - spread, 1 + spread)
        paint(picture, layer, values[layer.tissue], scene.grid.pixel)
    return picture


def paint(picture: Array, layer: Layer, value: float, pixel: float) -> None:
    """Cover the picture, in place, with a layer of one value."""
    soft = max(layer.softness, 1.3 * pixel)
    at = _rows(layer.shape, soft / 2)
    cover = coverage(layer.shape[at], soft)
    if layer.strength != 1:
        cover *= np.float32(layer.strength)
    part = picture[at]
    part += (np.float32(value) - part) * cover


def _rows(shape: Array, edge: float) -> slice:
    """The rows that a shape touches: most layers are small and are painted only there."""
    rows = (shape.min(axis=1) < np.float32(edge)).nonzero()[0]
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0)


# In colour ---------------------------------------------------------------------------------------------------------


def filled(scene: Scene, colour: tuple[float, ...]) -> Planes:
    """Planes of one colour."""
    return [np.full((scene.size, scene.size), c, dtype=np.float32) for c in colour]


def paint_over(planes: Planes, cover: Array, colour: tuple[float, ...], shade: Array | None = None) -> None:
    """Paint a colour, at times shaded, over the planes."""
    for i, c in enumerate(colour):
        target = np.float32(c) if shade is None else shade * np.float32(c)
        planes[i] = planes[i] + (target - planes[i]) * cover


def stacked(planes: Planes) -> Array:
    """The planes as one picture."""
    return np.stack(planes, axis=2)


def varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """A colour a little lighter or darker, and a little off in hue."""
    light = 1 + spread * (2 * rng.random() - 1)
    r, g, b = (c * light * (1 + 0.4 * spread * (2 * rng.random() - 1)) for c in colour)
    return r, g, b


def covers(layer: Layer, pixel: float) -> Array:
    """How much of each pixel a layer hides."""
    return coverage(layer.shape, max(layer.softness, 1.2 * pixel)) * np.float32(layer.strength)


def rounded(shape: Array, reach: float) -> Array:
    """0 at the edge of a shape, rising like a dome to 1 at `reach` inside."""
    s = clipped(shape * np.float32(-1 / reach))
    return s * (np.float32(2) - s)


def ripples(rng: np.random.Generator, size: int) -> Array:
    """Uneven small waves; two sizes, because one alone shows its lattice where it is cut off."""
    return value_noise(rng, size, 23) + value_noise(rng, size, 37) * np.float32(0.7)


# The apparatus -----------------------------------------------------------------------------------------------------


def frame_grid(scene: Scene) -> Grid:
    """The picture's own coordinates, which no pose moves: for what belongs to the apparatus."""
    return Grid.posed(scene.size)


def vignette(scene: Scene, cx: float, cy: float, amount: float) -> Array:
    """1 at (cx, cy), falling with the square of the distance."""
    frame = frame_grid(scene)
    x, y = frame.x - np.float32(cx), frame.y - np.float32(cy)
    return np.float32(1) / (np.float32(1) + (x * x + y * y) * np.float32(amount))
