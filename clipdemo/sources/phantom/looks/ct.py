"""Computed tomography: layers cover one another in Hounsfield units, which are seen through a display window.

The values of the table from tissue to Hounsfield units are unsettled a little for every take, as no two scanners agree.
"""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.canvas import Array, Grid, between, grain
from clipdemo.sources.phantom.catalogue import NORMAL
from clipdemo.sources.phantom.looks.painting import clipped, painted
from clipdemo.sources.phantom.scene import Scene

HOUNSFIELD: dict[str, float] = {
    "air": -1000, "lung": -840, "skin": 20, "fat": -105, "muscle": 55, "bone": 900, "marrow": 330, "cartilage": 90,
    "tendon": 80, "fluid": 8, "artery": 48, "vein": 46, "liver": 60, "spleen": 52, "kidney": 36, "gut": 38,
    "gland": 40, "grey matter": 38, "white matter": 29, "mass": 44, "cyst": 6, "blood": 65, "calcium": 700,
    "metal": 2500, "mucosa": 40, "background": -1000,
}  # fmt: skip

# What an injected contrast agent changes.
ENHANCED: dict[str, float] = {
    "artery": 230, "vein": 165, "liver": 108, "spleen": 122, "kidney": 190, "gut": 75, "gland": 95, "muscle": 66,
    "mass": 62, "mucosa": 90,
}  # fmt: skip

ENHANCED_BRAIN: dict[str, float] = {"mass": 68, "artery": 200, "vein": 160}

# Width and level of the usual windows, with how often each is chosen.
Windows = tuple[tuple[float, float, float], ...]

WINDOWS: dict[str, Windows] = {
    "abdomen-ct": ((0.86, 400, 50), (0.08, 240, 60), (0.06, 1200, 150)),
    "brain-ct": ((0.84, 85, 36), (0.1, 160, 50), (0.06, 1500, 300)),
    "chest-ct": ((0.45, 400, 40), (0.55, 1500, -550)),
}


def ct(scene: Scene, rng: np.random.Generator) -> Array:
    """A computed tomogram: Hounsfield units through a display window."""
    view = scene.case.view.name
    table = dict(HOUNSFIELD)
    if rng.random() < (0.25 if view == "brain-ct" else 0.7):
        table |= ENHANCED_BRAIN if view == "brain-ct" else ENHANCED
    units = painted(scene, table, rng, -1000.0, 0.05)
    _add_table(units, scene, rng)
    usual = WINDOWS[view]
    width, level = _display(usual if scene.case.finding == NORMAL or view == "chest-ct" else usual[:1], rng)
    units = units + _ct_noise(scene, rng, width)
    picture = (units - np.float32(level - width / 2)) * np.float32(1 / width)
    if rng.random() < 0.12:  # a round field of view on a grey card
        frame = Grid.posed(scene.size)
        inside = frame.x * frame.x + frame.y * frame.y < np.float32(1)
        picture = np.where(inside, picture, np.float32(between(rng, 0.0, 0.3)))
    return clipped(picture)


def _display(windows: Windows, rng: np.random.Generator) -> tuple[float, float]:
    """Width and level of the window that somebody chose; the first where the finding would be lost in the others."""
    luck, chosen = rng.random() * sum(share for share, _, _ in windows), windows[0]
    for window in windows:
        if luck > 0:
            chosen = window
        luck -= window[0]
    _, width, level = chosen
    return width * between(rng, 0.8, 1.25), level + width * between(rng, -0.08, 0.08)


def _add_table(units: Array, scene: Scene, rng: np.random.Generator) -> None:
    """The couch below the patient, or the bowl that holds the head; seen only where there is nothing but air."""
    if rng.random() < 0.35:
        return
    g = scene.grid
    head = scene.case.view.part == "Brain"
    bend = between(rng, 0.5, 0.75) if head else between(rng, 0.08, 0.22)
    lowest = 0.97 if head else between(rng, 0.76, 0.86)
    off = g.y - np.float32(lowest) + g.x * g.x * np.float32(bend)
    thin = np.float32(between(rng, 0.008, 0.014))
    pads = np.abs(off) < thin
    if not head and rng.random() < 0.6:
        pads |= np.abs(off - np.float32(between(rng, 0.06, 0.12))) < thin
    pads &= units < np.float32(-700)
    units[pads] = np.float32(between(rng, -350, 60))


def _ct_noise(scene: Scene, rng: np.random.Generator, width: float) -> Array:
    """Quantum mottle, coarser than a pixel, and at times streaks."""
    noise = grain(rng, scene.size)
    noise[1:] += noise[:-1] * np.float32(0.6)
    noise[:, 1:] += noise[:, :-1] * np.float32(0.6)
    brain = scene.case.view.part == "Brain"
    noise *= np.float32(between(rng, 1.0, 4.5) if brain else between(rng, 5.0, 22.0))
    if rng.random() < 0.3:
        angle = between(rng, -0.2, 0.2) + math.pi / 2 if rng.random() < 0.7 else between(rng, 0, math.pi)
        noise += _line_noise(rng, scene.grid, angle, int(rng.integers(60, 140))) * np.float32(0.05 * min(width, 400))
    return noise


def _line_noise(rng: np.random.Generator, g: Grid, angle: float, knots: int) -> Array:
    """Stripes of random strength in [-1, 1] across the direction `angle`."""
    table = rng.random(knots + 1, dtype=np.float32) * np.float32(2) - np.float32(1)
    cos, sin = math.cos(angle) * knots / 3, math.sin(angle) * knots / 3
    t = g.x * np.float32(cos) + g.y * np.float32(sin) + np.float32(knots / 2)
    return table[np.minimum(np.maximum(t, np.float32(0)), np.float32(knots)).astype(np.int32)]
