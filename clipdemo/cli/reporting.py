"""The command that writes a comparison down for others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from clipdemo.cli.common import WorkspaceOption, app, plain_errors
from clipdemo.workspace import Workspace


@app.command()
def report(
    comparison: Annotated[str, typer.Argument(help="Id of a comparison.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; `report-COMPARISON` by itself.")] = None,
    charts: Annotated[
        Literal["svg", "png", "both", "none"], typer.Option(help="Charts as files as well; needs Chromium or Chrome.")
    ] = "none",
    pictures: Annotated[
        bool, typer.Option(help="With a few test pictures and texts of the source; leave out what must not leave.")
    ] = True,
    without_marked: Annotated[
        bool, typer.Option("--without-marked", help="Leave out test pictures that were marked as wrongly labelled.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write a comparison's report: one HTML file and all tables behind it. Prints the path of the HTML file."""
    from clipdemo.comparison import load_comparison
    from clipdemo.marks import marked
    from clipdemo.reporting import write_report

    formats = {"none": (), "both": ("svg", "png")}.get(charts, (charts,))
    with plain_errors():
        place = Workspace(workspace)
        found = load_comparison(place, comparison)
        without = marked(place, found) if without_marked else ()
        written = write_report(place, found, out or Path(f"report-{found.id}"), without, pictures, formats)
        if written.problem:
            print(f"note: {written.problem}", file=sys.stderr)
        print(written.page)
