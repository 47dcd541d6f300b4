"""From a case and a take to a picture: pose, anatomy, look, acquisition, artefacts.

The case fixes the patient, the take everything else: how the patient was placed, which apparatus with which settings
made the picture, and what somebody wrote on it afterwards. See `canvas` for why only exact operations are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from clipdemo.sources.phantom.anatomy import SCENES
from clipdemo.sources.phantom.canvas import Array, Grid, between, blurred, value_noise
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.looks import LOOKS
from clipdemo.sources.phantom.scene import Scene

SIZE = 128


@dataclass(frozen=True, slots=True)
class Habits:
    """How pictures of one look are usually taken and passed on."""

    rotation: float = 0.08  # radians either way
    zoom: tuple[float, float] = (0.92, 1.14)
    shift: float = 0.07
    warp: float = 0.012  # how far the smooth deformation moves a point
    gamma: float = 0.25  # spread of the tone curve's exponent, in octaves
    contrast: float = 0.15
    tint: float = 0.0  # spread of the white balance
    inverted: float = 0.0  # fraction of pictures with black and white exchanged
    marks: tuple[str, ...] = ("arrow", "text")  # artefacts that occur


ANY_WAY_UP = math.pi
HABITS: dict[str, Habits] = {
    "ct": Habits(marks=("arrow", "text", "side", "scale")),
    "mr": Habits(marks=("arrow", "text", "side")),
    "xray": Habits(0.08, (0.9, 1.16), inverted=0.04, marks=("side", "side", "arrow", "text")),
    "barium": Habits(0.08, (0.9, 1.16), inverted=0.06, marks=("side", "arrow", "text")),
    "ultrasound": Habits(0.03, (0.97, 1.1), 0.04, 0.02, tint=0.02, marks=("arrow", "text", "scale", "cross")),
    "histology": Habits(ANY_WAY_UP, (0.75, 1.3), 0.3, 0.03, 0.15, 0.12, 0.05, marks=("scale", "scale", "arrow")),
    "smear": Habits(ANY_WAY_UP, (0.75, 1.3), 0.3, 0.03, 0.15, 0.12, 0.05, marks=("scale", "arrow")),
    "fluorescence": Habits(ANY_WAY_UP, (0.75, 1.3), 0.3, 0.03, 0.25, 0.2, 0.03, marks=("scale", "scale", "arrow")),
    "fundus": Habits(0.12, (0.92, 1.2), 0.05, 0.02, 0.2, 0.15, 0.06, marks=("arrow", "side", "text")),
    "oct": Habits(0.1, (0.9, 1.3), 0.1, 0.02, marks=("arrow", "scale", "text")),
    "angiography": Habits(0.15, (0.9, 1.3), 0.1, 0.02, marks=("text", "arrow")),
    "endoscopy": Habits(ANY_WAY_UP, (0.85, 1.25), 0.1, 0.03, 0.2, 0.15, 0.05, marks=("text", "arrow")),
    "photo": Habits(0.12, (0.9, 1.25), 0.08, 0.02, 0.2, 0.15, 0.06, marks=("arrow",)),
}
MARKED = 0.25  # fraction of pictures with artefacts


def draw(case: Case, take_seed: int, size: int = SIZE) -> np.ndarray:
    """One picture of the case: uint8 (size, size, 3), the same bytes on every machine."""
    rng = np.random.default_rng(take_seed)
    habits = HABITS.get(case.view.look, Habits())
    grid = _posed(habits, rng, size)
    scene = Scene(case, grid, SCENES[case.view.name](case, grid))
    picture = LOOKS[case.view.look](scene, rng)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    picture = _passed_on(_acquired(picture, habits, rng), rng)
    if habits.tint and picture.shape[2] == 1:
        picture = picture * _white_balance(habits, rng)
    pixels = (np.minimum(np.maximum(picture, np.float32(0)), np.float32(1)) * np.float32(255) + np.float32(0.5)).astype(
        np.uint8
    )
    pixels = np.array(np.broadcast_to(pixels, (size, size, 3)))
    if rng.random() < MARKED:
        _mark(pixels, case, habits, rng)
    return pixels


def _posed(habits: Habits, rng: np.random.Generator, size: int) -> Grid:
    """The grid of one take: placed by hand, so turned and shifted a little, and softly deformed."""
    grid = Grid.posed(
        size,
        rotation=between(rng, -habits.rotation, habits.rotation),
        zoom=between(rng, *habits.zoom),
        shift=(between(rng, -habits.shift, habits.shift), between(rng, -habits.shift, habits.shift)),
    )
    amount = np.float32(habits.warp)
    return grid.warped(value_noise(rng, size, 3) * amount, value_noise(rng, size, 3) * amount)


def _acquired(picture: Array, habits: Habits, rng: np.random.Generator) -> Array:
    """Tone curve, contrast, colour cast, soft focus and inversion of the apparatus."""
    step = round(8 * between(rng, -habits.gamma, habits.gamma) / 0.25)
    gain = between(rng, 1 - habits.contrast, 1 + habits.contrast)
    pivot = between(rng, 0.2, 0.5)
    tones = _tone_table(step) * np.float32(gain) + np.float32(pivot * (1 - gain))
    if rng.random() < habits.inverted:
        tones = np.float32(1) - tones
    picture = tones.take((picture * np.float32(1023)).astype(np.intp), mode="clip")
    if picture.shape[2] == 3 and habits.tint:
        picture = picture * _white_balance(habits, rng)
    return blurred(picture) if rng.random() < 0.15 else picture


def _white_balance(habits: Habits, rng: np.random.Generator) -> Array:
    """Gains of red, green and blue around 1."""
    return np.array([between(rng, 1 - habits.tint, 1 + habits.tint) for _ in range(3)], dtype=np.float32)


@cache
def _tone_table(step: int) -> Array:
    """Tone curve x ** (2 ** (step / 32)) at 1024 levels; in steps, so that few tables are ever made."""
    exponent = 2 ** (step / 32)
    return np.array([(i / 1023) ** exponent for i in range(1024)], dtype=np.float32)


def _passed_on(picture: Array, rng: np.random.Generator) -> Array:
    """What printing and cutting out did to it: at times a margin, a few hard steps of brightness or a coarse copy."""
    luck = rng.random()
    size = picture.shape[0]
    if luck < 0.05:  # a margin, seldom white
        shade = np.float32(1.0 if rng.random() < 0.3 else 0.0)
        across = rng.random() < 0.5
        for end in (0, 1):
            width = int(rng.integers(1, max(2, size // 12)))
            strip = slice(0, width) if end == 0 else slice(size - width, size)
            picture[(slice(None), strip) if across else strip] = shade
    elif luck < 0.11:  # copied at half the size and blown up again
        half = (picture[0::2, 0::2] + picture[1::2, 0::2] + picture[0::2, 1::2] + picture[1::2, 1::2]) * np.float32(
            0.25
        )
        picture = blurred(np.repeat(np.repeat(half, 2, axis=0), 2, axis=1)[:size, :size])
    return picture


# --- marks that people leave on pictures, drawn as bitmaps --------------------------------------------------------

LETTERS: dict[str, tuple[str, ...]] = {
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
}
WHITE, BLACK, YELLOW = (245, 245, 245), (15, 15, 15), (250, 225, 40)
TRUNK = ("Chest", "Abdomen", "Pelvic cavity", "Brain", "Gastrointestinal tract", "Oral cavity")


def _mark(pixels: np.ndarray, case: Case, habits: Habits, rng: np.random.Generator) -> None:
    """Draw one or two of the marks that are usual on such pictures, in place."""
    bright = case.view.look in ("histology", "smear")
    ink = BLACK if bright else WHITE
    if rng.random() < 0.15:
        ink = YELLOW
    for _ in range(1 if rng.random() < 0.7 else 2):
        name = habits.marks[int(rng.integers(len(habits.marks)))]
        MARKS[name](pixels, case, ink, rng)


def _scaled(pixels: np.ndarray) -> int:
    """Side of a dot of ink in pixels."""
    return max(1, round(pixels.shape[0] / 128))


def _stamp(pixels: np.ndarray, x: int, y: int, rows: tuple[str, ...], ink: tuple[int, int, int], dot: int) -> None:
    for j, row in enumerate(rows):
        for i, on in enumerate(row):
            if on == "#":
                pixels[y + j * dot : y + (j + 1) * dot, x + i * dot : x + (i + 1) * dot] = ink


def _side_letter(pixels: np.ndarray, case: Case, ink: tuple[int, int, int], rng: np.random.Generator) -> None:
    """L or R; the patient's right is on the left of the picture. A limb's letter says which limb it is."""
    n = pixels.shape[0]
    dot = _scaled(pixels) * (2 if rng.random() < 0.3 else 1)
    right = rng.random() < 0.5
    letter = ("L" if right else "R") if case.view.part in TRUNK else case.side[0].upper()
    margin = int(between(rng, 0.03, 0.1) * n)
    y = margin if rng.random() < 0.6 else int(between(rng, 0.3, 0.6) * n)
    x = n - margin - 5 * dot if right else margin
    _stamp(pixels, x, y, LETTERS[letter], ink, dot)


def _text_lines(pixels: np.ndarray, case: Case, ink: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Writing too small to read, in one corner or two."""
    n, dot = pixels.shape[0], _scaled(pixels)
    corners = [(a, b) for a in (0, 1) for b in (0, 1)]
    for k in range(1 + int(rng.integers(2))):
        right, low = corners[(int(rng.integers(4)) + k) % 4]
        for line in range(1 + int(rng.integers(4))):
            y = 3 * dot + line * 5 * dot
            y = n - y - 4 * dot if low else y
            width = int(rng.integers(4, 12))
            x = n - 3 * dot - width * 3 * dot if right else 3 * dot
            for i in range(width):
                _tiny_glyph(pixels, x + i * 3 * dot, y, ink, dot, rng)


def _tiny_glyph(
    pixels: np.ndarray, x: int, y: int, ink: tuple[int, int, int], dot: int, rng: np.random.Generator
) -> None:
    """Two by three dots that could be a letter; one in six is a gap between words."""
    bits = int(rng.integers(12, 64))
    if rng.random() < 0.16:
        return
    for k in range(6):
        if bits >> k & 1:
            top, left = y + k // 2 * dot, x + k % 2 * dot
            pixels[top : top + dot, left : left + dot] = ink


def _scale_bar(pixels: np.ndarray, case: Case, ink: tuple[int, int, int], rng: np.random.Generator) -> None:
    """A bar in a lower corner, or a ruler's ticks along the right edge of a scan."""
    n, dot = pixels.shape[0], _scaled(pixels)
    if case.view.look in ("ct", "ultrasound"):
        x, step = n - 4 * dot, int(between(rng, 0.06, 0.11) * n)
        for k, y in enumerate(range(n // 8, n - n // 8, step)):
            pixels[y : y + dot, x - (3 if k % 5 == 0 else 1) * dot : x + dot] = ink
        return
    length = int(between(rng, 0.12, 0.25) * n)
    thick = dot * int(rng.integers(1, 4))
    y = n - int(between(rng, 0.05, 0.09) * n)
    x = n - length - int(0.06 * n) if rng.random() < 0.7 else int(0.06 * n)
    pixels[y - thick : y, x : x + length] = ink
    if rng.random() < 0.6:
        for i in range(int(rng.integers(3, 6))):
            _tiny_glyph(pixels, x + i * 3 * dot, y - thick - 5 * dot, ink, dot, rng)


def _arrow(pixels: np.ndarray, case: Case, ink: tuple[int, int, int], rng: np.random.Generator) -> None:
    """An arrow, or only its head, that points at something near the middle."""
    grid = Grid.posed(pixels.shape[0])
    tip_x, tip_y = between(rng, -0.5, 0.5), between(rng, -0.5, 0.5)
    local = grid.placed(tip_x, tip_y, between(rng, -math.pi, math.pi))
    head, wide = between(rng, 0.1, 0.16), between(rng, 0.35, 0.6)
    length = head if rng.random() < 0.35 else head * between(rng, 1.7, 3.0)
    across = np.abs(local.y)
    in_head = (local.x > 0) & (local.x < np.float32(head)) & (across < local.x * np.float32(wide))
    in_shaft = (local.x > np.float32(head * 0.7)) & (local.x < np.float32(length)) & (across < np.float32(head * 0.14))
    pixels[in_head | in_shaft] = ink


def _crosses(pixels: np.ndarray, case: Case, ink: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Two caliper crosses with a dotted line between them."""
    n, dot = pixels.shape[0], _scaled(pixels)
    x, y = between(rng, 0.3, 0.6) * n, between(rng, 0.35, 0.6) * n
    dx, dy = between(rng, 0.05, 0.25) * n, between(rng, -0.15, 0.15) * n
    for t in (0.0, 1.0):
        cx, cy = int(x + t * dx), int(y + t * dy)
        pixels[cy : cy + dot, cx - 2 * dot : cx + 3 * dot] = ink
        pixels[cy - 2 * dot : cy + 3 * dot, cx : cx + dot] = ink
    dots = max(int(math.sqrt(dx * dx + dy * dy) / (4 * dot)), 1)
    for k in range(1, dots):
        cx, cy = int(x + dx * k / dots), int(y + dy * k / dots)
        pixels[cy : cy + dot, cx : cx + dot] = ink


Marker = Callable[[np.ndarray, Case, tuple[int, int, int], np.random.Generator], None]
MARKS: dict[str, Marker] = {
    "side": _side_letter,
    "text": _text_lines,
    "scale": _scale_bar,
    "arrow": _arrow,
    "cross": _crosses,
}
