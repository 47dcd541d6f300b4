"""Pictures of a sample in rows, small, each a step to go on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from clipdemo.neighbours import NearPicture
from clipdemo.sampling import Sample
from clipdemo.ui import state, tables, widgets
from clipdemo.ui.explore.views import View

PICTURES = 8  # shown a model
_MOST_STEPS = 50  # that a trail remembers


def rows_of_pictures(
    sample: Sample, views: Sequence[View], found: Sequence[Sequence[NearPicture]], label: str = ""
) -> None:
    """A row of near pictures a model, with their scores. `label` is the class of the picture asked with, if it has one.

    Above each row stands what it says: how many are of that class, and how many the first model does not have here.
    """
    first = {near.id for near in found[0]}
    for place, (view, pictures) in enumerate(zip(views, found, strict=True)):
        said = _of_the_row(pictures, label, first if place else None, views[0])
        st.markdown(f"**{tables.signed(view.look)}** :gray[{said}]" if said else f"**{tables.signed(view.look)}**")
        if not pictures:
            st.caption("No picture fits all of these.")
        with st.grid(PICTURES, min_column_width=110, gap="xsmall"):
            for near in pictures:
                with st.container(gap="xxsmall"):
                    line = f"{near.score:.2f} · {widgets.plain(near.label or near.split)}"
                    new = bool(place) and near.id not in first
                    thumbnail(
                        sample, near.image, f":green[**+**] {line}" if new else line, f"{near.label}: {near.caption}",
                        near.id, f"{view.name} {near.id}",
                    )  # fmt: skip


def _of_the_row(pictures: Sequence[NearPicture], label: str, first: set[str] | None, of: View) -> str:
    """The row in words, as Markdown."""
    said = []
    if label:
        said.append(f"{sum(near.label == label for near in pictures)} of {len(pictures)} are {widgets.plain(label)}")
    elif counts := Counter(near.label for near in pictures if near.label):
        said.append(", ".join(f"{n} {widgets.plain(name)}" for name, n in counts.most_common(3)))
    if first is not None:
        new = sum(near.id not in first for near in pictures)
        said.append(f"{new} (:green[**+**]) are not among those of {widgets.plain(of.look.title)}")
    return " · ".join(said)


def thumbnail(sample: Sample, image: str, line: str, alt: str, picture: str, key: str) -> None:
    """A picture, and under it a line of Markdown that goes on to that picture."""
    widgets.picture(sample, image, alt)
    st.button(line, key=f"on to {key}", type="tertiary", on_click=follow, args=(picture,))


def follow(picture: str) -> None:
    """Makes a picture, by its id, the one that is looked at; the one before can be gone back to."""
    if before := st.session_state.get(state.PICTURE):
        st.session_state[state.TRAIL] = [*st.session_state.get(state.TRAIL, []), before][-_MOST_STEPS:]
    st.session_state[state.PICTURE] = picture
    st.session_state[state.WAY] = "picture"


def go_back() -> None:
    """Undoes the last `follow`."""
    if trail := st.session_state.get(state.TRAIL):
        st.session_state[state.PICTURE] = trail.pop()
