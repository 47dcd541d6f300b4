"""The app under a path of another server: imported and built when somebody first asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from clipdemo.errors import ClipDemoError
from clipdemo.gradio_app.serving import asgi
from clipdemo.workspace import Workspace


class Mounted:
    """The app under a path of another server: imported and built when somebody first asks for it."""

    def __init__(self, root_path: str, workspace: Callable[[], Workspace] = Workspace) -> None:
        self._root_path, self._workspace = root_path, workspace
        self._app: Any = None
        self._living: asyncio.Task | None = None
        self._making: asyncio.Lock | None = None
        self._end: asyncio.Event | None = None

    @asynccontextmanager
    async def lifespan(self, _server: object) -> AsyncIterator[None]:
        """For the server's own lifespan: puts the app away at its end, if there is one."""
        self._making, self._end = asyncio.Lock(), asyncio.Event()
        yield
        self._end.set()
        if self._living is not None:
            await self._living
        self._app = self._living = None

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        from starlette.responses import PlainTextResponse

        try:
            app = await self._ready()
        except ClipDemoError as error:
            app = PlainTextResponse(str(error), status_code=503)
        await app(scope, receive, send)

    async def _ready(self) -> Any:
        async with self._making:
            if self._app is None:
                app = await asyncio.to_thread(lambda: asgi(self._workspace(), root_path=self._root_path))
                up = asyncio.Event()
                self._living = asyncio.create_task(self._live(app, up))
                await asyncio.wait(
                    [self._living, waiting := asyncio.ensure_future(up.wait())], return_when="FIRST_COMPLETED"
                )
                waiting.cancel()
                if self._living.done():
                    self._living.result()
                self._app = app
        return self._app

    async def _live(self, app: Any, up: asyncio.Event) -> None:
        """The app's own lifespan, from its beginning to its end in one task."""
        async with app.router.lifespan_context(app):
            up.set()
            await self._end.wait()
