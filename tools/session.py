"""A visitor without a browser: speaks Streamlit's protocol over a real websocket, and draws nothing.

For tests that send what no browser would, and for classes of thirty on two cores.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

SECONDS = 120.0  # that one run of a page may take


class Widget(NamedTuple):
    """Something that can be set or pressed."""

    kind: str  # as Streamlit calls it: "button", "text_input", ...
    id: str
    label: str


class Session:
    """One visitor's session. `widgets` and `texts` are those of the last run of its page."""

    def __init__(self, address: str, page: str = "", query: str = "") -> None:
        self.address, self.query, self.id = address, query, ""
        self.widgets: list[Widget] = []
        self.texts: list[str] = []
        self.exceptions: list[str] = []
        self.states: dict[str, WidgetState] = {}
        self._page = ""
        where = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
        self._connection = ExitStack()
        self._socket = self._connection.enter_context(
            connect(where, subprotocols=["streamlit"], max_size=None, origin=address)
        )
        self._begun = False
        self.open(page, query)

    def open(self, page: str, query: str = "") -> None:
        """Goes to a page by its name in the address; "" is the first one."""
        self.query, self._page = query, ""
        self._run(page_name=page)

    def run(self) -> None:
        """Draws the page again."""
        self._run()

    def set(self, widget: str, **value: object) -> None:
        """Sets a widget by id (`string_value="x"`, `bool_value=True`, `trigger_value=True`); draws the page again."""
        self.states[widget] = WidgetState(id=widget, **value)
        self._run()
        if "trigger_value" in value:
            del self.states[widget]

    def named(self, label: str) -> Widget:
        """The first widget of this label. Raises `KeyError`."""
        for widget in self.widgets:
            if widget.label == label:
                return widget
        raise KeyError(f"there is no {label!r} among {[w.label for w in self.widgets]}")

    def _run(self, page_name: str = "") -> None:
        message = BackMsg()
        rerun = message.rerun_script
        rerun.query_string, rerun.page_script_hash, rerun.page_name = self.query, self._page, page_name
        rerun.widget_states.widgets.extend(self.states.values())
        self._socket.send(message.SerializeToString())
        self._begun = False
        while not self._take(ForwardMsg.FromString(self._socket.recv(timeout=SECONDS))):
            pass

    def _take(self, message: ForwardMsg) -> bool:
        """Notes what a message brings; whether it is the run's last one."""
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._begun = True
            self.id = message.new_session.initialize.session_id or self.id
            self.widgets, self.texts, self.exceptions = [], [], []  # a run that another one follows at once
        elif kind == "navigation":
            self._page = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._note(message.delta.new_element)
        ended = kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
        return ended and self._begun  # the end of a run before this one is none

    def _note(self, element: object) -> None:
        kind = element.WhichOneof("type")
        value = getattr(element, kind)
        if getattr(value, "id", ""):
            self.widgets.append(Widget(kind, value.id, getattr(value, "label", "")))
        if kind in ("markdown", "alert", "heading"):
            self.texts.append(value.body)
        if kind == "exception":
            self.exceptions.append(value.message)

    def close(self) -> None:
        """Leaves."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
