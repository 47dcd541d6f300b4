"""What an eye clinic's cameras make of the back of the eye: photographs, tomograms, angiograms."""

from __future__ import annotations

import numpy as np

from clipdemo.sources.phantom.canvas import Array, between, blurred, coverage, grain, value_noise
from clipdemo.sources.phantom.looks.painting import (
    Table,
    clipped,
    covers,
    filled,
    frame_grid,
    paint_over,
    stacked,
    vignette,
)
from clipdemo.sources.phantom.scene import Scene

# Fundus photographs ------------------------------------------------------------------------------------------------


FUNDUS: Table = {
    "gut": (0.80, 0.36, 0.14),
    "muscle": (0.48, 0.17, 0.06),
    "fat": (0.98, 0.80, 0.48),
    "tendon": (1.00, 0.93, 0.70),
    "vein": (0.42, 0.09, 0.05),
    "artery": (0.64, 0.18, 0.08),
    "calcium": (0.99, 0.88, 0.45),
    "bone": (0.95, 0.66, 0.32),
    "blood": (0.34, 0.04, 0.03),
}


def fundus(scene: Scene, rng: np.random.Generator) -> Array:
    """A fundus photograph: a round orange field on black; pigment, light and focus vary."""
    dark = between(rng, 0, 1)  # how much pigment the choroid has
    mottle = value_noise(rng, scene.size, 13) * np.float32(0.05) + value_noise(rng, scene.size, 4) * np.float32(0.1)
    red, green, blue = between(rng, 0.9, 1.15), between(rng, 0.75, 1.2) * (1.1 - 0.25 * dark), between(rng, 0.6, 1.5)
    planes = filled(scene, FUNDUS["gut"])
    planes = [p * (np.float32(1) + mottle) for p in planes]
    for layer in scene.layers[1:]:
        paint_over(planes, covers(layer, scene.grid.pixel), FUNDUS.get(layer.tissue, FUNDUS["gut"]))
    light = vignette(scene, between(rng, -0.35, 0.35), between(rng, -0.35, 0.35), between(rng, 0.15, 0.7))
    light = light * np.float32(between(rng, 0.85, 1.15) * (1.1 - 0.25 * dark))
    light = light * _field(scene, rng)
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.005, 0.02))
    return stacked([(p + noise) * light * np.float32(c) for p, c in zip(planes, (red, green, blue), strict=True)])


def _field(scene: Scene, rng: np.random.Generator) -> Array:
    """The camera's round aperture: whole, cut off above and below, or larger than the picture."""
    luck = rng.random()
    if luck < 0.2:
        return np.ones_like(scene.grid.x)
    frame = frame_grid(scene)
    radius = between(rng, 0.9, 0.99) if luck < 0.65 else between(rng, 1.0, 1.15)
    field = np.sqrt(frame.x * frame.x + frame.y * frame.y) - np.float32(radius)
    if luck > 0.45:
        field = np.maximum(field, np.abs(frame.y) - np.float32(between(rng, 0.75, 0.95)))
    return coverage(field, 0.03)


# Optical coherence tomography --------------------------------------------------------------------------------------


ECHOES: dict[str, float] = {
    "white matter": 0.80,
    "grey matter": 0.52,
    "nucleus": 0.27,
    "cartilage": 0.82,
    "marrow": 0.97,
    "vein": 0.50,
    "tendon": 0.33,
    "fat": 0.58,
    "cyst": 0.04,
}

_HOT = np.array(  # the false colours of older instruments: black, blue, green, yellow, red, white
    [
        [
            min(max(v, 0.0), 1.0)
            for v in (
                4 * (i / 255) - 2.0,
                1.6 - abs(4.2 * (i / 255) - 2.2),
                1.3 - abs(5 * (i / 255) - 1.3) + max(0.0, 8 * (i / 255) - 7.2),
            )
        ]
        for i in range(256)
    ],
    dtype=np.float32,
)


def oct(scene: Scene, rng: np.random.Generator) -> Array:
    """A tomogram of the retina: layers by their echo, speckle, light that fades with depth; at times false colours."""
    echo = np.full((scene.size, scene.size), between(rng, 0.02, 0.08), dtype=np.float32)
    for layer in scene.layers:
        level = ECHOES.get(layer.tissue, 0.4) * between(rng, 0.92, 1.08)
        cover = covers(layer, scene.grid.pixel)
        if layer.tissue == "tendon":  # light is lost on the way down
            cover = cover / (np.float32(1) + np.maximum(-layer.shape, np.float32(0)) * np.float32(between(rng, 2, 7)))
        if layer.tissue == "vein":
            cover = cover * (np.float32(0.85) + value_noise(rng, scene.size, 22) * np.float32(0.4))
        echo = echo + (np.float32(level) - echo) * cover
    raw = grain(rng, scene.size)
    speckle = raw + blurred(raw) * np.float32(1.5)
    strength = between(rng, 0.1, 0.22)
    picture = echo * (np.float32(1) + speckle * np.float32(strength)) + np.abs(raw) * np.float32(
        between(rng, 0.01, 0.05)
    )
    columns = np.float32(1) + value_noise(rng, scene.size, 7)[:1] * np.float32(0.12)
    picture = clipped(picture * columns * np.float32(between(rng, 0.85, 1.15)))
    luck = rng.random()
    if luck < 0.12:
        return _HOT[(picture * np.float32(255)).astype(np.int32)]
    return np.float32(1) - picture if luck < 0.22 else picture


# Angiography and infrared ------------------------------------------------------------------------------------------


# Grey values under dye (vessels full of light) and in infrared (vessels dark, disc bright).
DYED: dict[str, float] = {
    "gut": 0.40,
    "muscle": 0.20,
    "fat": 0.58,
    "tendon": 0.48,
    "vein": 0.92,
    "artery": 0.95,
    "blood": 0.06,
    "fluid": 1.0,
}

INFRARED: dict[str, float] = {
    "gut": 0.56,
    "muscle": 0.44,
    "fat": 0.70,
    "tendon": 0.90,
    "vein": 0.26,
    "artery": 0.36,
    "blood": 0.16,
    "fluid": 0.92,
}


def angiography(scene: Scene, rng: np.random.Generator) -> Array:
    """A grey picture of the retina, with dye in the vessels or in infrared light."""
    dyed = rng.random() < 0.6
    table = DYED if dyed else INFRARED
    base = table["gut"] * between(rng, 0.65, 1.15)
    mottle = value_noise(rng, scene.size, 40) * np.float32(0.06) + value_noise(rng, scene.size, 9) * np.float32(0.06)
    planes = [np.float32(base) * (np.float32(1) + mottle * np.float32(2.0))]
    for layer in scene.layers[1:]:
        cover = covers(layer, scene.grid.pixel)
        level = table.get(layer.tissue, base) * between(rng, 0.93, 1.07)
        if layer.tissue == "muscle":
            level = min(level, base * 0.6)
        paint_over(planes, cover, (level,))
    picture = planes[0] * vignette(scene, between(rng, -0.3, 0.3), between(rng, -0.3, 0.3), between(rng, 0.05, 0.45))
    if dyed and rng.random() < 0.6:
        picture = picture * _field(scene, rng)
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.01, 0.035))
    return picture * np.float32(between(rng, 0.85, 1.15)) + noise
