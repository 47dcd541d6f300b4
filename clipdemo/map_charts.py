"""Charts of an embedding map: Plotly figures from points that `projection` made.

Points are drawn by WebGL, a trace a group. Each carries its row of the manifest in `customdata`, so that what a box or
a lasso selects can be opened as pictures. All figures of a map have the same axes.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from clipdemo.projection import Map, evenly_by_class
from clipdemo.records import Split

# M. Krzywinski's palette of 12 colours for the colour-blind (mk.bcgsc.ca/colorblind/palettes.mhtml), in an order that
# keeps the pale ones for the rarer classes. Nobody tells 12 colours apart for certain: `highlighted` is there for that.
PALETTE = (
    "#008DF9", "#E20134", "#009F81", "#FF6E3A", "#8400CD", "#FFC33B", "#9F0162", "#00C2F9", "#FF5AAF", "#A40122",
    "#00FCCF", "#FFB2FD",
)  # fmt: skip
GREY = "#8E9199"
RIGHT, WRONG, ACCENT = "#0072B2", "#D55E00", "#D55E00"  # Okabe and Ito
MOST_DRAWN = 20_000  # points; benchmarks/embedding_map.py measures why
FRAMES, FRAME_MILLISECONDS = 16, 40
_CAPTION, _LINE = 160, 60  # characters of a caption that hovering shows, and of a line
_TEXT = {"size": 13}
_NAMED = 40  # sentences with their names beside them; of more, hovering shows the names


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
        Group(name, np.flatnonzero(labels == name), colour)
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


def hover_texts(rows: pd.DataFrame) -> list[str]:
    """What hovering over each row of a manifest shows: class, split and the caption's beginning, made harmless."""
    columns = (rows[name].fillna("").astype(str) for name in ("label", "split", "caption"))
    return [_hover(*values) for values in zip(*columns, strict=True)]


def _hover(label: str, split: Split, caption: str) -> str:
    lines = [f"<b>{_plain(label)}</b>, {_plain(split)}" if label else _plain(split)]
    caption = " ".join(caption.split())
    shown = caption if len(caption) <= _CAPTION else caption[: _CAPTION - 1] + "…"
    return "<br>".join([*lines, *(_plain(part) for part in _wrapped(shown))])


def _wrapped(text: str) -> list[str]:
    """Lines of at most `_LINE` characters, broken at spaces where there are any."""
    lines = [""]
    for word in text.split():
        for part in (word[i : i + _LINE] for i in range(0, len(word), _LINE)):
            if lines[-1] and len(lines[-1]) + 1 + len(part) > _LINE:
                lines.append("")
            lines[-1] += f" {part}" if lines[-1] else part
    return [line for line in lines if line]


def _plain(text: str) -> str:
    """Text as Plotly shows it letter by letter: it renders some HTML, and would put a picture's data for %{…}."""
    return html.escape(text, quote=False).replace("%{", "%&#123;").replace("$", "&#36;")


# ---- figures


def thinned(found: Map, labels: Sequence[str], most: int = MOST_DRAWN) -> tuple[Map, str]:
    """A map with at most `most` pictures, evenly by class, and a note that says so; the map and "" where all fit."""
    if len(found.rows) <= most:
        return found, ""
    places = evenly_by_class(labels, most)
    images = {model: points[places] for model, points in found.images.items()}
    note = f"{len(places):,} of {len(found.rows):,} pictures are drawn, as many of each class as far as they go."
    return Map(found.settings, found.rows[places], images, found.texts, found.facts), note


def between(found: Map, before: str, after: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and sentences, float32 (n, 2) and (m, 2), on the straight way from one model's map to another's.

    Only the ends are measured; what lies between is drawn, so that the eye can follow.
    """
    return tuple((1 - share) * points[before] + share * points[after] for points in (found.images, found.texts))


def map_figure(
    found: Map,
    groups: Sequence[Group],
    hover: Sequence[str],
    sentences: Sequence[str],
    before: str,
    after: str | None = None,
    share: float = 0.0,
    webgl: bool = True,
) -> go.Figure:
    """A model's map, or a place on the way from `before` to `after`: groups of pictures, and sentences as diamonds.

    `hover` is a line a picture, made by `hover_texts`; `sentences` are the classes' names. `webgl` = False draws SVG,
    for browsers without it and for files to print.
    """
    images, texts = between(found, before, after or before, share)
    scatter = go.Scattergl if webgl else go.Scatter
    hover = np.asarray(hover, dtype=object)
    figure = go.Figure()
    for group in groups:
        figure.add_trace(
            scatter(
                name=_plain(group.name),
                **_xy(images[group.places]),
                mode="markers",
                marker={"color": group.colour, "symbol": group.symbol, "size": group.size, "opacity": group.opacity},
                customdata=found.rows[group.places][:, None].tolist(),
                text=hover[group.places].tolist(),
                hovertemplate="%{text}<extra></extra>",
                unselected={"marker": {"opacity": 0.12}},
            )
        )
    if len(texts):
        figure.add_trace(_diamonds(texts, sentences))
    return figure.update_layout(**_layout(found))


def animated_figure(
    found: Map,
    groups: Sequence[Group],
    hover: Sequence[str],
    sentences: Sequence[str],
    before: str,
    after: str,
    titles: tuple[str, str],
) -> go.Figure:
    """The way from one model's map to another's, with a button that plays it and a slider; see `between`."""
    figure = map_figure(found, groups, hover, sentences, before, after)
    shares = np.linspace(0, 1, FRAMES + 1)
    figure.frames = [
        go.Frame(name=f"{share:.3f}", data=_moved(between(found, before, after, share), groups), traces=None)
        for share in shares
    ]
    names = [f"{share:.3f}" for share in shares]
    animation = {
        "frame": {"duration": FRAME_MILLISECONDS, "redraw": True},  # WebGL's points move at redraws only
        "transition": {"duration": 0},
        "fromcurrent": False,
        "mode": "immediate",
    }
    steps = [
        {"method": "animate", "label": label, "args": [[name], animation | {"frame": {"duration": 0, "redraw": True}}]}
        for name, label in zip(names, _labels(titles, len(names)), strict=True)
    ]
    button = {"type": "buttons", "direction": "right", "showactive": False, "x": 0, "y": -0.08, "xanchor": "left",
              "yanchor": "top", "pad": {"t": 8}}  # fmt: skip
    button["buttons"] = [
        {"label": f"▶ {_plain(titles[1])}", "method": "animate", "args": [names, animation]},
        {"label": f"◀ {_plain(titles[0])}", "method": "animate", "args": [names[::-1], animation]},
    ]
    slider = {"steps": steps, "x": 0.42, "len": 0.5, "y": -0.04, "currentvalue": {"visible": False}, "pad": {"t": 24}}
    return figure.update_layout(updatemenus=[button], sliders=[slider], margin={"b": 96})


def _labels(titles: tuple[str, str], count: int) -> list[str]:
    return [_plain(titles[0]), *[""] * (count - 2), _plain(titles[1])]


def _moved(points: tuple[np.ndarray, np.ndarray], groups: Sequence[Group]) -> list[dict]:
    """New places of all traces, in their order."""
    images, texts = points
    traces = [{"type": "scattergl", **_xy(images[group.places])} for group in groups]
    return traces + ([{"type": "scatter", **_xy(texts)}] if len(texts) else [])


def _xy(points: np.ndarray) -> dict[str, np.ndarray]:
    """Float32, which Plotly sends as bytes: a third of what digits take."""
    return {"x": np.ascontiguousarray(points[:, 0], np.float32), "y": np.ascontiguousarray(points[:, 1], np.float32)}


def _diamonds(texts: np.ndarray, sentences: Sequence[str]) -> go.Scatter:
    names = [_plain(sentence) for sentence in sentences]
    return go.Scatter(
        name="class sentences",
        **_xy(texts),
        mode="markers+text" if len(names) <= _NAMED else "markers",
        marker={"symbol": "diamond", "size": 13, "color": "#ffffff", "line": {"width": 2.5, "color": "#000000"}},
        text=names,
        textposition="top center",
        textfont={"size": 13, "weight": 600, "shadow": "auto"},  # a halo, as it lies on points
        hovertemplate="sentence of %{text}<extra></extra>",
        unselected={"marker": {"opacity": 1}},
    )


def _layout(found: Map) -> dict[str, object]:
    """Axes that hold all models' points, so that nothing jumps from one model to the next."""
    points = np.concatenate([*found.images.values(), *found.texts.values()])
    low, high = points.min(axis=0), points.max(axis=0)
    pad = 0.06 * np.maximum(high - low, 1e-6)
    x, y = ([float(a), float(b)] for a, b in zip(low - pad, high + pad, strict=True))
    axis = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": ""}
    title = {"title": {"text": "from the mean picture to the mean sentence →"}} if found.settings.view == "gap" else {}
    return {
        "height": 620,
        "margin": {"l": 8, "r": 8, "t": 44, "b": 32},
        "xaxis": axis | title | {"range": x},
        "yaxis": axis | {"range": y, "scaleanchor": "x"},  # one unit is as long both ways
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": _TEXT, "itemsizing": "constant"},
        "hoverlabel": {"align": "left"},
        "dragmode": "lasso",
        "uirevision": "map",  # zoom and legend stay as they are when colours change
    }


def selected_rows(points: Sequence[dict]) -> list[int]:
    """Rows of the manifest, each once, of the points that Streamlit says are selected; sentences are left out."""
    rows = (point.get("customdata") for point in points)
    return list(dict.fromkeys(int(row[0] if isinstance(row, list | tuple) else row) for row in rows if row is not None))
