"""The report, the files behind it, and the commands that make it again."""

from __future__ import annotations

import streamlit as st

from clipdemo import commands
from clipdemo.ui import cached, state
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """One file to keep or hand in, the files behind it, and how to do it again."""
    name = shown.comparison.id
    st.markdown(
        "One HTML file with everything: sample, cleaning, settings, curves, tables, charts, statistics, the commands "
        "to redo it, versions and hashes. It needs no network and prints well."
    )
    pictures = st.toggle(
        "With example pictures", value=shown.comparison.synthetic,
        help="Off: no picture leaves, which is what pictures of patients need.",
    )  # fmt: skip
    with st.container(horizontal=True):
        st.download_button(
            "Download the report", lambda: cached.report(shown.workspace, shown.comparison, shown.without, pictures),
            f"{name}.html", "text/html", type="primary", icon=":material/description:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "Download all tables and predictions (ZIP of CSV)",
            lambda: cached.report_files(shown.workspace, shown.comparison, shown.without, pictures),
            f"{name}.zip", "application/zip", icon=":material/folder_zip:", on_click="ignore",
        )  # fmt: skip
        path = shown.workspace.folder("comparisons", name) / "comparison.json"
        st.download_button(
            "comparison.json", path.read_bytes(), "comparison.json", "application/json",
            icon=":material/data_object:", on_click="ignore",
        )  # fmt: skip
    st.caption(
        "Every chart of this page is saved as SVG by the camera that appears above it, and every chart of the report "
        f"by its own buttons. All of it as files, with charts: `python -m clipdemo report {name}`."
    )
    st.subheader("Do it again", anchor=False)
    st.code("\n".join(commands.redo_commands(shown.comparison)), language="bash", wrap_lines=True)
    st.page_link(
        state.PAGES["data"], label="Its pictures", icon=":material/photo_library:",
        query_params={"sample": shown.comparison.sample},
    )  # fmt: skip
