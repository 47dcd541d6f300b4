"""The parts of the Home page."""

from __future__ import annotations

import streamlit as st

from clipdemo import commands
from clipdemo.appearance import appearances
from clipdemo.comparison import load_comparison
from clipdemo.experiment import runs_for
from clipdemo.models import ASSETS
from clipdemo.records import Comparison, Evaluation, SampleConfig, percent
from clipdemo.ui import live, roles, state, tables, widgets
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

PIPELINE = (ASSETS / "pipeline.svg").read_text()

QUICK, FULL, OTHER = "Quick · 1,024 pictures", "Full · 4,096 pictures", "Another size"
_SIZES = {QUICK: 1024, FULL: 4096}


def launch_form(workspace: Workspace, again: bool) -> None:
    """The button that runs the whole experiment, with its two settings: size and seed."""
    if roles.says_why_not("train"):
        return
    with st.container(border=True):
        st.subheader("Run it again" if again else "Run it yourself", anchor=False)
        st.markdown("Quick takes a few minutes on a laptop, full is the paper’s size. No network is needed.")
        size = st.segmented_control("Size", [QUICK, FULL, OTHER], default=QUICK, required=True)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            samples = _SIZES.get(size)
            if samples is None:
                samples = st.number_input("Pictures", 12, 100_000, 512, step=64, width=180, help="All splits together.")
            seed = st.number_input(
                "Seed", 0, 2**32 - 1, 0, width=180, help="The same seed gives the same numbers; others show chance."
            )
            pressed = st.button("Run the whole experiment", type="primary", icon=":material/play_arrow:")
    config = widgets.checked(lambda: SampleConfig(samples=samples, seed=seed))
    if config and pressed:
        runs = runs_for(config, settings={"seed": seed})
        settings = {"sample": config.model_dump(mode="json"), "runs": [run.model_dump(mode="json") for run in runs]}
        live.launch(workspace, "experiment", commands.sample_arguments(config), settings)


def experiment_card(workspace: Workspace, look: Look) -> None:
    """The experiment that is going, live; or how the last one ended, with its numbers."""
    with st.container(border=True):
        live.watch(workspace, look, lambda now: _draw(workspace, now))


def _draw(workspace: Workspace, look: Look) -> None:
    if look.active:
        live.heading(look, workspace, "The experiment")
        live.stages(look, workspace)
    else:
        live.outcome(look, "The experiment")
    if look.made.get("comparison") in workspace.names("comparisons"):
        _result(workspace, look.made["comparison"])
    live.curves(live.runs_of(workspace, look), key="home")


def _result(workspace: Workspace, name: str) -> None:
    """Three numbers and the way to the rest."""
    comparison = load_comparison(workspace, name)
    model_cards(comparison)
    st.page_link(
        state.PAGES["compare"],
        label="See the whole comparison",
        icon=":material/leaderboard:",
        query_params={"comparison": name},
    )


def model_cards(comparison: Comparison) -> None:
    """Top-1 of each model (recall@1 without labels) in large type, with the points above the base and n."""
    base = next((model for model in comparison.models if model.name == "base"), None)
    looks = appearances(comparison)
    with st.grid(3, min_column_width=200, gap="small"):
        for model in comparison.models:
            value, below = _headline(model)
            # with a plain hyphen for minus: by it st.metric tells a loss from a gain
            gain = None if base in (None, model) else f"{100 * (value - _headline(base)[0]):+.1f} points against base"
            with st.container(border=True, height="stretch"):
                st.metric(tables.signed(looks[model.predictions]), percent(value), gain)
                st.caption(below)


def _headline(model: Evaluation) -> tuple[float, str]:
    """The number that matters most, and the line below it."""
    if model.top1 is not None:
        return model.top1, f"top-1 · top-3 {percent(model.top3)} · n = {model.n:,} test pictures"
    found = model.retrieval
    return (
        found.image_to_text[1],
        f"find their own caption at once · in ten {percent(found.image_to_text[10])} · n = {found.n:,} test pictures",
    )


def where_one_stands(workspace: Workspace) -> None:
    """How much there is already, and the way to it."""
    st.subheader("Where you stand", anchor=False)
    stand = (
        ("Samples", "samples", "data", "Look at the pictures", ":material/photo_library:"),
        ("Runs", "runs", "train", "Train one yourself", ":material/model_training:"),
        ("Comparisons", "comparisons", "compare", "See who wins", ":material/leaderboard:"),
    )
    with st.grid(3, min_column_width=200, gap="small"):
        for title, kind, page, link, icon in stand:
            with st.container(border=True):
                st.metric(title, len(workspace.names(kind)))
                st.page_link(state.PAGES[page], label=link, icon=icon)
