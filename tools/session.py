"""A visitor without a browser: speaks Streamlit's protocol over a real websocket, and draws nothing.

For tests that send what no browser would, and for classes of thirty on two cores.
"""

from __future__ import annotations

import http.client
import socket
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileUploaderState, UploadedFileInfo
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

SECONDS = 120.0  # that one run of a page may take


class Widget(NamedTuple):
    """Something that can be set or pressed."""

    kind: str  # as Streamlit calls it: "button", "text_input", ...
    id: str
    label: str


class Session:
    """One visitor's session. Widgets, texts, errors and exceptions are those of the last run of its page.

    `received` is called with every message as it came over the websocket, before anything is made of it.
    `origin` is how browsers call the app where that is not `address`: this visitor comes as a proxy passes it on.
    `cookies` are the browser's, by name.
    """

    def __init__(
        self,
        address: str,
        page: str = "",
        query: str = "",
        received: Callable[[bytes], None] | None = None,
        origin: str | None = None,
        cookies: Mapping[str, str] | None = None,
    ) -> None:
        self.address, self.query, self.id = address, query, ""
        self.redirect = ""  # where the last run sends the browser, such as to sign in
        self.widgets: list[Widget] = []
        self.texts: list[str] = []
        self.errors: list[str] = []  # red lines, which are among the texts as well
        self.exceptions: list[str] = []
        self._received = received or (lambda data: None)
        self.states: dict[str, WidgetState] = {}
        self._page = ""
        self._connection = ExitStack()
        self._socket = self._connection.enter_context(_connected(address, origin or address, cookies or {}))
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

    def upload(self, widget: str, name: str, data: bytes) -> int:
        """Gives one file to a field for files, as the browser does, and draws the page again; the upload's status."""
        file, boundary = uuid.uuid4().hex, uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": self.address}
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=SECONDS)
        try:
            connection.request("PUT", f"/_stcore/upload_file/{self.id}/{file}", body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        info = UploadedFileInfo(file_id=file, name=name, size=len(data))
        self.set(widget, file_uploader_state_value=FileUploaderState(uploaded_file_info=[info]))
        return status

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
        self._begun, self.redirect = False, ""
        ended = False
        while not ended:
            data = self._socket.recv(timeout=SECONDS)
            self._received(data)
            ended = self._take(ForwardMsg.FromString(data))

    def _take(self, message: ForwardMsg) -> bool:
        """Notes what a message brings; whether it is the run's last one."""
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._begun = True
            self.id = message.new_session.initialize.session_id or self.id
            self.widgets, self.texts = [], []  # of a run that another one follows at once
            self.errors, self.exceptions = [], []
        elif kind == "navigation":
            self._page = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auth_redirect":
            self.redirect = message.auth_redirect.url
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
        if kind == "progress":
            self.texts.append(value.text)
        if kind == "alert" and value.format == Alert.ERROR:
            self.errors.append(value.body)
        if kind == "exception":
            self.exceptions.append(value.message)

    def close(self) -> None:
        """Leaves."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def cookie_header(cookies: Mapping[str, str]) -> str:
    """Cookies as a browser sends them."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _connected(address: str, origin: str, cookies: Mapping[str, str]) -> AbstractContextManager[ClientConnection]:
    """A websocket to `address`, opened as the page at `origin` opens it."""
    inside, outside = urlsplit(address), urlsplit(origin)
    token = cookies.get("_streamlit_xsrf")  # without it Streamlit believes no cookie: a page elsewhere cannot read it
    return connect(
        f"ws://{outside.netloc}/_stcore/stream",
        sock=socket.create_connection((inside.hostname, inside.port or 80)),
        subprotocols=["streamlit", *([token] if token else [])],
        additional_headers={"Cookie": cookie_header(cookies)} if cookies else {},
        origin=origin,
        max_size=None,
    )
