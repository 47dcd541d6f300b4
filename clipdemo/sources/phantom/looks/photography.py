"""What a camera with a ring flash makes of a mouth."""

from __future__ import annotations

import numpy as np

from clipdemo.sources.phantom.canvas import Array, between, grain, value_noise
from clipdemo.sources.phantom.looks.painting import (
    Colour,
    Table,
    clipped,
    covers,
    filled,
    paint_over,
    ripples,
    rounded,
    stacked,
    varied,
    vignette,
)
from clipdemo.sources.phantom.scene import TISSUES, Scene

PHOTO: Table = {
    "skin": (0.88, 0.66, 0.55),
    "mucosa": (0.76, 0.40, 0.38),
    "gland": (0.88, 0.55, 0.53),
    "muscle": (0.84, 0.47, 0.46),
    "tooth": (0.95, 0.91, 0.80),
    "cavity": (0.16, 0.04, 0.04),
    "blood": (0.62, 0.16, 0.15),
    "fat": (0.95, 0.88, 0.66),
    "tendon": (0.95, 0.90, 0.87),
}

SKINS: tuple[Colour, ...] = (
    (0.90, 0.70, 0.60),
    (0.86, 0.64, 0.50),
    (0.72, 0.50, 0.38),
    (0.50, 0.33, 0.25),
    (0.36, 0.24, 0.19),
)

# How far in from the edge a thing rounds off, and how dark its edge is.
DOMES: dict[str, tuple[float, float]] = {
    "tooth": (0.06, 0.3),
    "muscle": (0.2, 0.4),
    "mucosa": (0.12, 0.25),
    "gland": (0.1, 0.15),
}


def photo(scene: Scene, rng: np.random.Generator) -> Array:
    """A photograph with a ring flash: warm skin, wet shine on lips, tongue and teeth."""
    face = np.random.default_rng(scene.case.anatomy_seed + 1)  # colours that belong to the patient
    table = dict(PHOTO, skin=SKINS[int(face.integers(len(SKINS)))])
    table["tooth"] = varied(face, table["tooth"], 0.08)
    planes = filled(scene, table["skin"])
    coarse, fine = value_noise(rng, scene.size, 9), value_noise(rng, scene.size, 36)
    shine = np.zeros_like(scene.grid.x)
    sparkle = clipped(
        (ripples(rng, scene.size) * np.float32(0.6) + coarse * np.float32(0.5) - np.float32(between(rng, 0.55, 0.8)))
        * np.float32(4)
    )
    rough = np.float32(1) + coarse * np.float32(0.06) + fine * np.float32(0.04)
    for layer in scene.layers:
        cover = covers(layer, scene.grid.pixel)
        lit = rough
        if layer.tissue in DOMES:
            reach, deep = DOMES[layer.tissue]
            dome = rounded(layer.shape, reach)
            lit = rough * (np.float32(1 - deep) + dome * np.float32(deep))
            shine = shine * (np.float32(1) - cover) + cover * dome * sparkle * np.float32(
                0.7 if layer.tissue != "gland" else 0.45
            )
        elif layer.tissue in ("cavity", "skin"):
            shine = shine * (np.float32(1) - cover)
        paint_over(planes, cover, table.get(layer.tissue, TISSUES[layer.tissue]), lit)
    light = vignette(scene, between(rng, -0.3, 0.3), between(rng, -0.3, 0.3), between(rng, 0.1, 0.45))
    light = light * np.float32(between(rng, 0.9, 1.15))
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.006, 0.02))
    return stacked([p * light + shine + noise for p in planes])
