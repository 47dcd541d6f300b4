"""The parts of the Explore page: what lies near what, and the map of all."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from clipdemo.sampling import Sample
from clipdemo.ui import state
from clipdemo.ui.explore import map, near
from clipdemo.ui.explore.views import COMMANDS, View, choose_models, job_card, prepared
from clipdemo.workspace import Workspace

__all__ = ["COMMANDS", "choose_models", "job_card", "look", "prepared"]

_WAYS = {
    "picture": ":material/image: A picture of the sample",
    "words": ":material/edit: Words",
    "own": ":material/upload: A picture of mine",
    "map": ":material/scatter_plot: The map of all",
}


def look(workspace: Workspace, sample: Sample, views: Sequence[View]) -> None:
    """One of the ways to look at a sample; which one rides in the address."""
    if st.session_state.get(state.EXPLORED) not in (None, sample.id):  # nothing leads back into another sample
        st.session_state.pop(state.PICTURE, None)
        st.session_state.pop(state.TRAIL, None)
    st.session_state[state.EXPLORED] = sample.id
    key = state.one_of("section", list(_WAYS), key=state.WAY)
    way = st.segmented_control("Start from", list(_WAYS), required=True, key=key, format_func=_WAYS.get)
    if way == "picture":
        near.to_a_picture(sample, views)
    elif way == "words":
        near.to_words(sample, views)
    elif way == "own":
        near.to_an_upload(sample, views)
    else:
        map.draw(workspace, sample, views)
