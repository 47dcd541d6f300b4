"""The app put together: page, endpoints and queue, with the guard in front and the folder tidied behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from clipdemo.gradio_app.disk import MAX_UPLOAD_BYTES, tidied
from clipdemo.gradio_app.guard import Guard
from clipdemo.gradio_app.stopping import told_to_stop
from clipdemo.hosting import policy
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    import gradio as gr

MAX_WAITING = 20  # calls in the queue; one more is refused with status 503


def build(workspace: Workspace, comparison: str | None = None) -> gr.Blocks:
    """The page with its endpoints. Opens no model. Nothing can be flagged on a hosted server."""
    from clipdemo.gradio_app import endpoints, page
    from clipdemo.gradio_app.flags import Flags
    from clipdemo.gradio_app.framework import gr
    from clipdemo.gradio_app.service import Service

    service = Service(workspace, comparison)
    with gr.Blocks(title="clipdemo · classify", analytics_enabled=False) as demo:
        page.draw(service, None if policy().hosted else Flags(workspace))
        endpoints.add(service)
    return demo.queue(default_concurrency_limit=1, max_size=MAX_WAITING, api_open=False)


def asgi(workspace: Workspace, comparison: str | None = None, root_path: str | None = None) -> Any:
    """The app for any ASGI server, with its lifespan, which has to be entered: without it no call is answered."""
    from fastapi import FastAPI

    from clipdemo.gradio_app.framework import gr
    from clipdemo.gradio_app.look import CSS, THEME

    demo = build(workspace, comparison)
    app = gr.mount_gradio_app(
        FastAPI(lifespan=_lifespan, openapi_url=None),
        demo,
        path="/",
        root_path=root_path,
        theme=THEME,
        css=CSS,
        max_file_size=MAX_UPLOAD_BYTES,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
    )
    app.add_middleware(Guard)
    demo.has_launched = True  # else Gradio, mounted, checks no path and copies any file that a call names
    return app


@asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    inside = next(route.app for route in app.routes if hasattr(getattr(route, "app", None), "stop_event"))
    async with tidied():
        with told_to_stop(inside.stop_event):
            yield
