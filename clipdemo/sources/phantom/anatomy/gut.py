"""The gastrointestinal tract: the bowel filled with barium, and seen from within through an endoscope."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import jitter, vertebrae
from clipdemo.sources.phantom.anatomy.pelvis import ilium
from clipdemo.sources.phantom.anatomy.shapes import Point, Segment, branch, everywhere, ring_of_points
from clipdemo.sources.phantom.canvas import (
    Array,
    Grid,
    Silhouette,
    between,
    blob,
    ellipse,
    smooth_union,
    strokes,
    value_noise,
)
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Barium ------------------------------------------------------------------------------------------------------------


COLON = ((-0.52, 0.5), (-0.58, 0.3), (-0.6, 0.08), (-0.6, -0.14), (-0.55, -0.34), (-0.4, -0.33), (-0.26, -0.2),
         (-0.08, -0.13), (0.12, -0.15), (0.3, -0.27), (0.46, -0.44), (0.6, -0.5), (0.66, -0.34), (0.66, -0.14),
         (0.66, 0.06), (0.64, 0.26), (0.56, 0.43), (0.4, 0.5), (0.24, 0.42), (0.1, 0.45), (0.07, 0.6), (0.04, 0.76),
         (0.02, 0.95))  # fmt: skip


def barium(case: Case, g: Grid) -> list[Layer]:
    """An abdomen with barium: filled colon, colon coated and blown up with gas, or small bowel loops."""
    rng = anatomy_rng(case)
    layers = [
        Layer(np.abs(g.x) - np.float32(jitter(rng, 1.05, 0.08)), "muscle", 0.5, 0.4),
        Layer(vertebrae(g, rng.uniform(-0.04, 0.04), 0.13, 0.24, rng.random()), "bone", 0.04, 0.32),
    ]
    wings = Silhouette(g)
    drop = rng.uniform(0.85, 1.0)
    for s in (-1, 1):
        wings.blob([(x, y + drop) for x, y in ilium(s)])
    layers.append(Layer(wings.shape, "bone", 0.05, 0.26))
    small = case.finding == NORMAL and rng.random() < 0.35
    return layers + (_small_bowel(g, rng) if small else _large_bowel(g, case, rng))


def _colon_path(rng: np.random.Generator) -> list[Point]:
    """A colon's course: the usual one, stretched, with the transverse part sagging and each bend moved a little."""
    sag, sx, sy = rng.uniform(-0.1, 0.35), rng.uniform(0.9, 1.15), rng.uniform(0.95, 1.2)
    path = []
    for i, (x, y) in enumerate(COLON):
        droop = sag * max(0.0, 1 - abs(i - 7.5) / 4)
        path.append((x * sx + rng.uniform(-0.03, 0.03), y * sy + droop + rng.uniform(-0.03, 0.03)))
    return path


def _large_bowel(g: Grid, case: Case, rng: np.random.Generator) -> list[Layer]:
    """The colon as a chain of pouches, with a narrow stretch or with diverticula."""
    path = _colon_path(rng)
    n = len(path) - 1
    wide, haustra = jitter(rng, 0.115, 0.2), rng.uniform(0.03, 0.055)
    girth = [1.35] * 4 + [1.0] * 8 + [0.75] * 8 + [1.0] * 3  # caecum, transverse, left colon, rectum
    radii = [wide * k * rng.uniform(0.9, 1.1) for k in girth]
    narrow = 0
    if case.finding == "stricture":
        narrow = int(rng.choice((14, 15, 16, 18, 7, 9)))
    filled_from = int(rng.integers(0, 5)) if case.finding == NORMAL else 0
    s = Silhouette(g)
    for i in range(filled_from, n):
        if narrow and i in (narrow, narrow + 1):  # an apple core: steep shoulders, a thin ragged channel
            s.capsule(*path[i], *path[i + 1], 0.024, 0.03)
            continue
        s.spindle(*path[i], *path[i + 1], radii[i], radii[i + 1], haustra * (1.0 if i < 14 else 0.6), blend=0.02)
    if case.finding == "diverticula":
        _diverticula(s, rng, path, radii)
    if rng.random() < 0.35:  # double contrast: gas inside a thin coat, with pools of barium
        coat = np.abs(s.shape + np.float32(0.012)) - np.float32(0.012)
        pool = np.maximum(s.shape, value_noise(rng, g.x.shape[0], 4) * np.float32(0.3) + np.float32(0.05))
        return [Layer(s.shape, "air", wide, 0.2), Layer(coat, "mucosa", 0.02, 0.8), Layer(pool, "gut", 0.2, 0.7)]
    return [Layer(s.shape, "gut", wide * 0.9, rng.uniform(0.6, 1.0))]


def _diverticula(s: Silhouette, rng: np.random.Generator, path: list[Point], radii: list[float]) -> None:
    """Small round pouches on necks along the left colon."""
    for _ in range(int(rng.integers(8, 15))):
        i = int(rng.integers(12, 20))
        (ax, ay), (bx, by) = path[i], path[i + 1]
        t, side, r = rng.random(), 1 if rng.random() < 0.5 else -1, rng.uniform(0.022, 0.038)
        length = math.dist(path[i], path[i + 1])
        off = side * (radii[i] + 0.03)
        x, y = ax + (bx - ax) * t - (by - ay) / length * off, ay + (by - ay) * t + (bx - ax) / length * off
        s.ellipse(x, y, r, r, blend=0.012)


def _small_bowel(g: Grid, rng: np.random.Generator) -> list[Layer]:
    """Stomach and loops that wind through the middle of the abdomen, feathery from their folds."""
    p = g.placed(0.0, 0.15, rng.uniform(-0.7, 0.7))
    r, rows = rng.uniform(0.065, 0.09), int(rng.integers(4, 6))
    sheets = Silhouette(p), Silhouette(p)
    x, y, step = -0.35, -0.42, 1
    for row in range(rows):
        sheet, reach = sheets[row % 2], rng.uniform(0.5, 0.85)
        points = [(x, y)]
        points += [(x + step * reach * t, y + rng.uniform(-0.09, 0.09)) for t in (0.3, 0.6, 0.9)]
        points += [(x + step * reach, y + 0.1), (x + step * reach * rng.uniform(0.75, 0.95), y + 0.19)]
        for a, b in pairwise(points):
            sheet.capsule(*a, *b, r * rng.uniform(0.75, 1.15), blend=0.03)
        (x, y), step = points[-1], -step
    folds = np.abs(value_noise(rng, g.x.shape[0], 40)) * np.float32(0.03)
    layers = [Layer(sheet.shape + folds, "gut", r * 1.3, rng.uniform(0.3, 0.6)) for sheet in sheets]
    if rng.random() < 0.7:
        stomach = Silhouette(g)
        stomach.capsule(0.42, -0.85, 0.36, -0.5, 0.16, 0.13)
        stomach.capsule(0.36, -0.5, 0.02, -0.34, 0.13, 0.06, blend=0.1)
        layers.append(Layer(stomach.shape, "gut", 0.14, rng.uniform(0.3, 0.8)))
    return layers


# Endoscopy ---------------------------------------------------------------------------------------------------------


def endoscopy(case: Case, g: Grid) -> list[Layer]:
    """Down the bowel: rings of folds, each partly hiding the next, around a dark lumen."""
    rng = anatomy_rng(case)
    off, way = between(rng, 0.0, 0.95), between(rng, 0, 6.28)
    centre = (off * math.cos(way), off * math.sin(way))
    corners, sharp = (3 if rng.random() < 0.6 else 2), between(rng, 0.02, 0.2)
    turn, radius = between(rng, 0, 6.28), between(rng, 0.12, 0.24)
    grow = between(rng, 1.35, 1.75)
    rings = []
    for _ in range(5):
        rings.append(_fold_outline(rng, centre, radius, corners, sharp, turn))
        radius *= grow * between(rng, 0.9, 1.12)
        turn += between(rng, -0.5, 0.5)
        centre = (centre[0] * 0.72 + between(rng, -0.04, 0.04), centre[1] * 0.72 + between(rng, -0.04, 0.04))
        if radius > 1.5:
            break
    layers = [Layer(everywhere(g), "gut")]
    if rng.random() < 0.15:
        layers.append(Layer(_rugae(g, rng), "gland", 0.05))
    else:
        layers += [Layer(blob(g, ring), "mucosa", between(rng, 0.02, 0.05)) for ring in reversed(rings[1:])]
    if rng.random() < 0.6:
        layers.append(Layer(_mucosal_vessels(g, rng), "artery", 0.02, between(rng, 0.2, 0.5)))
    layers.append(Layer(blob(g, rings[0]), "cavity", 0.12, 1.0))
    away = way + math.pi + between(rng, -0.9, 0.9)
    spot = (0.45 * math.cos(away) * (0.5 + off), 0.45 * math.sin(away) * (0.5 + off))
    return layers + _bowel_finding(g, rng, case.finding, spot)


def _fold_outline(
    rng: np.random.Generator, centre: Point, radius: float, corners: int, sharp: float, turn: float
) -> list[Point]:
    """A rounded triangle or oval with some wobble."""
    points = []
    for i in range(14):
        t = 2 * math.pi * i / 14
        r = radius * (1 + sharp * math.cos(corners * (t + turn)) + between(rng, -0.05, 0.05))
        points.append((centre[0] + r * math.cos(t), centre[1] + r * math.sin(t)))
    return points


def _rugae(g: Grid, rng: np.random.Generator) -> Array:
    """The long winding folds of a stomach, side by side."""
    angle, folds = between(rng, 0, 3.14), Silhouette(g)
    cos, sin = math.cos(angle), math.sin(angle)
    wave, phase = between(rng, 2, 4), between(rng, 0, 6.28)
    apart = between(rng, 0.26, 0.4)
    for k in range(-4, 5):
        points = []
        for i in range(8):
            u = -1.4 + 0.4 * i
            v = apart * k + 0.12 * math.sin(wave * u + phase + 0.7 * k) + between(rng, -0.05, 0.05)
            points.append((u * cos - v * sin, u * sin + v * cos))
        for a, b in pairwise(points):
            if rng.random() < 0.9:
                folds.capsule(*a, *b, apart * between(rng, 0.36, 0.5), apart * between(rng, 0.36, 0.5), 0.05)
    return folds.shape


def _mucosal_vessels(g: Grid, rng: np.random.Generator) -> Array:
    """Thin branching vessels that shine through."""
    tree: list[Segment] = []
    for _ in range(int(rng.integers(5, 12))):
        x, y, heading = between(rng, -1, 1), between(rng, -1, 1), between(rng, 0, 6.28)
        for _ in range(3):
            nx, ny = x + 0.14 * math.cos(heading), y + 0.14 * math.sin(heading)
            tree.append((x, y, nx, ny, 0.008, 0.007))
            x, y, heading = nx, ny, heading + between(rng, -0.7, 0.7)
        branch(tree, rng, x, y, heading + 0.6, 0.007)
    return strokes(g, tree)


def _bowel_finding(g: Grid, rng: np.random.Generator, finding: str, spot: Point) -> list[Layer]:
    if finding == "polyp":
        return _polyp(g, rng, spot)
    if finding == "ulcer":
        outline = ring_of_points(rng, spot, between(rng, 0.16, 0.32), between(rng, 0.13, 0.24), 0.3)
        crater = blob(g, outline)
        return [Layer(crater - np.float32(0.09), "blood", 0.14, 0.6), Layer(crater, "fat", 0.05, 0.95)]
    if finding == "bleeding":
        return _bleeding(g, rng, spot)
    return []


def _polyp(g: Grid, rng: np.random.Generator, spot: Point) -> list[Layer]:
    """One knob or a few lobes on the wall, at times on a stalk."""
    r = between(rng, 0.16, 0.34)
    knob = blob(g, ring_of_points(rng, spot, r, r * between(rng, 0.75, 1.0), 0.12))
    if rng.random() < 0.4:
        t = between(rng, 0, 6.28)
        knob = smooth_union(
            knob, ellipse(g, spot[0] + 0.7 * r * math.cos(t), spot[1] + 0.7 * r * math.sin(t), 0.6 * r, 0.55 * r), 0.08
        )
    return [Layer(knob, "mass", 0.03)]


def _bleeding(g: Grid, rng: np.random.Generator, spot: Point) -> list[Layer]:
    """Blood that runs from a spot and gathers in a pool."""
    streak = Silhouette(g)
    heading = between(rng, 0, 6.28)
    for _ in range(int(rng.integers(2, 5))):
        x, y, way, width = *spot, heading + between(rng, -0.6, 0.6), between(rng, 0.035, 0.07)
        for _ in range(4):
            nx, ny = x + 0.2 * math.cos(way), y + 0.2 * math.sin(way)
            streak.capsule(x, y, nx, ny, width, width * 0.9, 0.06)
            x, y, way, width = nx, ny, way + between(rng, -0.4, 0.4), width * 0.9
    streak.blob(ring_of_points(rng, spot, between(rng, 0.12, 0.28), between(rng, 0.1, 0.22), 0.35), 0.08)
    return [Layer(streak.shape, "blood", 0.05, 0.92)]
