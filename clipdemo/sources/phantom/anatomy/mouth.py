"""The mouth: a film of both jaws, a film of a few teeth, and photographs.

On films, the teeth of a row are drawn all at once, from how far a pixel is from the nearest one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import jitter
from clipdemo.sources.phantom.anatomy.shapes import Point, everywhere, ring_of_points, sign
from clipdemo.sources.phantom.canvas import (
    Array,
    Grid,
    Silhouette,
    between,
    blob,
    box,
    ellipse,
    intersection,
    smooth_union,
    value_noise,
)
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Teeth on films ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tooth:
    """A tooth of a row: where it stands, half its width (0: a gap), heights of crown and whole, roots, and lean."""

    x: float
    half: float
    crown: float
    length: float
    roots: int = 1
    lean: float = 0.0


def _tooth_row(x: Array, v: Array, teeth: list[Tooth]) -> tuple[Array, Array, Array]:
    """Teeth, their enamel and their pulps, all at once; `v` is how far a pixel is from the biting edge, rootwards."""
    middle = np.array([t.x for t in teeth])
    nearest = np.searchsorted((middle[1:] + middle[:-1]) / 2, np.linspace(-1.6, 1.6, 257)).astype(np.int32)
    bins = np.minimum(np.maximum((x + np.float32(1.6)) * np.float32(80), np.float32(0)), np.float32(256))
    which = nearest[bins.astype(np.int32)]

    def of(values: list[float]) -> Array:
        return np.array(values, dtype=np.float32)[which]

    half, crown = of([t.half for t in teeth]), of([t.crown for t in teeth])
    inverse = of([1 / (t.length - t.crown) for t in teeth])
    two = of([0.46 if t.roots > 1 else 0.0 for t in teeth])
    a = np.abs(x - of([t.x for t in teeth]) - v * of([t.lean for t in teeth]))
    a = a + of([0.0 if t.half else 1.0 for t in teeth])  # a gap lies far outside its tooth
    q = (v - crown) * inverse  # 0 at the neck, 1 at the root's tip
    rootwards = np.maximum(q, np.float32(-0.4))
    neck = crown * np.float32(0.6) - v

    # Crown: bulging sides and a biting edge with cusps. Enamel is thick on the edge and thins out towards the neck.
    rise = v / crown - np.float32(0.45)
    side = a - half * (np.float32(0.97) - rise * rise * np.float32(0.5))
    cusp = a / np.maximum(half, np.float32(0.01)) - two - np.float32(0.15)
    edge = half * np.float32(0.35) * cusp * cusp - v
    cap = np.maximum(np.maximum(side, edge), v - crown)
    enamel = half * np.maximum(np.float32(0.25) - rise * np.float32(0.36), np.float32(0))
    dentine = np.maximum(side + enamel, edge + crown * np.float32(0.24))

    taper = rootwards * rootwards
    axis = np.abs(a - half * two * np.minimum(rootwards * np.float32(2) + np.float32(0.5), np.float32(1)))
    blunt = np.float32(1) - rootwards * np.float32(0.4) - taper * taper * taper * np.float32(0.5)
    root = np.maximum(axis - half * (np.float32(0.82) - two * np.float32(0.75)) * blunt, (q - np.float32(1)) / inverse)
    trunk = np.maximum(a - half * np.float32(0.82), (q - np.float32(0.22)) / inverse)
    pulp = np.maximum(axis - half * np.float32(0.16) * blunt, np.maximum((q - np.float32(0.9)) / inverse, neck))
    return np.minimum(cap, np.maximum(np.minimum(root, trunk), neck)), np.maximum(cap, -dentine), pulp


# Both jaws ---------------------------------------------------------------------------------------------------------


def panoramic(case: Case, g: Grid) -> list[Layer]:
    """Both jaws unrolled: mandible, two rows of teeth, sinuses, with the spine's ghost in the middle."""
    rng = anatomy_rng(case)
    side, smile, k = sign(case), rng.uniform(0.1, 0.34), jitter(rng, 1.0, 0.06)
    gone = 0.02 if rng.random() < 0.6 else 0.2
    bite = np.float32(rng.uniform(0.02, 0.1)) - g.x * g.x * np.float32(smile)
    upper, lower = _dental_arch(rng, False, gone), _dental_arch(rng, True, gone)
    spots = [i for i, t in enumerate(lower) if t.x * side > 0.15]
    if case.finding == "implant":
        holes = set(rng.choice(spots[:-1], int(rng.integers(1, 4)), replace=False).tolist())
        lower = [Tooth(t.x, 0.0, t.crown, t.length) if i in holes else t for i, t in enumerate(lower)]
    elif case.finding == "impacted tooth":
        last = max(range(len(lower)), key=lambda i: lower[i].x * side)
        lower[last] = Tooth(lower[last].x, 0.0, 0.1, 0.24)
    window = Silhouette(g).window((-0.8, 0.8), (-0.45, 0.4), 0.0) or (slice(0, 1), slice(0, 1))
    x, v = g.x[window], (g.y - bite)[window]
    fan = np.float32(rng.uniform(0.1, 0.35))  # roots of the upper jaw draw together, those of the lower jaw too
    x = x * (np.float32(1) + np.abs(v) * fan)
    hair = np.float32(0.012)
    both = zip(_tooth_row(x, v - hair, lower), _tooth_row(x, -v - hair, upper), strict=True)
    teeth, caps, pulps = (_pasted(g, window, np.minimum(a, b)) for a, b in both)
    layers = _jaws(g, rng, k, smile)
    layers += [Layer(teeth, "tooth", 0.03, 0.42), Layer(caps, "tooth", 0.03, 0.3), Layer(pulps, "cyst", 0.012, 0.14)]
    x = side * rng.uniform(0.4, 0.58)
    if case.finding == "cyst":
        hollow = ellipse(g, x, 0.42 - 0.25 * abs(x), rng.uniform(0.1, 0.17), rng.uniform(0.08, 0.12), -0.4 * side)
        layers += [Layer(hollow, "cyst", 0.08, 0.5), Layer(np.abs(hollow) - np.float32(0.012), "bone", 0.02, 0.25)]
    elif case.finding == "implant":
        level = [(lower[i].x, 0.07 - smile * lower[i].x ** 2) for i in sorted(holes)]
        layers.append(Layer(_implants(g, level), "metal", 0.02, 0.6))
    elif case.finding == "impacted tooth":
        layers += _impacted(g, rng, side)
    return layers


def _dental_arch(rng: np.random.Generator, lower: bool, gone: float) -> list[Tooth]:
    """Sixteen teeth, front ones narrow and single-rooted, back ones broad; a fraction `gone` is missing."""
    widths = (0.046, 0.038, 0.042, 0.04, 0.04, 0.056, 0.054, 0.048)
    if lower:
        widths = (0.037, 0.037, 0.042, 0.04, 0.04, 0.06, 0.058, 0.05)
    teeth = []
    for side in (-1, 1):
        x = 0.0
        for i, half in enumerate(widths):
            half = half * rng.uniform(0.94, 1.04)
            missing = rng.random() < gone * (2.5 if i == 7 else 1.0)
            length = (0.3 if i == 2 else 0.26 if i < 5 else 0.24) * rng.uniform(0.9, 1.1)
            teeth.append(Tooth(side * (x + half), 0.0 if missing else half, 0.1, length, 2 if i > 4 else 1))
            x += 2 * half + 0.002
    return sorted(teeth, key=lambda t: t.x)


def _pasted(g: Grid, window: tuple[slice, slice], part: Array) -> Array:
    """A shape known only in a window, on the whole grid."""
    out = np.ones_like(g.x)
    out[window] = part
    return out


def _jaws(g: Grid, rng: np.random.Generator, k: float, smile: float) -> list[Layer]:
    """Everything but the teeth."""
    s, upper, air = Silhouette(g), Silhouette(g), Silhouette(g)
    chin = rng.uniform(0.38, 0.5)
    s.capsule(-0.35 * k, chin - 0.04, 0.35 * k, chin - 0.04, 0.17)
    for side in (-1, 1):
        s.capsule(0.35 * k * side, chin - 0.04, 0.72 * k * side, 0.14, 0.17, 0.15, blend=0.25)
        s.capsule(0.72 * k * side, 0.14, 0.82 * k * side, -0.3, 0.16, 0.1, blend=0.1)
        s.capsule(0.82 * k * side, -0.3, 0.88 * k * side, -0.52, 0.06, 0.06, blend=0.05)
        s.capsule(0.7 * k * side, -0.05, 0.66 * k * side, -0.42, 0.08, 0.02, blend=0.05)
        upper.capsule(0.0, -0.24, 0.5 * side, -0.26 - smile * 0.2, 0.16, 0.14)
        upper.capsule(0.4 * side, -0.5, 1.1 * side, -0.66, 0.035)  # cheek bone
        air.ellipse(0.36 * side, -0.42, rng.uniform(0.17, 0.24), rng.uniform(0.1, 0.15), -0.1 * side)
        air.ellipse(0.075 * side, -0.56, 0.055, 0.16)
    sky = ellipse(g, 0.0, 0.0, 1.25, rng.uniform(0.85, 1.1))
    a = np.abs(g.x)
    ghost = np.minimum(a - np.float32(0.1), np.float32(1) - a)  # the spine: blurred in the middle and at both ends
    palate = np.abs(g.y + np.float32(0.36) + g.x * g.x * np.float32(0.2)) - np.float32(0.012)
    throat = np.abs(g.y - np.float32(0.03) + np.abs(g.x) * np.float32(0.35)) - np.float32(0.03)
    return [
        Layer(sky, "muscle", 0.5, 0.32),
        Layer(ghost, "marrow", 0.2, 0.16),
        Layer(s.shape, "bone", 0.035, 0.5),
        Layer(upper.shape, "marrow", 0.1, 0.4),
        Layer(air.shape, "air", 0.08, 0.3),
        Layer(np.maximum(palate, np.abs(g.x) - np.float32(0.5)), "bone", 0.02, 0.2),
        Layer(np.maximum(throat, np.float32(0.55) - np.abs(g.x)), "air", 0.05, 0.2),
    ]


def _implants(g: Grid, level: list[Point]) -> Array:
    """Screws in the jaw with crowns on them."""
    s = Silhouette(g)
    for x, y in level:
        s.capsule(x, y + 0.12, x - 0.1 * x, y + 0.27, 0.03, 0.022)
        s.ellipse(x, y + 0.055, 0.04, 0.055)
    return s.shape


def _impacted(g: Grid, rng: np.random.Generator, side: int) -> list[Layer]:
    """A wisdom tooth that lies on its side in the angle of the jaw."""
    x, y, tilt = side * rng.uniform(0.58, 0.66), rng.uniform(0.16, 0.24), side * rng.uniform(-0.5, 0.3)
    p = g.placed(x, y, tilt)
    along = p.x * np.float32(side)
    tooth, cap, pulp = _tooth_row(p.y, along + np.float32(0.12), [Tooth(0.0, 0.062, 0.11, 0.27, 2)])
    sac = ellipse(p, -0.08 * side, 0.0, 0.09, 0.085)
    return [Layer(sac, "cyst", 0.05, 0.22), Layer(tooth, "tooth", 0.03, 0.45), Layer(cap, "tooth", 0.03, 0.4),
            Layer(pulp, "cyst", 0.012, 0.14)]  # fmt: skip


# A few teeth -------------------------------------------------------------------------------------------------------


def periapical(case: Case, g: Grid) -> list[Layer]:
    """Three or four teeth close up on a small film, from the upper or the lower jaw."""
    rng = anatomy_rng(case)
    upper, molars = rng.random() < 0.5, rng.random() < 0.6
    g = g.placed(0.0, 0.0, (math.pi if upper else 0.0) + rng.uniform(-0.12, 0.12))
    teeth, x = [], -1.35 + rng.uniform(-0.2, 0.1)
    while x < 1.4:
        half = rng.uniform(0.29, 0.36) if molars and x > -0.6 else rng.uniform(0.19, 0.26)
        crown, length, roots = rng.uniform(0.48, 0.6), rng.uniform(1.25, 1.6), 2 if half > 0.28 else 1
        teeth.append(Tooth(x + half, half, crown, length, roots, rng.uniform(-0.04, 0.04)))
        x += 2 * half + rng.uniform(0.01, 0.05)
    v = g.y + np.float32(rng.uniform(0.7, 0.95)) + g.x * g.x * np.float32(0.05)
    tooth, enamel, pulp = _tooth_row(g.x, v, teeth)
    crest = np.float32(rng.uniform(0.62, 0.82)) - v + value_noise(rng, g.x.shape[0], 5) * np.float32(0.04)
    gap = np.maximum(np.abs(tooth - np.float32(0.012)) - np.float32(0.014), crest)
    lamina = np.maximum(np.abs(tooth - np.float32(0.045)) - np.float32(0.014), crest)
    layers = [
        Layer(np.float32(0.4) - v, "muscle", 0.5, 0.22),
        Layer(crest, "marrow", 0.2, 0.4),
        Layer(tooth, "tooth", 0.16, 0.62),
        Layer(enamel, "tooth", 0.06, 0.55),
        Layer(pulp, "cyst", 0.05, 0.2),
        Layer(gap, "cyst", 0.03, 0.16),
        Layer(lamina, "bone", 0.03, 0.16),
    ]
    inner = [t for t in teeth if abs(t.x) < 0.65]
    return layers + _tooth_finding(g, case, rng, inner[int(rng.integers(len(inner)))], v, tooth)


def _tooth_finding(g: Grid, case: Case, rng: np.random.Generator, t: Tooth, v: Array, tooth: Array) -> list[Layer]:
    """The finding on one tooth of a periapical film; positions are in (x, v), so that a shape follows the bite."""
    p = Grid(g.x, v, g.pixel)
    side = 1 if rng.random() < 0.5 else -1
    if case.finding == "periapical lesion":
        r = rng.uniform(0.16, 0.27)
        tip = t.x + (side * 0.4 * t.half if t.roots > 1 else 0.0)
        spot = np.maximum(ellipse(p, tip, t.length + 0.02, r, r * 0.85), -tooth)
        return [Layer(spot, "cyst", 0.12, 0.42)]
    if case.finding == "caries":
        x, depth = t.x + side * t.half * 0.85, t.crown * rng.uniform(0.3, 0.75)
        bite = ellipse(p, x, depth, t.half * 0.5, rng.uniform(0.12, 0.18))
        return [Layer(np.maximum(bite, tooth - np.float32(0.02)), "cyst", 0.1, 0.75)]
    if case.finding == "filling":
        x, width = t.x + side * t.half * rng.uniform(0, 0.4), t.half * rng.uniform(0.5, 0.8)
        plug = ellipse(p, x, 0.06, width, rng.uniform(0.17, 0.28))
        layers = [Layer(np.maximum(plug, tooth), "metal", 0.03, 0.7)]
        if rng.random() < 0.4:  # root canal treatment
            off = 0.42 * t.half if t.roots > 1 else 0.0
            canals = Silhouette(p)
            for d in (-off, off):
                canals.capsule(t.x + d * 0.6, t.crown, t.x + d, t.length - 0.06, 0.03, 0.012)
            layers.append(Layer(canals.shape, "metal", 0.025, 0.5))
        return layers
    return []


# Photographs -------------------------------------------------------------------------------------------------------


def photo(case: Case, g: Grid) -> list[Layer]:
    """The mouth from the front: wide open, with the lips held back, or with the tongue put out."""
    rng = anatomy_rng(case)
    kind = (_open_mouth, _held_back, _tongue_out)[int(rng.integers(3))]
    layers, spot = kind(g, rng, 1 if case.side == "right" else -1)
    outline = ring_of_points(rng, spot, between(rng, 0.1, 0.17), between(rng, 0.08, 0.14), 0.35)
    if case.finding == "ulcer":
        sore = blob(g, outline)
        layers += [Layer(sore - np.float32(0.05), "blood", 0.06, 0.75), Layer(sore, "fat", 0.03)]
    elif case.finding == "white patch":
        patch = smooth_union(blob(g, outline), ellipse(g, spot[0] + 0.1, spot[1] + 0.08, 0.09, 0.07), 0.08)
        layers.append(Layer(patch - np.float32(0.03), "tendon", 0.05, 0.9))
    return layers


def _front_teeth(
    g: Grid, rng: np.random.Generator, cy: float, sag: float, wide: float, tall: float, down: int
) -> Array:
    """Eight to ten front teeth along an arc that sags by `sag` in the middle; crowns point `down` (1) or up (-1)."""
    row = Silhouette(g)
    widths = [1.0, 0.78, 0.88, 0.8, 0.75] if down > 0 else [0.68, 0.72, 0.82, 0.8, 0.75]
    for side in (-1, 1):
        x = 0.0
        for k, w in enumerate(widths):
            half = w * wide * between(rng, 0.93, 1.05) * (1 - 0.07 * k)
            cx = side * (x + half)
            cy_here = cy + sag * (1 - (x + half) ** 2 * 1.4)
            length = tall * (1.0, 0.9, 1.02, 0.85, 0.75)[k] * between(rng, 0.95, 1.05)
            angle = side * (-0.05 - 0.03 * k) * down
            row_box(row, cx, cy_here, half * 0.96, length, min(half, length) * 0.62, angle + between(rng, -0.04, 0.04))
            x += 2 * half
    return row.shape


def row_box(s: Silhouette, cx: float, cy: float, hx: float, hy: float, corner: float, angle: float) -> None:
    """Add a rounded rectangle to a silhouette, evaluated near itself only."""
    s._add(box, (cx, cy, hx, hy, corner, angle), (cx,), (cy,), max(hx, hy) + 0.02, 0.0)


def _lips(g: Grid, rng: np.random.Generator, rx: float, ry: float, thick: float) -> tuple[list[Layer], Array]:
    """Face, lips and the opening between them; returns the layers and the opening's shape."""
    cy = between(rng, -0.05, 0.08)
    n = 16
    points, outer = [], []
    for i in range(n):
        t = 2 * math.pi * i / n
        bow = 0.06 * math.exp(-((math.cos(t) / 0.3) ** 2)) if math.sin(t) < 0 else 0.0  # Cupid's bow
        points.append((rx * math.cos(t), cy + (ry - bow * 0.5) * math.sin(t)))
        full = thick * (0.35 + 0.65 * abs(math.sin(t)) * (1.2 if math.sin(t) > 0 else 0.9))
        outer.append(((rx + full * 0.6) * math.cos(t), cy + (ry + full - bow) * math.sin(t)))
    opening = blob(g, points)
    layers = [Layer(everywhere(g), "skin"), Layer(blob(g, outer), "mucosa", 0.06), Layer(opening, "cavity", 0.05)]
    return layers, opening


def _within(opening: Array, *layers: Layer) -> list[Layer]:
    """The layers, cut to what the opening shows."""
    return [Layer(intersection(layer.shape, opening), layer.tissue, layer.softness, layer.strength) for layer in layers]


def _open_mouth(g: Grid, rng: np.random.Generator, side: int) -> tuple[list[Layer], Point]:
    rx, ry = between(rng, 0.6, 0.78), between(rng, 0.45, 0.66)
    layers, opening = _lips(g, rng, rx, ry, between(rng, 0.12, 0.2))
    tongue_y = between(rng, 0.3, 0.42)
    palate = ellipse(g, 0, -0.42, 0.5, between(rng, 0.3, 0.42))
    tongue = blob(
        g,
        ring_of_points(
            rng, (between(rng, -0.05, 0.05), tongue_y), between(rng, 0.4, 0.5), between(rng, 0.24, 0.36), 0.05
        ),
    )
    upper_gum = ellipse(g, 0, -ry - 0.08, rx * 1.05, between(rng, 0.2, 0.26))
    lower_gum = ellipse(g, 0, ry + 0.06, rx, between(rng, 0.12, 0.18))
    size = between(rng, 0.095, 0.112)
    layers += _within(
        opening,
        Layer(palate, "gland", 0.2, 0.75),
        Layer(ellipse(g, 0, -0.12, 0.04, 0.1), "mucosa", 0.05, 0.7),
        Layer(tongue, "muscle", 0.04),
        Layer(box(g, 0, tongue_y, 0.008, 0.22), "blood", 0.05, 0.35),
        Layer(upper_gum, "gland", 0.04),
        Layer(_front_teeth(g, rng, -ry + 0.02, 0.06, size, between(rng, 0.12, 0.15), 1), "tooth", 0.02),
        Layer(lower_gum, "gland", 0.04),
        Layer(_front_teeth(g, rng, ry - 0.02, -0.05, size * 0.95, between(rng, 0.09, 0.12), -1), "tooth", 0.02),
    )
    return layers, (side * between(rng, 0.1, 0.25), tongue_y + between(rng, -0.08, 0.1))


def _held_back(g: Grid, rng: np.random.Generator, side: int) -> tuple[list[Layer], Point]:
    """Both rows of teeth and all the gum; cheeks held aside."""
    gap = between(rng, 0.0, 0.16) if rng.random() < 0.6 else 0.0
    size = between(rng, 0.115, 0.145)
    upper, lower = between(rng, 0.15, 0.19), between(rng, 0.12, 0.155)
    middle = between(rng, -0.06, 0.06)
    cheeks = ellipse(g, 0, middle, between(rng, 0.95, 1.1), between(rng, 0.62, 0.8))
    layers = [Layer(everywhere(g), "mucosa"), Layer(cheeks, "gland", 0.15)]
    if rng.random() < 0.5:
        layers[0] = Layer(everywhere(g), "skin")
        layers.insert(1, Layer(cheeks - np.float32(0.14), "mucosa", 0.08))
    dark = ellipse(g, 0, middle, 0.95, 0.12 + gap)
    upper_teeth = _front_teeth(g, rng, middle - upper * 0.9 - gap / 2, 0.05, size, upper, 1)
    lower_teeth = _front_teeth(g, rng, middle + lower * 0.95 + gap / 2, 0.04, size * 0.97, lower, -1)
    layers += [Layer(dark, "cavity", 0.06), Layer(lower_teeth, "tooth", 0.02), Layer(upper_teeth, "tooth", 0.02)]
    up = rng.random() < 0.5
    return layers, (side * between(rng, 0.1, 0.5), middle + (-1 if up else 1) * between(rng, 0.44, 0.52))


def _tongue_out(g: Grid, rng: np.random.Generator, side: int) -> tuple[list[Layer], Point]:
    rx, ry = between(rng, 0.55, 0.7), between(rng, 0.36, 0.5)
    layers, opening = _lips(g, rng, rx, ry, between(rng, 0.12, 0.18))
    tip, wide = between(rng, 0.6, 0.85), between(rng, 0.36, 0.46)
    tongue = blob(
        g,
        [
            (0, -0.25),
            (wide * 0.75, -0.15),
            (wide, 0.15),
            (wide * 0.85, tip * 0.7),
            (wide * 0.4, tip),
            (0, tip + 0.03),
            (-wide * 0.4, tip),
            (-wide * 0.85, tip * 0.7),
            (-wide, 0.15),
            (-wide * 0.75, -0.15),
        ],
    )
    teeth = _front_teeth(g, rng, -ry + 0.04, 0.05, between(rng, 0.09, 0.105), between(rng, 0.11, 0.14), 1)
    layers += _within(opening, Layer(teeth, "tooth", 0.02))
    layers += [
        Layer(tongue, "muscle", 0.04),
        Layer(box(g, between(rng, -0.02, 0.02), tip * 0.4, 0.008, tip * 0.42), "blood", 0.06, 0.4),
    ]
    return layers, (side * between(rng, 0.08, 0.22), between(rng, 0.1, tip * 0.7))
