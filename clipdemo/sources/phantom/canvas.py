"""Shapes as signed distances on a grid, and smooth noise: the pencil of the phantom source.

Every array operation here is one that IEEE 754 rounds exactly (+ - * / sqrt, min, max, floor, comparison), in float32.
Sines and exponentials are taken of Python scalars only. So one (seed, index) gives the same bytes on every machine,
which is what lets a sample's hash be compared between two laptops. Keep it so: no np.sin, np.exp, np.hypot,
np.power, matmul or reductions on arrays that end in a picture.

Coordinates: x to the right, y down; a picture spans about [-1, 1] in both. A distance is negative inside a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Floats = Sequence[float]
Array = np.ndarray  # float32 (size, size) everywhere in this package


@dataclass(frozen=True, slots=True)
class Grid:
    """Where each pixel lies in the patient: pose, zoom and shift are in the coordinates, so shapes need none."""

    x: Array
    y: Array
    pixel: float  # side of a pixel in these coordinates

    @classmethod
    def posed(
        cls, size: int, *, rotation: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
    ) -> Grid:
        """A square grid; `rotation` in radians, `zoom` > 1 shows less of the patient, `shift` moves the patient."""
        step = 2.0 / size
        axis = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(step) - np.float32(1)) / np.float32(
            zoom
        )
        u, v = axis[None, :], axis[:, None]
        cos, sin = np.float32(math.cos(rotation)), np.float32(math.sin(rotation))
        x = u * cos + v * sin - np.float32(shift[0])
        y = v * cos - u * sin - np.float32(shift[1])
        return cls(x, y, step / zoom)

    def warped(self, dx: Array, dy: Array) -> Grid:
        """The same grid with its points displaced, which bends every shape drawn on it."""
        return Grid(self.x + dx, self.y + dy, self.pixel)

    def mirrored(self) -> Grid:
        """The same patient with left and right exchanged."""
        return Grid(-self.x, self.y, self.pixel)

    def placed(self, cx: float, cy: float, angle: float = 0.0, scale: float = 1.0) -> Grid:
        """Local coordinates of a part that sits at (cx, cy), turned by `angle` and enlarged by `scale`."""
        x, y = self.x - np.float32(cx), self.y - np.float32(cy)
        cos, sin, k = np.float32(math.cos(angle)), np.float32(math.sin(angle)), np.float32(1 / scale)
        return Grid((x * cos + y * sin) * k, (y * cos - x * sin) * k, self.pixel / scale)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high)."""
    return low + (high - low) * rng.random()


def _length(x: Array, y: Array) -> Array:
    """sqrt(x x + y y), in the memory of `x`; both are overwritten, as nothing costs as much here as fresh memory."""
    x *= x
    y *= y
    x += y
    return np.sqrt(x, out=x)


def _along(g: Grid, ax: float, ay: float, bx: float, by: float) -> tuple[Array, Array]:
    """How far along the line from a to b each point's nearest one lies, in [0, 1], and the distance to it."""
    x, y = g.x - np.float32(ax), g.y - np.float32(ay)
    dx, dy = bx - ax, by - ay
    t, other = x * np.float32(dx), y * np.float32(dy)
    t += other
    t *= np.float32(1 / max(dx * dx + dy * dy, 1e-9))
    np.maximum(t, np.float32(0), out=t)
    np.minimum(t, np.float32(1), out=t)
    x -= np.multiply(t, np.float32(dx), out=other)
    y -= np.multiply(t, np.float32(dy), out=other)
    return t, _length(x, y)


def ellipse(g: Grid, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Array:
    """Approximate signed distance to an ellipse, good near its edge, which is where it is used."""
    u, v = g.x - np.float32(cx), g.y - np.float32(cy)
    if angle:
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        u, v = u * cos + v * sin, v * cos - u * sin
    u *= np.float32(1 / rx)
    v *= np.float32(1 / ry)
    out = _length(u, v)
    out -= np.float32(1)
    out *= np.float32(min(rx, ry))
    return out


def capsule(g: Grid, ax: float, ay: float, bx: float, by: float, ra: float, rb: float | None = None) -> Array:
    """Signed distance to a thick line from a to b whose radius goes from `ra` to `rb`: bones, vessels, roots."""
    t, out = _along(g, ax, ay, bx, by)
    if rb is None or rb == ra:
        out -= np.float32(ra)
        return out
    t *= np.float32(rb - ra)
    t += np.float32(ra)
    out -= t
    return out


def polyline(g: Grid, points: list[tuple[float, float]], radius: float, end_radius: float | None = None) -> Array:
    """Signed distance to a thick broken line, tapering to `end_radius`."""
    end = radius if end_radius is None else end_radius
    n = len(points) - 1
    radii = [radius + (end - radius) * i / n for i in range(n + 1)]
    pieces = (capsule(g, *points[i], *points[i + 1], radii[i], radii[i + 1]) for i in range(n))
    return union(*pieces)


def strokes(g: Grid, segments: Sequence[tuple[float, float, float, float, float, float]]) -> Array:
    """Signed distance to very many thick lines (ax, ay, bx, by, radius at a, radius at b): vessels, filaments.

    Right within 0.05 of them and a plain 1 elsewhere: each tile of 8 x 8 pixels looks at the lines near it only.
    """
    n, side = g.x.shape[0], 8
    left, right, top, bottom = (float(v) for v in (g.x.min(), g.x.max(), g.y.min(), g.y.max()))
    segments = [
        s
        for s in segments
        if max(s[0], s[2]) > left - 0.1 and min(s[0], s[2]) < right + 0.1
        and max(s[1], s[3]) > top - 0.1 and min(s[1], s[3]) < bottom + 0.1
    ]  # fmt: skip
    if not segments:
        return np.ones_like(g.x)
    m = -(-n // side)
    pad = ((0, m * side - n), (0, m * side - n))
    x, y = (np.pad(a, pad, mode="edge") if pad[0][1] else a for a in (g.x, g.y))
    x, y = (a.reshape(m, side, m, side).transpose(0, 2, 1, 3).reshape(m * m, side * side) for a in (x, y))
    table = np.array([(*s[:4], s[2] - s[0], s[3] - s[1], s[4], s[5] - s[4]) for s in segments], dtype=np.float64)
    scale = 1 / np.maximum(table[:, 4] * table[:, 4] + table[:, 5] * table[:, 5], 1e-9)
    ax, ay, _, _, dx, dy, ra, widening, scale = (c.astype(np.float32) for c in (*table.T, scale))

    def distance(px: Array, py: Array, k: Array | slice) -> Array:
        qx, qy = px - ax[k], py - ay[k]
        t = (qx * dx[k] + qy * dy[k]) * scale[k]
        t = np.minimum(np.maximum(t, np.float32(0)), np.float32(1))
        qx, qy = qx - t * dx[k], qy - t * dy[k]
        return np.sqrt(qx * qx + qy * qy) - (ra[k] + t * widening[k])

    middle = side * side // 2 + side // 2
    near = distance(x[:, middle, None], y[:, middle, None], slice(None)) < np.float32(0.75 * side * g.pixel + 0.05)
    tile, k = near.nonzero()
    out = np.ones((m * m, side * side), dtype=np.float32)
    if len(tile):
        first = np.concatenate(([0], (tile[1:] != tile[:-1]).nonzero()[0] + 1))
        out[tile[first]] = np.minimum.reduceat(distance(x[tile], y[tile], k[:, None]), first, axis=0)
    out = np.minimum(out, np.float32(1)).reshape(m, m, side, side).transpose(0, 2, 1, 3).reshape(m * side, m * side)
    return np.ascontiguousarray(out[:n, :n])


def box(g: Grid, cx: float, cy: float, hx: float, hy: float, corner: float = 0.0, angle: float = 0.0) -> Array:
    """Signed distance to a rectangle of half sides `hx`, `hy` with rounded corners."""
    p = g.placed(cx, cy, angle)
    qx = np.abs(p.x) - np.float32(hx - corner)
    qy = np.abs(p.y) - np.float32(hy - corner)
    ox, oy = np.maximum(qx, np.float32(0)), np.maximum(qy, np.float32(0))
    return np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(qx, qy), np.float32(0)) - np.float32(corner)


def half_plane(g: Grid, cx: float, cy: float, angle: float) -> Array:
    """Signed distance to the half plane through (cx, cy) whose outward normal points along `angle`."""
    return (g.x - np.float32(cx)) * np.float32(math.cos(angle)) + (g.y - np.float32(cy)) * np.float32(math.sin(angle))


def spindle(g: Grid, ax: float, ay: float, bx: float, by: float, ra: float, rb: float, waist: float) -> Array:
    """A capsule from a to b that is `waist` thinner half way: phalanges, long bones, a pouch of bowel."""
    t, out = _along(g, ax, ay, bx, by)
    out -= np.float32(ra) + t * (np.float32(rb - ra - 4 * waist) + t * np.float32(4 * waist))
    return out


def blob(g: Grid, points: list[tuple[float, float]], steps: int = 128) -> Array:
    """Approximate signed distance to a smooth closed outline through `points`, in any order around their mean.

    The outline must be visible from the mean of its points (star-shaped). A table holds its radius by direction;
    direction is measured around a square (|x| + |y| = 1), which needs no arc tangent.
    """
    cx, cy = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    radius, slant = _outline_table([(x - cx, y - cy) for x, y in points], steps)
    x, y = g.x - np.float32(cx), g.y - np.float32(cy)
    turn = _square_angle(x, y)
    turn *= np.float32(steps / 4)
    i = np.minimum(turn, np.float32(steps - 1)).astype(np.intp)
    turn -= i
    turn *= (radius[1:] - radius[:-1]).take(i)
    turn += radius.take(i)
    out = _length(x, y)
    out -= turn
    out *= slant.take(i)
    return out


def _square_angle(x: Array, y: Array) -> Array:
    """Direction of (x, y) in [0, 4): grows with the angle, from straight up, once around."""
    total = np.abs(x)
    total += np.abs(y)
    total += np.float32(1e-6)
    t = y / total
    out = np.float32(1) + t
    return np.subtract(np.float32(3), t, out=out, where=x < 0)


def _outline_table(points: list[tuple[float, float]], steps: int) -> tuple[Array, Array]:
    """Outline's radius by direction (cubic between points), and the cosine between ray and normal; `steps` + 1 each."""
    corners = []
    for x, y in points:
        turn = y / (abs(x) + abs(y))
        corners.append((1 + turn if x >= 0 else 3 - turn, math.sqrt(x * x + y * y)))
    corners.sort()
    n = len(corners)
    q, r = zip(*((corners[i % n][0] + 4 * (i // n), corners[i % n][1]) for i in range(-2, n + 2)), strict=True)
    slope = [(r[i + 2] - r[i]) / (q[i + 2] - q[i]) for i in range(n + 2)]
    pieces = []  # start and coefficients of the cubic in each gap between corners, scaled to [0, 1]
    for i in range(n + 1):
        h = q[i + 2] - q[i + 1]
        d0, d1, rise = slope[i] * h, slope[i + 1] * h, r[i + 2] - r[i + 1]
        pieces.append((q[i + 1], 1 / h, r[i + 1], d0, 3 * rise - 2 * d0 - d1, d0 + d1 - 2 * rise))
    cubic = np.array(pieces)
    at, ux, uy, norm = _directions(steps)
    start, inverse, c0, c1, c2, c3 = cubic[np.searchsorted(cubic[1:, 0], at, side="right")].T
    t = (at - start) * inverse
    radius = ((c3 * t + c2) * t + c1) * t + c0
    scale = radius / norm
    px, py = ux * scale, uy * scale
    dx, dy = px[1:] - px[:-1], py[1:] - py[:-1]
    slant = np.abs(px[:-1] * dy - py[:-1] * dx) / (radius[:-1] * np.sqrt(dx * dx + dy * dy))
    return radius[:-1].astype(np.float32), slant.astype(np.float32)


@lru_cache(maxsize=4)
def _directions(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points around the square |x| + |y| = 1: their place along it, x, y and distance from the middle."""
    at = np.arange(steps + 2) * (4.0 / steps)
    turn = at % 4
    x = np.where(turn < 2, 1 - np.abs(turn - 1), np.abs(turn - 3) - 1)
    y = np.where(turn < 2, turn - 1, 3 - turn)
    return at, x, y, np.sqrt(x * x + y * y)


def union(*shapes: Array) -> Array:
    """The nearest of several shapes."""
    out, *rest = shapes
    for shape in rest:
        out = np.minimum(out, shape)
    return out


def intersection(*shapes: Array) -> Array:
    """What all shapes share."""
    out, *rest = shapes
    for shape in rest:
        out = np.maximum(out, shape)
    return out


def difference(shape: Array, *holes: Array) -> Array:
    """`shape` without the holes."""
    return intersection(shape, *(-hole for hole in holes))


def smooth_union(a: Array, b: Array, k: float) -> Array:
    """Two shapes melted together over a distance `k` (polynomial smooth minimum, after Quilez)."""
    h = a - b
    np.subtract(np.float32(k), np.abs(h, out=h), out=h)
    np.maximum(h, np.float32(0), out=h)
    h *= np.float32(1 / k)
    h *= h
    h *= np.float32(k / 4)
    return np.subtract(np.minimum(a, b), h, out=h)


def shell(shape: Array, thickness: float) -> Array:
    """The wall of a shape, `thickness` wide, centred on its edge."""
    return np.abs(shape) - np.float32(thickness / 2)


def coverage(shape: Array, softness: float) -> Array:
    """How much of a pixel a shape covers, in [0, 1], with an edge `softness` wide."""
    out = shape * np.float32(1 / softness)
    np.subtract(np.float32(0.5), out, out=out)
    np.maximum(out, np.float32(0), out=out)
    return np.minimum(out, np.float32(1), out=out)


def glow(shape: Array, reach: float) -> Array:
    """1 inside a shape, falling smoothly to 0 at about `reach` outside: halos, shadows, vignettes."""
    d = np.maximum(shape, np.float32(0)) * np.float32(1 / reach)
    f = np.float32(1) / (np.float32(1) + d * d * np.float32(3))
    return f * f


def value_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Smooth noise in [-1, 1] with about `cells` bumps across, stretched from a small random grid."""
    knots = rng.random((cells + 2, cells + 2), dtype=np.float32) * np.float32(2) - np.float32(1)
    t = np.arange(size, dtype=np.float32) * np.float32(cells / size)
    i = t.astype(np.int32)
    f = t - i.astype(np.float32)
    w = f * f * (np.float32(3) - np.float32(2) * f)  # smoothstep: no creases at the knots
    rows = knots[i] + (knots[i + 1] - knots[i]) * w[:, None]
    out = (rows[:, 1:] - rows[:, :-1])[:, i]
    out *= w
    out += rows[:, i]
    return out


def fractal_noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 3) -> Array:
    """Several octaves of `value_noise`, each finer and fainter, about in [-1, 1]."""
    out = value_noise(rng, size, cells)
    for octave in range(1, octaves):
        out = out + value_noise(rng, size, cells << octave) * np.float32(0.5**octave)
    return out * np.float32(0.6)


def grain(rng: np.random.Generator, size: int) -> Array:
    """Bell-shaped white noise of unit variance: a sum of four uniform bytes, exact on every machine."""
    raw = rng.integers(0, 256, (4, size, size), dtype=np.uint8).astype(np.int16)
    out = (raw[0] + raw[1] + raw[2] + (raw[3] - np.int16(510))).astype(np.float32)
    out *= np.float32(1 / 147.8)
    return out


def blurred(picture: Array, passes: int = 1) -> Array:
    """Binomial blur [1 2 1] / 4 in both directions, `passes` times; works on (h, w) and (h, w, channels)."""
    for _ in range(passes):
        for axis in (0, 1):
            p = np.pad(picture, [(1, 1) if a == axis else (0, 0) for a in range(picture.ndim)], mode="edge")
            a, b, c = (p[i : p.shape[0] - 2 + i] if axis == 0 else p[:, i : p.shape[1] - 2 + i] for i in range(3))
            picture = (a + b + b + c) * np.float32(0.25)
    return picture


def _pixel_map(g: Grid) -> tuple[tuple[float, float, float, float], ...]:
    """For row and column: a, b, c, slack with index = a x + b y + c, right to within `slack` on a warped grid."""
    n, m = g.x.shape[0] - 1, g.x.shape[1] - 1
    x0, y0 = float(g.x[0, 0]), float(g.y[0, 0])
    ux, uy = (float(g.x[0, m]) - x0) / m, (float(g.y[0, m]) - y0) / m
    vx, vy = (float(g.x[n, 0]) - x0) / n, (float(g.y[n, 0]) - y0) / n
    det = ux * vy - uy * vx or 1e-9
    x, y = g.x[::16, ::16], g.y[::16, ::16]
    steps = np.arange(0, max(n, m) + 1, 16, dtype=np.float32)
    maps = []
    rows, columns = steps[: x.shape[0], None], steps[None, : x.shape[1]]
    for a, b, want in ((-uy / det, ux / det, rows), (vy / det, -vx / det, columns)):
        c = -(a * x0 + b * y0)
        miss = float(np.abs(x * np.float32(a) + y * np.float32(b) + np.float32(c) - want).max())
        maps.append((a, b, c, 1.2 * miss + 1))
    return tuple(maps)


class Silhouette:
    """One shape gathered from many small ones, each evaluated only on the part of the grid around it.

    Far from all of them `shape` is a plain 1: it is a distance near its edges and inside, which is where it is used.
    """

    def __init__(self, g: Grid) -> None:
        self.grid = g
        self.shape = np.ones_like(g.x)
        self._to_pixel = _pixel_map(g)

    def capsule(
        self, ax: float, ay: float, bx: float, by: float, ra: float, rb: float | None = None, blend: float = 0.0
    ) -> None:
        """Add a thick line, melted into what is there over `blend`."""
        reach = max(ra, rb or 0) + blend
        self._add(capsule, (ax, ay, bx, by, ra, rb), (ax, bx), (ay, by), reach, blend)

    def spindle(
        self, ax: float, ay: float, bx: float, by: float, ra: float, rb: float, waist: float, blend: float = 0.0
    ) -> None:
        """Add a thick line with a waist."""
        reach = max(ra, rb) + max(-waist, 0) + blend
        self._add(spindle, (ax, ay, bx, by, ra, rb, waist), (ax, bx), (ay, by), reach, blend)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, blend: float = 0.0) -> None:
        """Add an ellipse."""
        self._add(ellipse, (cx, cy, rx, ry, angle), (cx,), (cy,), max(rx, ry) + blend, blend)

    def blob(self, points: list[tuple[float, float]], blend: float = 0.0) -> None:
        """Add a smooth closed outline."""
        self._add(blob, (points,), [x for x, _ in points], [y for _, y in points], 0.05 + blend, blend)

    def cut(self, hole: Callable[..., Array], *shape: float, at: tuple[float, float], reach: float) -> None:
        """Take away a shape that lies within `reach` of `at`."""
        window = self.window((at[0],), (at[1],), reach)
        if window:
            part = Grid(self.grid.x[window], self.grid.y[window], self.grid.pixel)
            self.shape[window] = np.maximum(self.shape[window], -hole(part, *shape))

    def _add(
        self, draw: Callable[..., Array], shape: tuple, xs: Floats, ys: Floats, reach: float, blend: float
    ) -> None:
        window = self.window(xs, ys, reach)
        if not window:
            return
        new = draw(Grid(self.grid.x[window], self.grid.y[window], self.grid.pixel), *shape)
        old = self.shape[window]
        self.shape[window] = smooth_union(old, new, blend) if blend else np.minimum(old, new)

    def window(self, xs: Floats, ys: Floats, reach: float) -> tuple[slice, slice] | None:
        """The pixels within `reach` of a box of points, or a few more; None if the box is off the picture."""
        reach += 2 * self.grid.pixel
        x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
        hx, hy = max(xs) - x + reach, max(ys) - y + reach
        bounds = []
        for (a, b, c, slack), n in zip(self._to_pixel, self.shape.shape, strict=True):
            middle, half = a * x + b * y + c, abs(a) * hx + abs(b) * hy + slack
            lo, hi = max(int(middle - half), 0), min(int(middle + half) + 2, n)
            if lo >= hi:
                return None
            bounds.append(slice(lo, hi))
        return bounds[0], bounds[1]
