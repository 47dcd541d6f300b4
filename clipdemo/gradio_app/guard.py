"""In front of Gradio: only what somebody needs gets through, in bodies of a bounded size.

Gradio has more than that: it fetches addresses for whoever asks, writes links to a page's state, takes recordings.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from clipdemo.gradio_app.disk import MAX_UPLOAD_BYTES, full, uploads_folder
from clipdemo.images import TOO_LARGE

MAX_BODY_BYTES = MAX_UPLOAD_BYTES * 4 // 3 + 2**20  # of any request: a picture as a data URL, and words
_TOO_LONG = f"the request is {TOO_LARGE}: at most {MAX_BODY_BYTES // 2**20} MiB are taken"
_ASKED_FOR = re.compile(  # by the page, by gradio_client and by plain HTTP as docs/api.md says
    r"/?|/(assets|static)(/[\w@+-][\w.@+-]{0,99}){1,8}|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?"
    r"|/gradio_api/((info|openapi\.json|app_id|startup-events|theme\.css|upload|upload_progress|cancel|reset)/?"
    r"|queue/(join|data|status)|heartbeat/[^/]+|(run|api|call|call/v2)/[^/]+(/[^/]*)?|file=.+)"
)


class Guard:
    """ASGI middleware. Answers 404 or 403 to what nobody needs, 413 to too many bytes, 503 while the disk is full."""

    def __init__(self, app: Callable) -> None:
        self._app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refused := await asyncio.to_thread(_refusal, scope):
            status, said = refused
            await PlainTextResponse(said, status)(scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    async def _bounded(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Counts the body's bytes as they come: not every request says, or says rightly, how long it is."""
        from starlette.formparsers import MultiPartException
        from starlette.responses import PlainTextResponse

        taken, begun = 0, False

        async def counted() -> dict:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise MultiPartException(_TOO_LONG)  # at this one Gradio deletes what it has written of an upload
            return message

        async def answer(message: dict) -> None:
            nonlocal begun
            if taken <= MAX_BODY_BYTES:
                begun = True
                await send(message)

        try:
            await self._app(scope, counted, answer)
        except Exception:
            if taken <= MAX_BODY_BYTES:
                raise
        if taken > MAX_BODY_BYTES and not begun:
            await PlainTextResponse(_TOO_LONG, 413)(scope, receive, send)


def _refusal(scope: dict) -> tuple[int, str] | None:
    """The status and the words for a request that goes no further."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if not _ASKED_FOR.fullmatch(path):
        return 404, "there is nothing here"
    _, is_file, name = path.partition("/gradio_api/file=")
    if is_file and not _is_upload(name):
        return 403, "only pictures of this page are given out"
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return 413, _TOO_LONG
    if path.startswith("/gradio_api/upload") and scope["method"] == "POST" and full():
        return 503, "too many pictures lie here: they go within ten minutes, try again then"
    return None


def _is_upload(name: str) -> bool:
    """Whether this is the path of something in the folder. An address is none: it would be opened."""
    try:
        return Path(name).is_absolute() and Path(name).resolve().is_relative_to(uploads_folder())
    except (OSError, ValueError):  # far too long, or with a zero byte
        return False
