"""The upper limb: radiographs of hand and elbow, and slices of the shoulder."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import Shaft, broken, jitter, ray, ray_layers, shaft_layers, turned, whole
from clipdemo.sources.phantom.anatomy.shapes import Point
from clipdemo.sources.phantom.anatomy.sketch import Sketch, grown, limb, varied
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, between, capsule, ellipse, smooth_union
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Radiograph of the hand --------------------------------------------------------------------------------------------


def hand(case: Case, g: Grid) -> list[Layer]:
    """A hand from the back, fingers up, thumb to the left of a right hand's picture; at times only the wrist."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    wrist = case.finding != "erosion" and rng.random() < 0.3
    if wrist:
        g = g.placed(rng.uniform(-0.05, 0.05), -0.42 - 0.38 * 1.75, 0.0, 1.75)  # the wrist fills the picture
    k, thick = jitter(rng, 1.0, 0.07), jitter(rng, 0.05, 0.18)
    spread, bend, gap = rng.uniform(0.06, 0.17), rng.uniform(-0.03, 0.03), rng.uniform(0.008, 0.02)
    sizes = ([0.45, 0.28, 0.17, 0.12], [0.44, 0.31, 0.20, 0.13], [0.40, 0.29, 0.19, 0.13], [0.36, 0.23, 0.13, 0.11])
    rays = [ray((-0.24 * k, 0.46), rng.uniform(-0.95, -0.5), [0.30, 0.22, 0.17], thick * 1.05, 0.12, gap)]
    for i, lengths in enumerate(sizes):
        root = (-0.14 + 0.095 * i) * k, 0.38 + 0.012 * (i - 1) ** 2
        girth = thick * (1.05 - 0.07 * max(i - 1, 0))
        rays.append(ray(root, spread * (i - 1.2), [n * k for n in lengths], girth, bend, gap))
    flesh = Silhouette(g)
    flesh.ellipse(0.0, 0.22, 0.29 * k, 0.36)
    flesh.capsule(0.0, 0.5, 0.02, 1.4, 0.25, 0.3, blend=0.15)
    for finger in rays:
        (ax, ay), (bx, by) = finger.bones[0][1], finger.bones[-1][1]
        flesh.capsule(ax, ay, bx, by, thick * 2.1, thick * 1.35, blend=0.06)
    layers = [Layer(flesh.shape, "muscle", 0.16, 0.36)]
    odds = [(int(i), 0) for i in range(1, 5)] + [(1, 1), (2, 1), (3, 1), (0, 1)]
    snapped = case.finding == "fracture" and (wrist or rng.random() < 0.2)  # the radius, the wrist's usual break
    layers += ray_layers(g, NORMAL if snapped else case.finding, rng, rays, odds, 0.62)
    return layers + _wrist(g, rng, k, snapped)


def _wrist(g: Grid, rng: np.random.Generator, k: float, snapped: bool) -> list[Layer]:
    """Eight carpal bones in two sheets that overlap, and the ends of radius and ulna."""
    deep, shallow = Silhouette(g), Silhouette(g)
    places = ((-0.13, 0.57, 0.065, 0.085, 0.5), (-0.01, 0.58, 0.065, 0.07, 0.0), (0.1, 0.55, 0.06, 0.065, -0.4),
              (-0.02, 0.45, 0.06, 0.09, 0.0), (0.13, 0.53, 0.035, 0.04, 0.0), (0.09, 0.44, 0.06, 0.085, -0.3),
              (-0.13, 0.455, 0.05, 0.06, 0.2), (-0.215, 0.49, 0.06, 0.06, 0.5))  # fmt: skip
    for i, (x, y, rx, ry, tilt) in enumerate(places):
        (shallow if i in (0, 2, 3, 7) else deep).ellipse(x * k, y, jitter(rng, rx, 0.1), jitter(rng, ry, 0.1), tilt)

    def radius(s: Silhouette) -> None:
        s.spindle(-0.11 * k, 1.5, -0.085 * k, 0.74, 0.09, 0.12, 0.03)
        s.ellipse(-0.15 * k, 0.71, 0.045, 0.06, blend=0.06)  # styloid

    bone = broken(g, rng, (-0.09 * k, rng.uniform(0.83, 0.9)), -1.55, 0.09, radius) if snapped else whole(g, radius)
    deep_shape = np.minimum(deep.shape, bone)
    shallow.spindle(0.13 * k, 1.5, 0.13 * k, 0.74, 0.07, 0.07, 0.018)
    return [Layer(deep_shape, "bone", 0.026, 0.62), Layer(shallow.shape, "bone", 0.026, 0.58)]


# Radiograph of the elbow -------------------------------------------------------------------------------------------


def elbow(case: Case, g: Grid) -> list[Layer]:
    """An elbow from the front, stretched, or from the side, bent."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    return (_elbow_front if rng.random() < 0.45 else _elbow_side)(case, g, rng)


def _elbow_front(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w, carry = jitter(rng, 1.0, 0.1), jitter(rng, 0.105, 0.12), rng.uniform(0.05, 0.25)

    def humerus(s: Silhouette) -> None:
        s.capsule(0.04, -1.6, 0.0, -0.35, w, w * 1.15)
        s.blob([(-0.12, -0.5), (0.12, -0.5), (0.22 * k, -0.28), (0.31 * k, -0.15), (0.22 * k, -0.03), (0.0, 0.0),
                (-0.2 * k, -0.02), (-0.25 * k, -0.14), (-0.19 * k, -0.3)], blend=0.08)  # fmt: skip

    def radius(s: Silhouette) -> None:
        s.ellipse(-0.13 * k, 0.1, 0.095, 0.05)
        s.spindle(-0.13 * k, 0.15, -0.13 - carry, 1.6, 0.075, 0.085, 0.012, blend=0.04)

    def ulna(s: Silhouette) -> None:
        s.blob([(0.02, 0.05), (0.22 * k, 0.04), (0.2 * k, 0.3), (0.1, 0.45), (0.02, 0.25)])
        s.spindle(0.1, 0.25, 0.12 - carry, 1.6, 0.09, 0.06, 0.01, blend=0.06)

    bones = [Shaft((0.04, -1.0), (0.0, -0.15), w, humerus), Shaft((-0.14, 0.1), (-0.13 - carry, 1.1), 0.065, radius),
             Shaft((0.1, 0.1), (0.12 - carry, 1.1), 0.075, ulna)]  # fmt: skip
    flesh = whole(g, lambda s: s.capsule(0.04, -1.6, 0.0, 0.05, 0.36 * k, 0.37),
                  lambda s: s.capsule(0.0, 0.1, -carry, 1.6, 0.39 * k, 0.31, blend=0.1))  # fmt: skip
    fossa = ellipse(g, 0.02, -0.2, 0.085, 0.06)
    tip = ellipse(g, 0.04, -0.14, 0.09, 0.12)  # olecranon, seen through the humerus
    return [
        Layer(flesh, "muscle", 0.32, 0.46),
        *_chosen(g, case, rng, bones),
        Layer(fossa, "cyst", 0.05, 0.28),
        Layer(tip, "bone", 0.03, 0.25),
    ]


def _elbow_side(case: Case, g: Grid, rng: np.random.Generator) -> list[Layer]:
    k, w, bend = jitter(rng, 1.0, 0.1), jitter(rng, 0.1, 0.12), rng.uniform(-0.25, 0.5)
    joint = (0.3, 0.26)

    def fore(x: float, y: float) -> Point:
        return turned((joint[0] + x, joint[1] + y), joint, -bend)

    def humerus(s: Silhouette) -> None:
        s.capsule(0.2, -1.6, 0.29, 0.0, w, w * 0.85)
        s.ellipse(joint[0] - 0.01, joint[1] - 0.05, 0.125 * k, 0.16 * k, blend=0.2)

    def ulna(s: Silhouette) -> None:
        s.capsule(*fore(0.19, -0.06), *fore(0.14, 0.17), 0.085, 0.1)
        s.spindle(*fore(0.1, 0.19), *fore(-1.7, 0.17), 0.095, 0.055, 0.01, blend=0.06)
        s.capsule(*fore(-0.1, 0.15), *fore(-0.16, 0.1), 0.06, 0.03, blend=0.06)  # coronoid

    def radius(s: Silhouette) -> None:
        s.ellipse(*fore(-0.2 * k, 0.01), 0.045, 0.09, -bend)
        s.spindle(*fore(-0.24, 0.01), *fore(-1.7, 0.0), 0.06, 0.075, 0.012, blend=0.05)

    bones = [Shaft((0.22, -1.0), (0.3, 0.1), w, humerus), Shaft(fore(-0.2, 0.01), fore(-1.2, 0.0), 0.065, radius),
             Shaft(fore(0.2, 0.18), fore(-1.2, 0.18), 0.075, ulna)]  # fmt: skip
    flesh = whole(g, lambda s: s.capsule(0.2, -1.6, 0.28, 0.15, 0.37 * k, 0.33),
                  lambda s: s.capsule(*fore(0.02, 0.05), *fore(-1.7, 0.08), 0.34, 0.29 * k, blend=0.12))  # fmt: skip
    return [
        Layer(flesh, "muscle", 0.3, 0.46),
        *_chosen(g, case, rng, bones),
        Layer(ellipse(g, joint[0] - 0.02, joint[1], 0.085 * k, 0.085 * k), "bone", 0.025, 0.25),
    ]


def _chosen(g: Grid, case: Case, rng: np.random.Generator, bones: list[Shaft]) -> list[Layer]:
    """All bones, one of them, by chance, with the finding."""
    pick = int(rng.integers(len(bones)))
    layers = []
    for i, bone in enumerate(bones):
        layers += shaft_layers(g, case, rng, bone) if i == pick else [Layer(whole(g, bone.draw), "bone", 0.03, 0.75)]
    return layers


# Slice of the shoulder ---------------------------------------------------------------------------------------------


def shoulder(case: Case, g: Grid) -> list[Layer]:
    """Oblique coronal slice of a right shoulder: the arm is on the left. A left one is mirrored."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g if case.side == "right" else g.mirrored(), 0.045, between(rng, 0.95, 1.2)))
    g = s.grid
    k, x, y = varied(rng, 1.0, 0.1), between(rng, -0.2, -0.1), between(rng, -0.06, 0.06)  # size and place of the head
    outline = smooth_union(ellipse(g, -0.1, 0.25, 0.74 * k, 1.0), capsule(g, 0.3, 0.1, 1.4, -0.05, 0.72, 0.8), 0.3)
    limb(s, outline, varied(rng, 0.1, 0.5))
    s.add("fat", capsule(g, -0.05, -0.36, 1.2, -0.5, 0.12, 0.3), 0.08)
    s.add("fat", s.capsule(-0.28 * k, 0.35, -0.4, 0.9, 0.14, 0.1), 0.08, 0.7)
    s.add("muscle", s.capsule(1.3, -0.42, 0.35, -0.35, 0.19, varied(rng, 0.09)), 0.04)  # supraspinatus
    s.add("fat", s.capsule(0.25, 0.42, 1.1, 0.6, 0.08, 0.12), 0.08, 0.7)
    s.add("muscle", s.ellipse(0.75, 0.3, 0.42, 0.22, 0.15), 0.04)
    s.add("fat", s.ellipse(0.15, 0.72, 0.16, 0.3, -0.3), 0.1, 0.9)  # armpit
    s.add("artery", s.ellipse(0.22, 0.62, 0.035, 0.03))
    head = ellipse(g, x, y, 0.34 * k, 0.35 * k)
    humerus = smooth_union(head, capsule(g, x - 0.1, 0.15, x - 0.22, 1.3, 0.22 * k, 0.17 * k), 0.12)
    glenoid = smooth_union(
        s.capsule(x + 0.44 * k, y - 0.16, x + 0.43 * k, y + 0.2, 0.06, 0.065),
        s.capsule(x + 0.5, y + 0.03, 1.2, 0.1, 0.15, 0.05),
        0.12,
    )
    s.add("fluid", s.ellipse(x + 0.36 * k, y + 0.04, 0.05, 0.3 * k), 0.03, 0.5)
    s.add("cartilage", np.maximum(head - np.float32(0.03), np.float32(x - 0.05) - g.x), 0.02, 0.9)
    s.add("cartilage", glenoid - np.float32(0.02), 0.02, 0.8)
    s.bone(humerus, 0.024)
    s.bone(glenoid, 0.024)
    s.add("bone", s.path([(x - 0.3, y - 0.1), (x, y + 0.12), (x + 0.24, y + 0.18)], 0.006), 0.02, 0.35)
    for end in (-0.24, 0.28):  # labrum
        s.add("tendon", s.capsule(x + 0.4 * k, y + end, x + 0.37 * k, y + end * 0.72, 0.03, 0.012))
    roof = y - 0.35 * k
    s.add(
        "tendon",
        s.path(
            [(0.5, -0.37), (x + 0.12, roof - 0.035), (x - 0.16, roof + 0.03), (x - 0.3 * k, y - 0.16)], 0.028, 0.045
        ),
    )
    s.bone(s.capsule(-0.4, between(rng, -0.52, -0.48), 0.02, -0.6, 0.07, 0.085), 0.022)
    if rng.random() < 0.75:
        s.bone(s.capsule(0.2, -0.66, 1.2, -0.95, 0.09, 0.075), 0.022)
    _shoulder_finding(case, s, rng, (x, y), 0.35 * k, humerus)
    return s.layers


def _shoulder_finding(
    case: Case, s: Sketch, rng: np.random.Generator, head: Point, radius: float, humerus: Array
) -> None:
    """Fluid in a gap of the tendon over the head, or around the joint."""
    x, y = head
    if case.finding == "tear":
        a = math.radians(between(rng, 100, 140))  # along the top of the head, towards its outer side
        tx, ty = x + math.cos(a) * radius, y - math.sin(a) * radius
        wide = between(rng, 0.06, 0.13)
        s.add("fluid", np.maximum(s.ellipse(tx, ty, wide, 0.065, a + math.pi / 2), -humerus), 0.02)
        s.add(
            "fluid",
            s.path([(x - 0.34, y - 0.22), (x - 0.12, y - radius - 0.06), (x + 0.1, y - radius - 0.09)], 0.022),
            0.02,
            0.9,
        )
    elif case.finding == "effusion":
        k = varied(rng, 1.0, 0.25)
        s.add(
            "fluid",
            np.maximum(
                s.path([(x + 0.36, y + 0.12), (x + 0.26, y + 0.42), (x + 0.02, y + 0.46)], 0.08 * k, 0.07 * k), -humerus
            ),
            0.03,
        )
        s.add("fluid", np.maximum(s.ellipse(x + 0.34, y - 0.2, 0.08 * k, 0.14 * k), -humerus), 0.03)
        s.add("fluid", s.capsule(x - 0.4, y - 0.3, x - 0.43, y + 0.05, 0.03 * k), 0.03, 0.9)
