"""The eye: its back from the front, as a photograph and as an angiogram, and a section through the retina."""

from __future__ import annotations

import math

import numpy as np

from clipdemo.sources.phantom.anatomy.shapes import Point, Segment, branch, everywhere, ring_of_points
from clipdemo.sources.phantom.canvas import Array, Grid, Silhouette, between, blob, ellipse, strokes
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# The back of the eye -----------------------------------------------------------------------------------------------


def fundus(case: Case, g: Grid) -> list[Layer]:
    """The back of the eye: optic disc on the nasal side, macula, arteries and veins."""
    rng = anatomy_rng(case)
    g, disc, macula = _fundus_frame(case, g, rng)
    layers = _fundus_layers(g, rng, disc, macula)
    if case.finding == "exudates":
        layers.append(_exudates(g, rng, macula))
    elif case.finding == "drusen":
        layers.append(_drusen_spots(g, rng, macula))
    elif case.finding == "haemorrhage":
        layers.append(_retinal_bleeding(g, rng))
    return layers


def angiography(case: Case, g: Grid) -> list[Layer]:
    """The same, nearer: the look fills the vessels with dye or takes an infrared picture."""
    rng = anatomy_rng(case)
    g, disc, macula = _fundus_frame(case, g, rng)
    layers = _fundus_layers(g, rng, disc, macula)
    if case.finding == "leakage":
        at = (macula[0] + between(rng, -0.35, 0.35), macula[1] + between(rng, -0.3, 0.3))
        leak = blob(g, ring_of_points(rng, at, between(rng, 0.1, 0.28), between(rng, 0.1, 0.25), 0.35))
        layers.append(Layer(leak, "fluid", 0.12))
    elif case.finding == "haemorrhage":
        layers.append(_retinal_bleeding(g, rng))
    return layers


def _fundus_frame(case: Case, g: Grid, rng: np.random.Generator) -> tuple[Grid, Point, Point]:
    """The grid with the temporal side on the left (a right eye's), and where disc and macula lie."""
    if case.side == "left":
        g = g.mirrored()
    centred = rng.random()  # on the macula, on the disc, or between
    shift = 0.0 if centred < 0.5 else (-0.45 if centred < 0.75 else 0.2)
    disc = (between(rng, 0.42, 0.55) + shift, between(rng, -0.06, 0.04))
    macula = (disc[0] - between(rng, 0.55, 0.66), disc[1] + between(rng, 0.02, 0.1))
    return g, disc, macula


def _fundus_layers(g: Grid, rng: np.random.Generator, disc: Point, macula: Point) -> list[Layer]:
    r = between(rng, 0.105, 0.15)
    tall = between(rng, 1.0, 1.2)
    cup = r * between(rng, 0.25, 0.65)
    veins: list[Segment] = []
    arteries: list[Segment] = []
    for up in (-1, 1):
        for temporal in (True, False):
            for tree, width in ((veins, 0.019), (arteries, 0.014)):
                _arcade(tree, rng, disc, up, temporal, width * between(rng, 0.85, 1.2))
    fovea = ellipse(g, *macula, between(rng, 0.1, 0.2), between(rng, 0.1, 0.18))
    return [
        Layer(everywhere(g), "gut"),
        Layer(fovea, "muscle", 0.3, 0.6),
        Layer(ellipse(g, *disc, r, r * tall), "fat", 0.03),
        Layer(ellipse(g, disc[0] - 0.1 * r, disc[1], cup, cup * tall), "tendon", 0.05, 0.9),
        Layer(strokes(g, veins), "vein", 0.016),
        Layer(strokes(g, arteries), "artery", 0.014, 0.85),
    ]


def _arcade(tree: list[Segment], rng: np.random.Generator, disc: Point, up: int, temporal: bool, width: float) -> None:
    """One of the main vessels out of the disc, bending round the macula or away from it, with its branches."""
    x, y = disc[0] + between(rng, -0.03, 0.03), disc[1] + 0.02 * up
    heading = up * math.pi / 2 + (0.25 if temporal else -0.5) * up + between(rng, -0.25, 0.25)
    bend = (between(rng, 0.22, 0.4) if temporal else between(rng, -0.25, 0.05)) * up
    steps = 11 if temporal else 8
    for i in range(steps):
        length = between(rng, 0.09, 0.16)
        nx, ny = x + length * math.cos(heading), y + length * math.sin(heading)
        tree.append((x, y, nx, ny, width * (1 - 0.06 * i), width * (1 - 0.06 * (i + 1))))
        x, y = nx, ny
        heading += 0.62 * bend * (1.0 if i < 7 else 0.3) + between(rng, -0.16, 0.16)
        if i >= 1 and rng.random() < 0.4:
            branch(tree, rng, x, y, heading + between(rng, 0.5, 1.0) * (1 if rng.random() < 0.5 else -1), width * 0.6)


def _exudates(g: Grid, rng: np.random.Generator, macula: Point) -> Layer:
    """Hard yellow specks in groups and rings near the macula."""
    specks = Silhouette(g)
    cx, cy = macula[0] + between(rng, -0.25, 0.25), macula[1] + between(rng, -0.25, 0.25)
    for _ in range(int(rng.integers(14, 28))):
        t, r = between(rng, 0, 6.28), between(rng, 0.05, 0.3)
        size = between(rng, 0.014, 0.042)
        specks.ellipse(cx + r * math.cos(t), cy + r * math.sin(t), size * between(rng, 1.0, 1.8), size, t, 0.02)
    return Layer(specks.shape, "calcium", 0.02, 0.95)


def _drusen_spots(g: Grid, rng: np.random.Generator, macula: Point) -> Layer:
    """Soft pale round spots all over the macula."""
    spots = Silhouette(g)
    for _ in range(int(rng.integers(18, 34))):
        t, r = between(rng, 0, 6.28), 0.4 * math.sqrt(rng.random())
        size = between(rng, 0.018, 0.045)
        spots.ellipse(macula[0] + r * math.cos(t), macula[1] + r * math.sin(t), size, size, 0, 0.01)
    return Layer(spots.shape, "bone", 0.045, 0.75)


def _retinal_bleeding(g: Grid, rng: np.random.Generator) -> Layer:
    """Blots and flames of blood."""
    blots = Silhouette(g)
    for _ in range(int(rng.integers(6, 15))):
        x, y = between(rng, -0.65, 0.65), between(rng, -0.65, 0.65)
        size = between(rng, 0.025, 0.09)
        if rng.random() < 0.4:
            blots.ellipse(x, y, size * 1.8, size * 0.6, math.atan2(y, x), 0.03)
        else:
            blots.ellipse(x, y, size, size * between(rng, 0.7, 1.0), 0, 0.04)
    return Layer(blots.shape, "blood", 0.035, 0.95)


# Section through the retina ----------------------------------------------------------------------------------------


COLUMNS = np.arange(104) / 30 - 1.72  # where the tables of the retina's boundaries have their entries


def retina(case: Case, g: Grid) -> list[Layer]:
    """A cut through the retina: its layers, thin at the fovea, above the choroid."""
    rng = anatomy_rng(case)
    if case.side == "left":
        g = g.mirrored()
    thick, base, bow = between(rng, 0.42, 0.58), between(rng, 0.22, 0.4), between(rng, -0.12, 0.2)
    pit = _bell(between(rng, -0.15, 0.15), between(rng, 0.2, 0.32))
    middle = between(rng, -0.2, 0.2)
    swollen = between(rng, 0.5, 0.9) * (case.finding == "oedema") * _bell(middle, between(rng, 0.35, 0.6))
    lift = 0 * COLUMNS
    if case.finding == "drusen":
        for _ in range(int(rng.integers(5, 10))):
            lift += between(rng, 0.05, 0.11) * _bell(between(rng, -0.8, 0.8), between(rng, 0.06, 0.13))
    foot = base + bow * COLUMNS * COLUMNS
    inner = 1 - (0.18 if case.finding == "oedema" else 0.9) * pit

    def level(f: float, follows_pit: float) -> np.ndarray:
        """The boundary a fraction `f` of the retina above its foot."""
        depth = thick * f * (1 - follows_pit + follows_pit * inner) * (1 + swollen * min(f * 2, 1))
        return foot - lift * (1 - 0.85 * f) - depth

    heights = {
        "top": level(1.0, 0.72),
        "nerve": level(0.9, 0.95),
        "plexus": level(0.66, 0.9),
        "nuclei": level(0.52, 0.75),
        "outer": level(0.45, 0.4),
        "segments": level(0.16, 0.0),
        "pigment": level(0.07, 0.0),
        "foot": level(0.0, 0.0),
        "membrane": foot,
        "choroid": foot + between(rng, 0.15, 0.26) + 0.06 * pit,
        "end": foot + 1.5,
    }
    at = _column_index(g)
    y = {name: _height(table, *at) for name, table in heights.items()}
    bands = [
        ("choroid", "end", "tendon", 0.25),
        ("membrane", "choroid", "vein", 0.05),
        ("foot", "membrane", "fat", 0.03),
        ("top", "foot", "nucleus", 0.03),
        ("top", "nerve", "white matter", 0.03),
        ("nerve", "plexus", "grey matter", 0.03),
        ("nuclei", "outer", "white matter", 0.03),
        ("segments", "pigment", "cartilage", 0.025),
        ("pigment", "foot", "marrow", 0.025),
    ]
    layers = []
    for upper, lower, tissue, soft in bands:
        if tissue == "fat" and case.finding != "drusen":
            continue
        layers.append(Layer(np.maximum(y[upper] - g.y, g.y - y[lower]), tissue, soft))
    if case.finding == "oedema":
        layers.append(_retinal_cysts(g, rng, middle, heights["plexus"], heights["segments"]))
    return layers


def _bell(centre: float, wide: float) -> np.ndarray:
    """A table of a bell of height 1."""
    return np.array([math.exp(-(((x - centre) / wide) ** 2)) for x in COLUMNS.tolist()])


def _column_index(g: Grid) -> tuple[Array, Array]:
    """Each pixel's entry in a table over `COLUMNS`, and how far it is on the way to the next."""
    t = np.minimum(np.maximum((g.x + np.float32(1.72)) * np.float32(30), np.float32(0)), np.float32(102))
    i = t.astype(np.intp)
    return i, t - i.astype(np.float32)


def _height(table: np.ndarray, i: Array, on: Array) -> Array:
    """A boundary's y at each pixel's x."""
    left, rise = table.astype(np.float32), (table[1:] - table[:-1]).astype(np.float32)
    return left.take(i) + rise.take(i) * on


def _retinal_cysts(g: Grid, rng: np.random.Generator, centre: float, upper: np.ndarray, lower: np.ndarray) -> Layer:
    """Dark cysts side by side in the swollen middle, at times with fluid under the retina."""
    cysts = Silhouette(g)
    n = int(rng.integers(4, 9))
    for k in range(n):
        x = centre + 0.8 * ((k + 0.5) / n - 0.5) + between(rng, -0.03, 0.03)
        column = int((x + 1.72) * 30)
        y, room = float(upper[column]), float(lower[column] - upper[column])
        cysts.ellipse(x, y + room * between(rng, 0.3, 0.6), between(rng, 0.025, 0.06), room * between(rng, 0.16, 0.34))
    if rng.random() < 0.4:
        cysts.ellipse(
            centre, float(lower[int((centre + 1.72) * 30)]), between(rng, 0.2, 0.4), between(rng, 0.05, 0.1), 0, 0.02
        )
    return Layer(cysts.shape, "cyst", 0.03)
