"""An embedding map as the browser draws it: groups of points, what hovering shows, and what somebody drew round.

Points are written as pixels of one image, on the browser's processor (`assets/map.js`), since a machine without a
graphics card must move them too. benchmarks/embedding_map.py says what that is worth, in a headless Chromium on 2 cores
that others used as well: 10,000 points follow the mouse 58 times a second and go from one model to another in 59 frames
a second, where ECharts (Canvas 2D, large mode) comes to 19 and 17, and Plotly (software WebGL) to 9 and 5. 100,000
points follow it 23 times a second, and 3 times and once.

Positions travel as float32, and only those of the shown models; what lies on the way between two is made by the
browser. Text is sent as text and shown letter by letter: nothing of a sample becomes HTML.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from clipdemo.projection import Map, evenly_by_class

# M. Krzywinski's palette of 12 colours for the colour-blind (mk.bcgsc.ca/colorblind/palettes.mhtml), in an order that
# keeps the pale ones for the rarer classes. Nobody tells 12 colours apart for certain: `highlighted` is there for that.
PALETTE = (
    "#008DF9", "#E20134", "#009F81", "#FF6E3A", "#8400CD", "#FFC33B", "#9F0162", "#00C2F9", "#FF5AAF", "#A40122",
    "#00FCCF", "#FFB2FD",
)  # fmt: skip
GREY = "#8E9199"
RIGHT, WRONG, ACCENT = "#0072B2", "#D55E00", "#D55E00"  # Okabe and Ito
MOST_DRAWN = 100_000  # points; benchmarks/embedding_map.py measures why
SENTENCES = "class sentences"  # their name in the legend
_CAPTION = 160  # characters of a caption that hovering shows
_CAPTIONS = 4_000_000  # characters of all captions together: of more pictures, shorter beginnings are sent
_CORNERS = 1000  # of an area that somebody drew; a browser sends a fifth of that


@dataclass(frozen=True)
class Group:
    """Points of one look. `places` are places in the map's arrays."""

    name: str
    places: np.ndarray
    colour: str
    symbol: str = "circle"
    size: float = 6
    opacity: float = 0.75


# ---- groups


def by_class(labels: Sequence[str]) -> list[Group]:
    """A colour for each of the 12 commonest classes, grey for all others. `labels` is a map's points' classes."""
    labels = np.asarray(labels, dtype=object).astype(str)
    ordered = [name for name, _ in sorted(Counter(labels.tolist()).items(), key=lambda item: (-item[1], item[0]))]
    named = ordered if len(ordered) <= len(PALETTE) + 1 else ordered[: len(PALETTE)]
    groups = [
        Group(name or "no class", np.flatnonzero(labels == name), colour)
        for name, colour in zip(named, (*PALETTE, GREY), strict=False)
    ]
    if len(named) < len(ordered):
        rest = np.flatnonzero(~np.isin(labels, named))
        groups.append(Group(f"{len(ordered) - len(named)} other classes", rest, GREY, opacity=0.4))
    return groups


def by_answer(answers: Sequence[bool | None]) -> list[Group]:
    """Right, wrong, and pictures that nobody was asked about (None), told apart by colour and by sign."""
    known = np.array([-1 if answer is None else int(answer) for answer in answers], dtype=np.int8)
    groups = (
        Group("not asked", np.flatnonzero(known == -1), GREY, size=4, opacity=0.3),
        Group("right", np.flatnonzero(known == 1), RIGHT),
        Group("wrong", np.flatnonzero(known == 0), WRONG, symbol="x", size=7, opacity=0.9),
    )
    return [group for group in groups if len(group.places)]


def highlighted(labels: Sequence[str], label: str) -> list[Group]:
    """One class against all others: two signs, two sizes, two shades, and so for every eye."""
    inside = np.asarray(labels, dtype=object).astype(str) == label
    return [
        Group("all others", np.flatnonzero(~inside), GREY, size=4, opacity=0.35),
        Group(label, np.flatnonzero(inside), ACCENT, symbol="square", size=8, opacity=0.9),
    ]


# ---- what hovering shows


@dataclass(frozen=True)
class Hover:
    """Lines of text, each different one once, and which of them each picture has."""

    whats: list[str]  # class and split
    what: np.ndarray  # uint32 (n,)
    captions: list[str]  # the beginning
    caption: np.ndarray  # uint32 (n,)


def hover_of(rows: pd.DataFrame) -> Hover:
    """What hovering over each row of a manifest shows: class, split and the caption's beginning, as plain text."""
    label, split, caption = (rows[name].fillna("").astype(str) for name in ("label", "split", "caption"))
    what, whats = pd.factorize((label + ", " + split).str.removeprefix(", "))
    most = caption_characters(len(rows))
    which, captions = pd.factorize(caption)
    return Hover(list(whats), what.astype(np.uint32), [_beginning(c, most) for c in captions], which.astype(np.uint32))


def caption_characters(pictures: int) -> int:
    """How many characters of each caption are sent for so many pictures."""
    return min(_CAPTION, _CAPTIONS // max(pictures, 1))


def _beginning(caption: str, most: int) -> str:
    caption = " ".join(caption[: 4 * most].split())  # a caption may be a book
    return caption if len(caption) <= most else caption[: most - 1] + "…"


# ---- what is sent


def thinned(found: Map, labels: Sequence[str], most: int = MOST_DRAWN) -> Map:
    """A map with at most `most` pictures, as many of each class as far as they go; the map itself where all fit."""
    if len(found.rows) <= most:
        return found
    places = evenly_by_class(labels, most)
    images = {model: points[places] for model, points in found.images.items()}
    return Map(found.settings, found.rows[places], images, found.texts, found.facts)


def drawn_note(drawn: Map, pictures: int, labelled: bool = True) -> str:
    """How many of a sample's pictures are drawn, and how short their captions are; "" where nothing is left out."""
    n, note = len(drawn.rows), ""
    if n < pictures:
        note = f"{n:,} of {pictures:,} pictures are drawn"
        note += ", as many of each class as far as they go." if labelled else "."
    if (most := caption_characters(n)) < _CAPTION:
        note += f" Hovering shows the first {most} characters of a caption."
    return note.strip()


def map_data(
    found: Map,
    groups: Sequence[Group],
    hover: Hover,
    sentences: Sequence[str],
    titles: Mapping[str, str],
    before: str,
    after: str | None = None,
    alt: str = "",
) -> bytes:
    """A model's map, or the way from `before` to `after`, as `assets/map.js` reads it. `titles` are the models' names.

    The length of a header (uint32, little-endian like all that follows), the header as JSON, each end's pictures and
    sentences (float32), the places of each picture's lines in the header (uint32), and its group (uint8).
    """
    ends = [before] if after is None else [before, after]
    texts = found.texts[before]
    header = {
        "n": len(found.rows),
        "way": " ".join(ends),
        "ends": ends,
        "titles": [titles[model] for model in ends],
        "groups": [_look(group, len(found.rows)) for group in groups],
        "sentences": list(sentences)[: len(texts)],
        "sentence": SENTENCES,
        "whats": hover.whats,
        "captions": hover.captions,
        "bounds": bounds(found),
        "axis": "from the mean picture to the mean sentence →" if found.settings.view == "gap" else "",
        "alt": alt,
    }
    group_of = np.zeros(len(found.rows), np.uint8)
    for number, group in enumerate(groups):
        group_of[group.places] = number
    told = json.dumps(header, ensure_ascii=False).encode("utf-8", "replace")  # half a surrogate pair is no text
    told += b" " * (-len(told) % 4)  # numbers begin at multiples of their size
    places = [points[model].astype("<f4").tobytes() for model in ends for points in (found.images, found.texts)]
    lines = [which.astype("<u4").tobytes() for which in (hover.what, hover.caption)]
    return b"".join([len(told).to_bytes(4, "little"), told, *places, *lines, group_of.tobytes()])


def _look(group: Group, n: int) -> dict[str, object]:
    """All but the places; points of many are smaller, and are drawn in less time."""
    smaller = min(1.0, max(0.6, (20_000 / max(n, 1)) ** 0.3))
    look = {k: v for k, v in asdict(group).items() if k != "places"}
    return look | {"size": round(group.size * smaller, 1)}


def bounds(found: Map) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of what holds all models' points: nothing jumps from one model to the next."""
    points = np.concatenate([*found.images.values(), *found.texts.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    pad = 0.05 * max(*(high - low), 1e-6)
    (left, bottom), (right, top) = (low - pad).tolist(), (high + pad).tolist()
    return left, right, bottom, top


# ---- what comes back


def brushed(found: Map, groups: Sequence[Group], model: str, brush: object) -> list[int]:
    """Rows of the manifest, ascending, that somebody drew round, or the one that was clicked; none for nonsense.

    `brush` is what a browser sent: {"area": corners in the map's units, "hidden": names of groups} or {"point": place}.
    """
    if not isinstance(brush, Mapping):
        return []
    point = brush.get("point")
    if type(point) is int and 0 <= point < len(found.rows):
        return [int(found.rows[point])]
    if (corners := _corners(brush.get("area"))) is None:
        return []
    hidden = brush.get("hidden")
    hidden = {name for name in hidden if isinstance(name, str)} if isinstance(hidden, list) else set()
    chosen = inside(found.images[model], corners)
    for group in groups:
        if group.name in hidden:
            chosen[group.places] = False
    return found.rows[chosen].tolist()


def _corners(area: object) -> np.ndarray | None:
    """float64 (n, 2), or None for what is no area."""
    if not isinstance(area, list) or not 3 <= len(area) <= _CORNERS:
        return None
    try:
        corners = np.array(area, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return corners if corners.shape == (len(area), 2) and np.isfinite(corners).all() else None


def inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """bool (n,): whether a ray to the right from each point (n, 2) crosses the edges of an area an odd number of times.

    The browser marks points by the same sums in the same order, so that both always agree.
    """
    near = ((points >= corners.min(axis=0)) & (points <= corners.max(axis=0))).all(axis=1)
    x, y = points[near].astype(np.float64).T
    odd = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    found = np.zeros(len(points), bool)
    found[near] = odd
    return found
