"""Pieces that several pages show: the frame with its one place for errors, chosen things, empty states."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import streamlit as st

from clipdemo.errors import BadSettings, ClipDemoError
from clipdemo.sampling import Sample
from clipdemo.ui import cached, state

PAGE_WIDTH_PIXELS = 1120  # wide enough for three columns, narrow enough to read on a projector

SYNTHETIC = "These pictures are synthetic: drawn by this program, of nobody, and not for diagnosis."


@contextmanager
def centred() -> Iterator[None]:
    """Keeps a page at a readable width in the middle of a wide screen."""
    with st.container(horizontal_alignment="center"), st.container(width=PAGE_WIDTH_PIXELS):
        yield


@contextmanager
def page(title: str, lead: str) -> Iterator[None]:
    """A page's title and opening line; whatever a reader can mend goes wrong inside is shown as one line."""
    st.title(title, anchor=False)
    st.markdown(lead)
    with guarded():
        if line := state.take_notice():
            st.toast(line, icon=":material/check_circle:")
        state.begin_views(title)
        yield
        state.end_views()


@contextmanager
def guarded() -> Iterator[None]:
    """Shows a `ClipDemoError` as one line. Every page body and every fragment that reruns alone stands inside."""
    try:
        yield
    except ClipDemoError as error:
        st.error(plain(str(error)), icon=":material/error:")


def choose(kind: state.Kind, names: Sequence[str], label: str) -> str | None:
    """One of `names`, chosen by widget and by the page's address; None, with one line why, for an unknown id."""
    key = state.choice_key(kind)
    if (following := state.take_next(kind)) in names:
        st.session_state[key] = following
    asked = state.asked_for(kind)
    known = asked is None or asked in names or st.session_state.get(key) in names
    if not known:
        st.error(f"There is no {kind} “{plain(asked[:80])}” in this workspace: choose one of those below.")
    if key not in st.session_state:
        st.session_state[key] = None if not known else asked or names[0]
    index = None if st.session_state[key] is None else 0
    chosen = st.selectbox(label, names, key=key, index=index, placeholder=f"Choose a {kind}")
    if chosen:
        state.show_in_address(kind, chosen)
    return chosen


def empty(text: str, page: state.Page, link: str, icon: str) -> None:
    """What to do where there is nothing yet, with the way there."""
    with st.container(border=True):
        st.markdown(text)
        st.page_link(state.PAGES[page], label=link, icon=icon)


def synthetic_note(synthetic: bool) -> None:
    """The line that every page with drawn pictures, or numbers from them, shows."""
    if synthetic:
        st.caption(f":material/info: {SYNTHETIC}")


def picture(sample: Sample, image: str, alt: str, small: bool = True) -> None:
    """A picture of a sample, `small` for rows and grids; a sign where its file is gone or broken."""
    try:
        data = cached.thumbnail(sample, image) if small else sample.picture(image)
        st.image(data, width="stretch", alt=alt)
    except (ClipDemoError, OSError):
        st.caption(f":material/hide_image: {plain(image)} cannot be read.")


def plain(text: str) -> str:
    """Text from outside, so that Markdown shows it as it is: no link, no picture, no colour, no formula."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:^=&@])", r"\\\1", " ".join(text.split()))


def shortened(text: str, characters: int) -> str:
    """At most so many characters, cut at a word, with an ellipsis where something is missing."""
    return text if len(text) <= characters else text[:characters].rsplit(" ", 1)[0] + " …"


def clock(seconds: float) -> str:
    """151 -> "2 min 31 s"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def checked(make: Callable[[], object]) -> object | None:
    """What `make` builds; None, and its complaint as one line, where settings cannot work."""
    with guarded():
        return make()
    return None


def chart_config(name: str, *tools: str) -> dict[str, object]:
    """A chart's bar with Plotly's tools of these names, and one that saves it as SVG under this name."""
    return {
        "displaylogo": False,
        "modeBarButtons": [[*tools, "toImage"]],
        "toImageButtonOptions": {"format": "svg", "filename": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")},
    }


def whole_number(text: str) -> int:
    """What somebody has typed, as a whole number. Raises `BadSettings` for anything else."""
    try:
        return int(text.strip().replace("\u00a0", "").replace("_", ""))
    except ValueError:
        raise BadSettings(f"{text.strip()!r} is not a whole number: write digits, such as 128") from None
