"""What a visitor's session remembers: ids and choices. Every session-state key and URL parameter is named here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

import streamlit as st

from clipdemo.records import RunConfig
from clipdemo.survey import Survey
from clipdemo.workspace import Workspace

Kind = Literal["sample", "comparison", "job"]  # things with an id that the page's address names
View = Literal[  # what somebody looks at of these; rides in the address where it is not what the page shows anyway
    "section", "page", "class", "classes", "split", "splits", "modality", "words", "order", "of", "cell",
    "without_marked", "before", "after", "temperature", "sentences", "wordings", "on_test", "sweep", "mix", "share",
    "models", "answers", "picture", "map", "about", "shown", "colours", "labels", "sentence",
    "captions_run", "labels_run", "run", "looked", "among", "mine",
]  # fmt: skip
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
RUNS, RUNS_LISTED = "runs", "runs_listed"  # the table of runs, and their ids as it listed them
SECTION = "compare_section"
WITHOUT_MARKED = "without_marked"
BAR, CELL, CLICKS = "classes_bar", "confusion_cell", "clicks"  # what was clicked in charts, and what they said last
SENTENCES = "sentences"
WAY = "explore_way"
PICTURE = "explore_picture"  # the id of the picture that Explore looks at
EXPLORED = "explored_sample"  # whose pictures PICTURE and TRAIL are
TRAIL = "explore_trail"  # ids of those that led there, by clicks on neighbours

PICTURES_FROM = "pictures_from"
EXAMPLE, ANSWERS = "classify_example", "classify_answers"
EXPORT = "export"
LOOKED, HEAT = "where_they_looked", "heat_maps"

MAX_UPLOAD_MEGABYTES = 1024  # an upload is held in memory until it is written down

_MOST_OF_AN_ID = 120  # characters; the workspace's have up to 100
_VISIT, _TAKEN, _DRAWN = "visited_page", "views_taken", "views_drawn"
T = TypeVar("T")


def workspace() -> Workspace:
    """The folder that everything lives in. Raises `WorkspaceError` when it cannot be written."""
    return Workspace()


def choice_key(kind: Kind) -> str:
    """The key of the widget that chooses one thing of a kind."""
    return f"chosen_{kind}"


def asked_for(kind: Kind) -> str | None:
    """The id that the page's address names, whatever it is worth, as far as an id can be long."""
    asked = st.query_params.get(kind)
    return None if asked is None else asked[:_MOST_OF_AN_ID]


def show_in_address(name: Kind | View, value: str | list[str] | None) -> None:
    """Puts an id or a view into the page's address, so that a reload or a shared link comes back to it."""
    if value is None:
        st.query_params.pop(name, None)
    elif st.query_params.get_all(name) != ([value] if isinstance(value, str) else value):
        st.query_params[name] = value


# ---- views: what a widget shows, in the address and back


def begin_views(page: str) -> None:
    """Notes that a page is drawn from its top; its address is read anew where it is another one than before."""
    if st.session_state.get(_VISIT) != page:
        st.session_state[_VISIT], st.session_state[_TAKEN] = page, set()
    st.session_state[_DRAWN] = set()


def end_views() -> None:
    """Takes views out of the address that this page has shown and does not show any more."""
    for name in st.session_state[_TAKEN] - st.session_state[_DRAWN]:
        show_in_address(name, None)


def asked_view(name: View) -> list[str]:
    """What the address asks for, the first time that a visit to the page wants to know; then the session counts.

    Later the address may be older than the session: a browser sends it as it was when somebody clicked.
    """
    taken = st.session_state.setdefault(_TAKEN, set())
    st.session_state.setdefault(_DRAWN, set()).add(name)
    asked = [] if name in taken else st.query_params.get_all(name)
    taken.add(name)
    return asked


def view(
    name: View,
    key: str,
    default: T,
    read: Callable[[list[str]], T | None],
    write: Callable[[T], list[str]],
    holds: Callable[[T], bool] = lambda value: True,
) -> T:
    """What the widget of this key is to show, put into its state and the address: call it before the widget is made.

    That is what the address asked for, else what the session holds where it `holds` still, else the default, which
    the address leaves out. `read` gives None for an address that names nothing; `write` gives none, one or more values,
    and what would not be read back is not written.
    """
    value = read(asked) if (asked := asked_view(name)) else None
    if value is None:
        value = st.session_state.get(key)
        if value is None or not holds(value):
            value = default
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value
    says = write(value)
    show_in_address(name, says if says and says != write(default) and read(says) is not None else None)
    return value


def one_of(name: View, options: Sequence[T], default: T | None = None, key: str | None = None) -> str:
    """The key of a widget that chooses one of these, with its view settled; the default is the first."""
    key, known = key or f"view_{name}", {str(option): option for option in options}
    default = next(iter(options), None) if default is None else default
    view(name, key, default, lambda says: known.get(says[-1]), lambda value: [str(value)], lambda v: v in options)
    return key


def some_of(
    name: View, options: Sequence[str], default: Sequence[str] = (), key: str | None = None, most: int | None = None
) -> str:
    """The key of a widget that chooses any of these, at `most` so many, with its view settled."""
    key = key or f"view_{name}"
    now = st.session_state.get(key, [])
    if (kept := [value for value in now if value in options]) != now:
        st.session_state[key] = kept

    def read(says: list[str]) -> list[str] | None:
        return [value for value in dict.fromkeys(says) if value in options][:most] or None

    view(name, key, list(default), read, list)
    return key


def switched(name: View, key: str | None = None) -> str:
    """The key of a switch that is off at first, with its view settled."""
    key = key or f"view_{name}"
    view(name, key, False, lambda says: True if says == ["1"] else None, lambda on: ["1"] if on else [])
    return key


def text(name: View, most: int, key: str | None = None) -> str:
    """The key of a line of text of at most so many characters, empty at first, with its view settled."""
    key = key or f"view_{name}"
    view(name, key, "", lambda says: says[-1] if readable(says[-1], most) else None, lambda line: [line])
    return key


def readable(line: str, most: int) -> bool:
    """Whether a line from an address is text that somebody may have typed."""
    return len(line) <= most and line.isprintable() and "\ufffd" not in line  # that stands for bytes that are no text


def page_of(key: str, pages: int) -> int:
    """The page from 1 that a pagination of this key is to show by `default`; the last where there are fewer now."""
    if st.session_state.get(key, 1) > pages:
        st.session_state[key] = pages
    says = asked_view("page")[-1:]
    known = [int(page) for page in says if re.fullmatch("[0-9]{1,6}", page) and 1 <= int(page) <= pages]
    page = known[0] if known else st.session_state.get(key, 1)
    show_in_address("page", str(page) if page > 1 else None)
    return page


def is_new_click(place: str, chart: str, click: object) -> bool:
    """Whether somebody has clicked in the chart of this key, or taken a click back, since this place was last drawn.

    A chart keeps its click, so what else was asked for counts until there is another one.
    """
    seen = st.session_state.setdefault(CLICKS, {})
    chart_before, click_before = seen.get(place, (chart, None))
    seen[place] = chart, click
    return click != (click_before if chart_before == chart else None)


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
