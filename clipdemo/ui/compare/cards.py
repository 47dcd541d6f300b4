"""Test pictures with what every model said to them."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from clipdemo.records import percent
from clipdemo.ui import acts, roles, state, tables, widgets
from clipdemo.ui.compare.shown import Shown

CARDS_A_PAGE = 9


def cards(shown: Shown, places: Sequence[int], key: str, mark: bool = False) -> None:
    """Pictures by their places among the test pictures, some at a time; `mark` adds the box for wrong labels."""
    if not len(places):
        st.info("There is no such picture.", icon=":material/search_off:")
        return
    pages = -(-len(places) // CARDS_A_PAGE)
    page = state.page_of(key, pages)
    first = (page - 1) * CARDS_A_PAGE
    with st.grid(3, min_column_width=300, gap="small") as grid:
        for place in places[first : first + CARDS_A_PAGE]:
            with grid.cell(), st.container(border=True, height="stretch"):
                _card(shown, int(place), mark)
    if pages > 1:
        with st.container(horizontal=True, horizontal_alignment="center"):
            st.pagination(pages, default=page, key=key, max_visible_pages=5)


def _card(shown: Shown, place: int, mark: bool) -> None:
    answers = shown.answers
    name, label = str(answers.ids[place]), str(answers.labels[place])
    picture, said = st.columns([2, 3], gap="small")
    with picture:
        _picture(shown, name, label)
    with said:
        st.markdown(f"**{widgets.plain(label)}** :gray[is its label]")
        for model, look in shown.looks.items():
            right = answers.right(model)[place]
            (first, sure), *others = answers.top(model, place)
            sign = ":green[:material/check:]" if right else ":red[:material/close:]"
            rest = " · ".join(f"{widgets.plain(other)} {tables.unbroken(percent(share, 0))}" for other, share in others)
            st.markdown(
                f"{tables.signed(look)} {sign} **{widgets.plain(first)}** {tables.unbroken(percent(sure, 0))}  \n"
                f":small[:gray[{rest}]]"
            )
    if mark:
        _mark(shown, name)


def _picture(shown: Shown, name: str, label: str) -> None:
    if shown.sample is None:
        st.caption(f":material/hide_image: {widgets.plain(name)}: its sample was deleted.")
        return
    rows = shown.sample.manifest
    row = rows[rows["id"] == name]
    if row.empty:
        st.caption(f":material/hide_image: {widgets.plain(name)} is not in its sample.")
        return
    widgets.picture(shown.sample, row.iloc[0]["image"], f"{label}: {name}")
    if caption := row.iloc[0]["caption"]:
        st.caption(widgets.plain(widgets.shortened(caption, 60)), help=widgets.plain(caption))


def _mark(shown: Shown, name: str) -> None:
    from clipdemo.marks import marked

    is_marked = name in marked(shown.workspace, shown.comparison)
    key, closed = f"mark {shown.comparison.id} {name}", not roles.may("mark")
    now = st.toggle("The label is wrong", is_marked, key=key, disabled=closed)
    if now != is_marked:
        acts.mark(shown.workspace, shown.comparison, name, now)
        st.rerun()
