"""The foot: radiographs from above and from the side, and sagittal slices of the hindfoot."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import Draw, Ray, broken, jitter, ray, ray_layers, whole
from clipdemo.sources.phantom.anatomy.sketch import Sketch, grown, limb, moved, varied
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, between, capsule, smooth_union
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Radiograph from above ---------------------------------------------------------------------------------------------


def from_above(case: Case, g: Grid) -> list[Layer]:
    """A foot from above, toes up, the big toe to the left of a right foot's picture."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    g = g.placed(0.0, 0.1, 0.0, rng.uniform(0.98, 1.3))
    k, thick, gap = jitter(rng, 1.0, 0.08), jitter(rng, 0.052, 0.12), rng.uniform(0.006, 0.02)
    hallux, spread = rng.uniform(-0.03, 0.3), rng.uniform(0.05, 0.11)
    rays = [ray((-0.25 * k, 0.27), -0.14 - spread, [0.48, 0.24, 0.17], thick * 1.55, hallux, gap)]
    sizes = ([0.56, 0.2, 0.09, 0.07], [0.52, 0.18, 0.08, 0.07], [0.49, 0.17, 0.07, 0.06], [0.46, 0.15, 0.06, 0.06])
    for i, lengths in enumerate(sizes):
        root = (-0.11 + 0.105 * i) * k, 0.25 + 0.035 * i
        bend = 0.0 if i < 3 else -0.06
        rays.append(ray(root, spread * (i - 0.6), [n * k for n in lengths], thick * 0.95, bend, gap))
    flesh = Silhouette(g)
    flesh.capsule(0.02, 0.1, 0.02, 0.85, 0.4 * k, 0.27, blend=0.1)
    flesh.capsule(-0.1, -0.18, 0.16, -0.1, 0.27 * k, 0.27, blend=0.2)
    for toe in rays:
        (ax, ay), (bx, by) = toe.bones[0][1], toe.bones[-1][1]
        flesh.capsule(ax, ay, bx, by, thick * 2, thick * (1.9 if toe is rays[0] else 1.35), blend=0.06)
    layers = [Layer(flesh.shape, "muscle", 0.2, 0.4)]
    layers += ray_layers(g, case.finding, rng, rays, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (0, 1)], 0.6)
    return layers + _tarsus(g, rng, k) + [Layer(_sesamoids(g, rays[0], thick), "bone", 0.02, 0.35)]


def _sesamoids(g: Grid, toe: Ray, thick: float) -> Array:
    """Two little bones under the head of the first metatarsal."""
    s = Silhouette(g)
    x, y = toe.bones[0][1]
    for side in (-1, 1):
        s.ellipse(x + side * thick * 0.8, y + 0.03, thick * 0.5, thick * 0.65)
    return s.shape


def _tarsus(g: Grid, rng: np.random.Generator, k: float) -> list[Layer]:
    """Cuneiforms, cuboid and navicular, with talus and calcaneus foreshortened behind them."""
    mid, hind = Silhouette(g), Silhouette(g)
    mid.blob([(-0.33 * k, 0.3), (-0.17 * k, 0.28), (-0.15 * k, 0.48), (-0.3 * k, 0.5)])
    for i, x in enumerate((-0.105, 0.0)):
        mid.ellipse(x * k, 0.37 + 0.03 * i, 0.05 * k, jitter(rng, 0.105), 0.1)
    mid.capsule(-0.25 * k, 0.55, -0.04 * k, 0.58, 0.075, 0.06)
    mid.blob([(0.07 * k, 0.44), (0.16 * k, 0.39), (0.27 * k, 0.41), (0.26 * k, 0.58), (0.2 * k, 0.7), (0.08 * k, 0.66)])
    hind.capsule(-0.12 * k, 0.77, -0.04 * k, 1.2, 0.13, 0.25)
    heel = whole(g, lambda s: s.spindle(0.13 * k, 0.74, 0.02, 1.4, 0.13, 0.2, 0.0))
    return [Layer(mid.shape, "bone", 0.03, 0.55), Layer(hind.shape, "bone", 0.06, 0.5), Layer(heel, "marrow", 0.1, 0.5)]


# Radiograph from the side ------------------------------------------------------------------------------------------


def from_side(case: Case, g: Grid) -> list[Layer]:
    """A standing foot from the side, toes to the left (of a right foot's picture)."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    k, arch, thick = jitter(rng, 1.0, 0.08), rng.uniform(-0.06, 0.1), jitter(rng, 0.048, 0.15)
    heel = _heel(k, rng)
    fall = [(-0.28 * k - 0.03 * i, 0.2 - 0.6 * arch + 0.045 * i) for i in range(4)]
    toes = [Ray((((x, y), (x - (0.42 - 0.03 * i) * k, 0.46 + 0.015 * i), thick),
                 ((x - (0.5 - 0.03 * i) * k, 0.475 + 0.012 * i), (x - (0.62 - 0.04 * i) * k, 0.49), thick * 0.8)))
            for i, (x, y) in enumerate(fall)]  # fmt: skip
    layers = [Layer(_side_flesh(g, k, arch), "muscle", 0.25, 0.5)]
    if case.finding == "fracture" and rng.random() < 0.6:
        shape = broken(g, rng, (jitter(rng, 0.42, 0.15) * k, 0.32), rng.uniform(-0.3, 0.9), 0.13, heel)
        layers.append(Layer(shape, "bone", 0.035, 0.75))
        layers += _toe_rows(g, rng, toes, NORMAL)
    else:
        layers.append(Layer(whole(g, heel), "bone", 0.035, 0.75))
        layers += _toe_rows(g, rng, toes, case.finding)
    if case.finding == "spur":
        layers.append(Layer(_spurs(g, rng, k), "bone", 0.03, 0.9))
    return layers + _hindfoot(g, rng, k, arch)


def _heel(k: float, rng: np.random.Generator) -> Draw:
    """The calcaneus from the side."""
    drop = rng.uniform(-0.03, 0.03)
    points = [(0.02, 0.16), (0.2, 0.12), (0.36, 0.1 + drop), (0.52, 0.14), (0.7, 0.16), (0.78, 0.3), (0.74, 0.46),
              (0.6, 0.48), (0.4, 0.41), (0.2, 0.36), (0.04, 0.32)]  # fmt: skip
    return lambda s: s.blob([(x * k, y) for x, y in points])


def _toe_rows(g: Grid, rng: np.random.Generator, toes: list[Ray], finding: str) -> list[Layer]:
    """Metatarsals and toes in two sheets, because from the side they lie over one another."""
    layers = []
    for row in (0, 1):
        draws = [toes[i].drawer(j) for i in (row, row + 2) for j in (0, 1)]
        if finding == "fracture" and row == 1:
            a, b, r = toes[3].bones[0]
            at = a[0] * 0.6 + b[0] * 0.4, a[1] * 0.6 + b[1] * 0.4
            shape = broken(g, rng, at, math.atan2(b[1] - a[1], b[0] - a[0]), r * 1.6, draws.pop(2))
            layers.append(Layer(shape, "bone", 0.022, 0.6))
        layers.append(Layer(whole(g, *draws), "bone", 0.022, 0.5))
    return layers


def _spurs(g: Grid, rng: np.random.Generator, k: float) -> Array:
    """A beak below the heel that points forward, at times one behind it too."""
    s = Silhouette(g)
    length = rng.uniform(0.14, 0.24)
    s.capsule(0.58 * k, 0.455, (0.58 - length) * k, 0.475, 0.035, 0.008)
    if rng.random() < 0.4:
        s.capsule(0.77 * k, 0.26, 0.79 * k, 0.12, 0.03, 0.008)
    return s.shape


def _hindfoot(g: Grid, rng: np.random.Generator, k: float, arch: float) -> list[Layer]:
    """Tibia, fibula, talus and the small bones of the midfoot."""
    deep, shallow = Silhouette(g), Silhouette(g)
    top = rng.uniform(-0.08, 0.08)
    shallow.spindle((0.27 + top) * k, -1.5, 0.27 * k, -0.32, 0.14, 0.185, 0.04)
    shallow.ellipse(0.2 * k, -0.2, 0.06, 0.09, blend=0.1)
    deep.spindle((0.36 + top) * k, -1.5, 0.33 * k, -0.2, 0.06, 0.08, 0.015)
    deep.blob([(0.1 * k, -0.1), (0.28 * k, -0.17), (0.44 * k, -0.06), (0.44 * k, 0.09), (0.22 * k, 0.1), (0.02, 0.14),
               (-0.06 * k, 0.05), (0.0, -0.05)])  # fmt: skip
    shallow.ellipse(-0.1 * k, 0.1 - 0.5 * arch, 0.055, 0.12, 0.15)
    deep.ellipse(-0.22 * k, 0.13 - 0.5 * arch, 0.09, 0.085, 0.2)
    shallow.blob([(-0.18 * k, 0.22), (0.0, 0.17), (0.01, 0.31), (-0.16 * k, 0.37 - 0.3 * arch)])
    return [Layer(deep.shape, "bone", 0.032, 0.6), Layer(shallow.shape, "bone", 0.035, 0.6)]


def _side_flesh(g: Grid, k: float, arch: float) -> Array:
    """The outline of the foot and lower calf from the side."""
    s = Silhouette(g)
    s.capsule(0.34 * k, -1.4, 0.32 * k, 0.0, 0.36, 0.3)
    s.capsule(0.55 * k, 0.32, 0.4 * k, 0.15, 0.27, 0.3, blend=0.2)
    s.capsule(0.3 * k, 0.1, -0.35 * k, 0.33 - 0.4 * arch, 0.33, 0.2, blend=0.2)
    s.capsule(-0.3 * k, 0.35, -0.9 * k, 0.5, 0.2, 0.09, blend=0.15)
    return s.shape


# Sagittal slice ----------------------------------------------------------------------------------------------------


def sagittal(case: Case, g: Grid) -> list[Layer]:
    """Sagittal slice through ankle and heel; the toes are on the left."""
    rng = anatomy_rng(case)
    s = Sketch(
        grown(
            rng,
            g.placed(between(rng, -0.25, 0.1), between(rng, -0.1, 0.2), between(rng, -0.3, 0.25)),
            0.045,
            between(rng, 0.98, 1.35),
        )
    )
    g = s.grid
    leg = capsule(g, 0.32, -1.5, 0.38, -0.1, between(rng, 0.4, 0.5), between(rng, 0.4, 0.46))
    sole = capsule(g, -1.4, 0.34, 0.48, 0.3, between(rng, 0.24, 0.32), between(rng, 0.36, 0.4))
    outline = smooth_union(leg, sole, between(rng, 0.4, 0.6))
    limb(s, outline, varied(rng, 0.09, 0.4))
    _flesh(s, rng, outline)
    together = _ankle_bones(s, rng)
    _tendons(s, rng)
    if rng.random() < 0.5:
        s.add("fluid", s.ellipse(0.58, -0.12, 0.05, 0.03), 0.03, 0.8)
    _foot_finding(case, s, rng, together)
    return s.layers


def _flesh(s: Sketch, rng: np.random.Generator, outline: Array) -> None:
    """Pads of fat, the fat before the Achilles tendon, and muscles."""
    pads = np.minimum(s.capsule(0.4, 0.6, 0.78, 0.45, 0.1, 0.14), s.capsule(-0.2, -0.3, -0.9, 0.1, 0.12, 0.08))
    kager = s.blob(moved(rng, [(0.42, -0.85), (0.66, -0.85), (0.7, 0.0), (0.42, -0.12)], 0.03))
    s.add("fat", np.maximum(np.minimum(pads, kager), outline + np.float32(0.03)), 0.05)
    s.add("muscle", s.path([(0.45, -1.1), (0.45, -0.55), (0.38, -0.2)], 0.07, 0.02), 0.03)
    s.add("muscle", s.path([(0.42, 0.5), (-0.1, 0.45), (-0.9, 0.5)], 0.075, 0.06), 0.03)


HEEL = [(0.25, 0.1), (0.45, 0.02), (0.74, 0.03), (0.84, 0.22), (0.76, 0.42), (0.6, 0.46), (0.3, 0.36),
        (0.08, 0.3)]  # fmt: skip
TALUS = [(0.12, -0.24), (0.3, -0.34), (0.5, -0.24), (0.55, -0.1), (0.38, -0.04), (0.16, 0.06), (-0.06, 0.12),
         (-0.16, -0.02), (-0.04, -0.14)]  # fmt: skip


def _ankle_bones(s: Sketch, rng: np.random.Generator) -> Array:
    """Tibia, talus, heel bone and the bones before them; comes back with all of them as one shape."""
    heel = s.blob(moved(rng, HEEL, 0.02))
    talus = s.blob(moved(rng, TALUS, 0.015))
    bones = [
        talus,
        heel,
        s.capsule(varied(rng, 0.26, 0.1), -1.6, 0.31, -0.52, 0.15, 0.19),
        s.ellipse(-0.24, 0.06, 0.075, 0.13, 0.2),
        s.box(-0.42, 0.13, 0.1, 0.11, 0.05, 0.2),
        s.capsule(-0.62, 0.2, -1.2, 0.45, 0.1, 0.07),
        s.box(-0.06, 0.3, 0.13, 0.1, 0.06, 0.15),
    ]
    s.add("cartilage", np.minimum(talus, s.capsule(0.14, -0.36, 0.48, -0.34, 0.03)) - np.float32(0.02), 0.02, 0.8)
    together = bones[0]
    for shape in bones[1:]:
        together = np.minimum(together, shape)
    s.bone(together, varied(rng, 0.022))
    return together


def _tendons(s: Sketch, rng: np.random.Generator) -> None:
    """The Achilles tendon, the plantar fascia, and the tendons of toes and foot."""
    thick = varied(rng, 0.035, 0.25)
    s.add("tendon", s.path([(0.66, -1.6), (0.74, -0.5), (0.8, 0.08)], thick, thick * 1.25))
    s.add("tendon", s.path([(0.62, 0.47), (0.2, 0.57), (-0.9, 0.62)], 0.026, 0.018))
    s.add("tendon", s.path([(0.44, -0.5), (0.46, -0.12), (0.1, 0.3), (-0.6, 0.42)], 0.018))
    s.add("tendon", s.path([(0.08, -1.2), (0.02, -0.45), (-0.3, -0.12), (-0.8, 0.12)], 0.02))


def _foot_finding(case: Case, s: Sketch, rng: np.random.Generator, bones: Array) -> None:
    """A bruise in heel bone or talus; a cyst in the heel bone or beside the joint."""
    x, y = ((0.55, 0.22), (0.25, -0.12), (0.4, 0.2))[int(rng.integers(3))]
    x, y = x + between(rng, -0.06, 0.06), y + between(rng, -0.04, 0.04)
    if case.finding == "oedema":
        bruise = s.ellipse(x, y, varied(rng, 0.24, 0.25), varied(rng, 0.15, 0.2), between(rng, -0.6, 0.6))
        s.add("fluid", np.maximum(bruise, bones + np.float32(0.025)), 0.15, between(rng, 0.65, 0.9))
    elif case.finding == "cyst":
        x, y = ((0.5, 0.22), (0.16, 0.17), (0.56, -0.24))[int(rng.integers(3))]
        r = between(rng, 0.08, 0.13)
        s.add("tendon", s.ellipse(x, y, r + 0.015, r * 0.85 + 0.015), 0.02, 0.8)
        s.add("cyst", s.ellipse(x, y, r, r * 0.85), 0.02)
