"""What all commands share: their options, one place for errors, this process as a job, progress bars."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from clipdemo.errors import ClipDemoError, Stopped
from clipdemo.jobs import Recorder, create_job, load_job, recorded
from clipdemo.presets import PRESETS
from clipdemo.progress import Activity, T
from clipdemo.queues import QUEUED, enqueue, on_device
from clipdemo.training.runs import runs_of_job, settle
from clipdemo.workspace import Workspace

app = typer.Typer(
    name="python -m clipdemo",
    help="See what fine-tuning does to CLIP: draw a sample, fine-tune on captions and on labels, compare with base.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
screen = Console(highlight=False, width=None if sys.stdout.isatty() else 120)  # a pipe has no width of its own

WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder for samples, runs and results; made where missing.")
]
JobOption = Annotated[str | None, typer.Option("--job", hidden=True)]
PresetOption = Annotated[
    str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}. Options that are given win.")
]


@contextmanager
def plain_errors() -> Iterator[None]:
    """One line and exit code 2 for what a reader can mend; 130 for Ctrl-C; a traceback for our own mistakes."""
    try:
        yield
    except Stopped as reason:
        print(f"stopped: {reason}", file=sys.stderr)
        raise typer.Exit(130) from None
    except ClipDemoError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, nothing is half-written", file=sys.stderr)
        raise typer.Exit(130) from None


@contextmanager
def this_job(workspace: Workspace, name: str | None, command: str, settings: dict[str, object]) -> Iterator[Recorder]:
    """This process as a job: the one that a page has prepared, or a new one of its own, which queues if it trains."""
    workspace.sweep()
    if name:
        job = load_job(workspace, name)
    else:
        job = create_job(workspace, command, settings)
        if command in QUEUED:
            enqueue(workspace, job)
    with recorded(job) as recorder:
        yield recorder


def trained(recorder: Recorder, workspace: Workspace, work: Callable[[], Activity[T]]) -> T:
    """Does work that trains, once the device is free; what a stop leaves of a run is what was asked for."""
    job = recorder.job
    try:
        return with_bars(recorder, on_device(workspace, job, work))
    except Stopped:
        for run in runs_of_job(workspace, job.id):
            settle(run, job.asked_to_stop or "pause", workspace)
        raise


def with_bars(recorder: Recorder, activity: Activity[T]) -> T:
    """Runs an activity to its end with one progress bar a stage."""
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True, highlight=False)
    logging.getLogger("clipdemo").setLevel(logging.INFO)
    logging.basicConfig(
        format="%(message)s",
        handlers=[RichHandler(console=console, show_time=False, show_level=False, show_path=False)],
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, object] = {}
        follow = recorder.follow(activity)
        while True:
            try:
                progress = next(follow)
            except StopIteration as end:
                return end.value
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, note="")
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total, note=progress.note)
