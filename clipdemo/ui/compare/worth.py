"""What captions are worth in labels: a sweep over sizes, and the answer in one number."""

from __future__ import annotations

import streamlit as st

from clipdemo import commands, result_charts, sweep
from clipdemo.presets import configured
from clipdemo.records import MODES
from clipdemo.sweep import SweepConfig, SweepResult
from clipdemo.ui import cached, live, roles, state, widgets
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """The learning curves of both kinds on this sample, with the sentence, or the form that starts a sweep."""
    st.markdown(
        "Captions come for free, labels are paid for. So: **how many labels give as much as all these captions?** A "
        "sweep fine-tunes on ever more of the training pictures, both ways and with several seeds, and measures every "
        "run on the same test pictures."
    )
    found = {
        result.id: result
        for result in sweep.readable_sweeps(shown.workspace)
        if result.sample_hash == shown.comparison.sample_hash
    }
    if found:
        chosen = next(iter(found))
        if len(found) > 1:
            key = state.one_of("sweep", list(found))
            chosen = st.selectbox("Sweep", list(found), format_func=lambda name: _name(found[name]), key=key)
        _result(found[chosen])
    if shown.sample is None:
        return
    with st.expander("A new sweep", icon=":material/add_chart:", expanded=not found):
        _form(shown)


def _name(result: SweepResult) -> str:
    sizes = result.config.sizes
    return f"{sizes[0]:,} to {sizes[-1]:,} pictures, {len(result.config.seeds)} seeds ({result.id})"


def _result(result: SweepResult) -> None:
    known = cached.worth(result)
    if known:
        st.success(f"**{known.in_words()}.**", icon=":material/balance:")
    elif not result.points:
        st.info("Nothing has been measured yet.", icon=":material/hourglass_top:")
        return
    if not result.finished:
        st.caption(
            f":material/hourglass_top: {len(result.points)} of {result.total} runs are measured. The answer needs one "
            "seed of both kinds at all sizes; starting the same sweep again goes on where it was."
        )
    st.plotly_chart(
        result_charts.learning_curves(result, known), key=f"worth {result.id}", config=widgets.chart_config("worth"),
        alt="Top-1 over the number of training pictures, for captions and labels",
    )  # fmt: skip
    n = result.points[0].n
    st.caption(
        f"Bands reach from the lowest to the highest seed; all runs on the same n = {n:,} test pictures. Small parts "
        f"are trained for about as many steps as the whole, {sweep.MAX_EPOCHS} passes at most. The answer is read from "
        "curves that never fall (isotonic regression), straight between sizes on this axis; its interval is a "
        "bootstrap over test pictures and seeds."
    )


def _form(shown: Shown) -> None:
    available = shown.sample.sizes["train"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Sizes", ", ".join(map(str, sweep.halvings(available))), width=360,
            help=f"Training pictures of each point; there are {available:,}.",
        )  # fmt: skip
        seeds = st.number_input("Seeds", 1, 20, 3, width=120, help="More seeds, narrower answer.")
        config = widgets.checked(lambda: _config(shown, text, seeds))
        if roles.button(
            "train", "Start the sweep", type="primary", icon=":material/play_arrow:", disabled=config is None
        ):
            settings = {"sample_id": shown.sample.id, "sweep": config.model_dump(mode="json")}
            live.launch(shown.workspace, "sweep", commands.sweep_arguments(config), settings)
    if config:
        runs = len(config.sizes) * len(config.seeds) * len(config.runs)
        st.caption(f"{runs} runs, one after another, as one job in the queue. It can be stopped and gone on with.")


def _config(shown: Shown, text: str, seeds: int) -> SweepConfig:
    sizes = tuple(sorted({widgets.whole_number(part) for part in text.split(",") if part.strip()}))
    runs = tuple(configured("plain", mode, {}, shown.sample.sizes["train"]) for mode in MODES)
    return sweep.resolved(
        SweepConfig(sample=shown.sample.id, sizes=sizes, seeds=tuple(range(seeds)), runs=runs), shown.sample
    )
