import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from clipdemo import sampling
from clipdemo.errors import TrainingError
from clipdemo.progress import finish
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.training import gradients, loop
from clipdemo.training.loop import train
from clipdemo.training.losses import contrastive_loss as loop_loss
from clipdemo.training.runs import load_run, run_id
from clipdemo.workspace import Workspace

SAMPLE = SampleConfig(samples=120, options={"rows": 1200})
SETTINGS = {"epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def sample(place):
    return finish(sampling.draw_sample(SAMPLE, place))


def fresh(sample, tmp_path):
    """A workspace of its own that holds the same sample."""
    workspace = Workspace(tmp_path / "fresh")
    workspace.folder("samples", sample.id).symlink_to(sample.folder)
    return workspace


@pytest.mark.parametrize("mode", ["captions", "labels"])
def test_loss_falls_and_the_best_epoch_is_kept(place, sample, mode):
    run = finish(train(RunConfig(mode=mode, **SETTINGS | {"epochs": 4}), sample, place))
    steps = run.steps()
    losses = [s.training_loss for s in steps if s.training_loss is not None]
    validated = {round(s.epoch): s for s in steps if s.validation_top1 is not None}
    assert losses[-1] < losses[0]
    assert sorted(validated) == [0, 1, 2, 3, 4]
    best = max((s.validation_top1, -e) for e, s in validated.items() if e)
    assert (run.result.best_validation_top1, -run.result.best_epoch) == best
    assert run.result.state == "finished"
    assert load_file(run.weights)["logit_scale"].isfinite()


def test_the_same_seed_gives_the_same_run_twice(place, sample, tmp_path):
    config = RunConfig(mode="captions", **SETTINGS)
    first, again = finish(train(config, sample, place)), finish(train(config, sample, fresh(sample, tmp_path)))
    a, b = load_file(first.weights), load_file(again.weights)
    assert all(torch.equal(a[name], b[name]) for name in a)
    strip = partial(map, lambda s: s.model_dump(exclude={"seconds"}))
    assert list(strip(first.steps())) == list(strip(again.steps()))


def test_a_finished_run_is_found_not_repeated(place, sample):
    config = RunConfig(mode="captions", **SETTINGS)
    finish(train(config, sample, place))
    written = load_run(place, run_id(config, sample)).weights.stat().st_mtime_ns
    assert finish(train(config, sample, place)).weights.stat().st_mtime_ns == written


def test_other_settings_are_another_run(sample):
    ids = {
        run_id(RunConfig(mode="captions", **SETTINGS | change), sample) for change in ({}, {"seed": 1}, {"epochs": 3})
    }
    assert len(ids) == 3


def test_stopping_keeps_the_best_epoch_so_far(sample, tmp_path):
    workspace, config = fresh(sample, tmp_path), RunConfig(mode="labels", **SETTINGS | {"epochs": 5})
    activity = train(config, sample, workspace)
    for progress in activity:
        if "epoch 3" in progress.note:
            break
    activity.close()
    run = load_run(workspace, run_id(config, sample))
    assert run.result.state == "stopped"
    assert run.result.epochs_done == 2
    assert run.result.best_epoch in (1, 2)
    assert run.weights.exists()


def test_stopping_before_the_first_epoch_leaves_a_run_without_result(sample, tmp_path):
    workspace, config = fresh(sample, tmp_path), RunConfig(mode="labels", **SETTINGS | {"batch_size": 16})
    activity = train(config, sample, workspace)
    while "epoch 1" not in next(activity).note:
        pass
    activity.close()
    assert load_run(workspace, run_id(config, sample)).result is None
    assert finish(train(config, sample, workspace)).result.state == "finished"  # and it can be done again


@pytest.mark.parametrize(("which", "step"), [("validation", 0), ("training", 4)])
def test_a_run_that_explodes_says_what_to_change(sample, tmp_path, monkeypatch, which, step):
    def exploding(*features):
        return loop_loss(*features) * float("nan")

    monkeypatch.setattr(gradients if which == "training" else loop, "contrastive_loss", exploding)
    says = rf"the {which} loss became nan at step {step}: a learning rate of 0\.5 is too high"
    with pytest.raises(TrainingError, match=says):
        finish(
            train(
                RunConfig(mode="labels", **SETTINGS | {"learning_rate": 0.5, "batch_size": 16}),
                sample,
                fresh(sample, tmp_path),
            )
        )


def test_a_half_written_last_line_is_left_out(place, sample):
    run = finish(train(RunConfig(mode="captions", **SETTINGS), sample, place))
    whole = run.steps()
    text = (run.folder / "metrics.jsonl").read_text()
    (run.folder / "metrics.jsonl").write_text(text + json.dumps({"step": 9})[:-1])
    assert run.steps() == whole
    (run.folder / "metrics.jsonl").write_text(text)
