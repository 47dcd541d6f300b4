"""Commands that fine-tune: a new run, a broken-off one, a bit longer."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from clipdemo.cli.common import JobOption, PresetOption, WorkspaceOption, app, plain_errors, this_job, trained
from clipdemo.options import Settings, takes
from clipdemo.presets import configured
from clipdemo.progress import Activity, finish
from clipdemo.records import RunConfig
from clipdemo.sampling import Sample, load_sample
from clipdemo.training.runs import Run, run_id
from clipdemo.workspace import Workspace


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
    with plain_errors():
        place = Workspace(workspace)
        data = load_sample(place, sample)
        _train(place, job, configured(preset, settings["mode"], settings, data.sizes["train"]), data)


def _train(place: Workspace, job: str | None, config: RunConfig, data: Sample) -> None:
    """Fine-tunes in this process, once the device is free."""
    if int(os.environ.get("RANK", 0)):  # one of torchrun's processes that neither writes nor speaks
        from clipdemo.training.loop import train as fine_tune

        finish(fine_tune(config, data, place))
        return

    def work() -> Activity[Run]:
        from clipdemo.training.loop import train as fine_tune  # imports torch: not while others train

        return (yield from fine_tune(config, data, place, recorder.job.id))

    asked = {"sample_id": data.id, "runs": [config.model_dump(mode="json")]}
    with this_job(place, job, "train", asked) as recorder:
        recorder.made["run"] = run_id(config, data)
        run = trained(recorder, place, work)
    print(run.id)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Id of a run.")],
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Go on with a run that was stopped or broken off, from its last point. Prints the run's id."""
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        run = load_run(place, name)
        _train(place, job, run.config, load_sample(place, run.sample))


@app.command()
def extend(
    name: Annotated[str, typer.Argument(help="Id of a run that has ended.")],
    epochs: Annotated[int, typer.Option(help="Epochs more.")] = 2,
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """A bit longer: a new run of some epochs that starts from this one's best weights. Prints the new run's id."""
    from clipdemo.training.runs import load_run

    with plain_errors():
        place = Workspace(workspace)
        run = load_run(place, name)
        longer = RunConfig(**run.config.model_dump() | {"epochs": epochs, "continues": run.id})
        _train(place, job, longer, load_sample(place, run.sample))
