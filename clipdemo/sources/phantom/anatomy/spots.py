"""Hundreds of cells at the price of a few.

Cells come by the hundred, so `Spots` draws them from tables: a jittered lattice of ellipses of which each pixel looks
at the four nearest only. What a cell is like (kept or not, how large, which way) is decided on the lattice's own
points, where a shape costs next to nothing.
"""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between, value_noise

REACH = 2.4  # microscope slides go on beyond the picture: takes move and turn freely over them


def noise(rng: np.random.Generator, n: int, low: float, high: float) -> Array:
    """An (n, n) table of numbers in [low, high)."""
    return rng.random((n, n), dtype=np.float32) * np.float32(high - low) + np.float32(low)


def directions(x: Array, y: Array) -> tuple[Array, Array]:
    """The unit vectors along (x, y)."""
    length = np.sqrt(x * x + y * y) + np.float32(1e-6)
    return x / length, y / length


def flow(rng: np.random.Generator, n: int, bend: float = 0.8) -> tuple[Array, Array]:
    """A smooth field of unit vectors on a lattice, about one direction: how fibres run."""
    angle = between(rng, 0, math.pi)
    return directions(
        value_noise(rng, n, 4) * np.float32(bend) + np.float32(math.cos(angle)),
        value_noise(rng, n, 4) * np.float32(bend) + np.float32(math.sin(angle)),
    )


class Spots:
    """Ellipses on a jittered lattice with `spacing` between them; `jitter` in units of half the spacing.

    An ellipse must be no larger than about (1 - jitter / 2) spacings, or the picture shows where a pixel stops looking.
    """

    def __init__(self, rng: np.random.Generator, spacing: float, jitter: float = 0.6, reach: float = REACH) -> None:
        self.n = n = int(2 * reach / spacing) + 2
        self.spacing, self.reach = spacing, reach
        axis = (np.arange(n, dtype=np.float32) + np.float32(0.5)) * np.float32(spacing) - np.float32(reach)
        half = jitter * spacing / 2
        self.x = axis[None, :] + noise(rng, n, -half, half)
        self.y = axis[:, None] + noise(rng, n, -half, half)
        self.keep(np.ones((n, n), dtype=bool))
        self.sized(np.full((n, n), 0.3 * spacing, dtype=np.float32))

    @property
    def grid(self) -> Grid:
        """The lattice points as a grid on which shapes can be evaluated."""
        return Grid(self.x, self.y, self.spacing)

    def keep(self, kept: Array) -> None:
        """Which of the spots exist."""
        self.kept = kept

    def sized(self, radius: Array, longer: Array | float = 1.0, along: tuple[Array, Array] | None = None) -> None:
        """Radius of each spot; it is `longer` times its width and points `along` a direction (unit x, unit y)."""
        self.radius, self.round = radius, along is None
        width = np.float32(1) / (radius * radius)
        if along is None:
            self.xx, self.yy, self.xy = width, width, np.zeros_like(width)
            return
        length = width / (np.float32(longer) * np.float32(longer))
        ux, uy = along
        self.xx = length * ux * ux + width * uy * uy
        self.yy = length * uy * uy + width * ux * ux
        self.xy = (length - width) * ux * uy * np.float32(2)

    def _two_nearest(self, g: Grid, second: bool) -> tuple[Array, Array | None]:
        """Squared distances, in radii, to the nearest kept spot and, if asked for, to the next."""
        scale, n = np.float32(1 / self.spacing), self.n
        offset, last = np.float32(self.reach / self.spacing - 0.5), np.float32(n - 2)
        i = np.minimum(np.maximum(g.x * scale + offset, np.float32(0)), last).astype(np.intp)
        j = np.minimum(np.maximum(g.y * scale + offset, np.float32(0)), last).astype(np.intp)
        corner = j * n + i
        none = np.float32(1e6)
        xx, yy = np.where(self.kept, self.xx, none), np.where(self.kept, self.yy, none)
        xy = np.where(self.kept, self.xy, np.float32(0))
        nearest = following = None
        for step in (0, 1, n, n + 1):
            x, y, a = (np.ravel(t)[step:].take(corner, mode="clip") for t in (self.x, self.y, xx))
            dx, dy = g.x - x, g.y - y
            if self.round:
                far = (dx * dx + dy * dy) * a
            else:
                b, c = (np.ravel(t)[step:].take(corner, mode="clip") for t in (yy, xy))
                far = dx * (dx * a + dy * c) + dy * dy * b
            if nearest is None:
                nearest, following = far, far + none
                continue
            if second:
                following = np.minimum(following, np.maximum(nearest, far))
            nearest = np.minimum(nearest, far)
        return np.maximum(nearest, np.float32(0)), following

    @property
    def _typical(self) -> np.float32:
        """One radius for all: distances need only be about right."""
        return np.float32(float(self.radius[self.n // 2, self.n // 2]))

    def shape(self, g: Grid) -> Array:
        """Approximate signed distance to the nearest kept spot."""
        return (np.sqrt(self._two_nearest(g, False)[0]) - np.float32(1)) * self._typical

    def borders(self, g: Grid) -> Array:
        """About how far it is to the line half way between the two nearest spots: walls of cells in a sheet."""
        nearest, following = self._two_nearest(g, True)
        return (np.sqrt(following) - np.sqrt(nearest)) * self._typical * np.float32(0.5)
