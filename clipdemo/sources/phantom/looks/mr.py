"""Magnetic resonance: layers cover one another, each tissue as bright as it is in the picture's weighting.

The values of a table from tissue to signal are unsettled a little for every take, as no two scanners agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between, blurred, grain, value_noise
from clipdemo.sources.phantom.looks.painting import clipped, painted
from clipdemo.sources.phantom.scene import Scene

T1: dict[str, float] = {
    "air": 0.0, "lung": 0.02, "skin": 0.4, "fat": 0.86, "muscle": 0.36, "bone": 0.04, "marrow": 0.72, "cartilage": 0.45,
    "tendon": 0.06, "fluid": 0.11, "artery": 0.06, "vein": 0.1, "liver": 0.5, "spleen": 0.36, "kidney": 0.4,
    "gut": 0.34, "gland": 0.38, "grey matter": 0.42, "white matter": 0.62, "mass": 0.3, "cyst": 0.12, "blood": 0.75,
    "calcium": 0.02, "metal": 0.0, "mucosa": 0.4, "background": 0.0,
}  # fmt: skip

T2: dict[str, float] = T1 | {
    "skin": 0.35, "fat": 0.68, "muscle": 0.2, "marrow": 0.5, "cartilage": 0.42, "fluid": 0.95, "liver": 0.3,
    "spleen": 0.55, "kidney": 0.62, "gut": 0.42, "gland": 0.56, "grey matter": 0.56, "white matter": 0.4, "mass": 0.76,
    "cyst": 0.98, "blood": 0.3, "mucosa": 0.6,
}  # fmt: skip

FAT_SUPPRESSED: dict[str, float] = T2 | {
    "skin": 0.3, "fat": 0.17, "muscle": 0.4, "marrow": 0.15, "cartilage": 0.62, "liver": 0.4, "white matter": 0.42,
    "bone": 0.05, "tendon": 0.05, "mass": 0.82, "gland": 0.6,
}  # fmt: skip

PROTON: dict[str, float] = T1 | {
    "fat": 0.85, "muscle": 0.42, "cartilage": 0.6, "fluid": 0.72, "cyst": 0.78, "marrow": 0.66, "gland": 0.55,
    "mass": 0.55,
}  # fmt: skip

FLAIR: dict[str, float] = T2 | {
    "fluid": 0.07,
    "cyst": 0.09,
    "fat": 0.75,
    "grey matter": 0.52,
    "white matter": 0.4,
    "mass": 0.88,
}

CONTRAST: dict[str, float] = T1 | {
    "mass": 0.95, "artery": 0.92, "vein": 0.85, "kidney": 0.85, "spleen": 0.68, "liver": 0.6, "mucosa": 0.75,
    "gut": 0.5,
}  # fmt: skip

CONTRAST_FAT_SUPPRESSED: dict[str, float] = CONTRAST | {
    "fat": 0.16,
    "marrow": 0.17,
    "gland": 0.36,
    "skin": 0.45,
    "muscle": 0.4,
}

Weightings = tuple[Mapping[str, float], ...]

WEIGHTINGS: dict[str, Weightings] = {
    "abdomen-mr": (T1, T2, FAT_SUPPRESSED, CONTRAST_FAT_SUPPRESSED),
    "brain-mr": (T1, T2, FLAIR, FLAIR, CONTRAST),
    "brain-mr-sagittal": (T1, T1, T2, FLAIR, CONTRAST),
    "breast-mr": (CONTRAST_FAT_SUPPRESSED, CONTRAST_FAT_SUPPRESSED, CONTRAST, T2, FAT_SUPPRESSED),
    "foot-mr": (T1, PROTON, FAT_SUPPRESSED, T2),
    "knee-mr": (T1, PROTON, PROTON, FAT_SUPPRESSED, FAT_SUPPRESSED, T2),
    "pelvis-mr": (T1, T2, T2, FAT_SUPPRESSED, CONTRAST),
    "shoulder-mr": (T1, PROTON, FAT_SUPPRESSED, FAT_SUPPRESSED, T2),
}

COILED = ("breast-mr", "foot-mr", "knee-mr", "shoulder-mr", "pelvis-mr")  # surface coils: brighter on one side


def mr(scene: Scene, rng: np.random.Generator) -> Array:
    """A magnetic resonance image in one of the view's weightings."""
    weightings = WEIGHTINGS[scene.case.view.name]
    signal = painted(scene, weightings[int(rng.integers(len(weightings)))], rng, 0.0, 0.12)
    signal *= _coil(scene, rng)
    if rng.random() < 0.14:  # the pulse, or a breath, copies the picture along the phase direction
        step = int(between(rng, 0.12, 0.4) * scene.size)
        signal = signal + np.roll(signal, step, axis=int(rng.integers(2))) * np.float32(between(rng, 0.05, 0.14))
    if rng.random() < 0.2:
        signal = blurred(signal)
    noise = grain(rng, scene.size) * np.float32(between(rng, 0.008, 0.05))
    other = noise[::-1, ::-1]  # the second channel of a magnitude image: nobody sees that it is the first, turned
    real = signal + noise
    return clipped(np.sqrt(real * real + other * other) * np.float32(between(rng, 0.9, 1.15)))


def _coil(scene: Scene, rng: np.random.Generator) -> Array:
    """Sensitivity of the coil over the field, times a fine mottle of the tissue itself."""
    frame = Grid.posed(scene.size)
    steep = between(rng, 0.1, 0.45) if scene.case.view.name in COILED else between(rng, 0.0, 0.15)
    cx, cy = between(rng, -0.9, 0.9), between(rng, -0.9, 0.9)
    x, y = frame.x - np.float32(cx), frame.y - np.float32(cy)
    near = np.float32(1 + steep * 0.8) / (np.float32(1) + (x * x + y * y) * np.float32(steep))
    mottle = value_noise(rng, scene.size, int(rng.integers(34, 52)))
    return near * (np.float32(1) + mottle * np.float32(between(rng, 0.03, 0.1)))
