"""The abdomen: axial slices for computed tomography and magnetic resonance, and ultrasound of its right upper part."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.chest import wall_ribs
from clipdemo.sources.phantom.anatomy.shapes import Point
from clipdemo.sources.phantom.anatomy.sketch import Sketch, folded, grown, lump, moved, sac, varied
from clipdemo.sources.phantom.canvas import Array, Grid, between, capsule, ellipse, smooth_union
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Axial slices ------------------------------------------------------------------------------------------------------


def axial(case: Case, g: Grid) -> list[Layer]:
    """An axial slice somewhere between the dome of the liver and the lower poles of the kidneys."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.05))
    g = s.grid
    level = between(rng, 0, 1)  # 0 at the top, 1 at the bottom
    if case.finding != NORMAL:
        level = between(rng, 0.25, 0.8)
    wide, deep = varied(rng, 0.93, 0.05), between(rng, 0.62, 0.76)
    fat = between(rng, 0.03, 0.15)
    body = s.add("skin", np.maximum(ellipse(g, 0, 0, wide, deep), g.y - np.float32(deep * 0.92)))
    s.add("fat", body + np.float32(0.02))
    s.add("muscle", body + np.float32(0.02 + fat), 0.02)
    cavity = s.add("fat", ellipse(g, 0, -0.05, wide - fat - 0.07, deep - fat - 0.1) * np.float32(1.1), 0.02)
    spine = deep * 0.42
    _back(s, rng, spine, fat)
    if level < 0.6:
        wall_ribs(s, rng, wide - fat - 0.05, deep - fat - 0.06)
    _vessels(s, rng, spine)
    organs = _upper_organs(s, rng, level, cavity, deep) if level < 0.75 else {}
    organs |= _kidneys(s, rng, level, spine) if level > 0.3 else {}
    if level > 0.45:
        _bowel(s, rng, cavity, level, deep)
    _abdominal_finding(case, s, rng, organs)
    return s.layers


def _back(s: Sketch, rng: np.random.Generator, y: float, fat: float) -> None:
    """A vertebra with its canal, and the muscles beside it."""
    k = varied(rng, 1.0, 0.12)
    f = folded(s.grid)
    muscles = np.minimum(ellipse(f, 0.23, y + 0.13, 0.19 * k, 0.11), ellipse(f, 0.2, y - 0.02, 0.09 * k, 0.11))
    s.add("muscle", muscles, 0.03)
    arch = np.minimum(
        s.capsule(0, y + 0.14, 0, y + 0.26 - fat * 0.3, 0.03, 0.022), capsule(f, 0.05, y + 0.09, 0.2, y + 0.12, 0.026)
    )
    s.add("bone", np.minimum(arch, s.ellipse(0, y + 0.1, 0.1, 0.08)))
    s.bone(s.ellipse(0, y, 0.145 * k, 0.112 * k), 0.02)
    s.add("fluid", s.ellipse(0, y + 0.12, 0.048, 0.038))


def _vessels(s: Sketch, rng: np.random.Generator, spine: float) -> None:
    """Aorta on the left of the picture's right, caval vein beside it."""
    x, r = between(rng, 0.03, 0.09), between(rng, 0.05, 0.072)
    s.add("artery", s.ellipse(x, spine - 0.185, r, r))
    if rng.random() < 0.25:
        s.add("calcium", s.capsule(x - r, spine - 0.17, x - r * 0.6, spine - 0.14, 0.012), 0.015)
    s.add(
        "vein", s.ellipse(-between(rng, 0.09, 0.14), spine - 0.17, between(rng, 0.06, 0.08), between(rng, 0.04, 0.06))
    )


def _upper_organs(s: Sketch, rng: np.random.Generator, level: float, cavity: Array, deep: float) -> dict[str, Point]:
    """Liver, spleen, stomach, gallbladder and pancreas; comes back with a place in each of the large ones."""
    g, k = s.grid, (1.12 - 0.45 * level) * between(rng, 0.92, 1.1)
    inside = cavity + np.float32(0.015)
    right = ellipse(g, -0.5, -0.02, 0.36 * k, 0.46 * k, -0.1)
    lobe = s.ellipse(-0.12, -0.26 * deep / 0.7, 0.38 * k, 0.2 * k, between(rng, -0.1, 0.25))
    liver = s.add("liver", np.maximum(smooth_union(right, lobe, 0.15), inside), 0.02)
    branches = [
        s.path([(-0.14, -0.02), (-0.32, between(rng, -0.12, 0.05)), (-0.55, between(rng, -0.25, 0.2))], 0.028, 0.008)
    ]
    branches.append(s.path([(-0.3, -0.05), (-0.42, between(rng, 0.12, 0.2)), (-0.5, 0.3)], 0.02, 0.006))
    s.add("vein", np.maximum(np.minimum(*branches), liver), 0.02, 0.8)
    spleen = ellipse(g, 0.62, 0.1, 0.17 * k, between(rng, 0.24, 0.34) * k, between(rng, -0.5, -0.15))
    s.add("spleen", np.maximum(np.maximum(spleen, -s.ellipse(0.42, 0.08, 0.16, 0.16)), inside), 0.02)
    stomach = np.maximum(
        s.ellipse(between(rng, 0.28, 0.4), -0.24 * deep / 0.7, between(rng, 0.2, 0.29), between(rng, 0.13, 0.2), 0.3),
        inside,
    )
    s.add("gut", np.maximum(stomach, -liver), 0.02)
    content = np.maximum(stomach + np.float32(0.03), -liver + np.float32(0.02))
    s.add("fluid" if rng.random() < 0.5 else "gland", content, 0.02, 0.8)
    if rng.random() < 0.7:
        s.add("air", np.maximum(content, g.y + np.float32(between(rng, 0.22, 0.36))), 0.01)
    if level > 0.3:
        s.add(
            "gland",
            s.path(moved(rng, [(-0.12, 0.03), (0.1, -0.08), (0.32, -0.04), (0.48, 0.06)], 0.03), 0.055, 0.035),
            0.03,
        )
    if level > 0.3 and rng.random() < 0.5:
        s.add("fluid", s.ellipse(-0.3, -0.24, between(rng, 0.05, 0.08), between(rng, 0.07, 0.11), 0.4), 0.02)
    return {"liver": (-0.52, between(rng, -0.12, 0.14)), "spleen": (0.62, 0.1)}


def _kidneys(s: Sketch, rng: np.random.Generator, level: float, spine: float) -> dict[str, Point]:
    """Two kidneys, each with the fat of its hilum."""
    found = {}
    for side, name in ((-1, "right kidney"), (1, "left kidney")):
        k = between(rng, 0.85, 1.12)
        x, y = side * between(rng, 0.38, 0.46), spine - between(rng, 0.02, 0.1) - 0.03 * side
        lean = side * between(rng, 0.2, 0.7)
        kidney = s.ellipse(x, y, 0.125 * k, 0.165 * k, lean)
        hilum = s.ellipse(x - side * 0.09, y - 0.03, 0.1, 0.05, lean)
        s.add("kidney", kidney)
        s.add("fat", hilum, 0.03, 0.9)
        if rng.random() < 0.5:
            s.add("fluid", s.ellipse(x - side * 0.04, y - 0.02, 0.04, 0.03), 0.02, 0.8)
        found[name] = (x + side * 0.05, y + 0.05)
    return found


def _bowel(s: Sketch, rng: np.random.Generator, cavity: Array, level: float, deep: float) -> None:
    """Loops of bowel in front, the colon at the sides, some of them with gas."""
    low = level > 0.75
    loops = [(side * between(rng, 0.58, 0.66), between(rng, -0.1, 0.12), between(rng, 0.09, 0.13)) for side in (-1, 1)]
    columns = (-0.4, -0.2, 0.0, 0.2, 0.4) if low else (0.1, 0.3, 0.45)
    rows = (-0.75, -0.45, -0.15) if low else (-0.5, -0.25)
    loops = loops[0 if low else 1 :]
    loops += [
        (x + between(rng, -0.1, 0.1), y * deep + between(rng, -0.08, 0.08), between(rng, 0.07, 0.12))
        for x in columns
        for y in rows
    ]
    walls, gas = s.gather(), s.gather()
    for x, y, r in loops:
        if rng.random() < 0.15:
            continue
        walls.ellipse(x, y, r * between(rng, 0.9, 1.5), r, between(rng, -0.8, 0.8))
        if rng.random() < 0.25:
            gas.ellipse(x, y - r * 0.15, r * 0.7, r * 0.5)
    loop = s.add("gut", np.maximum(walls.shape, cavity + np.float32(0.02)), 0.02)
    s.add("gland" if rng.random() < 0.6 else "fluid", loop + np.float32(0.035), 0.03, between(rng, 0.4, 0.9))
    s.add("air", gas.shape)


def _abdominal_finding(case: Case, s: Sketch, rng: np.random.Generator, organs: dict[str, Point]) -> None:
    """Something in liver, spleen or kidney, whatever lies on the case's side."""
    mine = ("right kidney", "liver") if case.side == "right" else ("left kidney", "spleen")
    places = [organs[name] for name in mine if name in organs]
    if case.finding == NORMAL or not places:
        return
    x, y = places[-1] if rng.random() < 0.6 else places[0]
    if case.finding == "mass":
        lump(s, rng, (x, y), between(rng, 0.1, 0.19))
    elif case.finding == "cyst":
        for i in range(int(rng.integers(1, 4))):
            sac(
                s,
                rng,
                (x + between(rng, -0.12, 0.12) * i, y + between(rng, -0.15, 0.15) * i),
                between(rng, 0.08, 0.14) / (1 + 0.5 * i),
            )
    else:
        x, y = places[0]
        for _ in range(int(rng.integers(1, 4))):
            r = between(rng, 0.022, 0.05)
            s.add("calcium", s.ellipse(x + between(rng, -0.07, 0.07), y + between(rng, -0.07, 0.07), r, r * 0.8), 0.012)


# Ultrasound --------------------------------------------------------------------------------------------------------


def ultrasound(case: Case, g: Grid) -> list[Layer]:
    """The right upper abdomen through a curved probe: liver with gallbladder, or liver with kidney."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.06))
    g = s.grid
    belly_wall(s, rng)
    with_gallbladder = case.finding == "stone" or rng.random() < 0.5
    s.add(
        "liver",
        np.maximum(ellipse(g, between(rng, -0.2, 0.1), -0.05, 0.95, between(rng, 0.72, 0.95)), np.float32(-0.72) - g.y),
        0.05,
    )
    for _ in range(3):
        x, y = between(rng, -0.5, 0.4), between(rng, -0.4, 0.2)
        dx, bend = between(rng, -0.35, 0.35), between(rng, -0.06, 0.06)
        vein = s.path([(x, y), (x + 0.5 * dx + bend, y + 0.2), (x + dx, y + 0.4)], 0.012, between(rng, 0.025, 0.05))
        s.add("vein", vein, 0.03, 0.9)
    s.add("tendon", s.ellipse(*[between(rng, -0.3, 0.3) for _ in range(2)], 0.06, 0.025, between(rng, 0, 3)), 0.05, 0.7)
    if rng.random() < 0.7:  # the diaphragm, and a mirror image of the liver behind it
        dome = ellipse(
            g,
            between(rng, -0.35, 0.3),
            -0.15,
            between(rng, 0.9, 1.15),
            between(rng, 0.72, 1.0),
            between(rng, -0.3, 0.3),
        )
        s.add("lung", -dome, 0.1, 0.5)
        s.add(
            "tendon", np.maximum(np.abs(dome) - np.float32(0.018), np.float32(between(rng, 0.0, 0.35)) - g.y), 0.03, 0.9
        )
    spot, radius = (between(rng, -0.35, 0.0), between(rng, -0.35, 0.0)), between(rng, 0.12, 0.22)
    if with_gallbladder:
        _gallbladder(case, s, rng)
    else:
        spot = _kidney_us(case, s, rng, spot)
    if case.finding == "cyst":
        sac(s, rng, spot, radius)
    elif case.finding == "mass":
        lump(s, rng, spot, radius * 1.15, "mass" if rng.random() < 0.6 else "mucosa", core=0.2)
    return s.layers


def belly_wall(s: Sketch, rng: np.random.Generator) -> None:
    """The layers of the wall under the probe."""
    y = s.grid.y
    s.add("skin", y + np.float32(0.86), 0.05)
    s.add("muscle", np.abs(y + np.float32(0.8)) - np.float32(between(rng, 0.03, 0.06)), 0.04, 0.9)
    s.add("tendon", np.abs(y + np.float32(between(rng, 0.7, 0.76))) - np.float32(0.01), 0.04, 0.7)


def _gallbladder(case: Case, s: Sketch, rng: np.random.Generator) -> None:
    """A pear full of bile, at times with stones that lie on its floor."""
    x, y = between(rng, -0.1, 0.35), between(rng, -0.12, 0.15)
    length, r, lean = between(rng, 0.16, 0.32), between(rng, 0.13, 0.2), between(rng, -0.6, 0.5)
    dx, dy = math.cos(lean) * length, math.sin(lean) * length
    bile = s.capsule(x - dx, y - dy, x + dx, y + dy, r * 0.6, r)
    s.add("tendon", bile - np.float32(0.025), 0.03, 0.75)
    s.add("fluid", bile)
    if case.finding == "stone":
        for _ in range(int(rng.integers(1, 4))):
            size = between(rng, 0.05, 0.085)
            t = between(rng, -0.3, 0.9)
            depth = r * (0.8 + 0.2 * t) - size * 0.7
            s.add("calcium", s.ellipse(x + dx * t, y + dy * t + depth, size, size * 0.75), 0.02)


def _kidney_us(case: Case, s: Sketch, rng: np.random.Generator, spot: Point) -> Point:
    """A kidney cut along its length; comes back with where a lesion would lie: here or in the liver."""
    x, y, lean = between(rng, 0.0, 0.3), between(rng, 0.15, 0.35), between(rng, -0.3, 0.5)
    long, wide = between(rng, 0.38, 0.5), between(rng, 0.19, 0.25)
    kidney = s.ellipse(x, y, long, wide, lean)
    s.add("tendon", np.abs(kidney) - np.float32(0.015), 0.03, 0.7)
    s.add("kidney", kidney)
    s.add("mucosa", s.ellipse(x, y, long * 0.6, wide * 0.36, lean), 0.09, 0.9)
    for t in (-0.55, -0.15, 0.3, 0.6):
        s.add(
            "cyst",
            s.ellipse(x + t * long * math.cos(lean), y + t * long * math.sin(lean) - wide * 0.55, 0.05, 0.04),
            0.04,
            0.3,
        )
    return (x + long * 0.5 * math.cos(lean), y + long * 0.5 * math.sin(lean)) if rng.random() < 0.5 else spot
