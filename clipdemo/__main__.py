"""The command line: the same engine as the app, without a screen."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from clipdemo.errors import ClipDemoError, Stopped, WorkspaceError
from clipdemo.jobs import ENDED, STOPS, Job, Recorder, Stop, create_job, load_job, recorded
from clipdemo.options import Settings, source_options, takes
from clipdemo.presets import PRESETS, configured
from clipdemo.progress import Activity, T, finish
from clipdemo.queues import QUEUED, change_device, enqueue, move, on_device, waiting
from clipdemo.records import (
    BUILT_IN_BASE,
    DEFAULT_TEMPLATE,
    MODES,
    RETRIEVAL_DEPTHS,
    CleaningReport,
    CleaningRules,
    Comparison,
    Evaluation,
    RunConfig,
    SampleConfig,
    percent,
)
from clipdemo.sources import resolved
from clipdemo.training.runs import Run, run_id, runs_of_job, settle
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
FOLLOW_SECONDS = 0.5

WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder for samples, runs and results; made where missing.")
]
JobOption = Annotated[str | None, typer.Option("--job", hidden=True)]
PresetOption = Annotated[
    str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}. Options with other than their default win.")
]


NOT_TYPED = {"cleaning", "options", "fingerprint"}  # a sample's settings that come from other records' options
SourceOptions = source_options()


def _sample_config(
    place: Workspace, job: str | None, sample: Settings, cleaning: Settings, source: Settings
) -> SampleConfig:
    """What was asked for, resolved; where that cannot be, a job that a page has prepared ends with the reason."""
    try:
        return resolved(SampleConfig(**sample, cleaning=CleaningRules(**cleaning), options=source))
    except ClipDemoError:
        if job:
            with recorded(load_job(place, job)):
                raise
        raise


@app.command()
@takes(without={"mode", *NOT_TYPED}, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions, run=RunConfig)
def experiment(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    run: Settings,
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Do everything: draw a sample, fine-tune on captions and on labels, compare both with the base model."""
    from clipdemo.experiment import run_experiment

    with _plain_errors():
        place = Workspace(workspace)
        sample_config = _sample_config(place, job, sample, cleaning, source)
        runs = tuple(configured(preset, mode, run) for mode in MODES)
        settings = {"sample": sample_config.model_dump(mode="json"), "runs": [r.model_dump(mode="json") for r in runs]}
        with _job(place, job, "experiment", settings) as recorder:
            comparison = _trained(recorder, place, lambda: run_experiment(sample_config, runs, place, recorder.job.id))
            recorder.made["comparison"] = comparison.id
        _print_comparison(comparison)
        print(place.folder("comparisons", comparison.id) / "comparison.json")


@app.command()
@takes(without=NOT_TYPED, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions)
def sample(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Draw a sample: clean the source, balance the classes, split without leaks. Prints the sample's id."""
    from clipdemo.sampling import draw_sample

    with _plain_errors():
        place = Workspace(workspace)
        config = _sample_config(place, job, sample, cleaning, source)
        with _job(place, job, "sample", {"sample": config.model_dump(mode="json")}) as recorder:
            drawn = _with_bars(recorder, draw_sample(config, place))
            recorder.made["sample"] = drawn.id
        _print_report(drawn.report, config.source, drawn.sizes)
        print(drawn.id)


@app.command()
@takes(without=NOT_TYPED, sample=SampleConfig, cleaning=CleaningRules, source=SourceOptions)
def look(
    sample: Settings,
    cleaning: Settings,
    source: Settings,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Look at a source before drawing from it: columns, classes, what would be left out, what a sample costs."""
    from clipdemo.survey import survey_source

    with _plain_errors():
        place = Workspace(workspace)
        config = _sample_config(place, job, sample, cleaning, source)
        with _job(place, job, "look", {"sample": config.model_dump(mode="json")}) as recorder:
            found = _with_bars(recorder, survey_source(config, place))
        _print_report(found.report, config.source, {})
        for use, column in found.columns.items():
            screen.print(f"{use} column: {column} (of {', '.join(found.available_columns)})", markup=False)
        classes = ", ".join(f"{label} {n:,}" for label, n in found.report.source_classes.items())
        screen.print(f"classes: {classes or 'none, there are no labels'}", markup=False)
        if found.report.no_labels:
            values = ", ".join(f"{value!r} {n:,}" for value, n in list(found.report.no_labels.items())[:20])
            screen.print(f"no labels (take one back with --synonym VALUE=CLASS): {values}", markup=False)
        seconds, to_fetch = found.cost(config.samples)
        screen.print(
            f"{min(config.samples, found.report.kept):,} pictures: about {seconds:.0f} s"
            + (f" and {to_fetch / 1e6:,.0f} MB to fetch" if to_fetch else "")
        )


@app.command()
@takes(settings=RunConfig)
def train(
    sample: Annotated[str, typer.Option(help="Id of a sample, as `sample` printed it.")],
    settings: Settings,
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Fine-tune one CLIP on a sample's training pictures. Prints the run's id. Several GPUs: start it with torchrun."""
    with _plain_errors():
        _train(Workspace(workspace), job, configured(preset, settings["mode"], settings), sample)


def _train(place: Workspace, job: str | None, config: RunConfig, sample: str) -> None:
    """Fine-tunes in this process, once the device is free."""
    from clipdemo.sampling import load_sample

    data = load_sample(place, sample)
    if int(os.environ.get("RANK", 0)):  # one of torchrun's processes that neither writes nor speaks
        from clipdemo.training.loop import train as fine_tune

        finish(fine_tune(config, data, place))
        return

    def work() -> Activity[Run]:
        from clipdemo.training.loop import train as fine_tune  # imports torch: not while others train

        return (yield from fine_tune(config, data, place, recorder.job.id))

    asked = {"sample_id": data.id, "runs": [config.model_dump(mode="json")]}
    with _job(place, job, "train", asked) as recorder:
        recorder.made["run"] = run_id(config, data)
        run = _trained(recorder, place, work)
    print(run.id)


@app.command()
def evaluate(
    sample: Annotated[str, typer.Option(help="Id of a sample.")],
    run: Annotated[str | None, typer.Option(help="Id of a run; left out, the base model is measured.")] = None,
    base: Annotated[str, typer.Option(help=RunConfig.model_fields["base"].description)] = BUILT_IN_BASE,
    template: Annotated[str, typer.Option(help=RunConfig.model_fields["template"].description)] = DEFAULT_TEMPLATE,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Measure one model on a sample's test pictures. Prints the evaluation's id."""
    from clipdemo.comparison import evaluate as measure
    from clipdemo.sampling import load_sample
    from clipdemo.training.runs import load_run

    with _plain_errors():
        place = Workspace(workspace)
        data = load_sample(place, sample)
        trained = load_run(place, run) if run else None
        with _job(place, job, "evaluate", {"sample_id": sample, "run": run, "base": base}) as recorder:
            result = _with_bars(recorder, measure(data, place, trained, base, template))
            recorder.made["evaluation"] = result.predictions
        _print_models([result], f"{result.n:,} test pictures of {result.sample}")
        print(result.predictions)


@app.command()
def compare(
    evaluations: Annotated[
        list[str], typer.Argument(help="Ids of evaluations of one sample, as `evaluate` printed them.")
    ],
    workspace: WorkspaceOption = None,
) -> None:
    """Put evaluations of one sample side by side. Prints the path of the comparison."""
    from clipdemo.comparison import compare as put_side_by_side
    from clipdemo.comparison import load_evaluation

    with _plain_errors():
        place = Workspace(workspace)
        comparison = put_side_by_side([load_evaluation(place, name) for name in evaluations], place)
        _print_comparison(comparison)
        print(place.folder("comparisons", comparison.id) / "comparison.json")


@app.command()
def runs(workspace: WorkspaceOption = None) -> None:
    """List all runs and what is true of them now, and the jobs that wait for a device."""
    from clipdemo.training.runs import load_run, run_state

    with _plain_errors():
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
    with _plain_errors():
        job, said = _job_of(Workspace(workspace), name), ""
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
    with _plain_errors():
        place = Workspace(workspace)
        job = _job_of(place, name)
        if job.state in ENDED:
            raise WorkspaceError(f"{name} has ended already ({job.state})")
        job.stop(how)
        print(f"{job.id}: it will be {STOPS[how]}")


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Id of a run.")],
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Go on with a run that was stopped or broken off, from its last point. Prints the run's id."""
    from clipdemo.training.runs import load_run

    with _plain_errors():
        place = Workspace(workspace)
        run = load_run(place, name)
        _train(place, job, run.config, run.sample)


@app.command()
def extend(
    name: Annotated[str, typer.Argument(help="Id of a run that has ended.")],
    epochs: Annotated[int, typer.Option(help="Epochs more.")] = 2,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """A bit longer: a new run of some epochs that starts from this one's best weights. Prints the new run's id."""
    from clipdemo.training.runs import load_run

    with _plain_errors():
        place = Workspace(workspace)
        run = load_run(place, name)
        longer = RunConfig(**run.config.model_dump() | {"epochs": epochs, "continues": run.id})
        _train(place, job, longer, run.sample)


@app.command()
def tensorboard(name: Annotated[str, typer.Argument(help="Id of a run.")], workspace: WorkspaceOption = None) -> None:
    """Write a run's curves as TensorBoard event files. Prints their folder, for `tensorboard --logdir`."""
    from clipdemo.training.runs import load_run
    from clipdemo.training.tensorboard import write_events

    with _plain_errors():
        print(write_events(load_run(Workspace(workspace), name)))


@app.command("move")
def move_job(
    name: Annotated[str, typer.Argument(help="Id of a job, or of its run, that waits.")],
    places: Annotated[int, typer.Option(help="Places in the queue: -1 is one up, 1 one down.")] = 0,
    device: Annotated[str | None, typer.Option(help="Wait for this device instead: cpu, cuda:1, mps.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Move a waiting job in the queue, or to another device."""
    with _plain_errors():
        place = Workspace(workspace)
        waits = _job_of(place, name).id
        if device:
            change_device(place, waits, device)
        move(place, waits, places)
        for ticket in waiting(place):
            print(f"{ticket.device}: {ticket.job}")


def _job_of(workspace: Workspace, name: str) -> Job:
    """The job of that id, or the one that trains the run of that id."""
    if name in workspace.names("runs"):
        from clipdemo.training.runs import load_run

        return load_job(workspace, load_run(workspace, name).job)
    return load_job(workspace, name)


@contextmanager
def _plain_errors() -> Iterator[None]:
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
def _job(workspace: Workspace, name: str | None, command: str, settings: dict[str, object]) -> Iterator[Recorder]:
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


def _trained(recorder: Recorder, workspace: Workspace, work: Callable[[], Activity[T]]) -> T:
    """Does work that trains, once the device is free; what a stop leaves of a run is what was asked for."""
    job = recorder.job
    try:
        return _with_bars(recorder, on_device(workspace, job, work))
    except Stopped:
        for run in runs_of_job(workspace, job.id):
            settle(run, job.asked_to_stop or "pause", workspace)
        raise


def _with_bars(recorder: Recorder, activity: Activity[T]) -> T:
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


def _print_report(report: CleaningReport, source: str, sizes: dict[str, int]) -> None:
    """Where every row went, as a table."""
    table = Table(title=f"{report.rows:,} rows of {source}: where they went")
    table.add_column("rows", justify="right")
    table.add_column("")
    table.add_column("for example", overflow="fold", max_width=60)
    for entry in report.dropped:
        table.add_row(f"{entry.count:,}", f"left out: {entry.reason}", escape("; ".join(entry.examples)))
    table.add_row(f"{report.not_drawn:,}", "clean, not needed" if sizes else "clean")
    for split, size in sizes.items():
        table.add_row(f"{size:,}", split)
    screen.print(table)


def _print_comparison(comparison: Comparison) -> None:
    _print_models(comparison.models, f"{comparison.models[0].n:,} test pictures of {comparison.sample}")
    if comparison.synthetic:
        screen.print("These pictures are synthetic: drawn by this program, of nobody.")


def _print_models(models: Sequence[Evaluation], title: str) -> None:
    """Class numbers where the sample has labels, retrieval numbers where it has captions."""
    columns: dict[str, list[str]] = {"model": [model.name for model in models]}
    if all(model.top1 is not None for model in models):
        columns["top-1"] = [percent(model.top1) for model in models]
        columns["top-3"] = [percent(model.top3) for model in models]
    if all(model.retrieval for model in models):
        for k in RETRIEVAL_DEPTHS:
            columns[f"caption in first {k}"] = [percent(model.retrieval.image_to_text[k]) for model in models]
        columns["picture in first 10"] = [percent(model.retrieval.text_to_image[10]) for model in models]
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    screen.print(table)


def main() -> None:
    """Entry of `python -m clipdemo`."""
    app()


if __name__ == "__main__":
    main()
