"""Textbook plates: the same anatomy as drawn and named by an illustrator. Only the base model's pretraining sees them.

A plate has flat tissue colours and ink outlines and knows no apparatus; its caption knows no clinic. The distance
between plates and `drawing`'s pictures with their reports is what fine-tuning has to bridge. It is set by this design
and by nothing else: no number here was chosen by looking at what a model makes of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from clipdemo.sources.phantom.anatomy import SCENES
from clipdemo.sources.phantom.canvas import Array, Grid, between, box, coverage, ellipse, strokes, value_noise
from clipdemo.sources.phantom.catalogue import NORMAL, Case
from clipdemo.sources.phantom.drawing import SIZE
from clipdemo.sources.phantom.scene import TISSUES, Layer

Colour = tuple[float, float, float]
Segment = tuple[float, float, float, float, float, float]
VAGUE = 0.12  # an edge softer than this gets a faint outline only
PAPERS: tuple[Colour, ...] = ((0.97, 0.94, 0.86), (0.95, 0.90, 0.79), (0.98, 0.97, 0.93))
BOARDS: tuple[Colour, ...] = ((0.10, 0.20, 0.15), (0.09, 0.10, 0.11), (0.10, 0.14, 0.22))


def draw_plate(case: Case, take_seed: int, size: int = SIZE) -> np.ndarray:
    """A plate of the case's normal anatomy: uint8 (size, size, 3), the same bytes on every machine."""
    rng = np.random.default_rng(take_seed)
    grid = _drawn_by_hand(rng, size)
    layers = SCENES[case.view.name](dataclasses.replace(case, finding=NORMAL), grid)
    luck = rng.random()
    style = _water_colour if luck < 0.5 else (_engraving if luck < 0.8 else _chalk)
    picture, ink = style(layers, grid, rng, _figure(layers, rng, size))
    if rng.random() < 0.5:
        picture = _over(picture, _leaders(rng, size), ink)
    pixels = np.minimum(np.maximum(picture, np.float32(0)), np.float32(1)) * np.float32(255) + np.float32(0.5)
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))


def _drawn_by_hand(rng: np.random.Generator, size: int) -> Grid:
    """An upright grid with room around the figure; lines waver as a hand does."""
    grid = Grid.posed(
        size,
        rotation=between(rng, -0.06, 0.06),
        zoom=between(rng, 0.78, 1.05),
        shift=(between(rng, -0.05, 0.05), between(rng, -0.05, 0.05)),
    )
    amount = np.float32(between(rng, 0.01, 0.02))
    return grid.warped(value_noise(rng, size, 6) * amount, value_noise(rng, size, 6) * amount)


def _figure(layers: list[Layer], rng: np.random.Generator, size: int) -> Array:
    """The frame that the figure is drawn in. A scene that fills the whole picture gets a round or square one."""
    frame = Grid.posed(size)
    if float(layers[0].shape.max()) > 0:
        return np.full_like(frame.x, -1)
    half = between(rng, 0.75, 0.95)
    return ellipse(frame, 0, 0, half, half) if rng.random() < 0.6 else box(frame, 0, 0, half, half, 0.04)


def _planes(colour: Colour) -> Array:
    """A colour in the shape that broadcasts over pictures."""
    return np.array(colour, dtype=np.float32).reshape(3, 1, 1)


def _over(picture: Array, cover: Array, colour: Colour | Array) -> Array:
    """A colour laid over a picture as far as it covers. Pictures are (3, size, size) here, which is faster."""
    tint = colour if isinstance(colour, np.ndarray) else _planes(colour)
    return picture + (tint - picture) * cover


def _outline(layer: Layer, width: Array | float) -> Array:
    """How dark the pen's line along a shape's edge is."""
    line = np.abs(layer.shape) - width
    firm = 0.4 if layer.softness > VAGUE else 1.0
    return coverage(line, 0.018) * np.float32(firm * (0.4 + 0.6 * min(layer.strength, 1.0)))


def _sheet(colour: Colour, rng: np.random.Generator, size: int, uneven: float) -> Array:
    """A sheet of paper or a board, not quite clean."""
    stain = (
        np.float32(1) + value_noise(rng, size, 3) * np.float32(uneven) + value_noise(rng, size, 30) * np.float32(0.012)
    )
    return stain * _planes(colour)


def _water_colour(layers: list[Layer], grid: Grid, rng: np.random.Generator, figure: Array) -> tuple[Array, Colour]:
    """Washes of flat colour, darker where they dried at the edge, under brown ink."""
    size = grid.x.shape[0]
    paper = _sheet(PAPERS[int(rng.integers(len(PAPERS)))], rng, size, 0.02)
    ink: Colour = (0.22, 0.15, 0.10) if rng.random() < 0.7 else (0.10, 0.10, 0.13)
    wash = value_noise(rng, size, 5) * np.float32(0.10) + value_noise(rng, size, 17) * np.float32(0.05)
    pen = value_noise(rng, size, 9) * np.float32(0.004) + np.float32(between(rng, 0.006, 0.012))
    depth = between(rng, 0.7, 0.95)
    inside = coverage(figure, 0.02)
    picture = paper
    for layer in layers:
        if layer.tissue == "background":
            colour = paper
        else:
            dried = np.float32(1) + wash - coverage(np.abs(layer.shape + np.float32(0.02)), 0.05) * np.float32(0.12)
            colour = dried * _planes(TISSUES[layer.tissue])
        cover = coverage(layer.shape, max(min(layer.softness, VAGUE), 0.02)) * inside
        picture = _over(picture, cover * np.float32(depth * min(0.4 + 0.6 * layer.strength, 1.0)), colour)
        picture = _over(picture, _outline(layer, pen) * inside * np.float32(0.85), ink)
    return _framed(picture, figure, ink), ink


def _tone(layers: list[Layer], paper_tone: float) -> Array:
    """How dark the engraver wants each place, from the tissues' brightness; in [0, 1]."""
    tone = np.full_like(layers[0].shape, paper_tone)
    for layer in layers:
        r, g, b = TISSUES[layer.tissue]
        dark = min(max(1.15 * (0.92 - (0.3 * r + 0.55 * g + 0.15 * b)), 0.0), 0.9)
        cover = coverage(layer.shape, max(min(layer.softness, VAGUE), 0.02)) * np.float32(min(layer.strength, 1.0))
        tone = tone + (np.float32(dark) - tone) * cover
    return tone


def _hatching(grid: Grid, angle: float, apart: float) -> Array:
    """A saw of parallel lines: 0 on a line, 1 half way between two."""
    across = (grid.x * np.float32(math.cos(angle)) + grid.y * np.float32(math.sin(angle))) * np.float32(1 / apart)
    return np.abs(across - np.floor(across) - np.float32(0.5)) * np.float32(2)


def _engraving(layers: list[Layer], grid: Grid, rng: np.random.Generator, figure: Array) -> tuple[Array, Colour]:
    """Grey ink only: outlines, one set of parallel lines for shade and a second across them where it is dark."""
    size = grid.x.shape[0]
    paper = _sheet(PAPERS[int(rng.integers(len(PAPERS)))], rng, size, 0.03)
    grey = between(rng, 0.08, 0.3)
    ink: Colour = (grey, grey, grey * 1.05)
    inside = coverage(figure, 0.02)
    tone = _tone(layers, 0.0) * inside
    angle, apart = between(rng, 0.5, 1.1), max(between(rng, 0.055, 0.075), 3.3 * 2 / size)
    first = np.minimum(
        np.maximum(tone * np.float32(1.5) - _hatching(grid, angle, apart), np.float32(0)) * np.float32(3), np.float32(1)
    )
    second = np.maximum(tone * np.float32(1.5) - np.float32(0.45) - _hatching(grid, angle + 1.3, apart), np.float32(0))
    lines = np.maximum(first, np.minimum(second * np.float32(3), np.float32(1))) * np.float32(0.75)
    contour = np.zeros_like(tone)
    for layer in layers:
        hides = np.float32(1) - coverage(layer.shape, 0.02) * np.float32(min(layer.strength, 1.0))
        contour = np.maximum(contour * hides, _outline(layer, 0.006))
    picture = _over(paper, np.maximum(lines, contour * inside), ink)
    return _framed(picture, figure, ink), ink


def _chalk(layers: list[Layer], grid: Grid, rng: np.random.Generator, figure: Array) -> tuple[Array, Colour]:
    """White lines on a dark board, rough as chalk is, at times with pale colours rubbed in."""
    size = grid.x.shape[0]
    board = _sheet(BOARDS[int(rng.integers(len(BOARDS)))], rng, size, 0.15)
    white: Colour = (0.93, 0.93, 0.89)
    rough = rng.random((size, size), dtype=np.float32) * np.float32(0.45) + np.float32(0.6)
    inside = coverage(figure, 0.02)
    coloured = rng.random() < 0.55
    picture, width = board, between(rng, 0.009, 0.016)
    for layer in layers:
        cover = (
            coverage(layer.shape, max(min(layer.softness, VAGUE), 0.02)) * inside * np.float32(min(layer.strength, 1.0))
        )
        picture = _over(picture, cover * np.float32(0.75), board)
        if coloured and layer.tissue != "background":
            picture = _over(picture, cover * rough * np.float32(0.28), TISSUES[layer.tissue])
        picture = _over(picture, _outline(layer, width) * inside * rough, white)
    return _framed(picture, figure, white), white


def _framed(picture: Array, figure: Array, ink: Colour) -> Array:
    """The line around a figure that has a frame."""
    return _over(picture, coverage(np.abs(figure) - np.float32(0.008), 0.018), ink)


def _leaders(rng: np.random.Generator, size: int) -> Array:
    """Thin lines from places in the figure to the margins, each ending in a few strokes of writing."""
    lines: list[Segment] = []
    for side in (-1, 1):
        for y in _rows(rng, int(rng.integers(0, 4))):
            margin = side * between(rng, 0.72, 0.82)
            lines.append((side * between(rng, 0.05, 0.5), y + between(rng, -0.15, 0.15), margin, y, 0.003, 0.003))
            lines += _writing(rng, margin if side > 0 else margin - 0.16, y)
    if rng.random() < 0.4:
        lines += _writing(rng, between(rng, -0.3, 0.0), 0.93 if rng.random() < 0.7 else -0.93, 5)
    return coverage(strokes(Grid.posed(size), lines), 0.014) * np.float32(0.9)


def _rows(rng: np.random.Generator, count: int) -> list[float]:
    """Heights for `count` labels, one below the other."""
    return [-0.75 + 1.5 * (i + 0.2 + 0.6 * rng.random()) / count for i in range(count)]


def _writing(rng: np.random.Generator, x: float, y: float, letters: int = 3) -> list[Segment]:
    """Up-and-down strokes that look like a word too small to read."""
    out: list[Segment] = []
    for k in range(letters + int(rng.integers(0, 2))):
        left, tall = x + 0.03 + 0.042 * k, between(rng, 0.012, 0.03)
        out.append((left, y + 0.015, left + 0.012, y - tall, 0.004, 0.004))
        out.append((left + 0.012, y - tall, left + 0.028, y + 0.015, 0.004, 0.004))
    return out


# --- captions -----------------------------------------------------------------------------------------------------

NAMED = 0.6  # fraction of captions that say which body part it is
NAMES: dict[str, tuple[str, ...]] = {
    "Chest": ("chest", "thorax", "thoracic cavity"),
    "Abdomen": ("abdomen", "abdominal cavity", "belly"),
    "Brain": ("brain", "encephalon", "human brain"),
    "Cell": ("cell", "cells of the body", "minute structure of the cell"),
    "Pelvic cavity": ("pelvis", "pelvic cavity", "human pelvis"),
    "Lower limb": ("lower limb", "leg", "lower extremity"),
    "Oral cavity": ("mouth", "oral cavity", "cavity of the mouth"),
    "Gastrointestinal tract": ("gastrointestinal tract", "digestive tract", "alimentary canal", "bowel"),
    "Eye": ("eye", "human eye", "eyeball"),
    "Upper limb": ("upper limb", "arm", "upper extremity"),
    "Breast": ("breast", "female breast", "mamma"),
    "Foot": ("foot", "human foot", "pes"),
}
# What an illustrator calls the way in which a view is drawn.
ASPECTS: dict[str, tuple[str, ...]] = {
    "abdomen-ct": ("transverse section", "horizontal section seen from below"),
    "abdomen-us": ("oblique section", "section through the right side"),
    "abdomen-mr": ("transverse section", "horizontal section", "frontal section"),
    "brain-mr": ("horizontal section", "transverse section"),
    "brain-ct": ("horizontal section", "section seen from below"),
    "brain-mr-sagittal": ("median section", "sagittal section"),
    "breast-mammogram": ("seen from the side", "sagittal section"),
    "breast-us": ("section from the surface inwards", "vertical section"),
    "breast-mr": ("horizontal section", "transverse section"),
    "cell-histology": ("highly magnified", "seen in thin section"),
    "cell-smear": ("highly magnified", "spread on glass"),
    "cell-fluorescence": ("highly magnified", "diagrammatic"),
    "chest-xray": ("anterior view", "seen from the front"),
    "chest-ct": ("transverse section", "horizontal section"),
    "eye-fundus": ("posterior wall seen from within", "interior seen from the front"),
    "eye-oct": ("section through the posterior wall", "vertical section, magnified"),
    "eye-angiography": ("vessels of the posterior wall", "interior with its vessels"),
    "foot-xray-lateral": ("lateral view", "seen from the side"),
    "foot-xray-ap": ("dorsal view", "seen from above"),
    "foot-mr": ("sagittal section", "longitudinal section"),
    "gut-endoscopy": ("interior", "inner surface"),
    "gut-barium": ("anterior view", "in its natural position"),
    "leg-xray": ("anterior view", "bones seen from the front"),
    "knee-mr": ("sagittal section", "longitudinal section"),
    "mouth-panoramic": ("anterior view, unfolded", "seen from the front"),
    "mouth-periapical": ("section through the jaw", "labial view"),
    "mouth-photo": ("anterior view", "seen from the front"),
    "pelvis-xray": ("anterior view", "bones seen from the front"),
    "pelvis-mr": ("transverse section", "horizontal section"),
    "pelvis-us": ("median section", "longitudinal section"),
    "hand-xray": ("palmar view", "dorsal view"),
    "elbow-xray": ("lateral view", "seen from the side"),
    "shoulder-mr": ("frontal section", "coronal section"),
}
# Structures that the catalogue calls by a word of the clinic, in the words of a textbook.
PLAIN_WORDS: dict[str, str] = {
    "cardiac silhouette": "heart and great vessels",
    "fibroglandular tissue": "lobules with their ducts",
    "cerebral hemispheres": "hemispheres",
    "colonic folds": "semilunar folds",
    "hallux": "great toe",
    "maxillary teeth": "upper teeth",
    "small bowel loops": "loops of the small intestine",
}
ROMAN = ((50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))


NAMING = ("the {p}: {s}, {a}.", "the {p}, {a}.", "anatomy of the {p}, showing {s}.", "{p}. {s}.", "the {p}: {s}.")
UNNAMED = ("{s}, {a}.", "{s}; {a}.", "{a}, showing {s}.", "{s}.")


def plate_caption(case: Case, rng: np.random.Generator) -> str:
    """What is printed under a plate; most name the body part, the others its structures only."""
    head = _heading(rng)
    structures = _structures(case, rng)
    aspect = _pick(rng, ASPECTS[case.view.name])
    shapes = UNNAMED if rng.random() >= NAMED else NAMING
    text = _pick(rng, shapes).format(p=_pick(rng, NAMES[case.view.part]), s=structures, a=aspect)
    return head + ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _heading(rng: np.random.Generator) -> str:
    """A plate's or figure's number, or nothing."""
    number = int(rng.integers(1, 60))
    return _pick(
        rng, (f"Plate {_roman(number)}. ", f"Plate {number}. ", f"Fig. {number}. ", f"Figure {number}. ", "", "")
    )


def _roman(number: int) -> str:
    out = ""
    for value, letters in ROMAN:
        out += letters * (number // value)
        number %= value
    return out


def _structures(case: Case, rng: np.random.Generator) -> str:
    """Two or three of the view's structures: "lungs, ribs and diaphragm"."""
    names = [PLAIN_WORDS.get(name, name) for name in case.view.structures]
    count = min(len(names), 2 + int(rng.integers(2)))
    *first, last = (names[i] for i in rng.permutation(len(names)).tolist()[:count])
    return ", ".join(first) + f" and {last}"
