"""The command that tells what a run will take before it is started."""

from __future__ import annotations

from typing import Annotated

import typer

from clipdemo.cli.common import JobOption, PresetOption, WorkspaceOption, app, plain_errors, this_job, with_bars
from clipdemo.options import Settings, takes
from clipdemo.presets import configured
from clipdemo.queues import enqueue, on_device, ticket_of
from clipdemo.records import RunConfig
from clipdemo.training.estimate import Estimate
from clipdemo.training.estimate import estimate as measured
from clipdemo.workspace import Workspace


@app.command()
@takes(settings=RunConfig)
def estimate(
    sample: Annotated[str, typer.Option(help="Id of a sample, as `sample` printed it.")],
    settings: Settings,
    preset: PresetOption = "plain",
    workspace: WorkspaceOption = None,
    job: JobOption = None,
) -> None:
    """Tell a run's time and memory before it is started: a few of its steps on this device, in their turn."""
    from clipdemo.sampling import load_sample

    with plain_errors():
        place = Workspace(workspace)
        data = load_sample(place, sample)
        config = configured(preset, settings["mode"], settings, data.sizes["train"])

        asked = {"sample_id": data.id, "runs": [config.model_dump(mode="json")]}
        with this_job(place, job, "estimate", asked) as recorder:
            if ticket_of(place, recorder.job.id) is None:
                enqueue(place, recorder.job)
            found = with_bars(recorder, on_device(place, recorder.job, lambda: measured(config, data, place)))
        print("\n".join(_lines(found)))


def _lines(found: Estimate) -> list[str]:
    memory, of = found.memory_bytes / 1e9, found.device_bytes / 1e9
    return [
        f"{found.seconds:.0f} s on {found.device} ({found.device_name}, {found.precision}): {found.epochs} epochs of "
        f"{found.epoch_steps} steps, {found.step_seconds:.3f} s each; {found.validation_seconds:.2f} s of validation "
        f"and {found.saving_seconds:.2f} s of saving an epoch",
        f"{memory:.2f} GB of memory at most, of {of:.1f} GB; {found.chunk_size} pairs at a time",
    ]
