import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from functools import cache, partial

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipdemo import sampling, towers
from clipdemo.errors import TrainingError, WorkspaceError
from clipdemo.evaluation import top_k_accuracy
from clipdemo.models import open_model
from clipdemo.pixels import sample_pixels
from clipdemo.progress import finish
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.training import checkpoints, gradients, loop
from clipdemo.training.gradients import accumulate_gradient
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


@pytest.fixture(scope="module", autouse=True)
def one_tokenizer():
    """Reading its vocabulary takes a third of the time of a small run, of which there are a hundred here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(open_clip, "get_tokenizer", cache(open_clip.get_tokenizer))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A CLIP so small that a run takes a quarter of a second."""
    return small_base(tmp_path_factory.mktemp("base"))


def small_base(folder, **vision):
    settings = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8} | vision,
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**settings).state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def fresh(sample, tmp_path, name="fresh"):
    """A workspace of its own that holds the same sample, decoded already where it once was."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "cache").symlink_to(sample.folder.parent.parent / "cache")
    workspace = Workspace(tmp_path / name)
    workspace.folder("samples", sample.id).symlink_to(sample.folder)
    return workspace


@pytest.mark.parametrize("mode", ["captions", "labels"])
def test_loss_falls_and_the_best_epoch_is_kept(place, sample, base, mode):
    run = finish(train(RunConfig(mode=mode, base=base, learning_rate=1e-3, **SETTINGS | {"epochs": 4}), sample, place))
    steps = run.steps()
    losses = [s.training_loss for s in steps if s.training_loss is not None]
    validated = {round(s.epoch): s for s in steps if s.validation_top1 is not None}
    assert losses[-1] < losses[0]
    assert sorted(validated) == [0, 1, 2, 3, 4]
    best = max((s.validation_top1, -e) for e, s in validated.items() if e)
    assert (run.result.best_validation_top1, -run.result.best_epoch) == best
    assert run.result.state == "finished"
    assert load_file(run.weights)["logit_scale"].isfinite()


def test_the_same_seed_gives_the_same_run_twice(place, sample, base, tmp_path):
    config = RunConfig(mode="captions", base=base, **SETTINGS)
    first, again = finish(train(config, sample, place)), finish(train(config, sample, fresh(sample, tmp_path)))
    a, b = load_file(first.weights), load_file(again.weights)
    assert all(torch.equal(a[name], b[name]) for name in a)
    strip = partial(map, lambda s: s.model_dump(exclude={"seconds"}))
    assert list(strip(first.steps())) == list(strip(again.steps()))


def test_a_finished_run_is_found_not_repeated(place, sample, base):
    config = RunConfig(mode="captions", base=base, **SETTINGS)
    finish(train(config, sample, place))
    written = load_run(place, run_id(config, sample)).weights.stat().st_mtime_ns
    assert finish(train(config, sample, place)).weights.stat().st_mtime_ns == written


def test_other_settings_are_another_run(sample):
    ids = {
        run_id(RunConfig(mode="captions", **SETTINGS | change), sample) for change in ({}, {"seed": 1}, {"epochs": 3})
    }
    assert len(ids) == 3


def test_stopping_keeps_the_best_epoch_so_far(sample, base, tmp_path):
    workspace, config = fresh(sample, tmp_path), RunConfig(mode="labels", base=base, **SETTINGS | {"epochs": 5})
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


def test_stopping_before_the_first_epoch_leaves_a_run_without_result(sample, base, tmp_path):
    workspace, config = fresh(sample, tmp_path), RunConfig(mode="labels", base=base, **SETTINGS | {"batch_size": 16})
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


def test_a_half_written_last_line_is_left_out(place, sample, base):
    run = finish(train(RunConfig(mode="captions", base=base, **SETTINGS), sample, place))
    whole = run.steps()
    text = (run.folder / "metrics.jsonl").read_text()
    (run.folder / "metrics.jsonl").write_text(text + json.dumps({"step": 9})[:-1])
    assert run.steps() == whole
    (run.folder / "metrics.jsonl").write_text(text)


# ---- going on with a run that was broken off

SMALL = {"epochs": 3, "batch_size": 16}  # 3 epochs of 6 steps: reports after steps 4, 8, 12, 16 and 18
CAPTIONS = {"mode": "captions"}
RISING = {"mode": "labels", "learning_rate": 3e-3}  # whose every epoch is better than the one before
ALL_KINDS = [
    CAPTIONS,
    {"mode": "labels", "averaging": 0.9, "template": "A {label}|An image of {label}"},
    {"mode": "captions", "augmentation": "light", "loss": "multi-positive"},
    {"mode": "labels", "tune": "lora", "lora_rank": 2},
    {"mode": "captions", "chunk_size": 8, "averaging": 0.5, "layer_decay": 0.7},
    {"mode": "captions", "tune": "image-tower", "checkpointing": True},
]


def settings(base, kind):
    return RunConfig(base=base, **SMALL | kind)


@pytest.fixture(scope="module")
def unbroken(place, sample, base):
    """What a run leaves that nobody disturbed, for a kind of settings."""
    return lambda kind: left_behind(finish(train(settings(base, kind), sample, place)))


def left_behind(run):
    """All that a finished run leaves, but for its clock and the name of its folder."""
    assert run.result.state == "finished"
    assert not run.checkpoint.exists()
    steps = [step.model_dump(exclude={"seconds"}) for step in run.steps()]
    for kind in ("training_loss", "validation_loss"):
        places = [step["step"] for step in steps if step[kind] is not None]
        assert places == sorted(set(places))
    return run.weights.read_bytes(), steps, run.result.model_dump(exclude={"seconds"})


def stop_after(activity, reports):
    """Stops a run once it has reported so many times, as a page's button does."""
    for progress in activity:
        reports -= ", loss " in progress.note
        if not reports:
            break
    activity.close()


def checkpoints_at_every_report(monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)


@pytest.mark.parametrize("reports", [1, 2, 3, 4, 5])
def test_a_run_that_is_stopped_at_a_report_and_trained_again_ends_as_if_unbroken(
    sample, base, unbroken, tmp_path, reports
):
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    stop_after(train(config, sample, workspace), reports)
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(CAPTIONS)


@pytest.mark.parametrize("kind", ALL_KINDS, ids=str)
def test_a_run_that_is_stopped_again_and_again_ends_as_if_unbroken(sample, base, unbroken, tmp_path, monkeypatch, kind):
    config, workspace = settings(base, kind), fresh(sample, tmp_path)
    expected = unbroken(kind)
    checkpoints_at_every_report(monkeypatch)
    for reports in (1, 1, 2):
        stop_after(train(config, sample, workspace), reports)
    run = finish(train(config, sample, workspace))
    assert left_behind(run) == expected
    told = [line.split()[-3] for line in (run.folder / "log.txt").read_text().splitlines() if "goes on from" in line]
    assert told == ["4", "8", "16"]


def test_dropout_too_is_the_same_after_a_break(sample, tmp_path):
    config = settings(small_base(tmp_path, patch_dropout=0.5), CAPTIONS)
    unbroken = left_behind(finish(train(config, sample, fresh(sample, tmp_path, "unbroken"))))
    workspace = fresh(sample, tmp_path)
    stop_after(train(config, sample, workspace), 2)
    assert left_behind(finish(train(config, sample, workspace))) == unbroken


@pytest.mark.parametrize(
    ("where", "calls", "error"),
    [
        ("accumulate_gradient", 3, KeyboardInterrupt), ("accumulate_gradient", 9, SystemExit),
        ("accumulate_gradient", 18, KeyboardInterrupt), ("text_features", 2, KeyboardInterrupt),
        ("text_features", 6, KeyboardInterrupt), ("top_k_accuracy", 2, MemoryError),
        ("top_k_accuracy", 3, KeyboardInterrupt), ("save", 1, KeyboardInterrupt), ("save", 2, SystemExit),
        ("save_checkpoint", 1, KeyboardInterrupt), ("save_checkpoint", 2, KeyboardInterrupt),
    ],
)  # fmt: skip
def test_whatever_breaks_a_run_leaves_what_is_true_and_can_be_gone_on_with(
    sample, unbroken, base, tmp_path, monkeypatch, where, calls, error
):
    """In the middle of a step, of a validation, and of the writing of weights or a checkpoint."""
    config, workspace = settings(base, RISING), fresh(sample, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(loop, where, failing_at(calls, getattr(loop, where), error))
        with pytest.raises(error):
            finish(train(config, sample, workspace))
    run = load_run(workspace, run_id(config, sample))
    if run.result:
        validated = {round(s.epoch): s.validation_top1 for s in run.steps() if s.validation_top1 is not None}
        assert run.result.best_validation_top1 == validated[run.result.best_epoch]
        assert run.result.best_validation_top1 == top1_of(run, sample, workspace)
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(RISING)


def failing_at(calls, function, error):
    def failing(*arguments, **named):
        nonlocal calls
        calls -= 1
        if not calls:
            raise error
        return function(*arguments, **named)

    return failing


def top1_of(run, sample, workspace):
    """Validation top-1 of a run's weights, by the way of `models`."""
    clip = open_model(run.config.base, run.weights)
    rows = sample.rows("validation")
    pixels = finish(sample_pixels(sample, clip.image_size, workspace))
    scores = clip.encode_images(pixels[rows.index]) @ clip.encode_classes(sample.classes, run.config.template).T
    return top_k_accuracy(scores, np.array([sample.classes.index(label) for label in rows["label"]]), k=1)


def test_a_run_that_is_killed_after_anything_that_it_writes_ends_as_if_unbroken(sample, base, tmp_path, monkeypatch):
    """Its folder is copied after every write: what kill -9 would leave there at that moment."""
    config = settings(base, RISING | {"averaging": 0.9, "interpolation": True, "epochs": 2})
    workspace = fresh(sample, tmp_path)
    folder = workspace.folder("runs", run_id(config, sample))
    moments = []

    def noted(write):
        def wrapped(*arguments, **named):
            write(*arguments, **named)
            moments.append(shutil.copytree(folder, tmp_path / f"moment-{len(moments):02d}"))

        return wrapped

    with monkeypatch.context() as patched:
        checkpoints_at_every_report(patched)
        patched.setattr(loop, "MIXES", (0.6, 0.4))  # whichever wins, mixing twice would show
        for owner, name in (
            (loop, "atomic_write"), (loop, "write_json"), (checkpoints, "atomic_write"), (loop._Training, "_append")
        ):  # fmt: skip
            patched.setattr(owner, name, noted(getattr(owner, name)))
        unbroken = left_behind(finish(train(config, sample, workspace)))
    assert len(moments) > 12
    first = next(i for i, moment in enumerate(moments) if (moment / "checkpoint.safetensors").exists())
    monkeypatch.setattr(loop, "MIXES", (0.6, 0.4))
    for moment in moments[first - 1 :]:
        shutil.rmtree(folder)
        shutil.copytree(moment, folder)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"step": 17, "epo')  # what the kill cut short
        assert left_behind(finish(train(config, sample, workspace))) == unbroken, moment.name


def test_a_killed_process_leaves_a_run_that_ends_as_if_unbroken(sample, base, unbroken, tmp_path):
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    program = """
import os, signal, sys
from clipdemo.progress import finish
from clipdemo.records import RunConfig
from clipdemo.sampling import load_sample
from clipdemo.training import loop
from clipdemo.workspace import Workspace

def killed_at_step_10(*arguments, seed, **named):
    if seed == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return accumulate(*arguments, seed=seed, **named)

accumulate, loop.accumulate_gradient, loop.CHECKPOINT_SECONDS = loop.accumulate_gradient, killed_at_step_10, -1.0
workspace = Workspace(sys.argv[1])
finish(loop.train(RunConfig.model_validate_json(sys.argv[2]), load_sample(workspace, sys.argv[3]), workspace))
"""
    arguments = [sys.executable, "-c", program, str(workspace.root), config.model_dump_json(), sample.id]
    killed = subprocess.run(arguments, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = load_run(workspace, run_id(config, sample))
    assert run.result is None
    assert run.checkpoint.exists()
    run = finish(train(config, sample, workspace))
    assert "goes on from step 8 of 18" in (run.folder / "log.txt").read_text()
    assert left_behind(run) == unbroken(CAPTIONS)


def test_a_damaged_checkpoint_is_named_and_without_it_the_run_starts_over(sample, base, unbroken, tmp_path):
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    stop_after(train(config, sample, workspace), 3)
    stop_after(train(config, sample, workspace), 1)
    checkpoints_ = load_run(workspace, run_id(config, sample)).checkpoints
    assert len(checkpoints_) == 2
    for checkpoint in checkpoints_:
        os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    with pytest.raises(TrainingError, match="delete it, and the run starts over") as raised:
        finish(train(config, sample, workspace))
    assert str(checkpoints_[-1]) in str(raised.value)
    for checkpoint in checkpoints_:
        checkpoint.unlink()
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(CAPTIONS)


@pytest.mark.parametrize("writes", [1, 2, 3, 4, 5, 9])
def test_a_full_disk_breaks_a_run_off_that_goes_on_once_there_is_room(
    sample, base, unbroken, tmp_path, monkeypatch, writes
):
    config, workspace = settings(base, RISING), fresh(sample, tmp_path)
    with monkeypatch.context() as patched:
        checkpoints_at_every_report(patched)
        full = OSError(errno.ENOSPC, "No space left on device")
        patched.setattr(os, "fsync", failing_at(writes, os.fsync, full))
        with pytest.raises(WorkspaceError, match="no space left on the disk"):
            finish(train(config, sample, workspace))
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(RISING)


def test_a_run_of_one_step_an_epoch_goes_on_as_well(sample, base, unbroken, tmp_path):
    """Its reports come in the middle between two checkpoints."""
    kind = {"mode": "labels", "batch_size": 500, "epochs": 9}
    config, workspace = settings(base, kind), fresh(sample, tmp_path)
    for reports in (1, 2):
        stop_after(train(config, sample, workspace), reports)
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(kind)


# ---- memory that runs out


def fits(limit, error, first_step=0):
    """`accumulate_gradient` on a machine that has room for so many pairs at a time from some step on."""

    def accumulate(clip, batch, *, chunk_size, seed, **named):
        loss = accumulate_gradient(clip, batch, chunk_size=chunk_size, seed=seed, **named)
        if seed >= first_step and min(chunk_size, len(batch)) > limit:
            raise error  # with half of the gradients there already
        return loss

    return accumulate


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


@pytest.mark.parametrize(
    ("first_step", "limit", "fitting", "error"), [(0, 5, 4, OUT_OF_MEMORY[0]), (7, 9, 8, OUT_OF_MEMORY[1])]
)
def test_where_memory_runs_out_the_run_goes_on_with_fewer_pairs_at_a_time(
    place, sample, base, tmp_path, monkeypatch, first_step, limit, fitting, error
):
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    asked = finish(train(settings(base, CAPTIONS | {"chunk_size": fitting}), sample, place))
    monkeypatch.setattr(loop, "accumulate_gradient", fits(limit, error, first_step))
    run = finish(train(config, sample, workspace))
    assert run.result.chunk_size == fitting
    log = (run.folder / "log.txt").read_text()
    told = [line.partition("from here ")[2] for line in log.splitlines() if "memory ran out" in line]
    assert told == [f"{chunk} pairs at a time, with the same gradient" for chunk in (8, 4) if chunk >= fitting]
    weights = load_file(run.weights)
    for name, value in load_file(asked.weights).items():
        torch.testing.assert_close(*(_without_key_biases(name, v) for v in (weights[name], value)), rtol=0, atol=2e-5)


def _without_key_biases(name, value):
    """Attention does not depend on them: their gradients are rounding alone, of which AdamW makes whole steps."""
    if not name.endswith("attn.in_proj_bias"):
        return value
    queries, _, values = value.chunk(3)
    return torch.cat([queries, values])


def test_a_run_remembers_how_many_pairs_fit(sample, base, tmp_path, monkeypatch):
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "accumulate_gradient", fits(4, OUT_OF_MEMORY[0]))
        stop_after(train(config, sample, workspace), 1)
    assert finish(train(config, sample, workspace)).result.chunk_size == 4


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_where_not_even_one_pair_fits_the_way_out_is_said(sample, base, tmp_path, monkeypatch, error):
    monkeypatch.setattr(loop, "accumulate_gradient", fits(0, error))
    says = "memory ran out on cpu with a single pair: choose a smaller base than '.*', or turn checkpointing on"
    with pytest.raises(TrainingError, match=says):
        finish(train(settings(base, CAPTIONS), sample, fresh(sample, tmp_path)))


def test_a_resnet_too_learns_the_same_with_few_pairs_at_a_time(sample, tmp_path):
    """Its batch normalisation would see chunks otherwise than a whole batch."""
    resnet = small_base(tmp_path, image_size=32, layers=[1, 1, 1, 1], width=8)
    (whole, weights), (chunked, others) = (
        trained(resnet, sample, tmp_path, mode="captions", epochs=1, chunk_size=size) for size in (0, 5)
    )
    losses = [[s.training_loss for s in run.steps() if s.training_loss] for run in (whole, chunked)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    before = base_state(resnet)
    for name in (name for name in before if "running" in name):
        assert torch.equal(weights[name], before[name])
        assert torch.equal(others[name], before[name])


def test_another_error_of_torch_is_not_taken_for_want_of_memory(sample, base, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "accumulate_gradient", fits(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    config, workspace = settings(base, CAPTIONS), fresh(sample, tmp_path)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        finish(train(config, sample, workspace))
    assert "memory ran out" not in (load_run(workspace, run_id(config, sample)).folder / "log.txt").read_text()


# ---- what settings do


def base_state(base):
    return {name: value.clone() for name, value in open_model(base).network.state_dict().items()}


def trained(base, sample, tmp_path, **kind):
    """A run's record and weights, in a workspace that the runs of one test share."""
    there = tmp_path / "fresh"
    workspace = Workspace(there) if there.exists() else fresh(sample, tmp_path)
    run = finish(train(settings(base, kind), sample, workspace))
    return run, load_file(run.weights)


@pytest.mark.parametrize("mixes", [loop.MIXES, (0.4,)], ids=["all mixes", "one mix"])
def test_interpolation_saves_the_mix_that_it_names(sample, base, tmp_path, monkeypatch, mixes):
    monkeypatch.setattr(loop, "MIXES", mixes)
    plain, tuned = trained(base, sample, tmp_path, mode="captions")
    run, weights = trained(base, sample, tmp_path, mode="captions", interpolation=True)
    before, share = base_state(base), run.result.interpolation
    assert share in mixes
    assert weights.keys() == before.keys()
    for name, value in weights.items():
        assert torch.equal(value, torch.lerp(before[name], tuned[name], share)), name
    assert run.result.best_validation_top1 == top1_of(run, sample, Workspace(tmp_path / "fresh"))
    assert plain.result.interpolation is None
    if 1.0 in mixes:
        assert run.result.best_validation_top1 >= plain.result.best_validation_top1


def test_interpolation_takes_the_mix_that_validation_likes_best_and_of_equals_the_most_tuned(
    sample, base, tmp_path, monkeypatch
):
    liked = dict(zip(loop.MIXES, (0.1, 0.3, 0.2, 0.3, 0.0), strict=True))
    tops = iter([0.0] * 4 + [*liked.values()])  # the base, three epochs, then the mixes in their order
    monkeypatch.setattr(loop, "top_k_accuracy", lambda *_, **__: next(tops))
    run, _ = trained(base, sample, tmp_path, mode="labels", interpolation=True)
    assert (run.result.interpolation, run.result.best_validation_top1) == (0.8, 0.3)
    assert "0.8 0.300" in (run.folder / "log.txt").read_text()


def test_averaging_saves_the_running_mean_of_every_weight(sample, base, tmp_path, monkeypatch):
    """Twin in float64, of the whole token table as well, whose unused rows only decay."""
    means, step = {name: value.double() for name, value in base_state(base).items()}, 0

    def noting(training):
        nonlocal step
        step += 1
        average(training)
        keep = min(0.6, (1 + step) / (10 + step))
        for name, value in training._state().items():
            means[name] = keep * means[name] + (1 - keep) * value.double()

    average = loop._Training._average
    monkeypatch.setattr(loop._Training, "_average", noting)
    _, weights = trained(base, sample, tmp_path, mode="captions", averaging=0.6, epochs=1, learning_rate=1e-2)
    assert step == 6
    assert weights.keys() == means.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value.double(), means[name], rtol=1e-6, atol=1e-7)


def test_averaging_does_not_change_how_the_run_learns(sample, base, tmp_path):
    losses = [
        [s.training_loss for s in trained(base, sample, tmp_path, mode="labels", averaging=share)[0].steps()]
        for share in (0.0, 0.9)
    ]
    assert losses[0] == losses[1]


def test_with_layer_decay_each_block_moves_as_much_slower_as_was_asked(sample, base, tmp_path):
    """AdamW's first step moves every weight by the rate: the blocks' ways show their rates."""
    one_step = {"epochs": 1, "batch_size": 96, "warmup_fraction": 0, "weight_decay": 0}
    _, weights = trained(base, sample, tmp_path, mode="captions", layer_decay=0.5, learning_rate=1e-3, **one_step)
    before = base_state(base)
    for tower in ("visual.transformer", "transformer"):
        for block, rate in ((0, 0.25e-3), (1, 0.5e-3)):
            name = f"{tower}.resblocks.{block}.attn.in_proj_weight"
            assert float((weights[name] - before[name]).abs().max()) == pytest.approx(rate, rel=0.02)
    assert float((weights["visual.proj"] - before["visual.proj"]).abs().max()) == pytest.approx(1e-3, rel=0.02)


def test_an_ensemble_of_templates_is_trained_on_and_validated_with(sample, base, tmp_path):
    run, weights = trained(base, sample, tmp_path, mode="labels", template="A {label}|Look, an image of {label}")
    assert run.result.best_validation_top1 == top1_of(run, sample, Workspace(tmp_path / "fresh"))
    _, of_one = trained(base, sample, tmp_path, mode="labels", template="A {label}")
    assert not torch.equal(weights["visual.proj"], of_one["visual.proj"])


@pytest.mark.parametrize(("tune", "fixed"), [("image-tower", "text"), ("text-tower", "visual")])
def test_a_tower_that_is_not_tuned_stays_bit_for_bit(sample, base, tmp_path, tune, fixed):
    _, weights = trained(base, sample, tmp_path, mode="captions", tune=tune)
    before = base_state(base)
    assert weights.keys() == before.keys()
    sides = {name: "visual" if name.startswith("visual.") else "text" for name in before if name != "logit_scale"}
    for name, side in sides.items():
        if side == fixed:
            assert torch.equal(weights[name], before[name]), name
    moved = [name for name, side in sides.items() if side != fixed and not torch.equal(weights[name], before[name])]
    assert len(moved) > 10


def test_augmentation_changes_training_and_not_what_validates(sample, base, tmp_path):
    (plain, weights), (light, others) = (
        trained(base, sample, tmp_path, mode="captions", augmentation=augmentation)
        for augmentation in ("none", "light")
    )
    assert not torch.equal(weights["visual.proj"], others["visual.proj"])
    first, its = plain.steps()[0], light.steps()[0]
    assert (first.validation_loss, first.validation_top1) == (its.validation_loss, its.validation_top1)


def test_checkpointing_computes_blocks_again_and_gives_the_same_weights(sample, base, tmp_path, monkeypatch):
    blocks = []

    def counted(block, *arguments, **named):
        blocks.append(block)
        return checkpoint(block, *arguments, **named)

    checkpoint = towers.checkpoint
    monkeypatch.setattr(towers, "checkpoint", counted)
    _, weights = trained(base, sample, tmp_path, mode="captions")
    assert blocks == []
    _, others = trained(base, sample, tmp_path, mode="captions", checkpointing=True)
    assert len(blocks) >= 18 * 4  # steps, and blocks of both towers
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-6)


# ---- fewer pictures


def rows_seen(monkeypatch, config, sample, workspace):
    """The rows of all batches that a run takes a step on."""
    seen, step = [], loop._Training._gradient

    def watched(self, rows, batch):
        seen.append(rows)
        return step(self, rows, batch)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Training, "_gradient", watched)
        finish(train(config, sample, workspace))
    return seen


@pytest.mark.parametrize("mode", ["captions", "labels"])
def test_a_run_sees_so_many_pictures_and_no_others(sample, base, tmp_path, monkeypatch, mode):
    """Ten batches of 16 leave out other pictures every epoch: of 40, all have their turn in so many epochs."""
    config = RunConfig(mode=mode, base=base, epochs=8, batch_size=16, pictures=40)
    batches = rows_seen(monkeypatch, config, sample, fresh(sample, tmp_path))
    assert [len(rows) for rows in batches] == [16] * 16
    used = np.unique(np.concatenate(batches))
    assert len(used) == 40
    assert set(sample.manifest["split"].iloc[used]) == {"train"}


def test_all_pictures_by_number_are_all_pictures_bit_for_bit(sample, base, unbroken, tmp_path):
    config = settings(base, CAPTIONS | {"pictures": sample.sizes["train"]})
    assert left_behind(finish(train(config, sample, fresh(sample, tmp_path)))) == unbroken(CAPTIONS)


def test_a_run_on_fewer_pictures_that_is_stopped_ends_as_if_unbroken(sample, base, unbroken, tmp_path):
    kind = CAPTIONS | {"pictures": 50, "seed": 3}
    config, workspace = settings(base, kind), fresh(sample, tmp_path)
    stop_after(train(config, sample, workspace), 1)
    assert left_behind(finish(train(config, sample, workspace))) == unbroken(kind)


def test_fewer_pictures_than_a_batch_make_one_step_an_epoch(sample, base, tmp_path):
    config = RunConfig(mode="labels", base=base, epochs=3, batch_size=64, pictures=10)
    assert finish(train(config, sample, fresh(sample, tmp_path))).result.steps == 3


def test_more_pictures_than_there_are_leave_no_run_behind(sample, base, tmp_path):
    workspace, number = fresh(sample, tmp_path), sample.sizes["train"]
    with pytest.raises(TrainingError, match=f"pictures = {number + 1}: the sample has {number} training pictures"):
        finish(train(RunConfig(mode="labels", base=base, pictures=number + 1), sample, workspace))
    assert workspace.names("runs") == []
