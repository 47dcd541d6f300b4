"""The parts of the Explore page."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from clipdemo import jobs
from clipdemo.appearance import Appearance, of_kind
from clipdemo.errors import ClipDemoError
from clipdemo.neighbours import (
    NearPicture,
    NearText,
    Neighbourhood,
    allowed,
    image_vector,
    near_captions,
    near_labels,
    near_pictures,
    pictures_of_picture,
    pictures_of_text,
    texts_of_picture,
)
from clipdemo.records import BUILT_IN_BASE, SPLITS
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run, readable_runs
from clipdemo.ui import cached, live, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

COMMANDS = ("index",)
_BASE = "base"
_TEXTS, _PICTURES = 5, 8  # shown a model
_QUERIES = {
    "picture": ":material/image: A picture of the sample",
    "words": ":material/edit: Words",
    "own": ":material/upload: A picture of mine",
}
_ORDERS = {"any": "the sample’s order", "moved": "most moved by fine-tuning", "worst": "worst matched captions"}


@dataclass
class View:
    """A model through which the sample is looked at; `space` is there once its index is built."""

    run: Run | None
    base: str
    look: Appearance
    space: Neighbourhood | None = None


def choose_models(workspace: Workspace, sample: Sample) -> list[View]:
    """The base model and up to two runs of the sample, by choice the newest of each kind."""
    runs = {run.id: run for run in readable_runs(workspace) if run.sample == sample.id and run.result}
    newest = [next((name for name, run in runs.items() if run.config.mode == mode), None) for mode in sample.texts]
    chosen = st.multiselect(
        "Models", [_BASE, *runs], [_BASE, *filter(None, newest)], max_selections=3, key=f"models {sample.id}",
        format_func=lambda name: "Base" if name == _BASE else f"{runs[name].config.mode} · {runs[name].name}",
    )  # fmt: skip
    views = []
    for name in chosen:
        run = runs.get(name)
        base = run.config.base if run else next((r.config.base for r in runs.values()), BUILT_IN_BASE)
        title = (
            "" if run is None or sum(runs[n].config.mode == run.config.mode for n in chosen if n in runs) == 1 else name
        )
        views.append(View(run, base, of_kind(run.config.mode if run else "base", title)))
    if not views:
        st.info("Choose at least one model.", icon=":material/info:")
    return views


def prepared(workspace: Workspace, sample: Sample, views: list[View]) -> bool:
    """Whether all models' indexes are there; else the button that has them built."""
    for view in views:
        view.space = cached.neighbourhood(workspace, sample, view.run, view.base)
    missing = [view for view in views if view.space is None]
    if missing:
        n = len(sample.manifest)
        st.markdown(
            f"{len(missing)} of {len(views)} models have not looked at this sample yet. Each encodes its {n:,} "
            "pictures and their captions once; that is kept."
        )
        if st.button("Let them look", type="primary", icon=":material/visibility:"):
            _launch(workspace, sample, missing)
    return not missing


def _launch(workspace: Workspace, sample: Sample, missing: list[View]) -> None:
    for view in missing:
        which = ["--run", view.run.id] if view.run else ["--base", view.base]
        settings = {"sample_id": sample.id, "run": view.run.id if view.run else None, "base": view.base}
        job = jobs.launch(workspace, "index", ["build", "--sample", sample.id, *which], settings)
    state.show_in_address("job", job.id)
    st.rerun()


def job_card(workspace: Workspace, look: Look) -> None:
    """The encoding that is going, live, or why it did not end well."""
    if look.active:
        with st.container(border=True):
            live.watch(workspace, look, lambda now: _draw(workspace, now))
    elif state.asked_for("job") == look.id and look.state != "finished":
        live.outcome(look, "Encoding")


def _draw(workspace: Workspace, look: Look) -> None:
    live.heading(look, workspace, "Encoding")
    live.stages(look, workspace)


# ---- what is asked


def query(sample: Sample, views: Sequence[View]) -> None:
    """A picture of the sample, words, or a picture of one's own, and what lies near it for each model."""
    kind = st.segmented_control(
        "Look for what is near", list(_QUERIES), default="picture", required=True, format_func=_QUERIES.get,
    )  # fmt: skip
    if kind == "picture":
        _of_the_sample(sample, views)
    elif kind == "words":
        words = st.text_input("Words", placeholder="such as: fracture of the ankle", max_chars=500)
        if words.strip():
            mask = _mask(sample, views[0])
            _rows_of_pictures(sample, views, [pictures_of_text(v.space, words, _PICTURES, mask) for v in views])
    else:
        _own(sample, views)


def _mask(sample: Sample, view: View) -> np.ndarray | None:
    """Which pictures may be found, by class and split; None where all may."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        classes = st.multiselect("Only classes", list(sample.classes))
        splits = st.segmented_control("Only splits", list(SPLITS), selection_mode="multi")
    return allowed(view.space, classes, splits) if classes or splits else None


def _of_the_sample(sample: Sample, views: Sequence[View]) -> None:
    places = _places(sample, views)
    if not len(places):
        st.info("No picture fits all of these.", icon=":material/search_off:")
        return
    place = _step(sample, places)
    row = sample.manifest.iloc[place]
    left, right = st.columns([1, 3], gap="medium")
    with left:
        st.image(sample.picture(row["image"]), width="stretch", alt=f"{row['label']}: {row['caption']}")
        st.markdown(f"**{widgets.plain(row['label'] or '–')}** :gray[· {row['split']} · {widgets.plain(row['id'])}]")
        st.caption(widgets.plain(row["caption"]))
    with right, st.grid(len(views), min_column_width=230, gap="small") as grid:
        for view in views:
            with grid.cell(), st.container(border=True, height="stretch"):
                _texts(view, place)
    st.subheader("Nearest pictures", anchor=False)
    found = [pictures_of_picture(v.space, place, _PICTURES) for v in views]
    _rows_of_pictures(sample, views, found)


def _places(sample: Sample, views: Sequence[View]) -> np.ndarray:
    """Places of the pictures to go through, in the order asked for."""
    tuned = [view for view in views if view.run]
    orders = [name for name in _ORDERS if name == "any" or (tuned and (name == "moved" or "captions" in sample.texts))]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.selectbox("Go by", orders, format_func=_ORDERS.get, width=270)
        label = st.selectbox("Class", ["All classes", *sample.classes], width=220)
        split = st.segmented_control("Split", ["all", *SPLITS], default="test", required=True)
        answers = ["either", "right", "wrong"] if sample.classes else ["either"]
        right = st.segmented_control("First model is", answers, default="either", required=True)
    classes = () if label == "All classes" else (label,)
    mask = allowed(
        views[0].space, classes, () if split == "all" else (split,), None if right == "either" else right == "right"
    )
    if order == "any":
        return np.flatnonzero(mask)
    ordered = cached.stand_out(views[0].space, tuned[-1].space, order)["place"].to_numpy()
    return ordered[mask[ordered]]


def _step(sample: Sample, places: np.ndarray) -> int:
    """The place looked at, with the buttons that go on from it; it rides in the address."""
    asked = state.asked_for("picture")
    if state.PLACE not in st.session_state:
        known = np.flatnonzero((sample.manifest["id"] == asked).to_numpy()) if asked else []
        st.session_state[state.PLACE] = int(known[0]) if len(known) else int(places[0])
    at = np.flatnonzero(places == st.session_state[state.PLACE])
    now = int(at[0]) if len(at) else 0

    def go(to: int) -> None:
        st.session_state[state.PLACE] = int(places[to % len(places)])

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", icon=":material/arrow_back:", on_click=go, args=(now - 1,))
        st.button("Next", icon=":material/arrow_forward:", on_click=go, args=(now + 1,))
        st.button("Random", icon=":material/casino:", on_click=go, args=(random.randrange(len(places)),))
        st.caption(f"{now + 1:,} of {len(places):,} pictures")
    place = int(places[now])
    state.show_in_address("picture", str(sample.manifest["id"].iloc[place]))
    return place


def _own(sample: Sample, views: Sequence[View]) -> None:
    upload = st.file_uploader("Any picture", max_upload_size=20, help="It stays in memory and is not kept.")
    if upload is None:
        return
    data, name = upload.getvalue(), upload.name
    vectors = [image_vector(view.space.clip, data, name) for view in views]
    left, right = st.columns([1, 3], gap="medium")
    with left:
        st.image(cached.preview(data, name), width="stretch", alt="your picture")
    with right, st.grid(len(views), min_column_width=230, gap="small") as grid:
        for view, vector in zip(views, vectors, strict=True):
            with grid.cell(), st.container(border=True, height="stretch"):
                st.markdown(f"**{tables.signed(view.look)}**")
                _list("Labels", near_labels(view.space, vector, 3))
                _list("Captions", near_captions(view.space, vector, _TEXTS))
    _rows_of_pictures(
        sample, views, [near_pictures(v.space, x, _PICTURES) for v, x in zip(views, vectors, strict=True)]
    )


# ---- what is shown


def _texts(view: View, place: int) -> None:
    """The nearest labels and captions of a picture of the sample, its own marked, and where its own caption stands."""
    found = texts_of_picture(view.space, place, _TEXTS)
    st.markdown(f"**{tables.signed(view.look)}**")
    _list("Labels", found.labels[:3])
    _list("Captions", found.captions)
    if found.own:
        st.caption(f"Its own caption is number {found.own.rank + 1:,} of {len(view.space.captions):,}.")


def _list(title: str, texts: Sequence[NearText]) -> None:
    if not texts:
        return
    st.caption(title)
    lines = []
    for near in texts:
        own = ":green[:material/check_circle:] " if near.own else ""
        text = widgets.plain(widgets.shortened(near.text, 80))
        lines.append(f"- {own}{f'**{text}**' if near.own else text} :gray[{near.score:.2f}]")
    st.markdown("\n".join(lines))


def _rows_of_pictures(sample: Sample, views: Sequence[View], found: Sequence[Sequence[NearPicture]]) -> None:
    for view, pictures in zip(views, found, strict=True):
        st.markdown(f"**{tables.signed(view.look)}**")
        with st.grid(_PICTURES, min_column_width=110, gap="xsmall") as grid:
            for near in pictures:
                with grid.cell(), st.container(gap="xxsmall"):
                    _thumbnail(sample, near)


def _thumbnail(sample: Sample, near: NearPicture) -> None:
    try:
        st.image(sample.picture(near.image), width="stretch", alt=f"{near.label}: {near.caption}")
    except (ClipDemoError, OSError):
        st.caption(":material/hide_image:")
    st.caption(f"{near.score:.2f} · {widgets.plain(near.label or near.split)}")
