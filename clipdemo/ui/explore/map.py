"""All pictures and class sentences of a sample in two dimensions, and behind every corner of it its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from clipdemo import map_charts
from clipdemo.projection import Map, MapSettings, in_words
from clipdemo.sample_map import find_map
from clipdemo.sampling import Sample
from clipdemo.ui import acts, cached, roles, state, widgets
from clipdemo.ui.explore.thumbnails import thumbnail
from clipdemo.ui.explore.views import View
from clipdemo.workspace import Workspace

_METHODS = {"pca": "PCA: true distances", "umap": "UMAP: who lies near whom"}
_VIEWS = {"together": "all about one mean", "apart": "each about its own mean", "gap": "along the gap"}
_COLOURS = {"class": "class", "answer": "right or wrong", "one": "one class"}
_PAGE = 24

_ASSETS = Path(__file__).resolve().parents[3] / "assets"
point_map = st.components.v2.component(
    "embedding_map", js=(_ASSETS / "map.js").read_text(), css=(_ASSETS / "map.css").read_text()
)

_HOW = (
    "Drag to move and turn the wheel to zoom. With the lasso, draw round some points to see their pictures, or click "
    "one."
)
_DIAMONDS = " White diamonds are the classes’ sentences."
_GAP = (
    "**Why do the sentences lie apart?** CLIP’s loss asks only that a picture be nearer to its own text than to other "
    "texts, not that it be near. So pictures and texts stay in two narrow cones, as far apart as they were when "
    "training began (Liang et al. 2022, *Mind the Gap*). “Along the gap” turns the map so that the first axis leads "
    "from the mean picture to the mean sentence; “each about its own mean” takes the gap away, and shows which "
    "sentence lies where among the pictures."
)


def draw(workspace: Workspace, sample: Sample, views: Sequence[View]) -> None:
    """The map of the chosen models, what it shows in words, and the pictures that were brushed."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = state.one_of("map", list(_METHODS))
        method = st.segmented_control("Map by", list(_METHODS), required=True, format_func=_METHODS.get, key=key)
        kinds = [name for name in _VIEWS if sample.classes or name == "together"]
        if method == "umap":
            kinds = [name for name in kinds if name != "gap"]
        kind = st.segmented_control(
            "Pictures and sentences",
            kinds,
            required=True,
            format_func=_VIEWS.get,
            key=state.one_of("about", kinds, key=f"about {method}"),
        )
    settings = MapSettings(method=method, view=kind)
    found = cached.pca_map(views, settings) if method == "pca" else _umap(workspace, sample, views, settings)
    if found is None:
        return
    titles = {model: view.look.signed for model, view in zip(found.models, views, strict=True)}
    _figure(sample, views, found, titles)
    with st.expander("What this map shows, and what it does not", icon=":material/info:"):
        for sentence in in_words(found, titles):
            st.markdown(widgets.plain(sentence))
        if sample.classes:
            st.markdown(_GAP)


def _umap(workspace: Workspace, sample: Sample, views: Sequence[View], settings: MapSettings) -> Map | None:
    """The finished map, or the button that has it laid out."""
    runs = [view.run for view in views if view.run]
    if views[0].run is not None:
        st.info("A map by UMAP starts from the base model: choose it first.", icon=":material/info:")
        return None
    if found := find_map(sample, workspace, runs, views[0].base, settings):
        return found.map
    n = min(settings.most, len(sample.manifest))
    st.markdown(
        f"UMAP lays out {n:,} pictures of {len(views)} model{'s' if len(views) > 1 else ''} in a process of its own; "
        "a few minutes for some thousands. It is kept."
    )
    if roles.button("measure", "Lay it out", type="primary", icon=":material/scatter_plot:"):
        which = [part for run in runs for part in ("--run", run.id)]
        arguments = [
            "--sample",
            sample.id,
            *which,
            "--base",
            views[0].base,
            "--method",
            "umap",
            "--view",
            settings.view,
        ]
        told = {"sample_id": sample.id, "runs": [run.id for run in runs], "base": views[0].base}
        job = acts.start(workspace, "map", arguments, told | settings.model_dump(mode="json"))
        state.show_in_address("job", job.id)
        st.rerun()
    return None


def _figure(sample: Sample, views: Sequence[View], found: Map, titles: dict[str, str]) -> None:
    labels = sample.manifest["label"].fillna("").astype(str)
    drawn = map_charts.thinned(found, labels.iloc[found.rows])
    models = dict(zip((view.name for view in views), found.models, strict=True))
    ways = [*models, *(f"to {name}" for name in list(models)[1:])]
    first = found.models[0]

    def title(way: str) -> str:
        what = titles[models[way.removeprefix("to ")]]
        return what if way in models else f":material/play_arrow: {titles[first]} → {what}"

    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.segmented_control(
            "Show", ways, required=True, format_func=title,
            key=state.one_of("shown", ways, key=f"shown {len(ways)} {ways[0]}"),
        )  # fmt: skip
        model = models[way.removeprefix("to ")]
        groups = _groups(sample, views, found, model, drawn, labels.iloc[drawn.rows])
    is_way = way not in models
    hover = cached.hover(sample, drawn.rows)
    what = "the pictures and class sentences" if sample.classes else "the pictures"
    alt = f"Map of {what} as {titles[model]} sees them"
    ends = (first, model, f"The way from {titles[first]} to {titles[model]}") if is_way else (model, None, alt)
    key = f"map {sample.id} {found.settings.method} {found.settings.view}"
    said = point_map(
        data=map_charts.map_data(drawn, groups, hover, sample.classes, titles, *ends),
        key=key, on_brush_change=lambda: None,
    )  # fmt: skip
    note = map_charts.drawn_note(drawn, len(sample.manifest), bool(sample.classes))
    if is_way:
        st.caption(f"{note} Only the two ends are measured; what lies between is drawn, so that the eye can follow.")
        return
    st.caption(f"{note} {_HOW}{_DIAMONDS if sample.classes else ''}")
    rows = map_charts.brushed(drawn, groups, model, said.brush)
    if said.brush and not rows:
        st.caption("No picture lies inside.")
    _brushed(sample, rows, key)


def _groups(
    sample: Sample, views: Sequence[View], found: Map, model: str, drawn: Map, labels: pd.Series
) -> list[map_charts.Group]:
    if not sample.classes:
        return map_charts.by_class(labels)
    key = state.one_of("colours", list(_COLOURS))
    colours = st.segmented_control("Colours", list(_COLOURS), required=True, format_func=_COLOURS.get, key=key)
    if colours == "answer":
        view = views[found.models.index(model)]
        right, known = view.space.right[drawn.rows], view.space.target[drawn.rows] >= 0
        return map_charts.by_answer([bool(r) if k else None for r, k in zip(right, known, strict=True)])
    if colours == "one":
        key = state.one_of("class", sample.classes, key="highlighted_class")
        return map_charts.highlighted(labels, st.selectbox("Class", sample.classes, width=220, key=key))
    return map_charts.by_class(labels)


def _brushed(sample: Sample, rows: Sequence[int], key: str) -> None:
    """The pictures of the points that somebody drew round, a page at a time."""
    if not rows:
        return
    chosen = sample.manifest.iloc[rows]
    counts = chosen["label"].value_counts()
    most = ", ".join(f"{widgets.plain(name)} {n:,}" for name, n in counts.items() if name)[:300]
    st.subheader(f"{len(rows):,} picture{'s' if len(rows) > 1 else ''}", anchor=False)
    if most:
        st.caption(most)
    pages, at = -(-len(rows) // _PAGE), f"{key} {rows[0]} {len(rows)} page"  # other pictures begin at their first page
    start = (st.session_state.get(at, 1) - 1) * _PAGE
    with st.grid(8, min_column_width=110, gap="xsmall"):
        for row in chosen.iloc[start : start + _PAGE].itertuples():
            with st.container(gap="xxsmall"):
                thumbnail(
                    sample, row.image, widgets.plain(row.label or row.split), f"{row.label}: {row.caption}",
                    row.id, f"brushed {row.id}",
                )  # fmt: skip
    if pages > 1:
        with st.container(horizontal=True, horizontal_alignment="center"):
            st.pagination(pages, key=at, max_visible_pages=5)
