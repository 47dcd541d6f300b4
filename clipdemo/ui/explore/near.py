"""What lies near a picture, near words, or near a picture of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st

from clipdemo.neighbours import (
    NearText,
    PictureTexts,
    allowed,
    caption_ranks,
    caption_scores,
    image_vector,
    near_captions,
    near_labels,
    near_pictures,
    picture_vector,
    pictures_of_picture,
    pictures_of_text,
    text_among_captions,
    texts_of_picture,
)
from clipdemo.prompts import prompts_of
from clipdemo.records import SPLITS
from clipdemo.sampling import Sample
from clipdemo.search import in_words
from clipdemo.ui import cached, state, tables, widgets
from clipdemo.ui.explore.thumbnails import PICTURES, rows_of_pictures
from clipdemo.ui.explore.views import View
from clipdemo.ui.explore.walk import step, walk

_TEXTS = 5  # shown a model
_MOST_CHARACTERS = 500


def to_a_picture(sample: Sample, views: Sequence[View]) -> None:
    """A picture of the sample beside its nearest texts and pictures, with the way to the next one."""
    through = walk(sample, views)
    if through.listed.empty:
        st.info("No picture fits all of these.", icon=":material/search_off:")
        return

    @st.fragment  # a step draws what follows and leaves the rest of the page alone, which takes a quarter off its time
    def one() -> None:
        with widgets.guarded():
            _picture(sample, views, step(through, views[0]))

    one()


def _picture(sample: Sample, views: Sequence[View], place: int) -> None:
    """A picture, its nearest texts, and its nearest pictures."""
    row = sample.manifest.iloc[place]
    alt = f"{row['label']}: {row['caption']}"
    left, right = st.columns([1, 3], gap="medium")
    with left:
        widgets.picture(sample, row["image"], alt, small=False)
        st.markdown(f"**{widgets.plain(row['label'] or '–')}** :gray[· {row['split']} · {widgets.plain(row['id'])}]")
        st.caption(widgets.plain(row["caption"]))
        sentence = _sentence(sample)
    asked = [_asked(view, picture_vector(view.space, place)) for view in views]
    texts = [texts_of_picture(v.space, place, _TEXTS, of.scores) for v, of in zip(views, asked, strict=True)]
    with right, st.grid(len(views), min_column_width=230, gap="small") as grid:
        for view, found, of in zip(views, texts, asked, strict=True):
            with grid.cell(), st.container(border=True, height="stretch"):
                st.markdown(f"**{tables.signed(view.look)}**")
                _texts_of_picture(view, found, views[0], texts[0], asked[0])
                _where(view, sentence, of)
    st.subheader("Nearest pictures", anchor=False)
    small, masks = st.columns([1, 7], vertical_alignment="bottom")
    with small:
        widgets.picture(sample, row["image"], alt)  # it is out of sight where one follows neighbours
    with masks:
        allowed_here = _masks(sample, views)
    found = [pictures_of_picture(v.space, place, PICTURES, m) for v, m in zip(views, allowed_here, strict=True)]
    rows_of_pictures(sample, views, found, str(row["label"] or ""))
    _how(views)


def to_words(sample: Sample, views: Sequence[View]) -> None:
    """Any words, and each model's nearest pictures."""
    key = state.text("words", _MOST_CHARACTERS)
    words = st.text_input("Words", placeholder="such as: fracture of the ankle", max_chars=_MOST_CHARACTERS, key=key)
    if not words.strip():
        _suggestions(sample, key)
        return
    masks = _masks(sample, views)
    found = [pictures_of_text(v.space, words, PICTURES, mask) for v, mask in zip(views, masks, strict=True)]
    rows_of_pictures(sample, views, found)
    _how(views, ("pictures",))


def _suggestions(sample: Sample, key: str) -> None:
    """Sentences of the sample's classes, to begin with."""

    def write(sentence: str) -> None:
        st.session_state[key] = sentence

    if sample.classes:
        st.caption("Write anything, or begin with a class:")
        with st.container(horizontal=True, gap="xsmall"):
            for label in sample.classes[:12]:
                sentence = prompts_of(label)[0][:_MOST_CHARACTERS]
                st.button(widgets.plain(label), key=f"words {label}", on_click=write, args=(sentence,))


def to_an_upload(sample: Sample, views: Sequence[View]) -> None:
    """A picture of the visitor's beside its nearest texts and pictures."""
    upload = st.file_uploader("Any picture", max_upload_size=20, help="It stays in memory and is not kept.")
    if upload is None:
        st.caption("It is looked at in memory, and kept nowhere.")
        return
    data, name = upload.getvalue(), upload.name
    asked = [_asked(view, image_vector(view.space.clip, data, name)) for view in views]
    left, right = st.columns([1, 3], gap="medium")
    with left:
        st.image(cached.preview(data, name), width="stretch", alt="your picture")
        sentence = _sentence(sample)
    with right, st.grid(len(views), min_column_width=230, gap="small") as grid:
        for view, of in zip(views, asked, strict=True):
            with grid.cell(), st.container(border=True, height="stretch"):
                st.markdown(f"**{tables.signed(view.look)}**")
                _list("Labels", near_labels(view.space, of.vector, 3))
                _list("Captions", near_captions(view.space, of.vector, _TEXTS))
                _where(view, sentence, of)
    st.subheader("Nearest pictures", anchor=False)
    masks = _masks(sample, views)
    found = [near_pictures(v.space, of.vector, PICTURES, m) for v, of, m in zip(views, asked, masks, strict=True)]
    rows_of_pictures(sample, views, found)
    _how(views)


def _masks(sample: Sample, views: Sequence[View]) -> list[np.ndarray | None]:
    """Which pictures each model may find, by class, split and whether it gets them right; None where all may."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        classes: list[str] = []
        if sample.classes:
            key = state.some_of("classes", sample.classes)
            classes = st.multiselect("Only classes", sample.classes, key=key, width=330, placeholder="all classes")
        key = state.some_of("splits", SPLITS)
        splits = st.segmented_control("Only splits", SPLITS, selection_mode="multi", key=key)
        answers = ["either", "right", "wrong"] if sample.classes else ["either"]
        key = state.one_of("among", answers)
        right = st.segmented_control("That the model gets", answers, required=True, key=key)
    if not (classes or splits or right != "either"):
        return [None] * len(views)
    wanted = None if right == "either" else right == "right"
    return [allowed(view.space, classes, splits, wanted) for view in views]


# ---- what is shown


class _Asked(NamedTuple):
    """A picture as one model sees it, and its cosines with all captions (none without any)."""

    vector: np.ndarray
    scores: np.ndarray


def _asked(view: View, vector: np.ndarray) -> _Asked:
    empty = np.empty(0, np.float32)
    return _Asked(vector, caption_scores(view.space, vector) if view.space.texts is not None else empty)


def _texts_of_picture(view: View, found: PictureTexts, first: View, first_found: PictureTexts, asked: _Asked) -> None:
    """The nearest labels and captions, the picture's own marked, and where the first model has each of them.

    `asked` is the picture as the first model sees it.
    """
    before: list[int] | None = None
    labels_before: dict[int, int] = {}
    if view is not first:
        if found.captions:
            before = caption_ranks(asked.scores, np.array([near.place for near in found.captions])).tolist()
        labels = near_labels(first.space, asked.vector, len(first.space.classes))
        labels_before = {near.place: near.rank for near in labels}
    top = found.labels[:3]
    _list("Labels", top, [labels_before[near.place] for near in top] if labels_before else None)
    if found.own_label and found.own_label not in top:
        _own("Its label", found.own_label, first_found.own_label, len(view.space.classes), view, first)
    _list("Captions", found.captions, before)
    if found.own:
        _own("Its own caption", found.own, first_found.own, len(view.space.captions), view, first)


def _sentence(sample: Sample) -> str:
    """A sentence of the visitor's, to be held beside the captions; "" where there are none."""
    if "captions" not in sample.texts:
        return ""
    return st.text_input(
        "A sentence of yours", placeholder="where would it stand?", max_chars=_MOST_CHARACTERS,
        key=state.text("mine", _MOST_CHARACTERS),
    )  # fmt: skip


def _where(view: View, sentence: str, asked: _Asked) -> None:
    """Where the visitor's sentence would stand among the captions."""
    if sentence.strip():
        mine = text_among_captions(view.space, asked.vector, sentence, asked.scores)
        st.caption(f"Yours would be number {mine.rank + 1:,} :gray[{mine.score:.2f}]")


def _own(what: str, own: NearText, before: NearText, total: int, view: View, first: View) -> None:
    """Where a picture's own text stands, and where the first model has it."""
    moved = ""
    if view is not first:
        sign = ":green[▲]" if own.rank < before.rank else ":red[▼]" if own.rank > before.rank else "="
        moved = f" {sign} {widgets.plain(first.look.title)}: {before.rank + 1:,}"
    st.caption(f"{what} is number {own.rank + 1:,} of {total:,}.{moved}")


def _list(title: str, texts: Sequence[NearText], before: Sequence[int] | None = None) -> None:
    """Texts with their scores, best first; `before` are their ranks in the first model."""
    if not texts:
        return
    st.caption(title)
    lines = []
    for place, near in enumerate(texts):
        own = ":green[:material/check_circle:] " if near.own else ""
        text = widgets.plain(widgets.shortened(near.text, 80))
        was = "" if before is None else f" (was {before[place] + 1:,})"
        lines.append(f"- {own}{f'**{text}**' if near.own else text} :gray[{near.score:.2f}{was}]")
    st.markdown("\n".join(lines))


def _how(views: Sequence[View], what: Sequence[str] = ("pictures", "captions")) -> None:
    """How neighbours were found, and how many of the true ones an index finds."""
    with st.expander("How these were found", icon=":material/info:"):
        st.markdown(
            "Scores are cosines between embeddings. They mean nothing beside those of another model, whose space is "
            "its own: compare places in the lists, not numbers. “Was” is a text’s number in the first model’s list. "
            "Click the line under a picture to go on from there."
        )
        said: dict[str, list[str]] = {}
        for view in views:
            for kind in what:
                index = view.space.pictures if kind == "pictures" else view.space.texts
                if index is not None:
                    said.setdefault(in_words(index.card, kind), []).append(tables.signed(view.look))
        st.markdown("\n".join(f"- {', '.join(of)}: {line}." for line, of in said.items()))
