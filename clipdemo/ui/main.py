"""The frame around every page. Streamlit runs this file for each visitor and each click."""

from pathlib import Path

import streamlit as st

from clipdemo import jobs
from clipdemo.ui import projector, state, widgets

ROOT = Path(__file__).resolve().parent.parent.parent

st.set_page_config(page_title="clipdemo", page_icon=ROOT / "assets" / "icon.svg", layout="wide")
st.logo(ROOT / "assets" / "logo.svg", size="large")
jobs.reap()

page = st.navigation(
    [
        st.Page(state.PAGES["home"], title="Home", icon=":material/home:", default=True),
        st.Page(state.PAGES["data"], title="Data", icon=":material/photo_library:", url_path="data"),
        st.Page(state.PAGES["train"], title="Train", icon=":material/model_training:", url_path="train"),
        st.Page(state.PAGES["compare"], title="Compare", icon=":material/leaderboard:", url_path="compare"),
        st.Page(state.PAGES["explore"], title="Explore", icon=":material/travel_explore:", url_path="explore"),
        st.Page(state.PAGES["classify"], title="Classify", icon=":material/image_search:", url_path="classify"),
        st.Page(state.PAGES["share"], title="Share", icon=":material/share:", url_path="share"),
    ],
    position="top",
)
projector.apply()
with widgets.centred():
    page.run()
