"""What a page launches, and what a reader copies, must mean the same settings again once the command line has read it."""

import shlex
from typing import get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import commands
from clipdemo.cli import app
from clipdemo.cli.data import SourceOptions
from clipdemo.records import MODES, CleaningRules, RunConfig, SampleConfig, Tune
from clipdemo.sources import resolved
from tests import workspace_factory as factory


def parsed(command: str, arguments: list[str]) -> dict:
    group = typer.main.get_command(app)
    return group.commands[command].make_context(command, list(arguments)).params


def as_sample(params: dict) -> SampleConfig:
    given = {name: value for name, value in params.items() if value is not None}
    pick = lambda record: {name: given[name] for name in record.model_fields if name in given}  # noqa: E731
    return resolved(SampleConfig(**pick(SampleConfig), cleaning=pick(CleaningRules), options=pick(SourceOptions)))


@given(
    samples=st.integers(12, 100_000),
    seed=st.integers(0, 2**32 - 1),
    train=st.floats(0.05, 0.9),
    rate=st.floats(0, 1),
    rows=st.integers(1, 10**6),
)
def test_a_sample_survives_the_command_line(samples, seed, train, rate, rows):
    rest = (1 - train) / 2
    config = SampleConfig(
        samples=samples, seed=seed, train=train, validation=rest, test=rest,
        cleaning=CleaningRules(exclude=("Foot", "Oral cavity"), synonyms={"a=b": "Foot"}, rare="merge"), options={"rows": rows, "bad_labels": rate},
    )  # fmt: skip
    assert as_sample(parsed("sample", commands.sample_arguments(config))) == resolved(config)


@given(
    mode=st.sampled_from(MODES),
    epochs=st.integers(1, 1000),
    rate=st.floats(1e-9, 1),
    loss=st.sampled_from(["paper", "multi-positive"]),
    seed=st.integers(0, 2**32 - 1),
    switches=st.lists(st.booleans(), min_size=3, max_size=3),
    tune=st.sampled_from(get_args(Tune)),
)
def test_a_run_survives_the_command_line(mode, epochs, rate, loss, seed, switches, tune):
    config = RunConfig(
        mode=mode, epochs=epochs, learning_rate=rate, loss=loss, seed=seed, template="“{label}”, it's said",
        base="local-dir:/some where", tune=tune,
        interpolation=switches[0], checkpointing=switches[1], compile=switches[2],
    )  # fmt: skip
    params = parsed("train", commands.train_arguments(config, "some-sample"))
    assert params["sample"] == "some-sample"
    given = {name: params[name] for name in RunConfig.model_fields if params[name] is not None}
    assert RunConfig(**given) == config


def test_default_settings_need_no_words():
    assert commands.run_arguments(RunConfig(mode="labels", seed=7)) == ["--epochs", "4"]  # presets have others
    assert commands.sample_arguments(SampleConfig()) == ["--source", "phantom", "--samples", "4096", "--seed", "0"]


@pytest.fixture
def comparison(workspace):
    return factory.make_comparison(workspace, factory.make_sample(workspace))


def test_an_experiment_is_redone_by_one_line(comparison):
    (line,) = commands.redo_commands(comparison)
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "clipdemo", "experiment"]
    assert as_sample(parsed("experiment", words[4:])) == comparison.sample_config


def test_other_comparisons_are_redone_step_by_step(comparison):
    runs = {name: run.model_copy(update={"seed": 9}) for name, run in comparison.runs.items()}
    lines = commands.redo_commands(comparison.model_copy(update={"runs": runs}))
    assert [shlex.split(line)[3] for line in lines] == [
        *("sample", "train", "train", "evaluate", "evaluate", "evaluate", "compare")
    ]
    for line in lines:
        words = shlex.split(line)
        parsed(words[3], words[4:])  # raises where an option is unknown
    assert shlex.split(lines[-1])[4:] == [model.predictions for model in comparison.models]
