import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.records import MODES, RunConfig, Step
from clipdemo.training.runs import Run
from clipdemo.ui import cached
from clipdemo.ui.cached import Metrics
from tests import workspace_factory as factory


def line(step: int, seconds: float = 0.0, **numbers: float) -> str:
    values = {"training_loss": 1.0, **numbers}
    return Step(step=step, epoch=step / 10, seconds=seconds, **values).model_dump_json(exclude_none=True) + "\n"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "metrics.jsonl"


def numbers(steps: list[Step]) -> list[int]:
    return [step.step for step in steps]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_file_that_is_not_there_yet_has_no_steps(path):
    metrics = Metrics(path)
    assert metrics.read() == []
    path.write_text(line(4))
    assert numbers(metrics.read()) == [4]


def test_steps_are_those_that_the_run_itself_reads(workspace):
    run = factory.make_run(workspace, factory.make_sample(workspace), RunConfig(mode="captions"))
    assert [step.model_dump() for step in cached.steps(run)] == [step.model_dump() for step in run.steps()]


def test_only_new_lines_are_read(path, monkeypatch):
    path.write_text("".join(line(step) for step in range(100)))
    metrics = Metrics(path)
    metrics.read()
    parsed = []
    steps_of = cached._parsed
    monkeypatch.setattr(cached, "_parsed", lambda lines: parsed.extend(lines) or steps_of(lines))
    append(path, line(100))
    assert numbers(metrics.read()) == list(range(101))
    assert len(parsed) == 1


def test_nothing_new_is_the_same_list_and_what_was_given_out_stays(path):
    path.write_text(line(4))
    metrics = Metrics(path)
    before = metrics.read()
    assert metrics.read() is before
    append(path, line(8))
    assert numbers(metrics.read()) == [4, 8]
    assert numbers(before) == [4]


@pytest.mark.parametrize(
    "damage", ["{}\n", "\n", "no json\n", "[]\n", '{"step": 1, "epoch": NaN, "seconds": 0}\n', "\udcff\0\n"]
)
def test_a_damaged_line_is_left_out(path, damage):
    path.write_bytes((line(4) + damage + line(8)).encode(errors="surrogateescape"))
    assert numbers(Metrics(path).read()) == [4, 8]


def test_a_file_that_shrank_is_read_from_its_beginning(path):
    path.write_text(line(4) + line(8) + line(12))
    metrics = Metrics(path)
    metrics.read()
    path.write_text(line(4))
    assert numbers(metrics.read()) == [4]


def test_another_file_that_is_longer_already_is_read_from_its_beginning(path):
    path.write_text(line(4, seconds=1.5) + line(8, seconds=2.5))
    metrics = Metrics(path)
    metrics.read()
    path.unlink()  # what `begin_run` does; the new file may well get the same inode
    path.write_text("".join(line(step, seconds=step / 3) for step in (4, 8, 12, 16)))
    os.utime(path, ns=(1, 1))
    assert numbers(metrics.read()) == [4, 8, 12, 16]
    assert [step.seconds for step in metrics.read()] == [4 / 3, 8 / 3, 4.0, 16 / 3]


def test_a_run_that_vanished_has_no_steps(path):
    path.write_text(line(4))
    metrics = Metrics(path)
    metrics.read()
    path.unlink()
    assert metrics.read() == []


@given(st.lists(st.integers(1, 200), max_size=20))
def test_reading_in_pieces_is_reading_at_once(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    whole = "".join(line(step, seconds=step / 7) for step in range(12)).encode()
    metrics, written = Metrics(path), 0
    for piece in pieces:
        written += piece
        path.write_bytes(whole[:written])
        assert len(metrics.read()) == whole[:written].count(b"\n")
    path.write_bytes(whole)
    assert numbers(metrics.read()) == list(range(12))


def test_curves_are_made_once_and_again_when_a_line_came(workspace):
    sample = factory.make_sample(workspace)
    runs = {mode: factory.make_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES}
    loss, top1 = cached.curves(runs)
    assert len(loss["series"]) == 4 and len(top1["series"]) == 2
    assert cached.curves(runs)[0] is loss
    append(runs["labels"].folder / "metrics.jsonl", line(99))
    assert cached.curves(runs)[0] is not loss


def test_curves_until_a_line_stay_the_same_when_the_run_goes_on(workspace):
    run = factory.make_run(workspace, factory.make_sample(workspace), RunConfig(mode="labels"))
    newest = cached.curves({"labels": run})[0]
    until = {run.id: len(cached.steps(run))}
    frozen = cached.curves({"labels": run}, until)[0]
    assert frozen["dataset"]["source"].equals(newest["dataset"]["source"])
    append(run.folder / "metrics.jsonl", line(99))
    assert cached.curves({"labels": run}, until)[0] is frozen
    assert cached.curves({"labels": run}, {run.id: 0}) is None


def test_a_run_without_a_line_has_no_curves(tmp_path):
    assert cached.curves({"labels": Run("labels", tmp_path, RunConfig(mode="labels"), "sample")}) is None
