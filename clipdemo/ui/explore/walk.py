"""Going through a sample's pictures: which of them, in which order, and the one that is looked at now."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from clipdemo.errors import SampleError
from clipdemo.neighbours import StandOut, allowed
from clipdemo.records import SPLITS, percent
from clipdemo.sampling import Sample
from clipdemo.ui import cached, state
from clipdemo.ui.explore.thumbnails import go_back
from clipdemo.ui.explore.views import View

_AS_THEY_COME = "any"
_ALL = "All classes"


@dataclass(frozen=True)
class Walk:
    """Pictures to go through."""

    listed: pd.DataFrame  # their places in the column `place`, with what they are ordered by
    order: tuple[StandOut, View] | None
    fitting: int  # pictures that fit, of which very many are not all compared


def walk(sample: Sample, views: Sequence[View]) -> Walk:
    """Which pictures somebody goes through, in which order."""
    orders = _orders(sample, views)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        asked = st.selectbox(
            "Go by", list(orders), width=330, key=state.one_of("order", list(orders)), on_change=_from_the_first,
            format_func=lambda name: _title(orders[name], views[0]),
        )  # fmt: skip
        labels, splits = [_ALL, *sample.classes], ["all", *SPLITS]
        label = st.selectbox(
            "Class", labels, width=220, key=state.one_of("class", labels), on_change=_from_the_first
        )  # fmt: skip
        split = st.segmented_control(
            "Split", splits, required=True, key=state.one_of("split", splits, "test"), on_change=_from_the_first
        )
        answers = ["either", "right", "wrong"] if sample.classes else ["either"]
        right = st.segmented_control(
            "First model is", answers, required=True, key=state.one_of("answers", answers), on_change=_from_the_first
        )
    chosen = None if split == "all" else split
    mask = allowed(
        views[0].space,
        () if label == _ALL else (label,),
        (chosen,) if chosen else (),
        None if right == "either" else right == "right",
    )
    if (order := orders[asked]) is None:
        listed = pd.DataFrame({"place": np.flatnonzero(mask)})
    else:
        listed = cached.stand_out(order[0], views[0].space, order[1].space, np.flatnonzero(mask))
    return Walk(listed, order, int(mask.sum()))


def step(walk: Walk, first: View) -> int:
    """The place of the picture that is looked at, below the buttons that go on from it; it rides in the address."""
    places = walk.listed["place"].to_numpy()
    place = _stepped(first, places)
    at = np.flatnonzero(places == place)
    if at.size and walk.order:
        st.caption(_why_here(walk.listed.iloc[at[0]], walk.order, first))
    if len(places) < walk.fitting and walk.order:
        st.caption(f"Of {walk.fitting:,} pictures an even part was compared, so that nobody waits for minutes.")
    return place


def _from_the_first() -> None:
    """Another list begins at its beginning, while a picture that somebody followed may lie outside of it."""
    st.session_state.pop(state.PICTURE, None)


def _orders(sample: Sample, views: Sequence[View]) -> dict[str, tuple[StandOut, View] | None]:
    """By what one may go, by its name in the address."""
    orders: dict[str, tuple[StandOut, View] | None] = {_AS_THEY_COME: None}
    orders |= {f"moved {view.name}": ("moved", view) for view in views[1:]}
    if "captions" in sample.texts:
        orders |= {f"worst {view.name}": ("worst", view) for view in views}
    if sample.classes:
        orders |= {f"unlikely {view.name}": ("unlikely", view) for view in views}
    return orders


def _title(order: tuple[StandOut, View] | None, first: View) -> str:
    if order is None:
        return "the sample’s order"
    kind, view = order
    return {
        "moved": f"most moved: {first.look.title} → {view.look.title}",
        "worst": f"worst matched captions: {view.look.title}",
        "unlikely": f"least likely classes: {view.look.title}",
    }[kind]


def _why_here(row: pd.Series, order: tuple[StandOut, View], first: View) -> str:
    """What put a picture where it stands in an order."""
    kind, view = order
    if kind == "moved":
        return f"{percent(row['moved'], 0)} of its ten nearest pictures are others than for {first.look.title}."
    if kind == "worst":
        return f"{view.look.title} puts {row['rank']:,.0f} of {row['of']:,.0f} captions before its own."
    return f"{view.look.title} gives its class {percent(row['probability'])}."


def _stepped(first: View, places: np.ndarray) -> int:
    ids = first.space.sample.manifest["id"]

    def known(picture: str) -> bool:
        try:
            return first.space.place(picture) >= 0
        except SampleError:
            return False

    def go(at: int) -> None:
        st.session_state[state.PICTURE] = str(ids.iloc[places[at % len(places)]])

    picture = state.view(
        "picture", state.PICTURE, str(ids.iloc[places[0]]), lambda says: says[-1] if known(says[-1]) else None,
        lambda picture: [picture], known,
    )  # fmt: skip
    place = first.space.place(picture)
    at = next(iter(np.flatnonzero(places == place)), None)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Previous", icon=":material/arrow_back:", on_click=go, args=(-1 if at is None else at - 1,))
        st.button("Next", icon=":material/arrow_forward:", on_click=go, args=(0 if at is None else at + 1,))
        st.button("Random", icon=":material/casino:", on_click=go, args=(random.randrange(len(places)),))
        if st.session_state.get(state.TRAIL):
            st.button("Back", icon=":material/undo:", on_click=go_back, help="To the picture that led here")
        outside = f"Not one of the {len(places):,} pictures chosen above"
        st.caption(outside if at is None else f"{at + 1:,} of {len(places):,} pictures")
    state.show_in_address("picture", picture)  # the first one too: a link names its picture
    return place
