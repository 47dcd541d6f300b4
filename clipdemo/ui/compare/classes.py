"""Class by class: bars with their intervals, and behind each bar its pictures."""

from __future__ import annotations

import html

import streamlit as st

from clipdemo import result_charts
from clipdemo.ui import state, widgets
from clipdemo.ui.compare.cards import cards
from clipdemo.ui.compare.shown import Shown

_ORDERS = {"frequency": "frequency", "gain": "gain over base", "difficulty": "difficulty", "name": "name"}


def draw(shown: Shown) -> None:
    """Grouped bars a class, in an order of one's choice; a click on a bar opens its class's pictures."""
    tuned = [model for model in shown.looks if shown.looks[model].kind != "base"] or list(shown.looks)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = st.segmented_control(
            "Sorted by", list(_ORDERS), required=True, format_func=_ORDERS.get, key=state.one_of("order", list(_ORDERS))
        )
        of = tuned[-1]
        if order in ("gain", "difficulty") and len(tuned) > 1:
            of = st.selectbox(
                "of", tuned, format_func=lambda m: shown.looks[m].signed, width=260, key=state.one_of("of", tuned, of)
            )
    names = result_charts.ordered_classes(shown.classes, order, of)
    chart = f"classes {shown.comparison.id} {order} {of}"
    event = st.plotly_chart(
        result_charts.class_bars(
            shown.classes.assign(**{"class": shown.classes["class"].map(result_charts.escaped)}),
            shown.chart_looks,
            [result_charts.escaped(name) for name in names],
        ),
        key=chart,
        on_select="rerun",
        selection_mode="points",
        config=widgets.chart_config("classes"),
        alt="Top-1 of each class and model with 95 % intervals",
    )
    st.caption(
        "The lines are 95 % intervals (Wilson). Where they are as wide as the difference, a class has too few pictures "
        "to tell. A click on a bar shows its class’s pictures."
    )
    points = event["selection"]["points"]
    clicked = html.unescape(str(points[0]["customdata"][0])) if points else None
    if state.is_new_click("classes", chart, clicked):
        st.session_state[state.BAR] = clicked
    label = st.session_state[state.one_of("class", [None, *names], key=state.BAR)]
    if label is not None:
        st.subheader(f"{widgets.plain(label)}: its test pictures", anchor=False)
        cards(shown, shown.answers.of_class(label), key=f"cards {shown.comparison.id} {label}")
