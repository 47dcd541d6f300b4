"""Projector mode: larger type for the back of the room, and nothing above the page but the way to the others."""

from __future__ import annotations

import streamlit as st

from clipdemo.ui import state

# Streamlit measures in rem, so the root's size carries everything with it; no name of its own is relied on.
_LARGE = "<style>html { font-size: 24px !important; }</style>"


def apply() -> None:
    """Draws this session large where its address, or its own switch, asked for it; `?projector=0` ends it."""
    asked = st.query_params.get(state.PROJECTOR)
    if asked in ("0", "1"):
        st.session_state[state.PROJECTOR] = asked == "1"
    if is_on():
        st.html(_LARGE)


def is_on() -> bool:
    """Whether this session is drawn large."""
    return bool(st.session_state.get(state.PROJECTOR))


def switch() -> None:
    """The switch, and the address that carries it."""
    on = st.toggle(
        "Projector mode", is_on(), help="Large type, for the back of the room. A link with ?projector=1 opens so."
    )
    if on != is_on():
        st.session_state[state.PROJECTOR] = on
        st.query_params[state.PROJECTOR] = "1" if on else "0"
        st.rerun()
