"""Commands that show runs and jobs, and steer them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from clipdemo.cli.common import WorkspaceOption, app, plain_errors, screen
from clipdemo.errors import ClipDemoError, WorkspaceError
from clipdemo.jobs import ENDED, STOPS, Job, Stop, load_job
from clipdemo.queues import change_device, move, waiting
from clipdemo.records import percent
from clipdemo.workspace import Workspace

FOLLOW_SECONDS = 0.5


@app.command()
def runs(workspace: WorkspaceOption = None) -> None:
    """List all runs and what is true of them now, and the jobs that wait for a device."""
    from clipdemo.training.runs import load_run, run_state

    with plain_errors():
        place = Workspace(workspace)
        table = Table(title=f"runs in {place.root}")
        for column in ("run", "state", "pairs", "epochs", "validation top-1", "sample"):
            table.add_column(column, overflow="ellipsis", no_wrap=column != "sample")
        for name in place.names("runs"):
            with suppress(ClipDemoError, KeyError, TypeError):
                run = load_run(place, name)
                result = run.result
                best = percent(result.best_validation_top1) if result else ""
                done = f"{result.epochs_done if result else '?'} of {run.config.epochs}"
                label = run.id if run.name == run.id else f"{run.id} ({run.name})"
                table.add_row(escape(label), run_state(run, place), run.config.mode, done, best, run.sample)
        screen.print(table)
        for place_in_line, ticket in enumerate(waiting(place), start=1):
            screen.print(f"waits for {ticket.device}, number {place_in_line}: {ticket.job}", markup=False)


@app.command()
def follow(
    name: Annotated[str, typer.Argument(help="Id of a run or a job.")], workspace: WorkspaceOption = None
) -> None:
    """Print what a run or job does, line by line, until it ends. Ctrl-C ends the printing only."""
    with plain_errors():
        job, said = job_of(Workspace(workspace), name), ""
        while True:
            ended = job.state in ENDED  # before its last words are read
            for progress in list(job.progress.values())[-1:]:
                line = f"{progress.stage} {progress.done:,}/{progress.total:,} {progress.note}"
                if line != said:
                    print(line, flush=True)
                    said = line
            if ended:
                break
            time.sleep(FOLLOW_SECONDS)
        message = (job.result or {}).get("message", "")
        print(f"{job.state}{': ' if message else ''}{message}")
        raise typer.Exit(0 if job.state == "finished" else 1)


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="Id of a run or a job.")],
    how: Annotated[
        Stop, typer.Option(help="pause: go on later; keep: the best epoch is the result; discard: keep nothing.")
    ] = "pause",
    workspace: WorkspaceOption = None,
) -> None:
    """Ask a run or job to stop at the next safe place; one that waits leaves the queue."""
    with plain_errors():
        place = Workspace(workspace)
        job = job_of(place, name)
        if job.state in ENDED:
            raise WorkspaceError(f"{name} has ended already ({job.state})")
        job.stop(how)
        print(f"{job.id}: it will be {STOPS[how]}")


@app.command("move")
def move_job(
    name: Annotated[str, typer.Argument(help="Id of a job, or of its run, that waits.")],
    places: Annotated[int, typer.Option(help="Places in the queue: -1 is one up, 1 one down.")] = 0,
    device: Annotated[str | None, typer.Option(help="Wait for this device instead: cpu, cuda:1, mps.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Move a waiting job in the queue, or to another device."""
    with plain_errors():
        place = Workspace(workspace)
        waits = job_of(place, name).id
        if device:
            change_device(place, waits, device)
        move(place, waits, places)
        for ticket in waiting(place):
            print(f"{ticket.device}: {ticket.job}")


@app.command()
def tensorboard(name: Annotated[str, typer.Argument(help="Id of a run.")], workspace: WorkspaceOption = None) -> None:
    """Write a run's curves as TensorBoard event files. Prints their folder, for `tensorboard --logdir`."""
    from clipdemo.training.runs import load_run
    from clipdemo.training.tensorboard import write_events

    with plain_errors():
        print(write_events(load_run(Workspace(workspace), name)))


def job_of(workspace: Workspace, name: str) -> Job:
    """The job of that id, or the one that trains the run of that id."""
    if name in workspace.names("runs"):
        from clipdemo.training.runs import load_run

        return load_job(workspace, load_run(workspace, name).job)
    return load_job(workspace, name)
