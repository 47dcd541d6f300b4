"""The command that measures the weights between a base and a run (WiSE-FT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import JobOption, WorkspaceOption, app, plain_errors, screen, this_job, with_bars
from clipdemo.records import percent
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    from clipdemo.interpolation import Interpolation


@app.command()
def interpolate(
    run: Annotated[str, typer.Option(help="Id of a run that has ended.")],
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Measure mixes of a run's weights with its base's (WiSE-FT). Prints the interpolation's id."""
    from clipdemo.interpolation import interpolate as measure
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        trained = load_run(place, run)
        data = load_sample(place, trained.sample)
        with this_job(place, job, "interpolate", {"sample_id": data.id, "run": run}) as recorder:
            result = with_bars(recorder, measure(trained, data, place))
            recorder.made["interpolation"] = result.id
        print_interpolation(result)
        print(result.id)


def print_interpolation(result: Interpolation) -> None:
    """A row a share, the recommended one marked, and what the numbers may and may not be used for."""
    from clipdemo.general import meaning

    first, best = result.points[0], result.recommended
    table = Table(title=f"Top-1 between base (0) and {result.run} (1)")
    table.add_column("share", justify="right")
    for name in ("validation", "test", "general"):
        table.add_column(f"{name} ({getattr(first, name).n:,})", justify="right")
    table.add_column("")
    for point in result.points:
        numbers = (percent(hits.fraction) for hits in (point.validation, point.test, point.general))
        table.add_row(f"{point.share:g}", *numbers, "recommended" if point == best else "")
    screen.print(table)
    screen.print("Recommended: best on validation pictures. Test numbers are to look at, not to choose by.")
    screen.print(escape(meaning(result.base)), soft_wrap=True)
