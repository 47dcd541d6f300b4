"""The command that asks what captions are worth: many runs on parts of a sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from clipdemo.cli.common import JobOption, PresetOption, WorkspaceOption, app, plain_errors, screen, this_job, trained
from clipdemo.errors import BadSettings
from clipdemo.options import Settings, takes
from clipdemo.presets import configured
from clipdemo.progress import Activity
from clipdemo.records import MODES, RunConfig, percent
from clipdemo.workspace import Workspace

if TYPE_CHECKING:
    from clipdemo.sampling import Sample
    from clipdemo.sweep import SweepResult

ALL = "all"  # as a size: as many pictures as there are


@app.command()
@takes(without={"mode", "seed", "pictures", "continues"}, settings=RunConfig)
def sweep(
    sample: Annotated[str, typer.Option(help="Id of a sample that has labels.")],
    settings: Settings,
    sizes: Annotated[
        str, typer.Option(help="Numbers of training pictures, such as 64,256,all; left out: all, half, a quarter, ...")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Each chooses other pictures for the smaller sizes.")] = "0,1,2",
    modes: Annotated[str, typer.Option(help="Kinds of fine-tuning; both are needed for the answer.")] = ",".join(MODES),
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """What are captions worth? Fine-tune on ever more pictures, both ways, and say how many labels give as much.

    Epochs are those of all pictures; smaller parts get more, for about as many steps. Stopped or broken off, the same
    command goes on where it was. Prints the sweep's id.
    """
    from clipdemo.sampling import load_sample
    from clipdemo.sweep import SweepConfig, resolved, sweep_id
    from clipdemo.sweep import sweep as do_sweep

    with plain_errors():
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise BadSettings("a sweep runs in one process: start it without torchrun")
        place = Workspace(workspace)
        data = load_sample(place, sample)
        runs = tuple(configured(preset, mode, settings, data.sizes["train"]) for mode in _modes(modes))
        asked = SweepConfig(sample=data.id, sizes=_sizes(sizes, data), seeds=_numbers("seeds", seeds), runs=runs)
        config = resolved(asked, data)

        def work() -> Activity[SweepResult]:
            return (yield from do_sweep(config, data, place, recorder.job.id))

        shown = {"sample_id": data.id, "sweep": config.model_dump(mode="json")}
        with this_job(place, job, "sweep", shown) as recorder:
            recorder.made["sweep"] = sweep_id(config, data)
            result = trained(recorder, place, work)
        print_sweep(result)
        print(result.id)


def print_sweep(result: SweepResult) -> None:
    """Both curves as a table, and the answer in a sentence."""
    from clipdemo.worth import worth

    base = f"; base {percent(result.base.top1)}" if result.base else ""
    n = f"{result.base.n:,} test pictures of {result.sample}" if result.base else result.sample
    table = Table(title=f"top-1, mean (least to most of {len(result.config.seeds)} seeds), {n}{base}")
    table.add_column("training pictures", justify="right")
    curves = {mode: {place.pictures: place.top1 for place in result.curve(mode)} for mode in result.config.modes}
    for mode in curves:
        table.add_column(mode, justify="right")
    for size in result.config.sizes:
        table.add_row(f"{size:,}", *(_spread(curve.get(size, ())) for curve in curves.values()))
    screen.print(table)
    if answer := worth(result):
        screen.print(f"{answer.in_words()}.")
    if result.synthetic:
        screen.print("These pictures are synthetic: drawn by this program, of nobody.")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{percent(sum(values) / len(values))} ({percent(min(values))} to {percent(max(values))})"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _modes(text: str) -> list[str]:
    modes = _listed(text)
    if unknown := set(modes) - set(MODES):
        raise BadSettings(f"modes = {text!r}: {unknown.pop()!r} is none of {', '.join(MODES)}")
    return modes


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _listed(text))
    except ValueError:
        raise BadSettings(f"{name} = {text!r}: write whole numbers with commas between them, such as 0,1,2") from None


def _sizes(text: str, sample: Sample) -> tuple[int, ...]:
    """The sizes in numbers; `all` is what the sample has."""
    parts = [str(sample.sizes["train"]) if part == ALL else part for part in _listed(text)]
    return _numbers("sizes", ",".join(parts))
