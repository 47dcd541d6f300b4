"""What a visitor's session remembers: ids and choices. Every session-state key and URL parameter is named here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import streamlit as st

from clipdemo.records import RunConfig
from clipdemo.survey import Survey
from clipdemo.workspace import Workspace

Kind = Literal["sample", "comparison", "job", "section", "picture", "labels"]
Page = Literal["home", "data", "train", "compare", "explore", "classify", "share"]

_FOLDER = Path(__file__).resolve().parent.parent.parent / "pages"
PAGES: dict[Page, Path] = {name: _FOLDER / f"{name}.py" for name in get_args(Page)}

BASIC = ("epochs", "batch_size", "learning_rate", "patience")  # widgets of the Train page, named like the settings
LEARNING_RATE, BATCH_SIZE = "learning_rate", "batch_size"
TEACHER = "is_teacher"  # whether this session knows the teacher's code
PROJECTOR = "projector"
MODE = "mode"
RECIPE = "recipe"
MORE = "more_settings"  # whether the Train page shows them
FOLLOW, SHOWN = "follow", "shown"  # whether live curves move on, and how many lines of each run they show
GALLERY_PAGE = "gallery_page"
SECTION = "compare_section"
WITHOUT_MARKED = "without_marked"
WAY = "explore_way"
PLACE = "place"  # of the picture that Explore looks at, in the sample's manifest

EXAMPLE, ANSWERS = "classify_example", "classify_answers"
EXPORT = "export"
LOOKED, HEAT = "where_they_looked", "heat_maps"

MAX_UPLOAD_MEGABYTES = 1024  # an upload is held in memory until it is written down


def workspace() -> Workspace:
    """The folder that everything lives in. Raises `WorkspaceError` when it cannot be written."""
    return Workspace()


def choice_key(kind: Kind) -> str:
    """The key of the widget that chooses one thing of a kind."""
    return f"chosen_{kind}"


def asked_for(kind: Kind) -> str | None:
    """The id that the page's address names, whatever it is worth."""
    return st.query_params.get(kind)


def show_in_address(kind: Kind, name: str | None) -> None:
    """Puts an id into the page's address, so that a reload or a shared link comes back to it."""
    if name is None:
        st.query_params.pop(kind, None)
    elif st.query_params.get(kind) != name:
        st.query_params[kind] = name


def choose_next(kind: Kind, name: str) -> None:
    """Has the next run of the page choose this id."""
    st.session_state[f"next_{kind}"] = name


def take_next(kind: Kind) -> str | None:
    """The id that `choose_next` left, once."""
    return st.session_state.pop(f"next_{kind}", None)


def notice(text: str) -> None:
    """Leaves a line for the next run of the page to show."""
    st.session_state["notice"] = text


def take_notice() -> str | None:
    """The line that `notice` left, once."""
    return st.session_state.pop("notice", None)


def duplicate(config: RunConfig | None) -> None:
    """Has the Train page's form start from these settings; None: from its recipe again."""
    st.session_state["duplicated"] = config
    if config:
        st.session_state[MODE] = config.mode
        for name in BASIC:
            st.session_state[name] = getattr(config, name)


def duplicated() -> RunConfig | None:
    """The settings that `duplicate` left."""
    return st.session_state.get("duplicated")


def remember_columns(place: str, survey: Survey) -> None:
    """Keeps the columns that a look at this path or dataset found, for choosing among them."""
    columns = list(survey.available_columns)
    if st.session_state.get(f"columns {place}") != columns:
        st.session_state[f"columns {place}"] = columns
        st.rerun()  # the choice stands above what was found


def known_columns(place: str) -> list[str]:
    """The columns that `remember_columns` kept for this path or dataset."""
    return st.session_state.get(f"columns {place}", [])
