"""Bones on radiographs: whole, broken, plated or eaten away; long bones, fingers and toes, vertebrae.

A bone is drawn by a small closure on a `Silhouette`, so that the same bone can be drawn whole or broken: a fracture
bends the grid beyond the break and draws the same closure on it. Things that repeat at a steady pitch (ribs, vertebrae)
are drawn all at once, from how far a pixel is from the nearest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipdemo.sources.phantom.anatomy.shapes import Point
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, box, ellipse
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer

Draw = Callable[[Silhouette], None]


def jitter(rng: np.random.Generator, value: float, spread: float = 0.12) -> float:
    """`value` changed by up to the fraction `spread` either way."""
    return value * (1 + spread * (2 * rng.random() - 1))


def turned(point: Point, pivot: Point, angle: float) -> Point:
    """`point` rotated about `pivot`."""
    x, y = point[0] - pivot[0], point[1] - pivot[1]
    cos, sin = math.cos(angle), math.sin(angle)
    return pivot[0] + x * cos - y * sin, pivot[1] + x * sin + y * cos


def whole(g: Grid, *draws: Draw) -> Array:
    """The union of bones."""
    s = Silhouette(g)
    for draw in draws:
        draw(s)
    return s.shape


def outlined(g: Grid, points: list[Point]) -> Array:
    """A smooth closed outline through the points."""
    return whole(g, lambda s: s.blob(points))


def broken(g: Grid, rng: np.random.Generator, at: Point, along: float, width: float, draw: Draw) -> Array:
    """A bone with a jagged break at `at`, its far end slipped and bent; `along` is the direction of its axis."""
    p = g.placed(*at, along + rng.uniform(-0.6, 0.6))
    zigzag = p.y * np.float32(1.5 / width)
    crack = p.x + np.abs(zigzag - np.floor(zigzag) - np.float32(0.5)) * np.float32(0.4 * width)
    slip = width * rng.uniform(0.25, 0.75) * (1 if rng.random() < 0.5 else -1)
    bent = g.placed(*at, rng.uniform(0.06, 0.2) * (1 if slip > 0 else -1))
    dx, dy = at[0] - math.sin(along) * slip, at[1] + math.cos(along) * slip
    beyond = crack > 0
    x, y = np.where(beyond, bent.x + np.float32(dx), g.x), np.where(beyond, bent.y + np.float32(dy), g.y)
    moved = Grid(x, y, g.pixel)
    return np.maximum(whole(moved, draw), np.float32(0.012 + 0.08 * width) - np.abs(crack))


# Long bones --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shaft:
    """A long bone that something may happen to: its axis from `a` to `b`, half its width, and how to draw it."""

    a: Point
    b: Point
    radius: float
    draw: Draw
    cortex: float = 0.035
    strength: float = 0.9

    def at(self, t: float) -> Point:
        """The point of the axis a fraction `t` from `a` to `b`."""
        return self.a[0] + (self.b[0] - self.a[0]) * t, self.a[1] + (self.b[1] - self.a[1]) * t

    @property
    def angle(self) -> float:
        """Direction of the axis in radians."""
        return math.atan2(self.b[1] - self.a[1], self.b[0] - self.a[0])


def shaft_layers(g: Grid, case: Case, rng: np.random.Generator, shaft: Shaft) -> list[Layer]:
    """The long bone of the scene with the finding in it: fracture, osteolysis or metal plate."""
    t = rng.uniform(0.42, 0.62)
    at = shaft.at(t)
    if case.finding == "fracture":
        shape = broken(g, rng, at, shaft.angle, shaft.radius, shaft.draw)
        return [Layer(shape, "bone", shaft.cortex, shaft.strength)]
    bone = whole(g, shaft.draw)
    layers = [Layer(bone, "bone", shaft.cortex, shaft.strength)]
    if case.finding == "osteolysis":
        layers.append(
            Layer(np.maximum(_lysis(g, rng, shaft, at), bone), "cyst", 0.6 * shaft.radius, 0.6 * shaft.strength)
        )
    elif case.finding == "metal plate":
        layers.append(Layer(_plate(g, rng, shaft), "metal", 0.02, 0.8))
    return layers


def _lysis(g: Grid, rng: np.random.Generator, shaft: Shaft, at: Point) -> Array:
    """A moth-eaten hole in the bone: several soft lucent spots."""
    s = Silhouette(g)
    r = shaft.radius
    for _ in range(rng.integers(3, 7)):
        along, across = rng.uniform(-1.3, 1.3) * r, rng.uniform(-0.6, 0.6) * r
        spot = turned((at[0] + along, at[1] + across), at, shaft.angle)
        s.ellipse(*spot, r * rng.uniform(0.3, 0.7), r * rng.uniform(0.3, 0.6), shaft.angle, blend=0.3 * r)
    return s.shape


def _plate(g: Grid, rng: np.random.Generator, shaft: Shaft) -> Array:
    """A plate along the bone with screws across it; seen edge-on beside the bone or, at times, flat on it."""
    flat = rng.random() < 0.3
    side = 1 if rng.random() < 0.5 else -1
    off = (0.15 if flat else 1.0) * shaft.radius * side
    length = 0.5 * math.dist(shaft.a, shaft.b) * rng.uniform(0.4, 0.62)
    mid = shaft.at(rng.uniform(0.48, 0.56))
    centre = turned((mid[0], mid[1] + off), mid, shaft.angle)
    half = shaft.radius * (0.38 if flat else 0.14) + 0.008
    plate = box(g, *centre, length, half, half * 0.8, shaft.angle)
    s = Silhouette(g)
    for i in range(n := int(rng.integers(4, 7))):
        x = mid[0] + length * (2 * (i + 0.5) / n - 1)
        head = turned((x, mid[1] + off), mid, shaft.angle)
        tip = turned((x, mid[1] - side * shaft.radius * 0.95), mid, shaft.angle)
        if flat:
            s.ellipse(*head, half * 0.45, half * 0.45)
        else:
            s.capsule(*head, *tip, 0.026, 0.014)
    return np.maximum(plate, -s.shape) if flat else np.minimum(plate, s.shape)


# Fingers and toes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ray:
    """A finger or toe with its metacarpal or metatarsal: bones (a, b, radius) from the root to the tip."""

    bones: tuple[tuple[Point, Point, float], ...]

    def drawer(self, i: int) -> Draw:
        """How to draw bone `i`."""
        (ax, ay), (bx, by), r = self.bones[i]
        return lambda s: s.spindle(ax, ay, bx, by, r * 1.12, r, r * (0.38 if i < 2 else 0.3))


def ray(root: Point, angle: float, lengths: list[float], radius: float, bend: float, gap: float) -> Ray:
    """A chain of bones from `root`; `angle` is from straight up, each joint adds `bend`."""
    bones, (x, y), r = [], root, radius
    for length in lengths:
        dx, dy = math.sin(angle), -math.cos(angle)
        end = x + dx * length, y + dy * length
        bones.append(((x + dx * r, y + dy * r), (end[0] - dx * r, end[1] - dy * r), r))
        x, y = end[0] + dx * gap, end[1] + dy * gap
        angle, r = angle + bend, r * 0.86
    return Ray(tuple(bones))


def ray_layers(
    g: Grid, finding: str, rng: np.random.Generator, rays: list[Ray], odds: list[tuple[int, int]], strength: float
) -> list[Layer]:
    """Bones of all rays, with a fracture or joint erosions; `odds` are (ray, bone) that the finding may pick."""
    which = odds[int(rng.integers(len(odds)))]
    draws = [r.drawer(i) for k, r in enumerate(rays) for i in range(len(r.bones))
             if finding != "fracture" or (k, i) != which]  # fmt: skip
    s = Silhouette(g)
    for draw in draws:
        draw(s)
    (a, b, r) = rays[which[0]].bones[which[1]]
    if finding == "erosion":
        for x, y in ((b[0], b[1]), *((q.bones[0][1]) for q in rays[1:3] if rng.random() < 0.5)):
            dx, dy = r * rng.uniform(-1.0, -0.6), r * rng.uniform(-0.4, 0.5)
            s.cut(ellipse, x + dx, y + dy, r * 0.75, r * 0.6, at=(x, y), reach=2 * r)
    layers = [Layer(s.shape, "bone", 0.022, strength)]
    if finding == "fracture":
        t = rng.uniform(0.35, 0.65)
        at = a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t
        shape = broken(g, rng, at, math.atan2(b[1] - a[1], b[0] - a[0]), r * 1.2, rays[which[0]].drawer(which[1]))
        layers.append(Layer(shape, "bone", 0.022, strength))
    if finding == "erosion":  # the swollen joint beside the bites
        layers.append(Layer(ellipse(g, b[0], b[1], r * 3, r * 2.4), "fluid", r * 2, 0.25))
    return layers


# What repeats at a steady pitch ------------------------------------------------------------------------------------


def comb(along: Array, pitch: float, half: float, offset: float = 0.0) -> Array:
    """Distance to the nearest of endless parallel bars, `half` wide each side, `pitch` apart."""
    v = along * np.float32(1 / pitch) + np.float32(offset)
    return np.abs(v - np.floor(v) - np.float32(0.5)) * np.float32(pitch) - np.float32(half)


def vertebrae(g: Grid, x: float, half: float, pitch: float, offset: float) -> Array:
    """A column of vertebral bodies parted by discs."""
    bodies = np.maximum(np.abs(g.x - np.float32(x)) - np.float32(half), comb(g.y, pitch, 0.42 * pitch, offset))
    spikes = np.maximum(np.abs(g.x - np.float32(x)) - np.float32(half * 1.6), comb(g.y, pitch, 0.07 * pitch, offset))
    return np.minimum(bodies, spikes)
