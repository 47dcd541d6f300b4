"""The command that takes a model out of the workspace: for open_clip, as a Space, to the Hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from clipdemo.cli.common import WorkspaceOption, app, plain_errors
from clipdemo.progress import finish
from clipdemo.workspace import Workspace


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Id of a run that has ended.")],
    kind: Annotated[
        Literal["model", "space"], typer.Option("--as", help="A folder that open_clip loads, or an app around it.")
    ] = "model",
    to: Annotated[Path | None, typer.Option(help="Folder to write; `model-RUN` or `space-RUN` by itself.")] = None,
    comparison: Annotated[
        str | None, typer.Option(help="Id of the comparison for the card; the newest that measured it by itself.")
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="OWNER/NAME", help="Push it to the Hub; the token is read from HF_TOKEN, or asked for."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Pushed, only its owner sees it.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Export a fine-tuned model with its card. Prints the folder's path, or the address on the Hub."""
    from clipdemo.comparison import load_comparison
    from clipdemo.export import WRITES, push
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        found = load_run(place, run)
        against = load_comparison(place, comparison) if comparison else None
        folder = finish(WRITES[kind](found, place, to or Path(f"{kind}-{found.id}"), against))
        if repository is None:
            print(folder)
            return
        token = os.environ.get("HF_TOKEN") or typer.prompt("Token of the Hub", hide_input=True, err=True)
        print(push(folder, repository, token, private))
