"""Cells under the microscope: stained sections of tissue, blood smears, and cells in culture."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from clipdemo.sources.phantom.anatomy.shapes import Point, Segment, everywhere, ring_of_points
from clipdemo.sources.phantom.anatomy.spots import REACH, Spots, directions, flow, noise
from clipdemo.sources.phantom.canvas import (
    Array,
    Grid,
    Silhouette,
    between,
    blob,
    ellipse,
    half_plane,
    intersection,
    strokes,
)
from clipdemo.sources.phantom.catalogue import Case
from clipdemo.sources.phantom.scene import Layer, anatomy_rng

# Stained sections --------------------------------------------------------------------------------------------------


def histology(case: Case, g: Grid) -> list[Layer]:
    """A stained section: glands, covering epithelium, fibres, fat or a solid organ, with their nuclei."""
    rng = anatomy_rng(case)
    pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
    spots = Spots(rng, between(rng, 0.085, 0.125), 0.7)
    layers = pattern(g, rng, spots)
    if case.finding == "necrosis":
        layers += _necrosis(g, rng, spots)
    elif case.finding == "tumour infiltration":
        layers += _infiltration(g, rng, spots)
    layers.append(Layer(spots.shape(g), "nucleus", 0.018, between(rng, 0.75, 1.0)))
    if case.finding == "inflammation":
        swarm = _lymphocytes(g, rng)
        for layer in layers:
            if layer.tissue in ("background", "fat") and layer.strength > 0.7:
                swarm = np.maximum(swarm, np.float32(0.01) - layer.shape)
        layers.append(Layer(swarm, "nucleus", 0.018))
    return layers


def _glands(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """Round or cut-along glands: a rim of epithelium with nuclei at its foot around an empty lumen."""
    glands = Spots(rng, between(rng, 0.6, 0.95), 0.35)
    n = glands.n
    radius = np.float32(glands.spacing) * noise(rng, n, 0.34, 0.48)
    glands.sized(radius, noise(rng, n, 1.0, 1.0 + between(rng, 0.05, 0.6)), flow(rng, n, 1.5))
    glands.keep(noise(rng, n, 0, 1) < np.float32(between(rng, 0.7, 1.0)))
    edge = glands.shape(g)
    rim = between(rng, 0.1, 0.17)
    at, step = spots.grid, 0.02
    depth = glands.shape(at)
    slope_x = glands.shape(Grid(at.x + np.float32(step), at.y, at.pixel)) - depth
    slope_y = glands.shape(Grid(at.x, at.y + np.float32(step), at.pixel)) - depth
    foot = (depth < np.float32(-0.015)) & (depth > np.float32(-0.75 * rim))
    stroma = (depth > np.float32(0.02)) & (noise(rng, spots.n, 0, 1) < np.float32(between(rng, 0.15, 0.45)))
    fx, fy = flow(rng, spots.n)
    ux, uy = directions(np.where(foot, slope_x, fx), np.where(foot, slope_y, fy))
    spots.keep(foot | stroma)
    size = np.float32(spots.spacing) * noise(rng, spots.n, 0.24, 0.36)
    spots.sized(
        np.where(foot, size, size * np.float32(0.6)), np.where(foot, np.float32(1.5), np.float32(2.2)), (ux, uy)
    )
    layers = [
        Layer(everywhere(g), "tendon"),
        Layer(edge, "cytoplasm", 0.03),
        Layer(edge + np.float32(rim * between(rng, 1.2, 1.7)), "background", 0.04, between(rng, 0.75, 1.0)),
    ]
    if rng.random() < 0.5:  # goblet cells
        goblets = Spots(rng, 0.11, 0.5)
        inside = glands.shape(goblets.grid)
        goblets.keep((inside < np.float32(-0.6 * rim)) & (inside > np.float32(-1.5 * rim)))
        goblets.sized(noise(rng, goblets.n, 0.03, 0.05))
        layers.append(Layer(goblets.shape(g), "background", 0.025, 0.65))
    return layers


def _epithelium(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """A covering of many layers of cells with pegs into the tissue below; flat towards the free edge."""
    waves = [(between(rng, 2, 5), between(rng, 0, 6.28), between(rng, 0.03, 0.1)) for _ in range(3)]
    foot_table = [sum(a * math.sin(f * x + p) for f, p, a in waves) for x in (i / 40 - REACH for i in range(194))]
    foot_table = np.array(foot_table, dtype=np.float32)
    top, thick = between(rng, -0.9, -0.3), between(rng, 0.5, 0.95)

    def foot_of(at: Grid) -> Array:
        i = ((at.x + np.float32(REACH)) * np.float32(40)).astype(np.int32)
        return at.y - foot_table[np.minimum(np.maximum(i, 0), 193)] - np.float32(top + thick)

    at = spots.grid
    below = foot_of(at)
    height = (at.y - np.float32(top)) * np.float32(1 / thick)  # 0 at the free edge, about 1 at the foot
    inside = (below < 0) & (height > np.float32(0.12))
    stroma = (below > np.float32(0.03)) & (noise(rng, spots.n, 0, 1) < np.float32(between(rng, 0.2, 0.4)))
    crowd = noise(rng, spots.n, 0, 1) < np.minimum(height * height + np.float32(0.35), np.float32(1))
    fx, fy = flow(rng, spots.n)
    ux, uy = np.where(inside, np.float32(1), fx), np.where(inside, np.float32(0), fy)
    spots.keep((inside & crowd) | stroma)
    size = np.float32(spots.spacing) * noise(rng, spots.n, 0.22, 0.34)
    flat = np.float32(1) + np.maximum(np.float32(0.7) - height, np.float32(0)) * np.float32(2.2)
    spots.sized(
        np.where(inside, size / np.sqrt(flat), size * np.float32(0.6)),
        np.where(inside, flat, np.float32(2.2)),
        (ux, uy),
    )
    free = half_plane(g, 0, top, -math.pi / 2)
    keratin = between(rng, 0.03, 0.14)
    return [
        Layer(everywhere(g), "tendon"),
        Layer(foot_of(g), "cytoplasm", 0.03),
        Layer(-free - np.float32(keratin), "muscle", 0.03, 0.8),
        Layer(-free, "background", 0.03),
    ]


def _fibres(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """Bundles of muscle or collagen with long thin nuclei, and a few vessels with blood in them."""
    ux, uy = flow(rng, spots.n, between(rng, 0.4, 2.0))
    spots.keep(noise(rng, spots.n, 0, 1) < np.float32(between(rng, 0.35, 0.75)))
    spots.sized(np.float32(spots.spacing) * noise(rng, spots.n, 0.13, 0.19), noise(rng, spots.n, 2.5, 4.2), (ux, uy))
    layers = [Layer(everywhere(g), "muscle" if rng.random() < 0.6 else "tendon")]
    clefts = Spots(rng, between(rng, 0.3, 0.5), 0.7)
    cx, cy = ux[:: max(1, spots.n // clefts.n)], uy[:: max(1, spots.n // clefts.n)]
    cx, cy = (np.resize(c[:, :: max(1, spots.n // clefts.n)], (clefts.n, clefts.n)) for c in (cx, cy))
    clefts.keep(noise(rng, clefts.n, 0, 1) < np.float32(0.6))
    clefts.sized(np.float32(clefts.spacing) * noise(rng, clefts.n, 0.02, 0.06), noise(rng, clefts.n, 6, 10), (cx, cy))
    layers.append(Layer(clefts.shape(g), "background", 0.04, 0.8))
    if rng.random() < 0.6:
        layers += _vessel(g, rng, spots)
    return layers


def _vessel(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """A small vessel cut across: wall, lumen and red cells."""
    outline = ring_of_points(
        rng, (between(rng, -0.7, 0.7), between(rng, -0.7, 0.7)), *(between(rng, 0.15, 0.35) for _ in "xy"), 0.15
    )
    lumen = blob(g, outline)
    spots.keep(spots.kept & (blob(spots.grid, outline) > 0))
    cells = Spots(rng, 0.085, 0.5)
    cells.keep(noise(rng, cells.n, 0, 1) < np.float32(between(rng, 0.2, 0.9)))
    cells.sized(noise(rng, cells.n, 0.03, 0.036))
    red = intersection(cells.shape(g), lumen + np.float32(0.03))
    return [
        Layer(lumen - np.float32(0.05), "muscle", 0.03, 0.8),
        Layer(lumen, "background", 0.025),
        Layer(red, "blood", 0.02),
    ]


def _fat_tissue(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """Fat cells, empty and close together, with a strand of fibres between them."""
    cells = Spots(rng, between(rng, 0.3, 0.45), 0.45)
    cells.sized(
        np.float32(cells.spacing) * noise(rng, cells.n, 0.46, 0.56),
        noise(rng, cells.n, 1.0, 1.15),
        flow(rng, cells.n, 2.0),
    )
    angle, width = between(rng, 0, math.pi), between(rng, 0.15, 0.4)
    strand = np.abs(half_plane(g, between(rng, -0.4, 0.4), 0, angle)) - np.float32(width)
    cells.keep(np.abs(half_plane(cells.grid, 0, 0, angle)) > np.float32(width * between(rng, 0.3, 1.2)))
    gaps = cells.shape(spots.grid)
    ux, uy = np.float32(-math.sin(angle)), np.float32(math.cos(angle))
    one = np.ones_like(spots.x)
    spots.keep((gaps > np.float32(0.0)) & (noise(rng, spots.n, 0, 1) < np.float32(between(rng, 0.3, 0.6))))
    spots.sized(
        np.float32(spots.spacing) * noise(rng, spots.n, 0.15, 0.24), noise(rng, spots.n, 1.5, 3), (one * ux, one * uy)
    )
    return [Layer(everywhere(g), "tendon"), Layer(strand, "muscle", 0.2, 0.5), Layer(cells.shape(g), "fat", 0.03)]


def _solid_organ(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """Liver and the like: plump cells, each with a round nucleus, clefts between cords, a central vein."""
    spots.keep(noise(rng, spots.n, 0, 1) < np.float32(between(rng, 0.5, 0.8)))
    spots.sized(np.float32(spots.spacing) * noise(rng, spots.n, 0.24, 0.31))
    clefts = Spots(rng, between(rng, 0.22, 0.3), 0.8)
    clefts.keep(noise(rng, clefts.n, 0, 1) < np.float32(0.7))
    clefts.sized(
        np.float32(clefts.spacing) * noise(rng, clefts.n, 0.05, 0.1),
        noise(rng, clefts.n, 3, 6),
        flow(rng, clefts.n, 1.5),
    )
    outline = ring_of_points(rng, (between(rng, -0.6, 0.6), between(rng, -0.6, 0.6)), 0.22, 0.2, 0.15)
    vein = blob(g, outline)
    spots.keep(spots.kept & (blob(spots.grid, outline) > np.float32(0.01)))
    return [
        Layer(everywhere(g), "liver"),
        Layer(clefts.shape(g), "background", 0.04, 0.75),
        Layer(vein, "background", 0.03),
    ]


PATTERNS = (_glands, _glands, _epithelium, _fibres, _fat_tissue, _solid_organ)


def _necrosis(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """A dead patch: pink, without outlines, with nuclear dust only."""
    dead = region(rng, between(rng, 0.55, 0.85))
    gone = dead(spots.grid) < 0
    dust = gone & (noise(rng, spots.n, 0, 1) < np.float32(0.4))
    spots.keep((spots.kept & ~gone) | dust)
    shrunk = np.float32(5)
    for name in ("xx", "yy", "xy"):
        table = getattr(spots, name)
        setattr(spots, name, np.where(gone, table * shrunk, table))
    return [Layer(dead(g), "marrow", 0.12, 0.95)]


def _infiltration(g: Grid, rng: np.random.Generator, spots: Spots) -> list[Layer]:
    """Crowded large nuclei of all sizes where there was order."""
    grown = region(rng, between(rng, 0.7, 1.2))
    nests = Spots(rng, between(rng, 0.3, 0.6), 0.8)
    nests.sized(
        np.float32(nests.spacing) * noise(rng, nests.n, 0.38, 0.6), noise(rng, nests.n, 1, 1.8), flow(rng, nests.n, 2.0)
    )
    ill = (grown(spots.grid) < 0) & (nests.shape(spots.grid) < 0)
    spots.keep(
        spots.kept & (grown(spots.grid) > 0) | ill | (spots.kept & (noise(rng, spots.n, 0, 1) < np.float32(0.3)))
    )
    size = np.float32(spots.spacing) * noise(rng, spots.n, 0.3, 0.62)
    old = spots.xx, spots.yy, spots.xy
    spots.sized(size, noise(rng, spots.n, 1, 1.5), directions(noise(rng, spots.n, -1, 1), noise(rng, spots.n, -1, 1)))
    spots.round = False
    spots.xx, spots.yy, spots.xy = (
        np.where(ill, a, b) for a, b in zip((spots.xx, spots.yy, spots.xy), old, strict=True)
    )
    patch = grown(g)
    return [
        Layer(patch, "tendon", 0.3, 0.85),
        Layer(intersection(patch, nests.shape(g)), "mass", 0.06, 0.85),
    ]


def _lymphocytes(g: Grid, rng: np.random.Generator) -> Array:
    """Small round dark cells in swarms."""
    cells = Spots(rng, 0.075, 0.8)
    swarm = np.minimum(
        region(rng, between(rng, 0.35, 0.7))(cells.grid), region(rng, between(rng, 0.3, 0.6))(cells.grid)
    )
    dense = between(rng, 0.7, 0.95)
    kept = noise(rng, cells.n, 0, 1) < np.where(swarm < 0, np.float32(dense), np.float32(dense * 0.12))
    cells.keep(kept)
    cells.sized(noise(rng, cells.n, 0.024, 0.031))
    return cells.shape(g)


def region(rng: np.random.Generator, wide: float) -> Callable[[Grid], Array]:
    """A patch with an uneven outline near the middle, to be evaluated on pixels and on lattices alike."""
    points = ring_of_points(
        rng, (between(rng, -0.3, 0.3), between(rng, -0.3, 0.3)), wide, wide * between(rng, 0.7, 1.2), 0.3
    )
    return lambda g: blob(g, points)


# Smears ------------------------------------------------------------------------------------------------------------


def smear(case: Case, g: Grid) -> list[Layer]:
    """Blood spread on glass: red cells by the dozen, few white cells, platelets."""
    rng = anatomy_rng(case)
    red = Spots(rng, between(rng, 0.25, 0.4), between(rng, 0.5, 0.8))
    red.keep(noise(rng, red.n, 0, 1) < np.float32(between(rng, 0.55, 0.95)))
    red.sized(noise(rng, red.n, 0.095, 0.125), noise(rng, red.n, 1.0, between(rng, 1.05, 1.4)), flow(rng, red.n, 3.0))
    plates = Spots(rng, 0.33, 0.9)
    plates.keep(noise(rng, plates.n, 0, 1) < np.float32(between(rng, 0.05, 0.3)))
    plates.sized(noise(rng, plates.n, 0.018, 0.032))
    blasts = case.finding == "blasts"
    where = _apart(
        rng, int(rng.integers(4, 8)) if blasts else int(rng.integers(0 if case.finding != "normal" else 1, 4)), 0.45
    )
    whites = [_white_cell(g, rng, at, blasts and rng.random() < 0.9) for at in where]
    red_shape = red.shape(g)
    for body, _ in whites:
        red_shape = np.maximum(red_shape, np.float32(0.03) - body)
    layers = [Layer(red_shape, "blood", 0.03), Layer(plates.shape(g), "nucleus", 0.02, 0.6)]
    if case.finding == "parasites":
        layers += _parasites(g, rng, red)
    for body, nucleus in whites:
        layers += [Layer(body, "cytoplasm", 0.025), Layer(nucleus, "nucleus", 0.025)]
    return layers


def _apart(rng: np.random.Generator, count: int, distance: float) -> list[Point]:
    """Up to `count` points of the middle of the picture that keep their distance."""
    found: list[Point] = []
    for _ in range(4 * count):
        p = (between(rng, -0.85, 0.85), between(rng, -0.85, 0.85))
        if len(found) < count and all(math.dist(p, q) > distance for q in found):
            found.append(p)
    return found


def _white_cell(g: Grid, rng: np.random.Generator, at: Point, blast: bool) -> tuple[Array, Array]:
    """A white cell and its nucleus: of two to five lobes, round in a lymphocyte, huge in a blast."""
    kind = "blast" if blast else ("lobes", "lobes", "lymphocyte", "kidney")[int(rng.integers(4))]
    r = between(rng, 0.2, 0.27) * {"blast": 1.15, "lobes": 1.0, "lymphocyte": 0.72, "kidney": 1.15}[kind]
    outline = ring_of_points(rng, at, r, r * between(rng, 0.85, 1.1), 0.06)
    body = blob(g, outline)
    if kind in ("blast", "lymphocyte"):
        fill = between(rng, 0.78, 0.9)
        return body, ellipse(
            g, at[0] + 0.06 * r, at[1], r * fill, r * fill * between(rng, 0.82, 1.0), between(rng, 0, 3)
        )
    lobes = Silhouette(g)
    n = 3 if kind == "kidney" else int(rng.integers(2, 6))
    start, arc = between(rng, 0, 6.28), between(rng, 2.2, 4.2)
    spots = [start + arc * (i / max(n - 1, 1)) for i in range(n)]
    for t in spots:
        reach = r * (0.4 if kind == "kidney" else 0.45)
        size = r * (0.4 if kind == "kidney" else between(rng, 0.24, 0.34))
        blend = r * (0.6 if kind == "kidney" else 0.12)
        lobes.ellipse(at[0] + reach * math.cos(t), at[1] + reach * math.sin(t), size, size * 0.85, t, blend)
    return body, lobes.shape


def _parasites(g: Grid, rng: np.random.Generator, red: Spots) -> list[Layer]:
    """Rings with a dot inside some of the red cells."""
    ring = Spots.__new__(Spots)
    ring.__dict__.update(red.__dict__)
    ring.x = red.x + noise(rng, red.n, -0.025, 0.025)
    ring.y = red.y + noise(rng, red.n, -0.025, 0.025)
    ring.keep(red.kept & (noise(rng, red.n, 0, 1) < np.float32(between(rng, 0.3, 0.6))))
    size = noise(rng, red.n, 0.036, 0.05)
    ring.sized(size)
    rings = ring.shape(g)
    ring.x = ring.x + np.float32(0.045)
    ring.sized(size * np.float32(0.4))
    dots = ring.shape(g)
    return [Layer(np.abs(rings) - np.float32(0.012), "vein", 0.02, 0.85), Layer(dots, "nucleus", 0.015)]


# Cells in culture --------------------------------------------------------------------------------------------------


def fluorescence(case: Case, g: Grid) -> list[Layer]:
    """Cells in culture: nuclei, cell bodies and actin; single spread-out cells or a closed sheet."""
    rng = anatomy_rng(case)
    sheet = rng.random() < 0.4
    spacing = between(rng, 0.34, 0.5) if sheet else between(rng, 0.55, 0.85)
    cells = Spots(rng, spacing, 0.45 if sheet else 0.6)
    size = noise(rng, cells.n, 0.26, 0.34) * np.float32(spacing) if sheet else noise(rng, cells.n, 0.11, 0.16)
    along = flow(rng, cells.n, 2.0)
    longer = noise(rng, cells.n, 1.0, 1.5)
    cells.keep(noise(rng, cells.n, 0, 1) < np.float32(0.97 if sheet else between(rng, 0.6, 0.95)))
    ill = cells.kept & (
        noise(rng, cells.n, 0, 1) < np.float32(0.0 if case.finding == "normal" else between(rng, 0.2, 0.5))
    )
    everyone = cells.kept
    if sheet:
        cells.sized(np.full_like(size, 0.5 * spacing))
        wall = cells.borders(g)
        layers = [
            Layer(np.float32(0.02) - wall, "cytoplasm", 0.06, 0.7),
            Layer(wall - np.float32(0.008), "tendon", 0.03, 0.9),
        ]
    else:
        cells.sized(np.float32(spacing) * noise(rng, cells.n, 0.27, 0.38), noise(rng, cells.n, 1.4, 2.0), along)
        layers = [
            Layer(cells.shape(g), "cytoplasm", 0.16, 0.7),
            Layer(_filaments(g, rng, cells, along), "tendon", 0.02, 0.9),
        ]
    cells.keep(everyone & ~ill)
    cells.sized(size, longer, along)
    layers.append(Layer(cells.shape(g), "nucleus", 0.04, 0.9))
    if ill.any():
        layers.append(_ill_nuclei(g, rng, cells, ill, size, case.finding))
    return layers


def _filaments(g: Grid, rng: np.random.Generator, cells: Spots, along: tuple[Array, Array]) -> Array:
    """Fine bundles along each cell, closer together at its ends."""
    lines: list[Segment] = []
    near = (np.abs(cells.x) < 1.5) & (np.abs(cells.y) < 1.5) & cells.kept
    rows, columns = near.nonzero()
    for j, i in zip(rows.tolist(), columns.tolist(), strict=True):
        x, y = float(cells.x[j, i]), float(cells.y[j, i])
        ux, uy = float(along[0][j, i]), float(along[1][j, i])
        half, wide = cells.spacing * between(rng, 0.4, 0.62), cells.spacing * between(rng, 0.13, 0.24)
        for _ in range(int(rng.integers(5, 10))):
            off, start, end = between(rng, -1, 1), between(rng, -1, -0.2), between(rng, 0.2, 1)
            ends = []
            for t in (start, 0.5 * (start + end), end):
                across = off * wide * (1 - 0.6 * t * t)
                ends.append((x + t * half * ux - across * uy, y + t * half * uy + across * ux))
            lines += [(*ends[0], *ends[1], 0.005, 0.009), (*ends[1], *ends[2], 0.009, 0.005)]
    return strokes(g, lines)


def _ill_nuclei(g: Grid, rng: np.random.Generator, cells: Spots, ill: Array, size: Array, finding: str) -> Layer:
    """Bright broken-up nuclei of dying cells, or the bars and pairs of dividing ones."""
    cells.keep(ill)
    pairs = directions(noise(rng, cells.n, -1, 1), noise(rng, cells.n, -1, 1))
    apart = noise(rng, cells.n, 0.0, 0.8 if finding == "mitosis" else 1.0) * size
    across = (-pairs[1], pairs[0])
    x, y = cells.x, cells.y
    pieces = []
    turns = (1, -1) if finding == "mitosis" else (1, -1, 0.4)
    for k, turn in enumerate(turns):
        to = pairs if k < 2 else across
        cells.x, cells.y = x + to[0] * apart * np.float32(turn), y + to[1] * apart * np.float32(turn)
        if finding == "mitosis":
            cells.sized(size * np.float32(0.42), np.float32(2.3), across)
        else:
            cells.sized(size * noise(rng, cells.n, 0.25, 0.5))
        pieces.append(cells.shape(g))
    out = pieces[0]
    for piece in pieces[1:]:
        out = np.minimum(out, piece)
    return Layer(out, "calcium", 0.03)
