"""The whole experiment: draw a sample, fine-tune on captions and on labels, measure three models, compare them."""

from __future__ import annotations

from collections.abc import Mapping

from clipdemo.comparison import compare, evaluate
from clipdemo.presets import configured
from clipdemo.progress import Activity
from clipdemo.records import MODES, Comparison, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.workspace import Workspace

# In order; `clipdemo.progress.Progress.stage` says which one is under way.
STAGES = ("source", "sample", "pictures", "captions", "labels", "evaluate base", "evaluate captions", "evaluate labels")


def run_experiment(
    sample_config: SampleConfig, runs: tuple[RunConfig, ...], workspace: Workspace, job: str = ""
) -> Activity[Comparison]:
    """Does all of it; parts that are finished already, with the same settings, are found instead of repeated.

    Of a sample without captions, or without labels, only the other fine-tuning is possible, and only that is done.
    """
    sample = yield from draw_sample(sample_config, workspace)
    from clipdemo.training.loop import train  # imports torch: a user who sees pictures being drawn waits more gladly

    runs = tuple(config for config in runs if config.mode in sample.texts)
    trained = []
    for config in runs:
        trained.append((yield from train(config, sample, workspace, job)))
    evaluations = [(yield from evaluate(sample, workspace, base=runs[0].base, template=runs[0].template))]
    for run in trained:
        evaluations.append((yield from evaluate(sample, workspace, run, template=run.config.template)))
    return compare(evaluations, workspace)


def runs_for(
    sample: SampleConfig, preset: str = "plain", settings: Mapping[str, object] | None = None
) -> tuple[RunConfig, ...]:
    """One run a mode for a sample that is yet to be drawn, as a preset has it for so many pictures."""
    pictures = round(sample.samples * sample.train)
    return tuple(configured(preset, mode, settings or {}, pictures) for mode in MODES)


def both_modes(**settings: object) -> tuple[RunConfig, ...]:
    """One run a mode, with the same settings."""
    return tuple(RunConfig(mode=mode, **settings) for mode in MODES)
