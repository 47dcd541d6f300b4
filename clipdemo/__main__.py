"""The command line: the same engine as the app, without a screen."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from clipdemo.errors import ClipDemoError, Stopped
from clipdemo.jobs import Recorder, create_job, load_job, recorded
from clipdemo.options import Settings, takes
from clipdemo.presets import PRESETS, configured
from clipdemo.progress import Activity, T, finish
from clipdemo.records import BUILT_IN_BASE, DEFAULT_TEMPLATE, MODES, Comparison, RunConfig, SampleConfig, percent
from clipdemo.workspace import Workspace

app = typer.Typer(
    name="python -m clipdemo",
    help="See what fine-tuning does to CLIP: draw a sample, fine-tune on captions and on labels, compare with base.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
screen = Console(highlight=False)

WorkspaceOption = Annotated[
    Path | None, typer.Option("--workspace", help="Folder for samples, runs and results; made where missing.")
]
JobOption = Annotated[str | None, typer.Option("--job", hidden=True)]
PresetOption = Annotated[
    str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}. Options with other than their default win.")
]


@app.command()
@takes(without={"mode"}, sample=SampleConfig, run=RunConfig)
def experiment(
    sample: Settings,
    run: Settings,
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Do everything: draw a sample, fine-tune on captions and on labels, compare both with the base model."""
    from clipdemo.experiment import run_experiment

    with _plain_errors():
        sample_config, runs = SampleConfig(**sample), tuple(configured(preset, mode, run) for mode in MODES)
        place = Workspace(workspace)
        settings = {"sample": sample_config.model_dump(mode="json"), "runs": [r.model_dump(mode="json") for r in runs]}
        with _job(place, job, "experiment", settings) as recorder:
            comparison = _with_bars(recorder, run_experiment(sample_config, runs, place))
            recorder.made["comparison"] = comparison.id
        _print_comparison(comparison)
        print(place.folder("comparisons", comparison.id) / "comparison.json")


@app.command()
@takes(settings=SampleConfig)
def sample(settings: Settings, workspace: WorkspaceOption = None, job: JobOption = None) -> None:
    """Draw a sample: clean the source, balance the classes, split without leaks. Prints the sample's id."""
    from clipdemo.sampling import draw_sample

    with _plain_errors():
        config = SampleConfig(**settings)
        place = Workspace(workspace)
        with _job(place, job, "sample", {"sample": config.model_dump(mode="json")}) as recorder:
            drawn = _with_bars(recorder, draw_sample(config, place))
            recorder.made["sample"] = drawn.id
        table = Table(title=f"{drawn.report.rows:,} rows of {config.source}: where they went")
        table.add_column("rows", justify="right")
        table.add_column("")
        for entry in drawn.report.dropped:
            table.add_row(f"{entry.count:,}", f"left out: {entry.reason}")
        table.add_row(f"{drawn.report.not_drawn:,}", "clean, not needed")
        for split, size in drawn.sizes.items():
            table.add_row(f"{size:,}", split)
        screen.print(table)
        print(drawn.id)


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
    from clipdemo.sampling import load_sample

    with _plain_errors():
        config = configured(preset, settings["mode"], settings)
        place = Workspace(workspace)
        data = load_sample(place, sample)
        if int(os.environ.get("RANK", 0)):  # one of torchrun's processes that neither writes nor speaks
            from clipdemo.training.loop import train as fine_tune

            finish(fine_tune(config, data, place))
            return
        asked = {"sample_id": data.id, "runs": [config.model_dump(mode="json")]}
        with _job(place, job, "train", asked) as recorder:
            from clipdemo.training.loop import train as fine_tune
            from clipdemo.training.runs import run_id

            recorder.made["run"] = run_id(config, data)
            run = _with_bars(recorder, fine_tune(config, data, place))
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
        screen.print(
            f"{result.name}: top-1 {percent(result.top1)}, top-3 {percent(result.top3)} of {result.n:,} pictures"
        )
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
    """This process as a job: the one that a page has prepared, or a new one of its own."""
    workspace.sweep()
    job = load_job(workspace, name) if name else create_job(workspace, command, settings)
    with recorded(job) as recorder:
        yield recorder


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


def _print_comparison(comparison: Comparison) -> None:
    table = Table(title=f"{comparison.models[0].n:,} test pictures of {comparison.sample}")
    table.add_column("model")
    table.add_column("top-1", justify="right")
    table.add_column("top-3", justify="right")
    for model in comparison.models:
        table.add_row(model.name, percent(model.top1), percent(model.top3))
    screen.print(table)
    if comparison.synthetic:
        screen.print("These pictures are synthetic: drawn by this program, of nobody.")


def main() -> None:
    """Entry of `python -m clipdemo`."""
    app()


if __name__ == "__main__":
    main()
