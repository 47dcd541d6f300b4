"""What is taken for what: all models' confusion matrices, and behind each cell its pictures."""

from __future__ import annotations

import html

import numpy as np
import streamlit as st

from clipdemo import result_charts
from clipdemo.evaluation import confusion
from clipdemo.ui import tables, widgets
from clipdemo.ui.compare.cards import cards
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """Matrices side by side on one colour scale; a click on a cell opens its pictures with every model's answer."""
    st.markdown(
        "Each line is a class, each column an answer. The darker a cell, the larger its part of the line; what is "
        "right lies on the diagonal. **Click a cell to see its pictures.**"
    )
    answers, clicked = shown.answers, None
    counts_for = ~np.isin(answers.ids, list(shown.without))
    with st.grid(min(3, max(2, len(shown.looks))), min_column_width=345, gap="small") as grid:
        for model, look in shown.looks.items():
            counts = confusion(answers.said[model][counts_for], answers.target[counts_for], len(answers.classes))
            with grid.cell():
                st.markdown(f"**{tables.signed(look)}**")
                event = st.plotly_chart(
                    result_charts.confusion_matrix(counts, [result_charts.escaped(name) for name in answers.classes]),
                    key=f"confusion {model}",
                    on_select="rerun",
                    selection_mode="points",
                    config=widgets.chart_config(f"confusion-{look.title}"),
                    alt=f"Confusion matrix of {look.title}",
                )
            if points := event["selection"]["points"]:
                cell = tuple(html.unescape(str(name)) for name in points[0]["customdata"][:2])
                clicked = _newest(model, cell) or clicked
    if clicked is None:
        return
    model, (label, answer) = clicked
    if model not in shown.looks or label not in answers.classes or answer not in answers.classes:
        return
    places = answers.cell(model, label, answer)
    places = places[counts_for[places]]
    what = "called right" if label == answer else f"called {widgets.plain(answer)}"
    by = tables.signed(shown.looks[model])
    st.subheader(f"{widgets.plain(label)}, {what} by {by} ({len(places):,})", anchor=False)
    cards(shown, places, key=f"cards {model} {label} {answer}")


def _newest(model: str, cell: tuple[str, str]) -> tuple[str, tuple[str, str]] | None:
    """This cell, where it is the one clicked last: every matrix keeps its own click, so a new one is told by change."""
    seen = st.session_state.setdefault("confusion_clicks", {})
    if seen.get(model) != cell:
        seen[model] = cell
        st.session_state["confusion_clicked"] = (model, cell)
    return st.session_state.get("confusion_clicked")
