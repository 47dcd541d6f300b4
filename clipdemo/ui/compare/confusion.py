"""What is taken for what: all models' confusion matrices, and behind each cell its pictures."""

from __future__ import annotations

import html

import numpy as np
import streamlit as st

from clipdemo import result_charts
from clipdemo.evaluation import confusion
from clipdemo.ui import state, tables, widgets
from clipdemo.ui.compare.cards import cards
from clipdemo.ui.compare.shown import Shown


def draw(shown: Shown) -> None:
    """Matrices side by side on one colour scale; a click on a cell opens its pictures with every model's answer."""
    st.markdown(
        "Each line is a class, each column an answer. The darker a cell, the larger its part of the line; what is "
        "right lies on the diagonal. **Click a cell to see its pictures.**"
    )
    answers = shown.answers
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
            _take_click(model, event["selection"]["points"])
    if not (cell := _cell(shown)):
        return
    model, label, answer = cell
    places = answers.cell(model, label, answer)
    places = places[counts_for[places]]
    what = "called right" if label == answer else f"called {widgets.plain(answer)}"
    by = tables.signed(shown.looks[model])
    st.subheader(f"{widgets.plain(label)}, {what} by {by} ({len(places):,})", anchor=False)
    cards(shown, places, key=f"cards {model} {label} {answer}")


def _take_click(model: str, points: list[dict]) -> None:
    """Has the cell of a new click shown. Every matrix keeps its own click, so the newest is told by its change."""
    cell = [model, *(html.unescape(str(name)) for name in points[0]["customdata"][:2])] if points else []
    before = st.session_state.get(state.CELL) or [model]
    if state.is_new_click(f"confusion {model}", model, cell or None) and (cell or before[0] == model):
        st.session_state[state.CELL] = cell


def _cell(shown: Shown) -> list[str]:
    """Model, class and answer of the cell that is looked at; none where there is no such cell."""
    classes = shown.answers.classes

    def there(cell: list[str]) -> bool:
        return len(cell) == 3 and cell[0] in shown.looks and cell[1] in classes and cell[2] in classes

    return state.view("cell", state.CELL, [], lambda says: says if there(says) else None, list, there)
