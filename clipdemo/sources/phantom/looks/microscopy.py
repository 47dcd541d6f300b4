"""What a microscope makes of cells: stained sections, stained smears, and glowing dyes."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.canvas import Array, between, blurred, coverage, grain, value_noise
from clipdemo.sources.phantom.looks.painting import (
    Colour,
    Planes,
    clipped,
    covers,
    filled,
    frame_grid,
    paint_over,
    stacked,
    varied,
    vignette,
)
from clipdemo.sources.phantom.scene import Scene

# Stained sections --------------------------------------------------------------------------------------------------


# Amounts of haematoxylin and eosin that a tissue takes up.
STAINS: dict[str, tuple[float, float]] = {
    "background": (0.02, 0.02),
    "fat": (0.02, 0.03),
    "tendon": (0.06, 0.42),
    "muscle": (0.10, 0.72),
    "cytoplasm": (0.24, 0.46),
    "liver": (0.18, 0.62),
    "marrow": (0.05, 0.62),
    "mass": (0.36, 0.42),
    "blood": (0.05, 1.00),
    "nucleus": (0.95, 0.30),
}

STEPS = 512
_FADING = np.array([math.exp(-3.0 * i / (STEPS - 1)) for i in range(STEPS)], dtype=np.float32)


def _transmitted(density: Array) -> Array:
    """exp(-density) for densities in [0, 3]: Beer and Lambert by look-up."""
    level = np.minimum(np.maximum(density, np.float32(0)), np.float32(3)) * np.float32((STEPS - 1) / 3)
    return _FADING.take(level.astype(np.int32))


def histology(scene: Scene, rng: np.random.Generator) -> Array:
    """Haematoxylin and eosin in transmitted light; the strength and hue of both vary as between laboratories."""
    stain: Planes = filled(scene, (0.03, 0.05))
    fine = value_noise(rng, scene.size, 26)
    for layer in scene.layers:
        paint_over(stain, covers(layer, scene.grid.pixel), STAINS.get(layer.tissue, (0.1, 0.5)))
    fibres = _fibre_texture(scene, rng)
    blue = stain[0] * (np.float32(1) + fine * np.float32(0.25)) * np.float32(between(rng, 0.75, 1.35))
    pink = (
        stain[1]
        * (np.float32(1) + fibres * np.float32(0.3) + fine * np.float32(0.12))
        * np.float32(between(rng, 0.7, 1.3))
    )
    blue_ink = [c * between(rng, 0.88, 1.12) for c in (1.25, 1.45, 0.62)]
    pink_ink = [c * between(rng, 0.85, 1.15) for c in (0.12, 1.0, 0.42)]
    light = between(rng, 0.93, 1.0)
    planes = [
        _transmitted(blue * np.float32(b) + pink * np.float32(p)) * np.float32(light * tint)
        for b, p, tint in zip(blue_ink, pink_ink, (1.0, between(rng, 0.95, 1.0), between(rng, 0.95, 1.02)), strict=True)
    ]
    speckle = grain(rng, scene.size) * np.float32(between(rng, 0.008, 0.025))
    return stacked([p + speckle for p in planes])


def _fibre_texture(scene: Scene, rng: np.random.Generator) -> Array:
    """Noise drawn out along one direction of the tissue."""
    g = scene.grid.placed(0, 0, between(rng, 0, 3.14))
    knots = rng.random((64, 64), dtype=np.float32) * np.float32(2) - np.float32(1)
    u, v = (g.x + np.float32(8)) * np.float32(3.5), (g.y + np.float32(8)) * np.float32(17)
    i, j = u.astype(np.int32), v.astype(np.int32)
    fu, fv = u - i.astype(np.float32), v - j.astype(np.float32)
    i, j = i & 63, j & 63
    i1, j1 = (i + 1) & 63, j * np.int32(64)
    j2 = ((j + 1) & 63) * np.int32(64)
    top = knots.take(j1 + i) * (np.float32(1) - fu) + knots.take(j1 + i1) * fu
    low = knots.take(j2 + i) * (np.float32(1) - fu) + knots.take(j2 + i1) * fu
    return top + (low - top) * fv


# Smears ------------------------------------------------------------------------------------------------------------


def smear(scene: Scene, rng: np.random.Generator) -> Array:
    """A Giemsa- or Wright-stained smear: salmon red cells with pale middles, violet nuclei on a pale ground."""
    ground = varied(rng, (0.94, 0.92, 0.89), 0.05)
    red = varied(rng, (0.86, 0.60, 0.56) if rng.random() < 0.7 else (0.72, 0.62, 0.64), 0.12)
    violet = varied(rng, (0.40, 0.22, 0.56), 0.2)
    body = varied(rng, (0.72, 0.66, 0.86), 0.12)
    pallor = between(rng, 0.25, 0.8)
    fine = value_noise(rng, scene.size, 34)
    planes = filled(scene, ground)
    for layer in scene.layers:
        cover = covers(layer, scene.grid.pixel)
        if layer.tissue == "blood":
            middle = coverage(layer.shape + np.float32(0.075), 0.06) * np.float32(pallor)
            paint_over(planes, cover, red)
            paint_over(planes, middle, ground)
        elif layer.tissue == "nucleus":
            paint_over(planes, cover, violet, np.float32(1) + fine * np.float32(0.22))
        elif layer.tissue == "cytoplasm":
            paint_over(planes, cover, body, np.float32(1) + fine * np.float32(0.08))
        else:
            paint_over(planes, cover, varied(rng, (0.45, 0.32, 0.66), 0.1))
    light = vignette(scene, between(rng, -0.4, 0.4), between(rng, -0.4, 0.4), between(rng, 0.0, 0.1))
    speckle = grain(rng, scene.size) * np.float32(between(rng, 0.006, 0.02))
    planes = [p * light + speckle for p in planes]
    if rng.random() < 0.12:
        planes = _eyepiece(scene, rng, planes)
    return stacked(planes)


def _eyepiece(scene: Scene, rng: np.random.Generator, planes: Planes) -> Planes:
    """The round field of a photograph taken through the eyepiece."""
    frame = frame_grid(scene)
    r = np.sqrt(frame.x * frame.x + frame.y * frame.y) - np.float32(between(rng, 0.9, 1.02))
    inside = coverage(r, 0.05)
    return [p * inside for p in planes]


# Fluorescence ------------------------------------------------------------------------------------------------------


DYES: tuple[tuple[Colour, Colour, Colour], ...] = (  # of nuclei, of filaments, of cell bodies
    ((0.18, 0.32, 1.0), (0.15, 0.95, 0.25), (0.05, 0.35, 0.08)),
    ((0.18, 0.32, 1.0), (1.0, 0.22, 0.15), (0.35, 0.06, 0.04)),
    ((0.15, 0.25, 1.0), (0.12, 0.9, 0.3), (0.5, 0.08, 0.05)),
    ((0.25, 0.45, 1.0), (0.0, 0.0, 0.0), (0.03, 0.05, 0.12)),
    ((0.15, 0.95, 0.2), (0.9, 0.2, 0.15), (0.2, 0.05, 0.04)),
)


def fluorescence(scene: Scene, rng: np.random.Generator) -> Array:
    """Glowing dyes in the dark: light of each dye adds up, with haze from out of focus."""
    nuclei, fibres, bodies = DYES[int(rng.integers(len(DYES)))]
    dyes = {"nucleus": nuclei, "calcium": nuclei, "tendon": fibres, "cytoplasm": bodies}
    patchy = np.float32(0.8) + value_noise(rng, scene.size, 9) * np.float32(0.3)
    fine = np.float32(1) + value_noise(rng, scene.size, 30) * np.float32(0.22)
    dark = between(rng, 0.0, 0.05)
    planes = filled(scene, (dark, dark, dark * 1.3))
    gain = between(rng, 0.75, 1.2)
    for layer in scene.layers:
        light = covers(layer, scene.grid.pixel) * (fine if layer.tissue == "nucleus" else patchy)
        bright = gain * (1.5 if layer.tissue == "calcium" else 0.85)
        if layer.tissue in ("nucleus", "calcium"):
            keep = np.float32(1) - clipped(light) * np.float32(0.6)  # the nucleus hides much of the cell body's light
            planes = [p * keep for p in planes]
        for i, c in enumerate(dyes.get(layer.tissue, bodies)):
            if c:
                planes[i] = planes[i] + light * np.float32(c * bright)
    haze = between(rng, 0.15, 0.4)
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.01, 0.03))
    out = stacked(planes)
    out = out + _enlarged(blurred(out[::4, ::4], 2), scene.size) * np.float32(haze)
    return out + noise[:, :, None] * (out + np.float32(0.15))


def _enlarged(small: Array, size: int) -> Array:
    """A picture stretched to `size`, straight lines between its pixels."""
    t = np.arange(size, dtype=np.float32) * np.float32((small.shape[0] - 1) / size)
    i = t.astype(np.intp)
    w = (t - i.astype(np.float32))[:, None, None]
    rows = small[i] + (small[i + 1] - small[i]) * w
    return rows[:, i] + (rows[:, i + 1] - rows[:, i]) * w[:, 0]
