"""The brain: axial and sagittal slices through the head."""

from __future__ import annotations

import numpy as np

from clipdemo.sources.phantom.anatomy.shapes import Point, sign
from clipdemo.sources.phantom.anatomy.sketch import Sketch, folded, furrows, grown, lump, varied
from clipdemo.sources.phantom.canvas import Array, Grid, between, capsule, ellipse, smooth_union
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Axial slices ------------------------------------------------------------------------------------------------------


def axial(case: Case, g: Grid) -> list[Layer]:
    """An axial slice: above the ventricles, through them, through the deep grey matter, or through the cerebellum."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.04))
    g, f = s.grid, folded(s.grid)
    level = (0, 1, 1, 2, 2, 3)[int(rng.integers(6))]
    if case.finding == "white matter lesions" or (case.finding == "infarct" and level == 3):
        level = 1 + int(rng.integers(2))
    rx, ry = varied(rng, 0.71, 0.05), varied(rng, 0.88, 0.04)
    age = rng.random()  # old brains have wide sulci and ventricles
    inner = _skull(s, rng, rx, ry)
    ripples = furrows(rng, g.x.shape[0], int(rng.integers(11, 15))) * np.float32(0.1)
    deep = np.maximum(-inner - np.float32(0.2), np.float32(0)) * np.float32(1.5)
    s.add("grey matter", inner + np.float32(0.01 + 0.02 * age))
    white = np.maximum(inner + np.float32(0.055), np.float32(0.04) - ripples - deep)
    s.add("white matter", white, 0.03)
    s.add("fluid", np.maximum(inner, ripples + deep - np.float32(0.004 + 0.012 * age)), 0.025, 0.85)
    s.add(
        "fluid",
        np.maximum(f.x - np.float32(0.006 + 0.008 * age), (np.float32(0.3 if level else -1) - np.abs(g.y)))
        + np.maximum(inner, np.float32(0)),
        0.02,
        0.8,
    )
    _BRAIN_LEVELS[level](s, f, rng, age)
    _brain_finding(case, s, rng, inner)
    return s.layers


def _skull(s: Sketch, rng: np.random.Generator, rx: float, ry: float) -> Array:
    """Scalp, skull and the water around the brain; comes back with the inner edge of the skull."""
    head = s.add("skin", ellipse(s.grid, 0, 0, rx, ry, 0.0))
    scalp, thick = between(rng, 0.035, 0.06), between(rng, 0.05, 0.075)
    s.add("fat", head + np.float32(0.014))
    s.add("bone", head + np.float32(scalp), 0.02)
    s.add("marrow", np.abs(head + np.float32(scalp + thick * 0.5)) - np.float32(thick * 0.18), 0.02, 0.8)
    inner = head + np.float32(scalp + thick)
    s.add("fluid", inner, 0.02)
    return inner + np.float32(0.012)


def _level_top(s: Sketch, f: Grid, rng: np.random.Generator, age: float) -> None:
    """White matter only."""


def _level_bodies(s: Sketch, f: Grid, rng: np.random.Generator, age: float) -> None:
    """The bodies of the lateral ventricles, like two commas back to back."""
    r, lean = between(rng, 0.035, 0.055) + 0.035 * age, between(rng, 0.0, 0.04)
    front, back = (
        capsule(f, 0.15, -0.34, 0.075, -0.08, r * 0.9, r),
        capsule(f, 0.075, -0.06, 0.13 + lean, 0.26, r, r * 1.1),
    )
    horns = smooth_union(front, back, 0.1)
    s.add("white matter", horns - np.float32(0.05), 0.05)
    s.add("grey matter", ellipse(f, 0.19, -0.14, 0.05, 0.15, -0.25), 0.03, 0.9)
    s.add("fluid", horns, 0.02)


def _level_ganglia(s: Sketch, f: Grid, rng: np.random.Generator, age: float) -> None:
    """Frontal and occipital horns, third ventricle, the grey nuclei between them and the fissure of Sylvius."""
    r = between(rng, 0.028, 0.04) + 0.03 * age
    s.add("white matter", ellipse(f, 0.15, 0.0, 0.3, 0.4), 0.06)
    nuclei = np.minimum(ellipse(f, 0.105, 0.06, 0.075, 0.13, -0.3), ellipse(f, 0.15, -0.2, 0.05, 0.1, -0.3))
    s.add("grey matter", np.minimum(nuclei, ellipse(f, 0.27, -0.05, 0.065, 0.16, 0.15)), 0.025, 0.95)
    s.add(
        "fluid",
        np.minimum(capsule(f, 0.15, -0.34, 0.05, -0.17, r), capsule(f, 0.2, 0.22, 0.25, 0.38, r * 1.2, r * 0.7)),
        0.02,
    )
    s.add("grey matter", capsule(f, 0.42, -0.12, 0.4, 0.12, 0.05), 0.03)
    s.add("fluid", capsule(f, 0.55, -0.18, 0.4, -0.04, 0.016 + 0.02 * age, 0.012), 0.02, 0.9)
    s.add("fluid", s.capsule(0, -0.06, 0, 0.12, 0.012 + 0.014 * age), 0.02)


def _level_fossa(s: Sketch, f: Grid, rng: np.random.Generator, age: float) -> None:
    """Cerebellum, brainstem, the bone before them, and the orbits."""
    k = varied(rng, 1.0, 0.08)
    s.add("bone", capsule(f, 0.1, 0.02, 0.62, 0.1, 0.05, 0.07), 0.04)
    s.add("air", ellipse(f, 0.45, 0.14, 0.06, 0.04), 0.03, 0.7)
    s.add("fluid", ellipse(f, 0.0, 0.38, 0.5 * k, 0.4), 0.03)
    lobes = s.add("grey matter", ellipse(f, 0.18, 0.44, 0.29 * k, 0.29), 0.02)
    folia = np.abs(s.grid.y * np.float32(14) - np.floor(s.grid.y * np.float32(14)) - np.float32(0.5)) * np.float32(
        0.07
    ) - np.float32(0.012)
    s.add("white matter", np.maximum(lobes + np.float32(0.03), folia), 0.03, 0.5)
    s.add("white matter", np.minimum(ellipse(f, 0.17, 0.4, 0.12, 0.09), ellipse(f, 0.0, 0.12, 0.14, 0.13)), 0.05)
    s.add("fluid", s.ellipse(0, 0.29, 0.06, 0.035), 0.02)
    s.add("fat", ellipse(f, 0.28, -0.64, 0.19, 0.18, 0.3), 0.03)
    s.add("air", s.ellipse(0, -0.58, 0.09, 0.17), 0.03, 0.9)
    s.add("fluid", ellipse(f, 0.3, -0.7, 0.115, 0.11), 0.02)
    s.add("muscle", capsule(f, 0.28, -0.58, 0.16, -0.4, 0.014), 0.02)


_BRAIN_LEVELS = (_level_top, _level_bodies, _level_ganglia, _level_fossa)


def _brain_finding(case: Case, s: Sketch, rng: np.random.Generator, inner: Array) -> None:
    """Tumour with swelling, cyst, spots in the white matter, bleeding within or beside the brain, or an infarct."""
    side = sign(case)
    x, y = side * between(rng, 0.24, 0.38), between(rng, -0.4, 0.42)
    if case.finding == "mass":
        r = between(rng, 0.11, 0.18)
        s.add(
            "fluid",
            np.maximum(ellipse(s.grid, x, y, r * 1.7, r * 1.5, between(rng, 0, 3)), inner + np.float32(0.03)),
            0.12,
            0.5,
        )
        lump(s, rng, (x, y), r, core=0.5)
    elif case.finding == "cyst":
        s.add("cyst", np.maximum(_round(s, rng, (x, y), between(rng, 0.13, 0.24)), inner), 0.02)
    elif case.finding == "white matter lesions":
        _spots(s, rng, side)
    elif case.finding == "haemorrhage":
        _bleeding(s, rng, (x, y), inner)
    elif case.finding == "infarct":
        a = between(rng, -0.5, 0.5)
        wedge = ellipse(
            s.grid, side * 0.55, between(rng, -0.3, 0.35), between(rng, 0.28, 0.4), between(rng, 0.22, 0.36), side * a
        )
        s.add("fluid", np.maximum(wedge, inner + np.float32(0.01)), 0.06, between(rng, 0.55, 0.85))


def _round(s: Sketch, rng: np.random.Generator, at: Point, radius: float) -> Array:
    return s.ellipse(*at, radius, radius * between(rng, 0.75, 1.0), between(rng, 0, 3))


def _spots(s: Sketch, rng: np.random.Generator, side: int) -> None:
    """Small lesions along the ventricles, more of them on one side."""
    spots = s.gather()
    for _ in range(int(rng.integers(7, 16))):
        x = between(rng, 0.14, 0.4) * (side if rng.random() < 0.65 else -side)
        y = between(rng, -0.42, 0.42)
        r = between(rng, 0.022, 0.06)
        spots.ellipse(x, y, r, r * between(rng, 0.5, 1), between(rng, -0.6, 0.6))
    s.add("mass", spots.shape, 0.03, 0.9)


def _bleeding(s: Sketch, rng: np.random.Generator, at: Point, inner: Array) -> None:
    """Blood in the brain, between brain and skull as a lens, or as a sickle."""
    x, y = at
    side, luck = (1 if x > 0 else -1), rng.random()
    if luck < 0.5:
        r = between(rng, 0.11, 0.2)
        s.add("fluid", s.ellipse(x, y, r * 1.4, r * 1.3), 0.1, 0.45)
        lump(s, rng, at, r, "blood", core=0.0)
    elif luck < 0.75:
        s.add(
            "blood",
            np.maximum(
                s.ellipse(side * 0.6, y, between(rng, 0.15, 0.24), between(rng, 0.25, 0.36), side * y * 0.6), inner
            ),
            0.02,
        )
    else:
        thick = between(rng, 0.07, 0.13)
        off = ellipse(s.grid, -side * thick, 0.0, 0.6, 0.75)
        s.add("blood", np.maximum(np.maximum(inner, -off), s.grid.x * np.float32(-side) + np.float32(0.1)), 0.02)


# Sagittal slice ----------------------------------------------------------------------------------------------------


def sagittal(case: Case, g: Grid) -> list[Layer]:
    """The midline of the head; the face is on the left."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.035, between(rng, 0.9, 1.12)))
    g, age = s.grid, rng.random()
    inner = _profile(s, rng)
    _face(s, rng)
    cord = s.path([(0.13, 0.06), (0.13, 0.26), (0.24, 0.5), (0.28, 1.3)], 0.075, 0.05)
    s.add("fluid", cord - np.float32(0.06), 0.03)
    cerebrum = np.maximum(inner + np.float32(0.02), _tentorium(g))
    ripples = furrows(rng, g.x.shape[0], int(rng.integers(11, 15))) * np.float32(0.1)
    deep = np.maximum(-cerebrum - np.float32(0.26), np.float32(0)) * np.float32(1.2)
    s.add("grey matter", cerebrum)
    s.add("white matter", np.maximum(cerebrum + np.float32(0.045), np.float32(0.042) - ripples - deep), 0.03)
    s.add("fluid", np.maximum(cerebrum, ripples + deep - np.float32(0.005 + 0.012 * age)), 0.025, 0.85)
    _deep_midline(s, rng, age)
    _hindbrain(s, rng, inner, cord)
    x, y = ((-0.4, -0.25), (0.05, -0.5), (0.45, -0.2), (0.42, 0.18), (-0.12, 0.04))[int(rng.integers(5))]
    if case.finding == "mass":
        lump(s, rng, (x, y), between(rng, 0.1, 0.17))
    elif case.finding == "cyst":
        s.add("cyst", _round(s, rng, (x, y), between(rng, 0.1, 0.17)), 0.02)
    return s.layers


def _profile(s: Sketch, rng: np.random.Generator) -> Array:
    """Head, face and neck with the brain's vault; comes back with the vault's inner edge."""
    g = s.grid
    rx, ry = varied(rng, 0.78, 0.04), varied(rng, 0.68, 0.04)
    vault = ellipse(g, 0.08, -0.2, rx, ry, 0.06)
    face = smooth_union(
        ellipse(g, -0.38, 0.42, 0.37, varied(rng, 0.54, 0.05)), s.capsule(-0.68, 0.08, -0.8, 0.27, 0.05, 0.06), 0.08
    )
    head = smooth_union(vault, face, 0.16)
    neck = np.maximum(
        np.abs(g.x - np.float32(0.28) - (g.y - np.float32(0.3)) * np.float32(0.08)) - np.float32(0.42),
        np.float32(0.1) - g.y,
    )
    head = smooth_union(head, neck, 0.12)
    s.add("skin", head)
    s.add("fat", head + np.float32(0.018))
    s.add("muscle", head + np.float32(0.06), 0.04)
    thick = between(rng, 0.06, 0.085)
    s.add("bone", vault + np.float32(0.035))
    s.add("marrow", np.abs(vault + np.float32(0.035 + thick / 2)) - np.float32(thick * 0.2), 0.02, 0.85)
    inner = vault + np.float32(0.035 + thick)
    s.add("fluid", inner)
    return inner


def _tentorium(g: Grid) -> Array:
    """Above the skull base in front and the tent of the cerebellum behind."""
    front = g.y - np.float32(0.1) + g.x * np.float32(-0.1)
    behind = g.y - np.float32(0.1) + (g.x - np.float32(0.3)) * np.float32(0.25)
    return np.where(g.x < 0.25, front, behind) * np.float32(0.95)


def _face(s: Sketch, rng: np.random.Generator) -> None:
    """Skull base, nose and its sinuses, palate, tongue, throat, jaw and the vertebrae of the neck."""
    s.add("marrow", s.capsule(-0.13, 0.19, 0.0, 0.32, 0.1, 0.05), 0.03)
    s.add("air", s.ellipse(-0.15, 0.16, 0.06, 0.05), 0.02, 0.9 if rng.random() < 0.7 else 0.2)
    s.add("air", s.capsule(-0.6, 0.0, -0.56, -0.1, 0.03, 0.045), 0.02, 0.9)
    s.add("mucosa", s.ellipse(-0.42, 0.28, 0.27, 0.14, 0.05), 0.03)
    s.add("air", s.path([(-0.62, 0.34), (-0.3, 0.32), (-0.08, 0.44), (-0.03, 0.75), (-0.03, 1.3)], 0.03, 0.05), 0.03)
    s.add("bone", s.capsule(-0.66, 0.42, -0.26, 0.42, 0.02), 0.02)
    s.add("muscle", s.ellipse(-0.36, 0.62, varied(rng, 0.26), varied(rng, 0.17), -0.15), 0.04)
    s.bone(s.ellipse(-0.66, 0.75, 0.065, 0.11, -0.2), 0.025)
    spine = s.gather()
    for i in range(4):
        spine.spindle(0.06 + 0.025 * i, 0.52 + 0.16 * i, 0.13 + 0.025 * i, 0.53 + 0.16 * i, 0.066, 0.066, 0.0)
    s.bone(spine.shape, 0.016)


def _deep_midline(s: Sketch, rng: np.random.Generator, age: float) -> None:
    """Corpus callosum, the ventricle below it, thalamus and pituitary."""
    k, lift = varied(rng, 1.0, 0.08), between(rng, -0.03, 0.03)
    arc = [(-0.2, -0.07), (-0.25, -0.19), (-0.06, -0.31), (0.18, -0.29), (0.32, -0.18), (0.3, -0.1)]
    arc = [(x * k + 0.02, y + lift) for x, y in arc]
    callosum = s.path(arc, varied(rng, 0.035, 0.2))
    s.add("fluid", s.ellipse(0.02, -0.18 + lift, 0.24, 0.09, 0.05), 0.03)
    s.add("fluid", callosum - np.float32(0.02), 0.03, 0.7)
    s.add("white matter", callosum)
    s.add("grey matter", s.ellipse(0.06, -0.1 + lift, 0.13, 0.075, 0.1), 0.03)
    s.add("white matter", s.path([(0.2, -0.22 + lift), (0.0, -0.19 + lift), (-0.1, -0.04)], 0.014), 0.02)
    s.add("fluid", s.ellipse(-0.03, 0.04, 0.12, 0.045, 0.3), 0.04, 0.9)
    s.add("gland", s.ellipse(-0.13, 0.12, 0.045, 0.028), 0.02)


def _hindbrain(s: Sketch, rng: np.random.Generator, inner: Array, cord: Array) -> None:
    """Brainstem with its pons, fourth ventricle, and the cerebellum with its leaves."""
    k = varied(rng, 1.0, 0.1)
    x, y = 0.4, 0.17
    room = np.maximum(s.ellipse(x, y, 0.25 * k, 0.2 * k, 0.2), inner)
    s.add("fluid", room, 0.03)
    lobe = s.add("grey matter", room + np.float32(0.03))
    dx, dy = s.grid.x - np.float32(0.22), s.grid.y - np.float32(y)
    turn = dy / (np.abs(dx) + np.abs(dy) + np.float32(0.05)) * np.float32(between(rng, 5, 7))
    leaves = np.abs(turn - np.floor(turn) - np.float32(0.5)) * np.float32(0.12) - np.float32(0.018)
    s.add("white matter", np.maximum(lobe + np.float32(0.03), leaves), 0.03, 0.85)
    s.add("white matter", cord, 0.02, 0.9)
    s.add("white matter", s.ellipse(0.09, 0.2, 0.1, 0.125 * k, -0.15), 0.02, 0.9)
    s.add("fluid", s.ellipse(0.225, 0.2, 0.028, between(rng, 0.07, 0.1), 0.1), 0.02)
