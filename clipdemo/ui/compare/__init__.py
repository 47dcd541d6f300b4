"""The Compare page: sections, a module each, over the `Shown` comparison, which is read once for everybody."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from clipdemo.comparison import load_comparison
from clipdemo.marks import marked
from clipdemo.ui import live, state, widgets
from clipdemo.ui.compare import (
    board,
    calibration,
    classes,
    confusion,
    pictures,
    prompts,
    report,
    weights,
    worth,
)
from clipdemo.ui.compare.shown import Shown
from clipdemo.ui.live import Look
from clipdemo.workspace import Workspace

COMMANDS = ("compare", "sweep", "interpolate")
_WHAT = {"compare": "The comparison", "sweep": "The sweep", "interpolate": "Mixing the weights"}
_SECTIONS: dict[str, tuple[str, Callable[[Shown], None], bool]] = {  # title, what draws it, whether it needs labels
    "board": ("Who wins", board.draw, False),
    "classes": ("Classes", classes.draw, True),
    "confusion": ("Confusion", confusion.draw, True),
    "pictures": ("Pictures", pictures.draw, True),
    "calibration": ("Calibration", calibration.draw, True),
    "prompts": ("Prompt lab", prompts.draw, True),
    "worth": ("Worth of captions", worth.draw, True),
    "weights": ("Weights", weights.draw, False),
    "report": ("Report", report.draw, False),
}


def look_at(workspace: Workspace, name: str) -> Shown:
    """The comparison of that id, with the switch that leaves marked pictures out where there are any."""
    names = marked(workspace, load_comparison(workspace, name))
    out = bool(names) and st.toggle(
        f"Leave out {len(names):,} pictures marked as wrongly labelled",
        key=state.switched("without_marked", state.WITHOUT_MARKED),
    )
    return Shown.of(workspace, name, names if out else frozenset())


def section(shown: Shown) -> None:
    """One section, chosen by a row of buttons and by the page's address."""
    possible = {name: title for name, (title, _, labels) in _SECTIONS.items() if shown.has_labels or not labels}
    chosen = st.segmented_control(
        "Section", list(possible), required=True, format_func=possible.get, label_visibility="collapsed",
        key=state.one_of("section", list(possible), key=state.SECTION),
    )  # fmt: skip
    _SECTIONS[chosen][1](shown)


def job_card(workspace: Workspace, look: Look) -> None:
    """The work for this page that is going, live; or how it ended, for the visitor who started it."""
    if look.active:
        state.show_in_address("job", look.id)
    elif state.asked_for("job") != look.id:
        return
    elif look.state == "finished":
        state.show_in_address("job", None)
        if "comparison" in look.made:
            state.choose_next("comparison", look.made["comparison"])
        st.success(f"{_WHAT[look.command]} took {widgets.clock(look.seconds)}.", icon=":material/check_circle:")
        return
    with st.container(border=True):
        live.watch(workspace, look, lambda now: _draw(workspace, now))


def _draw(workspace: Workspace, look: Look) -> None:
    if not look.active:
        live.outcome(look, _WHAT[look.command])
        return
    live.heading(look, workspace, _WHAT[look.command])
    live.stages(look, workspace)
