"""Pictures that fine-tuning fixed or broke, that nobody gets, and those whose label may be wrong."""

from __future__ import annotations

import streamlit as st

from clipdemo.marks import marked
from clipdemo.ui import state
from clipdemo.ui.compare.cards import cards
from clipdemo.ui.compare.shown import Shown

_KINDS = {
    "fixed": ":material/trending_up: Fixed",
    "broken": ":material/trending_down: Broken",
    "neither": ":material/block: Neither gets",
    "nobody": ":material/sentiment_dissatisfied: Nobody gets",
    "court": ":material/gavel: Label court",
}


def draw(shown: Shown) -> None:
    """Test pictures by what two models make of them, with every model's first answers."""
    kind = st.segmented_control(
        "Which", list(_KINDS), required=True, format_func=_KINDS.get, label_visibility="collapsed",
        key=state.one_of("shown", list(_KINDS)),
    )  # fmt: skip
    if kind == "court":
        _court(shown)
        return
    places = shown.answers.nobody()
    if kind != "nobody":
        before, after = _two_models(shown)
        places = shown.answers.changed(before, after, kind)
    n = len(shown.answers.ids)
    says = {
        "fixed": "wrong before, right after",
        "broken": "right before, wrong after",
        "neither": "wrong with both",
        "nobody": "wrong with every model",
    }
    st.markdown(f"**{len(places):,} of {n:,}** test pictures are {says[kind]}; the surest answers first.")
    cards(shown, places, key=f"cards {shown.comparison.id} {kind}")


def _two_models(shown: Shown) -> tuple[str, str]:
    models = list(shown.looks)

    def choose(title: str, name: state.View, default: str) -> str:
        key = state.one_of(name, models, default)
        return st.selectbox(title, models, format_func=lambda m: shown.looks[m].signed, width=280, key=key)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        return choose("Before", "before", models[0]), choose("After", "after", models[-1])


def _court(shown: Shown) -> None:
    """Pictures where all models agree against the label, to be marked, and the numbers with and without them."""
    places = shown.answers.against_label()
    st.markdown(
        f"All models give **the same answer, and it is not the label**, for {len(places):,} pictures. Models that "
        "were shown such labels may share a mistake, so look before you judge. Marks are kept with this comparison, "
        "for everybody who looks at it."
    )
    names = marked(shown.workspace, shown.comparison)
    if names:
        st.markdown(f"**{len(names):,} marked.** The switch above the sections leaves them out of all numbers.")
    cards(shown, places, key=f"cards {shown.comparison.id} court", mark=True)
