"""Whether a model is as sure as it is right."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from clipdemo import result_charts
from clipdemo.evaluation import Calibration
from clipdemo.records import percent
from clipdemo.ui import cached, state, tables, widgets
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """Reliability diagram and expected calibration error, with the learned temperature and with a fitted one."""
    st.markdown(
        "A model that says 80 % should be right 8 times of 10. On the dotted line it is; below it, it is too sure of "
        "itself. The temperature decides how sure: CLIP learns one, and another can be fitted on validation pictures "
        "without changing any answer."
    )
    which = st.segmented_control(
        "Temperature", ["learned", "fitted"], required=True, key=state.one_of("temperature", ["learned", "fitted"]),
        format_func={"learned": "learned in training", "fitted": "fitted on validation"}.get,
    )  # fmt: skip
    found = {
        name: cached.calibrations(shown.workspace, shown.comparison, shown.without, fitted=name == "fitted")
        for name in ("learned", "fitted")
    }
    st.plotly_chart(
        result_charts.reliability(found[which], shown.chart_looks),
        key=f"reliability {which}",
        config=widgets.chart_config("reliability"),
        alt="Confidence against how often answers are right",
    )
    models = {model.predictions: model for model in shown.comparison.models}
    rows = [
        {
            "Model": tables.signed(shown.looks[name]),
            "Temperature, learned": _temperature(models[name].logit_scale),
            "Calibration error": _error(found["learned"].get(name)),
            "Temperature, fitted": _temperature(models[name].validation_logit_scale),
            "Calibration error then": _error(found["fitted"].get(name)),
        }
        for name in shown.looks
    ]
    st.table(pd.DataFrame(rows), border="horizontal", hide_index=True)
    st.caption(
        f"Expected calibration error over 10 bins of equal width (Guo et al. 2017), n = {shown.n:,} test "
        "pictures. A sign’s area is its bin’s number of pictures; small bins jump by chance."
    )


def _temperature(logit_scale: float | None) -> str:
    return f"{1 / logit_scale:.4f}" if logit_scale else "–"


def _error(found: Calibration | None) -> str:
    return tables.unbroken(percent(found.ece)) if found and found.ece is not None else "–"
