"""The command that serves the classifier as a Gradio app of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from clipdemo.cli.common import WorkspaceOption, app, plain_errors
from clipdemo.workspace import Workspace


@app.command()
def gradio(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other computers in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    comparison: Annotated[
        str | None, typer.Option(help="Id of the comparison that answers; left out, the newest, or the built-in base.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the classifier as a page with an API, until Ctrl-C."""
    import uvicorn

    from clipdemo.comparison import load_comparison
    from clipdemo.gradio_app import asgi

    with plain_errors():
        place = Workspace(workspace)
        chosen = load_comparison(place, comparison).id if comparison else None
        served = asgi(place, chosen)
        print(f"http://{host}:{port}", flush=True)
        uvicorn.run(served, host=host, port=port, log_level="warning")
