"""Between base and fine-tuned weights: what is gained here, and what is forgotten elsewhere."""

from __future__ import annotations

import streamlit as st

from clipdemo import result_charts
from clipdemo.general import meaning
from clipdemo.interpolation import Interpolation
from clipdemo.records import Evaluation, percent
from clipdemo.training.runs import load_run
from clipdemo.ui import cached, live, roles, state, tables, widgets
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """A slider from a run's base to the run, with accuracy on this sample and on a general set."""
    tuned = {model.predictions: model for model in shown.comparison.models if model.run}
    if not tuned:
        st.info("There is no fine-tuned model in this comparison.", icon=":material/info:")
        return
    st.markdown(
        "Weights of base and fine-tuned model can be **mixed** (WiSE-FT, Wortsman et al. 2022). On the way from one to "
        "the other, accuracy rises on what was trained for and often falls on what was known before."
    )
    chosen = st.segmented_control(
        "Run", list(tuned), required=True, key=state.one_of("mix", list(tuned)),
        format_func=lambda name: tables.signed(shown.looks[name]),
    )  # fmt: skip
    model = tuned[chosen]
    found = cached.interpolation(shown.workspace, model, shown.sample) if shown.sample else None
    if found is None:
        _offer(shown, model)
        return
    _slider(found, model)


def _offer(shown: Shown, model: Evaluation) -> None:
    if shown.sample is None or model.run not in shown.workspace.names("runs"):
        st.info("The run or its sample was deleted, so its weights cannot be mixed any more.", icon=":material/info:")
        return
    st.caption("Eleven mixes are measured once, and kept. That takes about as long as a few passes of training.")
    if roles.button("measure", "Measure the way from base to tuned", type="primary", icon=":material/play_arrow:"):
        run = load_run(shown.workspace, model.run)
        settings = {"sample_id": run.sample, "run": run.id}
        live.launch(shown.workspace, "interpolate", ["--run", run.id], settings)


def _slider(found: Interpolation, model: Evaluation) -> None:
    shares = [point.share for point in found.points]
    best = found.recommended
    key = state.one_of("share", shares, best.share, key=f"share {found.id}")
    share = st.select_slider("Share of the tuned weights", shares, key=key)
    point = found.points[shares.index(share)]
    base = found.points[0]
    with st.grid(3, min_column_width=200, gap="small"):
        for title, name in (("Validation", "validation"), ("Test", "test"), ("General set", "general")):
            hits, before = getattr(point, name), getattr(base, name)
            gain = f"{100 * (hits.fraction - before.fraction):+.1f} points against base"
            st.metric(f"{title}, n = {hits.n:,}", percent(hits.fraction), gain, border=True)
    st.plotly_chart(
        result_charts.interpolation_curves(found, model.name, share), key=f"weights {found.id}",
        config=widgets.chart_config("weights"), alt="Accuracy between base and tuned weights",
    )  # fmt: skip
    st.caption(
        f"**{best.share:g} is best on validation pictures**, and that is what a choice should be made by; test numbers "
        f"are for the eyes only. Validation alone says nothing about forgetting, so look at the general set as well. "
        f"{meaning(found.base)}"
    )
