"""The chest: a radiograph from the front, and axial slices for computed tomography."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import comb, jitter, outlined, vertebrae
from clipdemo.sources.phantom.anatomy.shapes import sign
from clipdemo.sources.phantom.anatomy.sketch import Sketch, folded, grown, lump, varied
from clipdemo.sources.phantom.canvas import (
    Array,
    Grid,
    Silhouette,
    between,
    capsule,
    ellipse,
    fractal_noise,
    smooth_union,
    value_noise,
)
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Radiograph --------------------------------------------------------------------------------------------------------


def radiograph(case: Case, g: Grid) -> list[Layer]:
    """A chest from the front."""
    rng = anatomy_rng(case)
    wide, top, side = jitter(rng, 1.0, 0.09), rng.uniform(-0.05, 0.06), sign(case)
    low = {s: rng.uniform(0.28, 0.5) + (0.06 if s > 0 else 0.0) for s in (-1, 1)}
    if case.finding == NORMAL and rng.random() < 0.2:
        low = {s: y - 0.16 for s, y in low.items()}  # a shallow breath
    heart = _heart(g, rng, wide, low[1])
    lungs = {s: _lung(g, s * wide, top, low[s]) for s in (-1, 1)}
    both = np.minimum(lungs[-1], lungs[1])
    layers = [
        Layer(_torso(g, rng), "muscle", 0.3, 0.9),
        Layer(np.maximum(both, -heart), "lung", 0.13, rng.uniform(0.66, 0.76)),
        Layer(vertebrae(g, 0.0, 0.085, 0.17, rng.random()), "marrow", 0.05, 0.18),
        Layer(heart, "muscle", 0.12, 0.12),
    ]
    layers += _rib_cage(g, rng, wide, both)
    layers += [Layer(_girdle(g, rng, top), "bone", 0.03, 0.35), Layer(_hila(g, rng, wide, low), "artery", 0.06, 0.55)]
    layers.append(Layer(capsule(g, 0.0, -1.2, 0.01, -0.32, 0.05), "air", 0.05, 0.22))
    if rng.random() < 0.5:
        layers.append(Layer(ellipse(g, 0.4, low[1] + rng.uniform(0.16, 0.24), 0.14, 0.08), "air", 0.08, 0.35))
    if rng.random() < 0.15:
        layers.append(Layer(_wires(g, rng), "metal", 0.015, 0.25))
    return layers + _film_finding(g, case, rng, np.maximum(lungs[side], -heart), side * wide, low[side])


def _torso(g: Grid, rng: np.random.Generator) -> Array:
    """Trunk, sloping shoulders and neck."""
    slope = np.float32(rng.uniform(0.25, 0.45))
    a = np.abs(g.x)
    trunk = np.maximum(a - np.float32(rng.uniform(0.98, 1.1)), (a - np.float32(0.24)) * slope - g.y - np.float32(0.86))
    return smooth_union(trunk, a - np.float32(0.26), 0.2)


def _heart(g: Grid, rng: np.random.Generator, wide: float, low: float) -> Array:
    """Cardiac silhouette with aortic knob and the vessels above it."""
    big = rng.uniform(0.85, 1.2) if rng.random() < 0.8 else rng.uniform(1.25, 1.5)
    y = low - 0.18
    edge = big * wide
    body = outlined(g, [(-0.12, y - 0.5), (0.06, y - 0.5), (0.2 * big, y - 0.28), (0.38 * edge, y + 0.02),
                     (0.4 * edge, y + 0.14), (0.2, y + 0.28), (-0.12, y + 0.26), (-0.2 * big, y + 0.1),
                     (-0.19, y - 0.12)])  # fmt: skip
    vessels = Silhouette(g)
    vessels.capsule(0.0, -1.0, 0.0, 0.0, 0.13)
    vessels.ellipse(0.1, -0.36, jitter(rng, 0.085, 0.2), 0.1)
    return smooth_union(body, vessels.shape, 0.12)


def _lung(g: Grid, s: float, top: float, low: float) -> Array:
    """One lung field, from apex to diaphragm, before the heart is taken out of it."""
    field = outlined(g, [(0.3 * s, -0.84 + top), (0.5 * s, -0.7 + top), (0.68 * s, -0.35), (0.77 * s, 0.1),
                      (0.82 * s, 0.6), (0.5 * s, 0.85), (0.1 * s, 0.6), (0.06 * s, 0.1), (0.08 * s, -0.35),
                      (0.15 * s, -0.72 + top)])  # fmt: skip
    dome = ellipse(g, 0.4 * s, low + 0.5, 0.62, 0.5)
    return np.maximum(field, -dome)


def _rib_cage(g: Grid, rng: np.random.Generator, wide: float, lungs: Array) -> list[Layer]:
    """Posterior ribs fall from spine to flank, anterior ribs fall from flank to breastbone; they meet at the flank."""
    reach, cage = (
        np.float32(0.86 * wide),
        (lungs - np.float32(0.1)) * np.float32(0.14),
    )  # ribs fade out below the diaphragm
    u = np.minimum(np.abs(g.x), reach) * (np.float32(1) / reach)
    pitch, slope, offset = jitter(rng, 0.185, 0.1), rng.uniform(0.12, 0.3), rng.random()
    back = comb(g.y - u * u * np.float32(slope), pitch, 0.043, offset)
    fall = rng.uniform(0.3, 0.5)
    front = comb(g.y - np.float32(slope) - (np.float32(1) - u) * np.float32(fall), pitch, 0.04, offset)
    front = np.maximum(np.maximum(front, cage), np.float32(0.45) - u)
    back = np.maximum(np.maximum(back, cage), np.float32(0.06) - u)
    return [Layer(back, "bone", 0.018, 0.26), Layer(front, "bone", 0.02, 0.14)]


def _girdle(g: Grid, rng: np.random.Generator, top: float) -> Array:
    """Clavicles, shoulder blades' edges and upper arms."""
    s = Silhouette(g)
    tilt = rng.uniform(-0.02, 0.14)
    for side in (-1, 1):
        s.spindle(side * 0.09, -0.62 + top, side * 0.72, -0.66 - tilt + top, 0.045, 0.04, 0.015)
        s.ellipse(side * 0.92, -0.56, 0.12, 0.13)
        s.capsule(side * 0.95, -0.5, side * 1.08, 0.3, 0.08, blend=0.06)
        s.capsule(side * 0.78, -0.5, side * 0.72, 0.0, 0.06, 0.015, blend=0.05)
    return s.shape


def _hila(g: Grid, rng: np.random.Generator, wide: float, low: dict[int, float]) -> Array:
    """Lung roots and the larger vessels that branch from them."""
    s = Silhouette(g)
    for side in (-1, 1):
        x, y = side * 0.2 * wide, -0.12 - 0.04 * side
        s.ellipse(x, y, 0.06, 0.1, 0.3 * side)
        for angle in (-1.0, 0.2, 0.9, 1.3):
            a, length = angle + rng.uniform(-0.2, 0.2), rng.uniform(0.22, 0.4)
            s.capsule(x, y, x + side * math.cos(a) * length, y + math.sin(a) * length, 0.035, 0.004)
    return s.shape


def _wires(g: Grid, rng: np.random.Generator) -> Array:
    """A lead or line that runs across the chest and ends in a dot."""
    s = Silhouette(g)
    x, y = rng.uniform(-0.6, 0.6), -1.1
    for _ in range(4):
        nx, ny = x * 0.8 + rng.uniform(-0.15, 0.15), y + rng.uniform(0.2, 0.4)
        s.capsule(x, y, nx, ny, 0.008)
        x, y = nx, ny
    s.ellipse(x, y, 0.025, 0.025)
    return s.shape


def _film_finding(g: Grid, case: Case, rng: np.random.Generator, lung: Array, s: float, low: float) -> list[Layer]:
    """The finding in the lung of side `s`."""
    if case.finding == "effusion":
        level = low - rng.uniform(0.05, 0.5)
        u = np.maximum(g.x * np.float32(2.2 / s) - np.float32(0.77), np.float32(0))
        meniscus = np.float32(level) - u * u * np.float32(0.28) - g.y
        return [Layer(np.maximum(lung - np.float32(0.03), meniscus), "fluid", 0.12, 0.8)]
    x, y = s * rng.uniform(0.32, 0.6), rng.uniform(-0.45, 0.15)
    if case.finding == "nodule":
        r = rng.uniform(0.06, 0.12)
        return [Layer(ellipse(g, x, y, r, jitter(rng, r, 0.15), rng.uniform(0, 3)), "mass", r * 0.7, 0.55)]
    if case.finding == "consolidation":
        patch = ellipse(g, x, rng.uniform(-0.4, low - 0.1), rng.uniform(0.18, 0.3), rng.uniform(0.16, 0.32))
        patch = patch + fractal_noise(rng, g.x.shape[0], 9, 2) * np.float32(0.11)
        return [Layer(np.maximum(patch, lung), "fluid", 0.2, 0.65)]
    if case.finding == "pneumothorax":
        fallen = ellipse(g, s * rng.uniform(0.2, 0.3), 0.1, rng.uniform(0.27, 0.38), rng.uniform(0.5, 0.68), 0.12 * s)
        outer = np.maximum(lung, -fallen)
        line = np.maximum(np.abs(fallen) - np.float32(0.009), lung)
        return [
            Layer(outer, "air", 0.05, 0.14),
            Layer(np.maximum(fallen, lung), "fluid", 0.1, 0.14),
            Layer(line, "mucosa", 0.015, 0.25),
        ]
    return []


# Axial slices ------------------------------------------------------------------------------------------------------


def axial(case: Case, g: Grid) -> list[Layer]:
    """An axial slice through arch, hila or heart."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.045))
    g = s.grid
    wide, deep, fat = varied(rng, 0.94, 0.05), between(rng, 0.6, 0.74), between(rng, 0.02, 0.08)
    level = int(rng.integers(3))
    _chest_wall(s, rng, wide, deep, fat)
    f = folded(g)
    cavity = ellipse(g, 0, -0.02, wide - fat - 0.12, deep - fat - 0.1)
    apart = (0.1, 0.13, 0.17)[level] + between(rng, -0.02, 0.03)
    lungs = np.maximum(cavity, np.float32(apart) - f.x + np.minimum(g.y, np.float32(0.1)) * np.float32(0.22))
    spine = deep * 0.5
    organs = smooth_union(s.ellipse(0, spine, 0.17, 0.16), s.ellipse(0.03, -0.12, apart + 0.08, 0.3), 0.1)
    if level == 2:
        organs = np.minimum(organs, s.ellipse(0.14, -0.14, varied(rng, 0.33), varied(rng, 0.27), 0.5))
    lungs = s.add("lung", np.maximum(lungs, -organs), 0.03)
    _lung_vessels(s, rng, lungs)
    _mediastinum(s, rng, level, spine)
    _vertebra(s, rng, spine)
    _slice_finding(case, s, rng, lungs, deep)
    return s.layers


def _lung_vessels(s: Sketch, rng: np.random.Generator, lungs: Array) -> None:
    """Vessels cut across, as dots, and a few along their way from the hilum."""
    specks = value_noise(rng, s.grid.x.shape[0], int(rng.integers(38, 46)))
    trees = s.gather()
    for side in (-1, 1):
        for y in (-0.2, 0.02, 0.22):
            x, end = side * between(rng, 0.3, 0.42), y * 1.1 + between(rng, -0.1, 0.1)
            trees.capsule(side * 0.14, 0.3 * y, x, end, 0.034, 0.018)
            trees.capsule(x, end, x + side * between(rng, 0.06, 0.22), end + between(rng, -0.16, 0.16), 0.014, 0.006)
    dots = (np.float32(between(rng, 0.6, 0.72)) - specks) * np.float32(0.05)
    s.add("artery", np.maximum(np.minimum(dots, trees.shape), lungs + np.float32(0.03)), 0.02, 0.85)


def _chest_wall(s: Sketch, rng: np.random.Generator, wide: float, deep: float, fat: float) -> None:
    """Skin, fat, muscle, ribs, breast bone and shoulder blades."""
    body = ellipse(s.grid, 0, 0, wide, deep)
    f = folded(s.grid)
    if rng.random() < 0.45:  # breasts
        body = smooth_union(
            body, ellipse(f, 0.42, -deep * 0.82, between(rng, 0.26, 0.36), between(rng, 0.15, 0.28)), 0.12
        )
    s.add("skin", body)
    s.add("fat", body + np.float32(0.02))
    s.add("muscle", np.maximum(body + np.float32(0.02 + fat), ellipse(s.grid, 0, 0, wide - fat, deep - fat)), 0.03)
    rx, ry = wide - fat - 0.09, deep - fat - 0.07
    wall_ribs(s, rng, rx, ry)
    blade = capsule(f, 0.42, deep * 0.76, 0.68, deep * 0.48, 0.018, 0.03)
    s.add("bone", np.minimum(blade, s.box(0, -ry - 0.01, between(rng, 0.07, 0.11), 0.028, 0.02)), 0.015)


def wall_ribs(s: Sketch, rng: np.random.Generator, rx: float, ry: float, cy: float = -0.03, pairs: int = 4) -> None:
    """Short pieces of rib in the wall of a trunk whose middle is at `cy`."""
    ribs, start = s.gather(), between(rng, -0.85, -0.5)
    for i in range(pairs):
        for side in (-1, 1):
            a = start + i * 1.9 / pairs + between(rng, -0.07, 0.07)
            x, y, lean = (
                side * math.cos(a) * rx,
                math.sin(a) * ry + cy,
                math.atan2(math.cos(a) * ry, -side * math.sin(a) * rx),
            )
            ribs.ellipse(x, y, between(rng, 0.05, 0.1), 0.021, lean)
    s.add("bone", ribs.shape, 0.015)


def _mediastinum(s: Sketch, rng: np.random.Generator, level: int, spine: float) -> None:
    """What lies between the lungs: arch and windpipe, great vessels and bronchi, or the heart."""
    k = varied(rng, 1.0, 0.12)
    aorta = s.ellipse(between(rng, 0.1, 0.15), spine - 0.2, 0.062 * k, 0.062 * k)
    s.add("fat", s.ellipse(0.0, -0.1, 0.15, 0.26), 0.06, 0.7)
    if level == 0:
        s.add("artery", s.path([(-0.07, -0.22), (0.05, -0.12), (0.13, spine - 0.22)], 0.075 * k, 0.06 * k))
        s.add("vein", s.ellipse(-0.14, -0.14, 0.045, 0.055))
        s.add("air", s.ellipse(-0.01, 0.04, 0.052, 0.056))
    elif level == 1:
        s.add("artery", s.path([(0.1, -0.22), (0.04, -0.08), (-0.16, -0.02)], 0.075 * k, 0.05))
        s.add("artery", s.path([(0.1, -0.2), (0.2, 0.0)], 0.07, 0.05))
        s.add("artery", np.minimum(aorta, s.ellipse(-0.07, -0.22, 0.085 * k, 0.085 * k)))
        s.add("vein", s.ellipse(-0.17, -0.14, 0.045, 0.05))
        s.add("air", np.minimum(s.capsule(-0.04, 0.07, -0.15, 0.1, 0.032), s.capsule(0.05, 0.07, 0.15, 0.11, 0.028)))
    else:
        s.add("muscle", s.ellipse(0.14, -0.14, 0.31, 0.25, 0.5), 0.04)
        rooms = [
            s.ellipse(x, y, r, r * 0.72, 0.6)
            for x, y, r in ((0.25, -0.1, 0.13 * k), (0.0, -0.25, 0.13), (-0.05, -0.03, 0.11), (0.1, 0.05, 0.1))
        ]
        s.add("artery", np.minimum(np.minimum(rooms[0], rooms[1]), np.minimum(rooms[2], rooms[3])), 0.05, 0.9)
        s.add("artery", aorta)
    s.add("gut", s.ellipse(0.03, spine - 0.21, 0.032, 0.026))


def _vertebra(s: Sketch, rng: np.random.Generator, y: float) -> None:
    k = varied(rng, 1.0, 0.1)
    f = folded(s.grid)
    s.add(
        "bone",
        np.minimum(capsule(f, 0.03, y + 0.08, 0.17, y + 0.12, 0.028), s.capsule(0, y + 0.1, 0, y + 0.22, 0.03, 0.018)),
    )
    s.bone(s.ellipse(0, y, 0.12 * k, 0.105 * k), 0.02)
    s.add("fluid", s.ellipse(0, y + 0.115, 0.042, 0.036))


def _slice_finding(case: Case, s: Sketch, rng: np.random.Generator, lungs: Array, deep: float) -> None:
    """A nodule, fluid behind the lung, or solid lung around open bronchi."""
    side, g = sign(case), s.grid
    half = np.maximum(lungs, g.x * np.float32(-side))
    x, y = side * between(rng, 0.36, 0.58), between(rng, -0.22, 0.15)
    if case.finding == "nodule":
        lump(s, rng, (x, y), between(rng, 0.06, 0.12), core=0.0)
        if rng.random() < 0.5:
            rays = s.gather()
            for _ in range(5):
                a = between(rng, 0, math.tau)
                rays.capsule(x, y, x + math.cos(a) * 0.18, y + math.sin(a) * 0.18, 0.02, 0.004)
            s.add("mass", np.maximum(rays.shape, half), 0.02, 0.7)
    elif case.finding == "effusion":
        open_lung = ellipse(g, side * between(rng, 0.34, 0.44), -between(rng, 0.14, 0.34), 0.42, 0.42, -side * 0.3)
        s.add("fluid", np.maximum(half - np.float32(0.015), -open_lung), 0.02)
        if rng.random() < 0.5:  # lung pressed together, in the fluid
            s.add("mass", np.maximum(s.ellipse(side * 0.3, 0.2, 0.13, 0.07, side * 0.5), half), 0.03)
    elif case.finding == "consolidation":
        y = y + 0.1
        patch = ellipse(g, x, y, between(rng, 0.2, 0.3), between(rng, 0.17, 0.28), between(rng, 0, 3))
        patch = patch + value_noise(rng, g.x.shape[0], 12) * np.float32(0.09)
        s.add("mass", np.maximum(patch, half), 0.1, 0.93)
        for _ in range(2):
            s.add(
                "air",
                np.maximum(
                    s.capsule(side * 0.2, 0.05, x + between(rng, -0.1, 0.1), y + between(rng, -0.12, 0.12), 0.02, 0.01),
                    half,
                ),
                0.02,
                0.8,
            )
