"""Plain and contrast radiographs: layers add up their absorption, then a tone curve makes the picture.

A layer absorbs as much as its tissue does times `strength` times its local thickness. Thickness follows the kind
of the tissue: "round" things swell like a cylinder whose edge has radius `softness`, "bone" is a tube whose wall is
about `softness` thick (bright rims, paler middle), "solid" things have the same thickness everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipdemo.sources.phantom.canvas import Array, blurred, grain, value_noise
from clipdemo.sources.phantom.scene import Layer, Scene

# Absorption at strength 1, and the kind of thickness. What displaces denser tissue absorbs less than nothing.
ABSORPTION: dict[str, tuple[float, str]] = {
    "air": (-1.0, "round"),
    "lung": (-1.0, "round"),
    "cyst": (-1.0, "round"),
    "skin": (0.35, "solid"),
    "fat": (0.5, "round"),
    "muscle": (1.0, "round"),
    "fluid": (0.8, "round"),
    "gland": (0.6, "round"),
    "mass": (0.8, "round"),
    "artery": (0.5, "round"),
    "liver": (0.8, "round"),
    "gut": (0.6, "round"),
    "mucosa": (0.8, "solid"),
    "marrow": (0.8, "round"),
    "bone": (1.0, "bone"),
    "tooth": (1.0, "round"),
    "calcium": (1.4, "round"),
    "metal": (4.0, "solid"),
}

OTHER = (0.6, "round")


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a view is usually taken: `knee` bends the tone curve, `texture` is of bone, `noise` of the film."""

    knee: float = 0.85
    texture: float = 0.10
    noise: float = 0.018
    collimated: float = 0.35  # fraction of pictures with a visible collimator edge


EXPOSURES: dict[str, Exposure] = {
    "breast-mammogram": Exposure(knee=0.9, texture=0.22, noise=0.012, collimated=0.0),
    "chest-xray": Exposure(knee=1.0, texture=0.05, collimated=0.15),
    "pelvis-xray": Exposure(knee=0.95, texture=0.12, noise=0.02, collimated=0.2),
    "mouth-panoramic": Exposure(knee=0.9, texture=0.16, collimated=0.1),
    "mouth-periapical": Exposure(knee=0.9, texture=0.2, noise=0.022, collimated=0.0),
}


def xray(scene: Scene, rng: np.random.Generator) -> Array:
    """A plain radiograph: bone bright, air dark."""
    exposure = EXPOSURES.get(scene.case.view.name, Exposure())
    return _film(_absorption(scene, rng, exposure.texture, barium=0.0), rng, exposure, scene)


def barium(scene: Scene, rng: np.random.Generator) -> Array:
    """A contrast study: "gut" holds barium and outshines everything, "mucosa" is its coat on gas-filled bowel."""
    exposure = Exposure(knee=1.0, texture=0.1, noise=0.022, collimated=0.4)
    return _film(_absorption(scene, rng, exposure.texture, barium=2.0), rng, exposure, scene)


def _absorption(scene: Scene, rng: np.random.Generator, texture: float, barium: float) -> Array:
    """Absorption along the ray of each pixel; bone and glands get their grain here, before other tissue covers it."""
    hard = np.zeros_like(scene.grid.x)
    soft = np.zeros_like(scene.grid.x)
    for layer in scene.layers:
        amount, kind = ABSORPTION.get(layer.tissue, OTHER)
        if layer.tissue == "gut" and barium:
            amount = barium
        part = THICKNESS[kind](layer, scene.grid.pixel) * np.float32(amount * layer.strength)
        if layer.tissue in ("bone", "marrow", "gland"):
            hard += part
        else:
            soft += part
    speckle = value_noise(rng, scene.size, 38)
    speckle = speckle + speckle[::-1, ::-1] * np.float32(0.5)
    return np.maximum(hard * (np.float32(1) + speckle * np.float32(texture * 1.2)) + soft, np.float32(0))


def _round(layer: Layer, pixel: float) -> Array:
    """Thickness across a thing with a rounded edge of radius `softness`: sqrt(1 - (1 - depth)^2)."""
    reach = np.float32(-1 / max(layer.softness, pixel))
    s = np.minimum(np.maximum((layer.shape - np.float32(pixel / 2)) * reach, np.float32(0)), np.float32(1))
    return np.sqrt(s * (np.float32(2) - s))


def _solid(layer: Layer, pixel: float) -> Array:
    """One thickness all over, with an edge `softness` wide."""
    edge = np.float32(-1 / max(layer.softness, pixel))
    return np.minimum(np.maximum(layer.shape * edge + np.float32(0.5), np.float32(0)), np.float32(1))


def _tube(layer: Layer, pixel: float) -> Array:
    """A wall seen edge-on, dense within `softness` of the edge, around a paler middle."""
    edge = layer.shape * np.float32(-0.8 / pixel) + np.float32(0.4)
    edge = np.minimum(np.maximum(edge, np.float32(0)), np.float32(1))
    depth = np.minimum(layer.shape * np.float32(1 / layer.softness) + np.float32(0.7), np.float32(0))
    return edge * (np.float32(0.56) + np.float32(0.44) / (np.float32(1) + depth * depth))


THICKNESS: dict[str, Callable[[Layer, float], Array]] = {"round": _round, "solid": _solid, "bone": _tube}


def _film(absorbed: Array, rng: np.random.Generator, exposure: Exposure, scene: Scene) -> Array:
    """Tone curve, scatter haze, crispness, noise and collimator edge."""
    knee = np.float32(exposure.knee * rng.uniform(0.75, 1.3))
    picture = absorbed / (absorbed + knee) * np.float32(rng.uniform(1.3, 1.5))
    haze = value_noise(rng, scene.size, 2) * np.float32(0.04)
    picture = picture + haze + np.float32(rng.uniform(-0.01, 0.05))
    if rng.random() < 0.5:  # edge enhancement, as computed radiography does
        picture = picture + (picture - blurred(picture, 1)) * np.float32(rng.uniform(0.3, 1.0))
    noise = exposure.noise * rng.uniform(0.4, 1.8)
    picture = picture + grain(rng, scene.size) * np.float32(noise)
    if rng.random() < exposure.collimated:
        picture = _collimated(picture, rng)
    return np.minimum(np.maximum(picture, np.float32(0)), np.float32(1))


def _collimated(picture: Array, rng: np.random.Generator) -> Array:
    """The picture with unexposed borders, unequally wide: black on most, white on some."""
    size = picture.shape[0]
    shade = np.float32(0.02 if rng.random() < 0.8 else 0.97)
    widths = rng.integers(0, max(size // 9, 1), 4)
    out = np.full_like(picture, shade)
    top, bottom, left, right = (int(w) if rng.random() < 0.7 else 0 for w in widths)
    inside = slice(top, size - bottom), slice(left, size - right)
    out[inside] = picture[inside]
    return out
