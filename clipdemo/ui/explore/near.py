"""What lies near a picture, near words, or near a picture of one's own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import streamlit as st

from clipdemo.neighbours import (
    NearText,
    allowed,
    image_vector,
    near_captions,
    near_labels,
    near_pictures,
    pictures_of_picture,
    pictures_of_text,
    texts_of_picture,
)
from clipdemo.records import SPLITS
from clipdemo.sampling import Sample
from clipdemo.ui import cached, state, tables, widgets
from clipdemo.ui.explore.thumbnails import PICTURES, rows_of_pictures
from clipdemo.ui.explore.views import View

_TEXTS = 5  # shown a model
_MOST_CHARACTERS = 500
_ORDERS = {"any": "the sample’s order", "moved": "most moved by fine-tuning", "worst": "worst matched captions"}


def to_words(sample: Sample, views: Sequence[View]) -> None:
    """Any words, and each model's nearest pictures."""
    words = st.text_input(
        "Words", placeholder="such as: fracture of the ankle", max_chars=_MOST_CHARACTERS,
        key=state.text("words", _MOST_CHARACTERS),
    )  # fmt: skip
    if words.strip():
        mask = _mask(sample, views[0])
        rows_of_pictures(sample, views, [pictures_of_text(v.space, words, PICTURES, mask) for v in views])


def _mask(sample: Sample, view: View) -> np.ndarray | None:
    """Which pictures may be found, by class and split; None where all may."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        classes = st.multiselect("Only classes", sample.classes, key=state.some_of("classes", sample.classes))
        splits = st.segmented_control(
            "Only splits", SPLITS, selection_mode="multi", key=state.some_of("splits", SPLITS)
        )
    return allowed(view.space, classes, splits) if classes or splits else None


def to_a_picture(sample: Sample, views: Sequence[View]) -> None:
    """A picture of the sample beside its nearest texts and pictures, with the way to the next one."""
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
    found = [pictures_of_picture(v.space, place, PICTURES) for v in views]
    rows_of_pictures(sample, views, found)


def _places(sample: Sample, views: Sequence[View]) -> np.ndarray:
    """Places of the pictures to go through, in the order asked for."""
    tuned = [view for view in views if view.run]
    orders = [name for name in _ORDERS if name == "any" or (tuned and (name == "moved" or "captions" in sample.texts))]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.selectbox("Go by", orders, format_func=_ORDERS.get, width=270, key=state.one_of("order", orders))
        labels, splits = ["All classes", *sample.classes], ["all", *SPLITS]
        label = st.selectbox("Class", labels, width=220, key=state.one_of("class", labels))
        split = st.segmented_control("Split", splits, required=True, key=state.one_of("split", splits, "test"))
        answers = ["either", "right", "wrong"] if sample.classes else ["either"]
        right = st.segmented_control("First model is", answers, required=True, key=state.one_of("answers", answers))
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
    names = sample.manifest["id"].iloc[places].astype(str).tolist()
    now = names.index(st.session_state[state.one_of("picture", names, key=state.PICTURE)])

    def go(to: int) -> None:
        st.session_state[state.PICTURE] = names[to % len(names)]

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", icon=":material/arrow_back:", on_click=go, args=(now - 1,))
        st.button("Next", icon=":material/arrow_forward:", on_click=go, args=(now + 1,))
        st.button("Random", icon=":material/casino:", on_click=go, args=(random.randrange(len(places)),))
        st.caption(f"{now + 1:,} of {len(places):,} pictures")
    state.show_in_address("picture", names[now])  # the first one too: a link names its picture
    return int(places[now])


def to_an_upload(sample: Sample, views: Sequence[View]) -> None:
    """A picture of the visitor's beside its nearest texts and pictures."""
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
    rows_of_pictures(sample, views, [near_pictures(v.space, x, PICTURES) for v, x in zip(views, vectors, strict=True)])


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
