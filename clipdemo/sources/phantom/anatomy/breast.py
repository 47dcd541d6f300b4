"""The breast: mammogram, ultrasound and an axial slice for magnetic resonance."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.bones import jitter
from clipdemo.sources.phantom.anatomy.chest import wall_ribs
from clipdemo.sources.phantom.anatomy.shapes import Point, sign
from clipdemo.sources.phantom.anatomy.sketch import Sketch, folded, furrows, grown, lump
from clipdemo.sources.phantom.canvas import (
    Array,
    Grid,
    Silhouette,
    between,
    ellipse,
    fractal_noise,
    smooth_union,
    value_noise,
)
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Mammogram ---------------------------------------------------------------------------------------------------------


def mammogram(case: Case, g: Grid) -> list[Layer]:
    """A compressed breast, oblique (with the pectoral muscle) or from above."""
    rng = anatomy_rng(case)
    g = g.mirrored() if case.side == "left" else g
    oblique = rng.random() < 0.6
    length, half = rng.uniform(1.1, 1.6), rng.uniform(0.62, 0.88)
    cy = rng.uniform(0.0, 0.2) if oblique else rng.uniform(-0.1, 0.1)
    nipple = (length - 1.0, cy + (rng.uniform(0.0, 0.2) if oblique else 0.0))
    breast = ellipse(g, -1.05, cy, length + 0.05, half, rng.uniform(0.02, 0.15) if oblique else 0.0)
    if oblique:
        breast = smooth_union(breast, ellipse(g, -1.15, -0.8, rng.uniform(0.7, 1.0), 0.9), 0.3)
    knob = ellipse(g, *nipple, 0.05, 0.06)
    layers = [Layer(smooth_union(breast, knob, 0.06), "fat", 0.32, 0.55)]
    layers.append(Layer(np.abs(breast) - np.float32(0.012), "skin", 0.02, 0.22))
    layers += _parenchyma(g, rng, nipple, length, half, rng.random(), breast)
    if oblique:
        tilt = rng.uniform(0.2, 0.55)
        edge = ellipse(g, -1.55 + rng.uniform(-0.1, 0.15), -1.1, rng.uniform(0.75, 1.0), 1.9, tilt)
        layers.append(Layer(edge, "muscle", 0.4, rng.uniform(0.4, 0.62)))
    spot = (nipple[0] - length * rng.uniform(0.25, 0.6), nipple[1] + rng.uniform(-0.45, 0.45) * half)
    if case.finding == "mass":
        layers += _tumour(g, rng, spot)
    elif case.finding == "calcification":
        layers.append(Layer(_specks(g, rng, spot), "calcium", 0.016, 0.9))
    return layers


def _parenchyma(
    g: Grid, rng: np.random.Generator, nipple: Point, length: float, half: float, density: float, breast: Array
) -> list[Layer]:
    """Gland behind the nipple, patchy and with strands towards it; `density` in [0, 1] from fatty to dense."""
    size = g.x.shape[0]
    noise = fractal_noise(rng, size, 6, 3)
    reach = length * (0.3 + 0.16 * density)
    height = half * (0.42 + 0.34 * density)
    gland = ellipse(g, nipple[0] - reach - 0.06, nipple[1] - 0.06, reach, height, rng.uniform(-0.2, 0.2))
    patches = np.maximum(gland + noise * np.float32(0.2), breast + np.float32(0.05))
    clumps = noise * np.float32(0.1) - value_noise(rng, size, 7) * np.float32(0.25)
    lobes = np.maximum(clumps + np.float32(0.16 - 0.14 * density), gland)
    strands = Silhouette(g)
    for _ in range(7):
        a = rng.uniform(-0.7, 0.7)
        reach_out = length * rng.uniform(0.4, 0.8)
        end = nipple[0] - reach_out * math.cos(a), nipple[1] + reach_out * math.sin(a) * 0.9
        strands.capsule(nipple[0] - 0.06, nipple[1], *end, 0.012, 0.02)
    return [
        Layer(patches, "gland", 0.25, 0.35 + 0.4 * density),
        Layer(lobes, "gland", 0.14, 0.3 + 0.4 * density),
        Layer(np.maximum(strands.shape + noise * np.float32(0.012), breast), "gland", 0.03, 0.16),
    ]


def _tumour(g: Grid, rng: np.random.Generator, at: Point) -> list[Layer]:
    """A dense mass, ragged with spicules or smooth and lobed."""
    r = rng.uniform(0.09, 0.15)
    core, spicules = Silhouette(g), Silhouette(g)
    core.ellipse(*at, r, jitter(rng, r, 0.25), rng.uniform(0, 3))
    core.ellipse(at[0] + rng.uniform(-0.7, 0.7) * r, at[1] + 0.5 * r, 0.7 * r, 0.6 * r, blend=0.05)
    if rng.random() < 0.4:
        return [Layer(core.shape, "mass", r * 0.7, 0.8)]
    for i in range(10):
        a, reach = i * 0.63 + rng.uniform(-0.3, 0.3), r * rng.uniform(1.2, 2.6)
        spicules.capsule(*at, at[0] + reach * math.cos(a), at[1] + reach * math.sin(a), r * 0.4, 0.002)
    ragged = core.shape + value_noise(rng, g.x.shape[0], 18) * np.float32(0.03)
    return [Layer(ragged, "mass", r, 0.7), Layer(spicules.shape, "mass", 0.05, 0.35)]


def _specks(g: Grid, rng: np.random.Generator, at: Point) -> Array:
    """A cluster of tiny specks, or a few coarse ones."""
    s = Silhouette(g)
    coarse = rng.random() < 0.25
    for _ in range(4 if coarse else int(rng.integers(9, 16))):
        a, d = rng.uniform(0, 6.3), 0.17 * math.sqrt(rng.random())
        r = rng.uniform(0.025, 0.045) if coarse else rng.uniform(0.009, 0.016)
        s.ellipse(at[0] + d * math.cos(a), at[1] + d * math.sin(a), r, r * 0.8, a)
    return s.shape


# Axial slice -------------------------------------------------------------------------------------------------------


def axial(case: Case, g: Grid) -> list[Layer]:
    """An axial slice of a woman lying on her front; the breasts hang up in the picture."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.04))
    g, f = s.grid, folded(s.grid)
    apart, wide, long = between(rng, 0.45, 0.52), between(rng, 0.37, 0.44), between(rng, 0.48, 0.8)
    base = between(rng, 0.0, 0.2)
    wall = ellipse(g, 0, base + 0.92, 1.05, 0.82)
    cone = ellipse(f, apart, base, wide, long)
    body = smooth_union(wall, cone, 0.16)
    s.add("skin", body)
    s.add("fat", body + np.float32(0.022))
    dense = between(rng, 0.5, 1.0)
    ripples = value_noise(rng, g.x.shape[0], int(rng.integers(9, 14))) + value_noise(
        rng, g.x.shape[0], 22
    ) * np.float32(0.6)
    gland = ellipse(f, apart, base - long * 0.35, wide * 0.8 * dense, long * 0.6 * dense) + ripples * np.float32(0.1)
    s.add("gland", np.maximum(gland, body + np.float32(0.06)), 0.07, 0.95)
    s.add("gland", ellipse(f, apart, base - long * 0.98, 0.045, 0.05), 0.03)
    s.add("muscle", np.maximum(wall + np.float32(0.07), f.x - np.float32(0.8)), 0.03)
    s.add("fat", wall + np.float32(0.13), 0.03, 0.8)
    wall_ribs(s, rng, 0.9, 0.66, base + 0.95)
    s.add("muscle", wall + np.float32(0.2), 0.03)
    heart = s.ellipse(between(rng, 0.12, 0.2), base + 0.66, between(rng, 0.34, 0.42), between(rng, 0.27, 0.34), 0.4)
    s.add("lung", np.maximum(np.maximum(wall + np.float32(0.21), np.float32(0.1) - f.x), -heart), 0.03)
    s.add("artery", heart + np.float32(0.05), 0.04, 0.6)
    s.add("bone", s.box(0, base + 0.19, 0.1, 0.04, 0.03), 0.02)
    vessels = s.gather()
    for side in (-1, 1):
        x, y = side * (apart + between(rng, -0.2, 0.2)), base - between(rng, 0.0, 0.3)
        vessels.capsule(x, y, x + between(rng, -0.08, 0.08), y - between(rng, 0.08, 0.2), 0.008)
    s.add("vein", vessels.shape, 0.025, 0.6)
    if case.finding == "mass":
        at = (sign(case) * (apart + between(rng, -0.1, 0.1)), base - long * between(rng, 0.2, 0.6))
        lump(s, rng, at, between(rng, 0.07, 0.13), core=0.2)
    return s.layers


# Ultrasound --------------------------------------------------------------------------------------------------------


def ultrasound(case: Case, g: Grid) -> list[Layer]:
    """Skin at the top, then fat, gland, muscle and at times ribs, as a straight probe sees them."""
    rng = anatomy_rng(case)
    s = Sketch(grown(rng, g, 0.06, cells=5))
    g = s.grid
    top, gland, muscle = -0.84, between(rng, -0.6, -0.25), between(rng, 0.35, 0.68)
    s.add("fat", np.float32(-1.5) - g.y)
    s.add("skin", g.y - np.float32(top), 0.03)
    waves = value_noise(rng, g.x.shape[0], int(rng.integers(4, 7))) * np.float32(0.16)
    s.add("gland", np.maximum(np.float32(gland) - g.y + waves, g.y - np.float32(muscle)), 0.08, between(rng, 0.6, 1.0))
    ripples = furrows(rng, g.x.shape[0], int(rng.integers(5, 9))) * np.float32(0.25)
    s.add("fat", np.maximum(np.float32(0.1) - ripples, np.float32(gland) - g.y), 0.1, 0.6)
    s.add("tendon", np.maximum(ripples - np.float32(0.006), g.y - np.float32(gland + 0.15)), 0.04, 0.55)
    s.add("muscle", np.float32(muscle) - g.y, 0.03)
    lines = g.y * np.float32(9) + waves * np.float32(2)
    strands = np.abs(lines - np.floor(lines) - np.float32(0.5)) * np.float32(0.1) - np.float32(0.008)
    s.add("tendon", np.maximum(strands, np.float32(muscle) - g.y), 0.03, 0.4)
    s.add("tendon", np.abs(g.y - np.float32(muscle)) - np.float32(0.012), 0.03, 0.8)
    if rng.random() < 0.35:
        s.add("bone", s.ellipse(between(rng, -0.7, 0.7), muscle + 0.22, 0.2, 0.06), 0.03)
    at = (sign(case) * between(rng, 0.0, 0.35), between(rng, gland + 0.15, 0.2))
    if case.finding == "mass":
        r = between(rng, 0.16, 0.27)
        s.add("gland", s.ellipse(*at, r * 1.5, r * 1.2), 0.15, 0.8)
        lump(s, rng, at, r, core=0.0)
    elif case.finding == "cyst":
        r, flat = between(rng, 0.14, 0.3), between(rng, 0.55, 0.95)
        s.add("tendon", s.ellipse(*at, r + 0.02, r * flat + 0.02), 0.03, 0.7)
        s.add("cyst", s.ellipse(*at, r, r * flat), 0.02)
    return s.layers
