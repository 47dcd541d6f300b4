"""The lower limb without the foot: radiographs of knee, lower leg and thigh, and slices of the knee."""

from __future__ import annotations

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import Shaft, jitter, shaft_layers, turned, whole
from clipdemo.sources.phantom.anatomy.shapes import Point
from clipdemo.sources.phantom.anatomy.sketch import Sketch, grown, limb, moved, varied
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, between, capsule, ellipse, smooth_union
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Radiographs -------------------------------------------------------------------------------------------------------


def radiograph(case: Case, g: Grid) -> list[Layer]:
    """Knee from the front or side, lower leg, or hip and thigh."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    draw = (_knee_front_film, _knee_side_film, _lower_leg, _thigh)[int(rng.choice(4, p=(0.34, 0.26, 0.22, 0.18)))]
    return draw(case, g, rng)


def _knee_front_film(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w, gap = jitter(rng, 1.0, 0.1), jitter(rng, 0.145, 0.12), rng.uniform(0.0, 0.05)

    def femur(s: Silhouette) -> None:
        s.spindle(0.05, -1.6, 0.0, -0.3, w * 1.2, w * 1.2, 0.04)
        for side in (-1, 1):
            s.ellipse(side * 0.17 * k, -0.17, 0.19 * k, 0.19, blend=0.18)
        s.cut(ellipse, 0.0, 0.06, 0.055 * k, 0.1, at=(0, 0.06), reach=0.1)

    def tibia(s: Silhouette) -> None:
        s.spindle(0.0, 0.3 + gap, 0.03, 1.7, 0.22 * k, w, 0.05)
        for side in (-1, 1):
            s.ellipse(side * 0.18 * k, 0.18 + gap, 0.18 * k, 0.11, -0.06 * side, blend=0.12)
        s.capsule(-0.02, 0.12 + gap, -0.02, 0.07 + gap, 0.035, 0.012, blend=0.05)

    upper = rng.random() < 0.4
    shafts = (Shaft((0.05, -1.1), (0.0, -0.2), w, femur), Shaft((0.0, 0.2), (0.03, 1.1), w, tibia))
    flesh = whole(g, lambda s: s.capsule(0.0, -1.6, 0.0, 0.1, 0.62 * k, 0.46),
                  lambda s: s.capsule(0.0, 0.1, 0.0, 1.6, 0.46, 0.42 * k, blend=0.1))  # fmt: skip
    fibula = whole(g, lambda s: s.spindle(0.29 * k, 0.38, 0.27, 1.6, 0.075, 0.05, 0.015))
    return [
        Layer(flesh, "muscle", 0.4, 0.5),
        *shaft_layers(g, case, rng, shafts[0] if upper else shafts[1]),
        Layer(whole(g, shafts[1].draw if upper else shafts[0].draw), "bone", 0.035, 0.9),
        Layer(fibula, "bone", 0.025, 0.5),
        Layer(ellipse(g, rng.uniform(-0.04, 0.04), rng.uniform(-0.34, -0.24), 0.15 * k, 0.16), "marrow", 0.08, 0.3),
    ]


def _knee_side_film(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w, flexion = jitter(rng, 1.0, 0.1), jitter(rng, 0.14, 0.1), rng.uniform(-0.65, 0.0)
    joint = (0.08, -0.02)

    def below(x: float, y: float) -> Point:
        return turned((x, y), joint, flexion)

    def femur(s: Silhouette) -> None:
        s.spindle(-0.02, -1.6, 0.02, -0.3, w * 1.15, w * 1.25, 0.03)
        s.ellipse(0.03, -0.12, 0.2 * k, 0.17, blend=0.15)
        s.ellipse(0.14 * k, -0.1, 0.17 * k, 0.17, blend=0.1)

    def tibia(s: Silhouette) -> None:
        s.spindle(*below(0.09, 0.32), *below(0.12, 1.7), 0.2 * k, w, 0.05)
        s.ellipse(*below(0.1, 0.2), 0.23 * k, 0.095, flexion, blend=0.12)
        s.ellipse(*below(-0.05, 0.4), 0.06, 0.1, flexion, blend=0.08)  # tuberosity

    flesh = whole(g, lambda s: s.capsule(0.05, -1.6, 0.05, -0.05, 0.6 * k, 0.42),
                  lambda s: s.capsule(*below(0.06, 0.05), *below(0.16, 1.7), 0.41, 0.42 * k, blend=0.12))  # fmt: skip
    upper = rng.random() < 0.4
    shafts = (Shaft((-0.02, -1.1), (0.02, -0.2), w, femur), Shaft(below(0.08, 0.2), below(0.12, 1.1), w, tibia))
    fibula = whole(g, lambda s: s.spindle(*below(0.26 * k, 0.36), *below(0.27, 1.6), 0.07, 0.05, 0.015))
    patella = ellipse(g, -0.27 * k, -0.2 - 0.12 * flexion, 0.085, 0.155 * k, 0.12 + 0.4 * flexion)
    return [
        Layer(flesh, "muscle", 0.4, 0.48),
        *shaft_layers(g, case, rng, shafts[0] if upper else shafts[1]),
        Layer(whole(g, shafts[1].draw if upper else shafts[0].draw), "bone", 0.04, 0.85),
        Layer(fibula, "bone", 0.025, 0.5),
        Layer(patella, "bone", 0.04, 0.6),
    ]


def _lower_leg(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w, low = jitter(rng, 1.0, 0.12), jitter(rng, 0.115, 0.12), rng.uniform(0.7, 1.25)

    def tibia(s: Silhouette) -> None:
        s.spindle(-0.06, -1.15, -0.06, low - 0.08, 0.2 * k, 0.17 * k, 0.185 * k - w)
        s.ellipse(-0.2 * k, low + 0.04, 0.05, 0.09, blend=0.08)  # inner malleolus

    def fibula(s: Silhouette) -> None:
        s.spindle(0.2 * k, -1.0, 0.14 * k, low + 0.08, 0.075, 0.075, 0.032)

    calf = whole(g, lambda s: s.spindle(0.02, -1.4, -0.02, low + 0.3, 0.42 * k, 0.3 * k, -0.08))
    layers = [Layer(calf, "muscle", 0.35, 0.48)]
    layers += shaft_layers(g, case, rng, Shaft((-0.06, -0.9), (-0.06, low), w, tibia, cortex=0.045))
    second = Shaft((0.18, -0.9), (0.14, low), 0.05, fibula, cortex=0.025, strength=0.55)
    if case.finding == "fracture" and rng.random() < 0.6:
        layers += shaft_layers(g, case, rng, second)
    else:
        layers.append(Layer(whole(g, fibula), "bone", 0.025, 0.55))
    foot = Silhouette(g)
    foot.ellipse(-0.04, low + 0.26, 0.17 * k, 0.12)
    foot.ellipse(0.0, low + 0.45, 0.16, 0.15)
    return [*layers, Layer(foot.shape, "bone", 0.035, 0.6)]


def _thigh(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w = jitter(rng, 1.0, 0.1), jitter(rng, 0.12, 0.12)
    hip, neck = (-0.26 * k, -0.5), rng.uniform(-0.08, 0.08)

    def femur(s: Silhouette) -> None:
        s.ellipse(*hip, 0.165 * k, 0.165 * k)
        s.capsule(*hip, 0.06, -0.3 + neck, 0.1, 0.14, blend=0.06)
        s.capsule(0.14, -0.46 + neck, 0.12, -0.25, 0.09, 0.13, blend=0.08)  # greater trochanter
        s.spindle(0.1, -0.25, 0.0, 1.7, 0.15, w, 0.03, blend=0.06)

    def hip_bone(s: Silhouette) -> None:
        s.blob([(-0.9, -1.2), (-0.15, -1.2), (-0.02, -0.85), (-0.12, -0.66), (-0.4, -0.5), (-0.65, -0.6)])
        s.capsule(-0.5, -0.55, -1.1, -0.35, 0.08, 0.09, blend=0.08)
        s.capsule(-0.55, -0.4, -0.8, 0.05, 0.09, 0.08, blend=0.08)
        s.capsule(-0.8, 0.05, -1.1, -0.2, 0.06, blend=0.05)

    flesh = Silhouette(g)
    flesh.capsule(-0.12, -0.5, -0.02, 1.8, 0.62 * k, 0.5)
    flesh.capsule(-1.2, -1.2, -0.4, -0.8, 0.9)
    return [
        Layer(flesh.shape, "muscle", 0.45, 0.55),
        Layer(whole(g, hip_bone), "bone", 0.05, 0.45),
        *shaft_layers(g, case, rng, Shaft((0.08, -0.2), (0.02, 0.95), w, femur, cortex=0.045)),
    ]


# Slices of the knee ------------------------------------------------------------------------------------------------


def knee(case: Case, g: Grid) -> list[Layer]:
    """A knee from the side or from the front."""
    rng = anatomy_rng(case)
    if rng.random() < 0.62:
        return _knee_side_slice(case, g, rng)
    return _knee_front_slice(case, g if case.side == "right" else g.mirrored(), rng)


def _knee_side_slice(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    """Sagittal: the kneecap is on the left, the hollow of the knee on the right."""
    s = Sketch(grown(rng, g, 0.04, between(rng, 0.95, 1.3)))
    g = s.grid
    gap, middle = between(rng, 0.09, 0.12), rng.random() < 0.4  # a slice through the notch shows the ligaments
    k = varied(rng, 1.0, 0.1)
    limb(s, _between_lines(g, -0.8 * k, varied(rng, 0.88, 0.15), between(rng, -0.04, 0.04)), varied(rng, 0.1, 0.5))
    s.add(
        "fat", s.blob(moved(rng, [(-0.55, -0.15), (-0.3, -0.5), (0.0, -0.1), (-0.12, 0.3), (-0.34, 0.4)], 0.03)), 0.05
    )
    hollow = [(0.3, -0.5), (0.52, -0.3), (0.5, 0.15), (0.35, 0.3)]
    s.add("fat", s.path(hollow, 0.11, 0.05), 0.06, 0.9)
    s.add("artery", s.path([(0.42, -1.1), (0.5, -0.4), (0.47, 0.2), (0.55, 1.1)], 0.03), 0.02)
    strands = s.gather()
    for x in (0.5, 0.64):
        strands.capsule(x, -0.7, x + between(rng, 0.0, 0.15), 1.0, 0.012)
    s.add("fat", strands.shape, 0.03, 0.7)
    femur = smooth_union(
        capsule(g, -0.06, -1.3, 0.0, -0.35, 0.2 * k, 0.24 * k), ellipse(g, 0.02, -0.24, 0.37 * k, 0.27 * k, 0.1), 0.2
    )
    plateau = smooth_union(
        s.box(0.03, gap + 0.22, 0.36 * k, 0.13, 0.08, 0.05), capsule(g, 0.0, 0.3, 0.08, 1.3, 0.24 * k, 0.2 * k), 0.22
    )
    patella = s.ellipse(-0.53 * k, -0.3, 0.1 * k, varied(rng, 0.19), between(rng, -0.1, 0.2))
    s.add("fluid", s.ellipse(0.0, gap * 0.5, 0.36, 0.07), 0.03, 0.55)
    for shape, rim in ((femur, 0.035), (plateau, 0.025), (patella, 0.02)):
        s.add("cartilage", shape - np.float32(rim), 0.02, 0.9)
    for shape in (femur, plateau, patella):
        s.bone(shape, 0.024)
    s.add("bone", s.capsule(-0.2, -0.36, 0.3, -0.42, 0.006), 0.02, 0.4)  # the closed growth plates
    s.add("bone", s.capsule(-0.25, gap + 0.36, 0.3, gap + 0.33, 0.006), 0.02, 0.4)
    s.add("tendon", s.path([(-0.42, -1.2), (-0.52, -0.5)], 0.035, 0.05))
    s.add("tendon", s.path([(-0.55 * k, -0.12), (-0.42, 0.3), (-0.3, 0.48)], 0.04, 0.025))
    if middle:
        s.add("tendon", s.path([(0.22, -0.1), (0.0, gap * 0.9), (-0.14, gap + 0.1)], 0.028, 0.02), 0.03, 0.75)
        s.add("tendon", s.path([(0.05, -0.02), (0.27, -0.02), (0.36, gap + 0.18)], 0.032, 0.025), 0.03)
    horns = ((-0.33, -0.13), (0.36, 0.15))
    for outer, inner in horns:
        s.add("tendon", s.capsule(outer * k, gap * 0.55, inner * k, gap * 0.6, 0.062, 0.012), 0.02)
    _knee_finding(case, s, rng, (femur, plateau), [(0.0, -0.28), (0.02, gap + 0.24)], [(0.36 * k, gap * 0.55)])
    return s.layers


def _knee_front_slice(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    """Coronal; the fibula is on the left."""
    s = Sketch(grown(rng, g, 0.04, between(rng, 0.95, 1.25)))
    g, k = s.grid, varied(rng, 1.0, 0.08)
    gap = between(rng, 0.08, 0.11)
    limb(s, _between_lines(g, -0.84 * k, 0.82 * k, between(rng, -0.08, 0.06)), varied(rng, 0.13, 0.4))
    s.add("fat", _between_lines(g, -0.64 * k, 0.64 * k, 0.0) + np.abs(g.y) * np.float32(0.3), 0.1, 0.8)
    shaft = capsule(g, 0.0, -1.3, 0.0, -0.5, 0.22 * k, 0.28 * k)
    condyles = np.minimum(s.ellipse(-0.28 * k, -0.2, 0.27 * k, 0.24), s.ellipse(0.29 * k, -0.19, 0.26 * k, 0.25))
    femur = smooth_union(shaft, condyles, 0.16)
    notch = s.ellipse(0.0, 0.06, 0.12, varied(rng, 0.2))
    femur = np.maximum(femur, -notch)
    tibia = smooth_union(
        s.box(0.0, gap + 0.2, 0.53 * k, 0.12, 0.08), capsule(g, 0.0, gap + 0.25, 0.03, 1.3, 0.34 * k, 0.2 * k), 0.18
    )
    tibia = smooth_union(tibia, s.capsule(-0.04, gap + 0.1, 0.05, gap + 0.1, 0.05, 0.04), 0.06)
    fibula = s.capsule(-0.55 * k, 0.56, -0.5, 1.3, 0.1, 0.07)
    s.add("fluid", s.box(0.0, gap * 0.5, 0.5 * k, 0.05, 0.03), 0.03, 0.6)
    for shape in (femur, tibia):
        s.add("cartilage", shape - np.float32(0.03), 0.02, 0.9)
    for shape in (femur, tibia, fibula):
        s.bone(shape, 0.024)
    s.add("bone", s.path([(-0.42, -0.42), (0.0, -0.36), (0.42, -0.42)], 0.006), 0.02, 0.4)
    s.add("tendon", s.path([(-0.1, -0.15), (0.02, gap + 0.05)], 0.05), 0.04, 0.7)
    for side in (-1, 1):
        s.add("tendon", s.capsule(side * 0.54 * k, gap * 0.5, side * 0.33 * k, gap * 0.5, 0.055, 0.012))
        end = (-0.57 * k, 0.5) if side < 0 else (0.46 * k, 0.6)
        s.add("tendon", s.path([(side * 0.57 * k, -0.25), (side * 0.6 * k, gap), end], 0.016))
    spots = [(0.28, -0.2), (-0.28, -0.2), (0.3, gap + 0.2), (-0.3, gap + 0.2)]
    horn = (0.5 if rng.random() < 0.6 else -0.5) * k
    _knee_finding(case, s, rng, (femur, femur, tibia, tibia), spots, [(horn, gap * 0.5)])
    return s.layers


def _between_lines(g: Grid, left: float, right: float, waist: float) -> Array:
    """Distance to an upright limb between two lines, `waist` narrower in the middle."""
    edge = np.abs(g.x - np.float32((left + right) / 2)) - np.float32((right - left) / 2)
    return edge + np.float32(waist) / (np.float32(1) + g.y * g.y * np.float32(6))


def _knee_finding(
    case: Case, s: Sketch, rng: np.random.Generator, bones: tuple[Array, ...], spots: list[Point], horns: list[Point]
) -> None:
    """Fluid around the joint, a crack in a meniscus or a bruise in a bone."""
    if case.finding == "effusion":
        front = spots[0][0] == 0.0
        large = varied(rng, 1.0, 0.3)
        if front:  # seen from the side: the pouch above the kneecap and the recess behind
            pouch = [(-0.42, -0.42), (-0.4, -0.62), (-0.3, -0.95)]
            s.add("fluid", np.maximum(s.path(pouch, 0.1 * large, 0.05 * large), -bones[0]), 0.03)
            s.add("fluid", s.ellipse(0.45, -0.02, 0.07 * large, 0.16 * large), 0.03)
        else:
            for side in (-1, 1):
                pouch = [(side * 0.6, 0.06), (side * 0.6, -0.25), (side * 0.48, -0.55)]
                s.add("fluid", np.maximum(s.path(pouch, 0.08 * large, 0.05 * large), -bones[0]), 0.03)
    elif case.finding == "tear":
        x, y = horns[0]
        lean, sign = between(rng, -0.06, 0.06), 1 if x > 0 else -1
        s.add("fluid", s.capsule(x - sign * 0.15, y + lean, x + sign * 0.07, y - lean, 0.016), 0.015)
        s.add("fluid", s.ellipse(x + sign * between(rng, 0.08, 0.12), y, 0.05, 0.07), 0.04, 0.9)
    elif case.finding == "oedema":
        i = int(rng.integers(len(spots)))
        x, y = spots[i]
        bruise = s.ellipse(x, y, varied(rng, 0.2, 0.3), varied(rng, 0.13, 0.2), between(rng, -0.5, 0.5))
        s.add("fluid", np.maximum(bruise, bones[i] + np.float32(0.03)), 0.14, between(rng, 0.6, 0.85))
