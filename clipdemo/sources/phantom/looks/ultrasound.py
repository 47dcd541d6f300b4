"""Ultrasound: echoes of layers that cover one another, times speckle, as a straight or a curved probe sees them.

The values of the table from tissue to echo are unsettled a little for every take, as no two scanners agree.
"""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between, grain, value_noise
from clipdemo.sources.phantom.looks.painting import clipped, paint, painted
from clipdemo.sources.phantom.scene import Scene

ECHO: dict[str, float] = {
    "air": 0.75, "lung": 0.5, "skin": 0.72, "fat": 0.26, "muscle": 0.27, "bone": 0.95, "marrow": 0.3, "cartilage": 0.12,
    "tendon": 0.85, "fluid": 0.02, "artery": 0.05, "vein": 0.05, "liver": 0.42, "spleen": 0.42, "kidney": 0.27,
    "gut": 0.46, "gland": 0.56, "grey matter": 0.35, "white matter": 0.4, "mass": 0.17, "cyst": 0.02, "blood": 0.2,
    "calcium": 1.15, "metal": 1.1, "mucosa": 0.66, "background": 0.36,
}  # fmt: skip

STOPS_SOUND: dict[str, float] = {"calcium": 1.0, "bone": 0.95, "air": 0.75, "lung": 0.3, "mass": 0.3}

LETS_SOUND_PASS = ("fluid", "cyst")


def ultrasound(scene: Scene, rng: np.random.Generator) -> Array:
    """A sonogram: echoes times speckle, with shadows behind what stops sound and light behind what does not."""
    echo = painted(scene, ECHO, rng, ECHO["background"], 0.2)
    fan = _Linear(scene, rng) if scene.case.view.name == "breast-us" else _Sector(scene, rng)
    picture = echo * fan.to_picture(_speckle(rng, scene.size) * _gain(scene, rng, fan))
    picture = (picture + np.float32(between(rng, -0.02, 0.03))) * np.float32(between(rng, 0.95, 1.5))
    return np.where(fan.inside, clipped(picture), np.float32(0))


class _Linear:
    """A straight probe: beams run down the columns of the picture."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        frame = Grid.posed(scene.size)
        left, right, low = (between(rng, 0.86, 1.04) if rng.random() < 0.6 else 1.1 for _ in range(3))
        wide = (frame.x > np.float32(-left)) & (frame.x < np.float32(right))
        self.inside = wide & (frame.y < np.float32(low)) & (frame.y > np.float32(-1 + between(rng, 0, 0.06)))

    def to_beams(self, picture: Array) -> Array:
        """Depth by beam, from rows by columns."""
        return picture

    def to_picture(self, beams: Array) -> Array:
        """Rows by columns, from depth by beam."""
        return beams


class _Sector:
    """A curved probe: beams fan out from a point above the picture. A beam is known by its slope, which needs no arc
    tangent."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        n = scene.size
        frame = Grid.posed(n)
        first = between(rng, 0.22, 0.6)  # radius of the probe
        slope = math.tan(math.radians(between(rng, 30, 40)))
        top = between(rng, -0.98, -0.9) - first
        reach = between(rng, 1.8, 1.96)
        y = frame.y - np.float32(top)
        depth = (np.sqrt(frame.x * frame.x + y * y) - np.float32(first)) * np.float32(1 / reach)
        beam = frame.x / y * np.float32(0.5 / slope) + np.float32(0.5)
        self.inside = (depth > 0) & (depth < 1) & (beam > 0) & (beam < 1)
        self._back = self._index(depth, n) * n + self._index(beam, n)
        steps = (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / n)
        r = steps[:, None] * np.float32(reach) + np.float32(first)
        u = (steps[None, :] - np.float32(0.5)) * np.float32(2 * slope)
        down = r / np.sqrt(np.float32(1) + u * u)
        column = (down * u + np.float32(1)) * np.float32(0.5)
        row = (down + np.float32(top + 1)) * np.float32(0.5)
        self._forth = self._index(row, n) * n + self._index(column, n)

    @staticmethod
    def _index(fraction: Array, n: int) -> np.ndarray:
        return np.minimum(np.maximum(fraction * np.float32(n), np.float32(0)), np.float32(n - 1)).astype(np.int32)

    def to_beams(self, picture: Array) -> Array:
        """Depth by beam, from rows by columns."""
        return picture.ravel()[self._forth]

    def to_picture(self, beams: Array) -> Array:
        """Rows by columns, from depth by beam."""
        return beams.ravel()[self._back]


def _speckle(rng: np.random.Generator, size: int) -> Array:
    """Length of a random vector at each depth and beam, compressed: about 1 on average, wider than deep."""
    a = grain(rng, size)
    a[:, 1:] += a[:, :-1] * np.float32(0.8)
    a[1:] += a[:-1] * np.float32(between(rng, 0.2, 0.7))
    b = a[::-1, ::-1]
    rough = np.sqrt(np.sqrt(a * a + b * b))
    amount = between(rng, 0.5, 0.85)
    return rough * np.float32(0.75 * amount) + np.float32(1 - amount)


def _gain(scene: Scene, rng: np.random.Generator, fan: _Linear | _Sector) -> Array:
    """How loud echoes from each depth and beam are, given what lies before them."""
    stops, passes = np.zeros_like(scene.grid.x), np.zeros_like(scene.grid.x)
    for layer in scene.layers:
        if layer.tissue in STOPS_SOUND:
            paint(stops, layer, STOPS_SOUND[layer.tissue], scene.grid.pixel)
        elif layer.tissue in LETS_SOUND_PASS:
            paint(passes, layer, 1.0, scene.grid.pixel)
    size = scene.size
    depth = (np.arange(size, dtype=np.float32) * np.float32(1 / size))[:, None]
    focus = np.float32(between(rng, 0.3, 0.6))
    gain = np.float32(1) - np.abs(depth - focus) * np.float32(between(rng, 0.1, 0.5))
    gain = gain * (np.float32(1) + value_noise(rng, size, 7) * np.float32(0.18))
    dark = np.maximum.accumulate(fan.to_beams(stops), axis=0)
    late = max(2, round(0.04 * size))  # what stops sound is itself bright
    gain[late:] *= np.float32(1) - dark[:-late] * np.float32(between(rng, 0.72, 0.92))
    clear = fan.to_beams(passes)
    gain *= np.float32(1) + (np.maximum.accumulate(clear, axis=0) - clear) * np.float32(between(rng, 0.25, 0.6))
    return gain
