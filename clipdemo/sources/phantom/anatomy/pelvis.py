"""The pelvis: a radiograph of bones and hips, axial slices of a man's, ultrasound of a woman's."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.abdomen import belly_wall
from clipdemo.sources.phantom.anatomy.bones import broken, jitter, outlined, vertebrae, whole
from clipdemo.sources.phantom.anatomy.shapes import Point, sign
from clipdemo.sources.phantom.anatomy.sketch import Sketch, folded, grown, lump, sac, varied
from clipdemo.sources.phantom.canvas import (
    Grid,
    Silhouette,
    between,
    capsule,
    ellipse,
    half_plane,
    smooth_union,
    value_noise,
)
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Radiograph --------------------------------------------------------------------------------------------------------


def radiograph(case: Case, g: Grid) -> list[Layer]:
    """A pelvis from the front with both hips."""
    rng = anatomy_rng(case)
    k, male, side = jitter(rng, 1.0, 0.07), rng.random() < 0.5, sign(case)
    flare = 1.0 if male else 1.07
    a = np.abs(g.x)
    body = np.maximum(a + (g.y + np.float32(0.4)) * np.float32(0.12) - np.float32(jitter(rng, 1.25)),
                      (g.y - np.float32(0.52)) * np.float32(rng.uniform(0.08, 0.2)) - a)  # fmt: skip
    wings, rings = Silhouette(g), Silhouette(g)
    for s in (-1, 1):
        _hip_bone(wings, rings, s * k, flare, rng)
    rings.cut(capsule, 0.0, 0.2, 0.01, 0.8, 0.02, at=(0.0, 0.5), reach=0.4)  # the symphysis
    layers = [Layer(body, "muscle", 0.5, 0.6), Layer(wings.shape, "bone", 0.06, 0.5)]
    layers.append(Layer(rings.shape, "bone", 0.035, 0.45))
    layers += _sacrum(g, rng, k)
    for s in (-1, 1):
        layers += _hip(g, case.finding if s == side else NORMAL, rng, s * k)
    gas = Silhouette(g)
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(-0.35, 0.35), rng.uniform(-0.5, 0.12)
        gas.ellipse(x, y, rng.uniform(0.04, 0.1), rng.uniform(0.03, 0.08), blend=0.05)
    return [*layers, Layer(gas.shape, "air", 0.07, 0.22)]


def _hip_bone(wings: Silhouette, rings: Silhouette, s: float, flare: float, rng: np.random.Generator) -> None:
    """Wing of ilium, socket, and the rami around the obturator foramen, on side `s`."""
    up = rng.uniform(-0.03, 0.03)
    wings.blob(ilium(s, flare, up))
    rings.ellipse(0.5 * s, 0.17, 0.1, 0.17, -0.2 * s)
    rings.ellipse(0.28 * s, 0.42, 0.24, 0.165, -0.45 * s, blend=0.05)
    rings.capsule(0.5 * s, 0.25, 0.42 * s, 0.56, 0.08, 0.085, blend=0.05)
    rings.cut(ellipse, 0.29 * s, 0.42, 0.14, 0.085, -0.5 * s, at=(0.29 * s, 0.42), reach=0.16)


def ilium(s: float, flare: float = 1.0, up: float = 0.0) -> list[Point]:
    """Outline of an ilium: crest, two spines, socket, pelvic brim, sacroiliac joint."""
    return [(0.18 * s, -0.38), (0.25 * s, -0.6), (0.42 * s, -0.74 + up), (0.64 * s * flare, -0.74 + up),
            (0.82 * s * flare, -0.6), (0.89 * s * flare, -0.36), (0.74 * s, -0.22), (0.64 * s, -0.06), (0.66 * s, 0.12),
            (0.5 * s, 0.16), (0.37 * s, 0.06), (0.3 * s, -0.1), (0.2 * s, -0.18)]  # fmt: skip


def _sacrum(g: Grid, rng: np.random.Generator, k: float) -> list[Layer]:
    """Sacrum with its holes, coccyx, and the last lumbar vertebrae."""
    body = outlined(g, [(-0.3 * k, -0.46), (0.0, -0.5), (0.3 * k, -0.46), (0.24 * k, -0.2), (0.11, 0.02), (0.03, 0.16),
                     (-0.03, 0.16), (-0.11, 0.02), (-0.24 * k, -0.2)])  # fmt: skip
    holes = Silhouette(g)
    for i in range(3):
        for s in (-1, 1):
            holes.ellipse(s * (0.11 - 0.02 * i) * k, -0.34 + 0.13 * i, 0.026, 0.022)
    spine = np.maximum(vertebrae(g, 0.0, 0.15 * k, 0.25, rng.uniform(-0.05, 0.05) + 0.1), g.y + np.float32(0.5))
    return [Layer(body, "bone", 0.04, 0.4), Layer(holes.shape, "cyst", 0.025, 0.14), Layer(spine, "bone", 0.04, 0.5)]


def _hip(g: Grid, finding: str, rng: np.random.Generator, s: float) -> list[Layer]:
    """The upper femur of side `s`, whole, broken at neck or shaft, or replaced."""
    droop = rng.uniform(-0.04, 0.04)

    def femur(b: Silhouette, head: bool = True) -> None:
        if head:
            b.ellipse(0.565 * s, 0.19, 0.128, 0.128)
            b.capsule(0.6 * s, 0.22, 0.77 * s, 0.38 + droop, 0.075, 0.1, blend=0.05)
        b.capsule(0.87 * s, 0.3 + droop, 0.84 * s, 0.5, 0.07, 0.1, blend=0.08)
        b.capsule(0.72 * s, 0.56, 0.8 * s, 0.6, 0.06, 0.08, blend=0.06)
        b.capsule(0.8 * s, 0.5, 0.74 * s, 1.7, 0.115, 0.09, blend=0.06)

    if finding == "fracture":
        neck = rng.random() < 0.6
        at, along = ((0.68 * s, 0.29), math.atan2(0.2, 0.2 * s)) if neck else ((0.79 * s, rng.uniform(0.6, 0.75)), 1.6)
        return [Layer(broken(g, rng, at, along, 0.12, femur), "bone", 0.035, 0.6)]
    if finding == "implant":
        return [Layer(whole(g, lambda b: femur(b, head=False)), "bone", 0.035, 0.6), *_prosthesis(g, rng, s)]
    return [Layer(whole(g, femur), "bone", 0.035, 0.6)]


def _prosthesis(g: Grid, rng: np.random.Generator, s: float) -> list[Layer]:
    """A hip replacement (cup, ball, neck, stem) or a nail with a neck screw."""
    b = Silhouette(g)
    if rng.random() < 0.7:
        b.ellipse(0.565 * s, 0.19, 0.085, 0.085)
        b.capsule(0.58 * s, 0.2, 0.76 * s, 0.36, 0.035, 0.05)
        b.capsule(0.77 * s, 0.36, 0.775 * s, rng.uniform(0.85, 1.05), 0.075, 0.025)
        rim = half_plane(g, 0.56 * s, 0.2, math.atan2(0.7, 0.6 * s))
        cup = np.maximum(np.abs(ellipse(g, 0.56 * s, 0.185, 0.13, 0.13)) - np.float32(0.02), rim)
        return [Layer(np.minimum(b.shape, cup), "metal", 0.02, 0.75)]
    b.capsule(0.84 * s, 0.3, 0.77 * s, 1.2, 0.04)
    b.capsule(0.86 * s, 0.52, 0.6 * s, 0.22, 0.034)
    return [Layer(b.shape, "metal", 0.02, 0.75)]


# Axial slices ------------------------------------------------------------------------------------------------------


def axial(case: Case, g: Grid) -> list[Layer]:
    """An axial slice of a man's pelvis at the hips: through the bladder, or lower through the prostate."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.045, between(rng, 0.98, 1.2)))
    g, f = s.grid, folded(s.grid)
    high = rng.random() < 0.5
    wide, deep, fat = varied(rng, 0.95, 0.04), between(rng, 0.62, 0.7), between(rng, 0.04, 0.11)
    body = s.add("skin", ellipse(g, 0, 0.02, wide, deep))
    s.add("fat", body + np.float32(0.02))
    _pelvic_muscles(s, f, rng, fat)
    hip = between(rng, 0.5, 0.56)
    cup = s.add("bone", capsule(f, hip - 0.12, -0.16, hip - 0.14, 0.2, 0.075, 0.065))
    s.add("marrow", cup + np.float32(0.024), 0.03)
    head = ellipse(f, hip, 0.0, between(rng, 0.145, 0.17), between(rng, 0.145, 0.17))
    if not high or rng.random() < 0.5:
        head = smooth_union(head, capsule(f, hip + 0.1, 0.06, hip + 0.26, 0.12, 0.07, 0.1), 0.06)
    s.add("cartilage", head - np.float32(0.025), 0.02, 0.8)
    s.bone(head, 0.022)
    s.add("muscle", capsule(f, 0.27, -0.14, 0.29, 0.24, 0.045), 0.03)
    vessels = np.minimum(ellipse(f, 0.36, -0.33, 0.034, 0.034), ellipse(f, 0.29, -0.32, 0.04, 0.034))
    s.add("vein", vessels, 0.02)
    _pelvic_organs(s, rng, high)
    side = sign(case)
    if case.finding == "mass":
        places = [(side * 0.1, -0.1), (side * 0.08, 0.2), (side * 0.18, 0.02)]
        lump(s, rng, places[int(rng.integers(3))], between(rng, 0.09, 0.15), core=0.25)
    elif case.finding == "cyst":
        sac(s, rng, (side * between(rng, 0.14, 0.2), between(rng, 0.0, 0.2)), between(rng, 0.08, 0.14))
    return s.layers


def _pelvic_muscles(s: Sketch, f: Grid, rng: np.random.Generator, fat: float) -> None:
    """Buttocks, the flexors in front of the hip and the straight muscles of the belly."""
    k = varied(rng, 1.0, 0.1)
    shapes = [
        ellipse(f, 0.46, 0.4 - fat * 0.5, 0.34 * k, 0.13 * k, -0.55),
        ellipse(f, 0.5, -0.28, 0.13 * k, 0.11),
        ellipse(f, 0.72, -0.2, 0.1, 0.2 * k, -0.4),
        capsule(f, 0.06, -0.56 + fat, 0.22, -0.54 + fat, 0.035 * k),
    ]
    out = shapes[0]
    for shape in shapes[1:]:
        out = np.minimum(out, shape)
    s.add("muscle", out, 0.03)


def _pelvic_organs(s: Sketch, rng: np.random.Generator, high: bool) -> None:
    """Bladder, prostate or seminal vesicles, rectum and the tip of the spine."""
    rx, ry, y = (between(rng, 0.2, 0.27), between(rng, 0.13, 0.2), -0.2) if high else (0.12, 0.09, -0.3)
    s.add("muscle", s.ellipse(0, y, rx + 0.025, ry + 0.025), 0.02)
    s.add("fluid", s.ellipse(0, y, rx, ry), 0.02)
    if high:
        vesicles = np.minimum(s.ellipse(-0.11, 0.06, 0.1, 0.03, 0.3), s.ellipse(0.11, 0.06, 0.1, 0.03, -0.3))
        s.add("gland", vesicles, 0.03)
    else:
        k = between(rng, 0.85, 1.3)
        s.add("muscle", s.ellipse(0, -0.03, 0.165 * k, 0.135 * k), 0.02)
        s.add("mass", s.ellipse(0, -0.03, 0.15 * k, 0.12 * k), 0.02, 0.6)
        s.add("gland", s.ellipse(0, -0.06, 0.1 * k, 0.075 * k), 0.03)
    ry = between(rng, 0.07, 0.11)
    s.add("gut", s.ellipse(0, 0.24, 0.105, ry), 0.02)
    s.add("air" if rng.random() < 0.5 else "mucosa", s.ellipse(0, 0.23, 0.06, ry - 0.04), 0.03)
    s.bone(s.ellipse(0, 0.45, between(rng, 0.06, 0.1), 0.045), 0.018)


# Ultrasound --------------------------------------------------------------------------------------------------------


def ultrasound(case: Case, g: Grid) -> list[Layer]:
    """Bladder, uterus and an ovary through the wall of the lower belly, along or across."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.06))
    g, side = s.grid, sign(case)
    belly_wall(s, rng)
    s.add(
        "gut", ellipse(g, -side * 0.3, 0.9, 1.2, 0.6) + value_noise(rng, g.x.shape[0], 9) * np.float32(0.2), 0.15, 0.7
    )
    full, x, y = between(rng, 0.7, 1.2), between(rng, -0.12, 0.12) - side * 0.05, between(rng, 0.12, 0.28)
    bladder = smooth_union(
        s.ellipse(x - 0.16, -0.36, 0.34 * full, 0.2 * full), s.ellipse(x + 0.2, -0.38, 0.3 * full, 0.19 * full), 0.15
    )
    s.add("tendon", bladder - np.float32(0.03), 0.03, 0.75)
    s.add("fluid", bladder)
    along = rng.random() < 0.55
    lean = between(rng, -0.5, 0.2) * side
    length = between(rng, 0.26, 0.34) if along else 0.06
    dx, dy = math.cos(lean) * length, math.sin(lean) * length
    uterus = s.capsule(x - dx, y - dy, x + dx, y + dy, between(rng, 0.19, 0.24), 0.13 if along else 0.2)
    s.add("tendon", np.abs(uterus) - np.float32(0.012), 0.03, 0.5)
    s.add("muscle", np.maximum(uterus, -bladder - np.float32(0.03)), 0.03)
    s.add(
        "mucosa",
        s.capsule(x - dx * 0.9, y - dy * 0.9, x + dx * 0.7, y + dy * 0.7, between(rng, 0.03, 0.06), 0.02),
        0.05,
        0.9,
    )
    ox, oy = x + side * between(rng, 0.46, 0.58), y + between(rng, -0.18, 0.05)
    if case.finding == NORMAL:
        _ovary(s, rng, (ox, oy))
    elif case.finding == "cyst":
        r = between(rng, 0.17, 0.27)
        s.add("tendon", s.ellipse(ox, oy, r + 0.02, r * 0.85 + 0.02), 0.03, 0.7)
        s.add("cyst", s.ellipse(ox, oy, r, r * 0.85), 0.02)
        if rng.random() < 0.4:
            s.add("tendon", s.capsule(ox - r * 0.7, oy - r * 0.3, ox + r * 0.6, oy + r * 0.4, 0.01), 0.02, 0.8)
    else:
        lump(s, rng, (ox - side * 0.06, oy), between(rng, 0.19, 0.28), core=0.35)
    return s.layers


def _ovary(s: Sketch, rng: np.random.Generator, at: Point) -> None:
    """An ovary with follicles."""
    x, y = at
    s.add("muscle", s.ellipse(x, y, 0.17, 0.115, between(rng, -0.5, 0.5)), 0.03, 0.8)
    for _ in range(3):
        r = between(rng, 0.02, 0.04)
        s.add("cyst", s.ellipse(x + between(rng, -0.09, 0.09), y + between(rng, -0.05, 0.05), r, r), 0.02, 0.9)
