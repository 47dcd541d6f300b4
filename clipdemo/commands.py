"""Command lines made of settings: what a page launches as a job, and what a reader can copy to do a thing again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from clipdemo.errors import BadSettings
from clipdemo.records import MODEL_NAMES, CleaningRules, Comparison, Record, RunConfig, SampleConfig
from clipdemo.sweep import SweepConfig

PROGRAM = "python -m clipdemo"


def sample_arguments(config: SampleConfig) -> list[str]:
    """The options that draw this sample: size and seed always, the others where they are not the default."""
    arguments = ["--source", config.source, "--samples", str(config.samples), "--seed", str(config.seed)]
    arguments += _changed(config, SampleConfig(), ("train", "validation", "test"))
    rules = config.cleaning
    arguments += _changed(
        rules, CleaningRules(), [n for n in CleaningRules.model_fields if n not in ("exclude", "synonyms")]
    )
    arguments += [part for label in rules.exclude for part in ("--exclude", label)]
    arguments += [part for wording, name in rules.synonyms.items() for part in ("--synonym", f"{wording}={name}")]
    return arguments + [part for name, value in config.options.items() for part in _option(_flag(name), value)]


def run_arguments(config: RunConfig) -> list[str]:
    """The options that fine-tune like this, where they are not the default; without mode, sample and seed.

    Epochs always, as the plain preset has more of them for small samples.
    """
    names = (name for name in RunConfig.model_fields if name not in ("mode", "seed", "epochs"))
    return ["--epochs", str(config.epochs), *_changed(config, RunConfig(mode=config.mode), names)]


def train_arguments(config: RunConfig, sample: str) -> list[str]:
    """All options of `train` for this run on the sample of that id."""
    return ["--mode", config.mode, "--sample", sample, "--seed", str(config.seed), *run_arguments(config)]


def sweep_arguments(config: SweepConfig) -> list[str]:
    """All options of `sweep`. Raises `BadSettings` for runs that differ in more than their mode."""
    first = config.runs[0]
    if any(run.model_copy(update={"mode": first.mode}) != first for run in config.runs):
        raise BadSettings("the runs of this sweep differ in more than their mode, which no command line says")
    lists = {"sizes": config.sizes, "seeds": config.seeds, "modes": config.modes}
    arguments = [part for name, values in lists.items() if values for part in (f"--{name}", ",".join(map(str, values)))]
    return ["--sample", config.sample, *arguments, *run_arguments(first)]


def redo_commands(comparison: Comparison) -> list[str]:
    """The shell lines, in order, that make this comparison again: one `experiment` where that is enough."""
    if run := _as_one_experiment(comparison):
        return [_line("experiment", [*sample_arguments(comparison.sample_config), *run_arguments(run)])]
    lines = [_line("sample", sample_arguments(comparison.sample_config))]
    lines += [_line("train", train_arguments(run, comparison.sample)) for run in comparison.runs.values()]
    for model in comparison.models:
        which = ["--run", model.run] if model.run else ["--base", model.base]
        lines.append(_line("evaluate", ["--sample", comparison.sample, *which, "--template", model.template]))
    return [*lines, _line("compare", [model.predictions for model in comparison.models])]


def _as_one_experiment(comparison: Comparison) -> RunConfig | None:
    """The runs' common settings, if `experiment` with the sample's seed would have made just these models."""
    runs = list(comparison.runs.values())
    if tuple(model.name for model in comparison.models) != MODEL_NAMES or not runs:
        return None
    same_runs = len({run.model_dump_json(exclude={"mode"}) for run in runs}) == 1
    same_models = {(m.base, m.template) for m in comparison.models} == {(runs[0].base, runs[0].template)}
    return runs[0] if same_runs and same_models and runs[0].seed == comparison.sample_config.seed else None


def _changed(config: Record, default: Record, names: Iterable[str]) -> list[str]:
    changed = ((name, getattr(config, name)) for name in names if getattr(config, name) != getattr(default, name))
    return [part for name, value in changed for part in _option(_flag(name), value)]


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _option(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (f"--{name}" if value else f"--no-{name}",)
    return f"--{name}", _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _line(command: str, arguments: Iterable[str]) -> str:
    return f"{PROGRAM} {command} {shlex.join(arguments)}"
