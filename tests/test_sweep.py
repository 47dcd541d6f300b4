import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from clipdemo.errors import BadSettings, TrainingError, WorkspaceError
from clipdemo.experiment import both_modes
from clipdemo.presets import configured
from clipdemo.progress import finish
from clipdemo.queues import QUEUED
from clipdemo.records import MODES, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.sweep import (
    MAX_EPOCHS,
    Point,
    SweepConfig,
    halvings,
    load_sweep,
    readable_sweeps,
    run_on,
    runs_of,
    sweep,
    sweep_id,
)
from clipdemo.training.runs import load_run, run_id, settle
from clipdemo.worth import RESAMPLES, Equivalent, Worth, worth, worth_of
from tests.training.test_loop import small_base

INF = math.inf
SIZES = (64, 128, 256, 512)


# ---- what is asked


@pytest.mark.parametrize(
    ("pictures", "sizes"),
    [
        (819, (51, 102, 204, 409, 819)),
        (1024, (64, 128, 256, 512, 1024)),
        (3277, (51, 102, 204, 409, 819, 1638, 3277)),
        (64, (64,)),
        (20, (20,)),
    ],
)
def test_sizes_are_halvings_down_to_about_sixty_four(pictures, sizes):
    assert halvings(pictures) == sizes


@given(pictures=st.integers(2, 10**6))
def test_halvings_make_a_config(pictures):
    sizes = SweepConfig(sample="s", sizes=halvings(pictures)).sizes
    assert sizes[-1] == pictures
    assert len(sizes) == 1 or 45 <= sizes[0] <= 91


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sizes": (64, 32)}, "sizes = .*smallest first"),
        ({"sizes": (64, 64)}, "sizes = .*each size once"),
        ({"sizes": (1, 64)}, "sizes.0 = 1"),
        ({"seeds": (1, 1)}, "seeds = .*each seed once"),
        ({"seeds": ()}, "seeds"),
        ({"runs": ()}, "runs"),
        ({"runs": (RunConfig(mode="labels"), RunConfig(mode="labels"))}, "each mode can be there once"),
        ({"runs": both_modes(pictures=5)}, "chooses the pictures itself"),
        ({"runs": both_modes(continues="labels-s0-1")}, "starts from the base"),
        ({"runs": both_modes(loss="multi-positive")}, "are told the labels"),
        ({"runs": (RunConfig(mode="labels"), RunConfig(mode="captions", template="{label}"))}, "one template"),
    ],
)
def test_what_makes_no_curve_is_refused(changes, says):
    with pytest.raises(BadSettings, match=says):
        SweepConfig(sample="s", **changes)


def steps(run, available):
    pictures = run.pictures or available
    return run.epochs * max(1, pictures // min(run.batch_size, pictures))


def test_small_parts_are_trained_as_many_steps_as_the_whole_as_far_as_epochs_allow():
    """819 pictures in batches of 64: 4 epochs of 12 steps."""
    made = {size: run_on(RunConfig(mode="labels"), size, 0, 819) for size in (32, 64, 128, 256, 409, 819)}
    assert {size: run.epochs for size, run in made.items()} == {32: 32, 64: 32, 128: 24, 256: 12, 409: 8, 819: 4}
    assert {size: steps(run, 819) for size, run in made.items()} == {32: 32, 64: 32, 128: 48, 256: 48, 409: 48, 819: 48}
    assert [made[size].batch_size for size in (32, 64, 819)] == [32, 64, 64]


@given(
    available=st.integers(2, 5000), share=st.floats(0, 1), epochs=st.integers(1, 60), batch=st.integers(2, 128),
    patience=st.integers(0, 9),
)  # fmt: skip
def test_every_part_is_trained_about_as_long_or_as_long_as_may_be(available, share, epochs, batch, patience):
    whole = RunConfig(mode="captions", epochs=epochs, batch_size=batch, patience=patience)
    pictures = max(2, round(share * available))
    run = run_on(whole, pictures, 1, available)
    wanted, epoch = steps(whole, available), steps(run, available) // run.epochs
    assert epochs <= run.epochs <= max(MAX_EPOCHS, epochs)
    assert abs(steps(run, available) - wanted) <= epoch / 2 or run.epochs == max(MAX_EPOCHS, epochs)
    assert (run.patience == 0) == (patience == 0)
    assert run.patience >= patience


def test_on_all_pictures_a_run_is_the_ordinary_one():
    for run in (RunConfig(mode="labels", epochs=3), configured("thorough", "captions", {})):
        assert run_on(run, 819, 2, 819) == run.model_copy(update={"seed": 2})


# ---- a tiny real sweep

CONFIG = SampleConfig(source="tiny", samples=60)
COLOURS = ("red", "green", "blue", "white", "black", "grey")
ROWS = [(("Cat", "Dog")[i % 2], f"a {COLOURS[i % 6]} square, number {i}", "", i) for i in range(90)]


@pytest.fixture
def sample(workspace, tiny_source):
    tiny_source(ROWS, classes=None)
    return finish(draw_sample(CONFIG, workspace))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def asked(sample, base):
    runs = both_modes(base=base, epochs=1, batch_size=16)
    return SweepConfig(sample=sample.id, sizes=(8, 48), seeds=(0, 1), runs=runs)


@pytest.fixture
def trainings(monkeypatch):
    """The runs that are really trained, one entry a first step."""
    from clipdemo.training import loop

    trained, run = [], loop._Training.run

    def counted(self):
        trained.append(self.run_.id)
        return run(self)

    monkeypatch.setattr(loop._Training, "run", counted)
    return trained


def test_runs_are_all_sizes_seeds_and_modes_a_seed_at_a_time(sample, asked):
    runs = runs_of(asked, sample)
    assert [(run.seed, run.pictures, run.mode) for run in runs] == [
        (seed, pictures, mode) for seed in (0, 1) for pictures in (8, 0) for mode in MODES
    ]
    assert len({run_id(run, sample) for run in runs}) == 8


def test_a_sweep_of_this_name_is_of_these_runs(sample, asked, base):
    assert sweep_id(asked, sample) == sweep_id(asked.model_copy(), sample)
    by_default = SweepConfig(sample=sample.id)
    assert sweep_id(by_default, sample) == sweep_id(by_default.model_copy(update={"sizes": (48,)}), sample)
    changes = ({"sizes": (9, 48)}, {"seeds": (0, 2)}, {"runs": both_modes(base=base, epochs=2, batch_size=16)})
    names = {sweep_id(asked, sample), *(sweep_id(asked.model_copy(update=change), sample) for change in changes)}
    assert len(names) == 4


def test_sizes_and_texts_that_the_sample_lacks_are_refused(workspace, tiny_source, sample, asked):
    with pytest.raises(BadSettings, match=r"size 49: sample .* has 48 training pictures"):
        runs_of(asked.model_copy(update={"sizes": (8, 49)}), sample)
    with pytest.raises(BadSettings, match="is of sample elsewhere"):
        runs_of(asked.model_copy(update={"sample": "elsewhere"}), sample)
    with pytest.raises(BadSettings, match="has no labels"):
        runs_of(asked, replace(sample, texts=("captions",)))
    with pytest.raises(BadSettings, match="has no captions"):
        runs_of(asked, replace(sample, texts=("labels",)))


def test_a_sweep_measures_every_run_on_the_same_pictures_and_counts_them(workspace, sample, asked, trainings):
    said = []
    activity = sweep(asked, sample, workspace, "some-job")
    result = None
    while result is None:
        try:
            said.append(next(activity))
        except StopIteration as end:
            result = end.value
    assert result.finished
    assert result == load_sweep(workspace, sweep_id(asked, sample))
    assert [(p.seed, p.pictures, p.kind) for p in result.points] == [
        (seed, pictures, mode) for seed in (0, 1) for pictures in (8, 48) for mode in MODES
    ]
    assert trainings == [point.run for point in result.points]
    assert {point.n for point in (result.base, *result.points)} == {6}
    assert {load_run(workspace, name).job for name in trainings} == {"some-job"}
    outer = [progress for progress in said if progress.stage == "sweep"]
    assert [(p.done, p.total) for p in outer] == [(done, 8) for done in range(9)]
    assert outer[0].note == "captions of 8 pictures, seed 0"
    assert {"captions", "labels", "evaluate captions"} <= {progress.stage for progress in said}
    for mode in MODES:
        curve = result.curve(mode)
        assert [place.pictures for place in curve] == [8, 48]
        assert all(len(place.top1) == 2 for place in curve)


def test_points_say_what_their_evaluations_say(workspace, sample, asked):
    from clipdemo.comparison import load_evaluation, load_predictions

    result = finish(sweep(asked.model_copy(update={"seeds": (0,)}), sample, workspace))
    for point in (result.base, *result.points):
        evaluation = load_evaluation(workspace, point.evaluation)
        assert point.top1 == pytest.approx(evaluation.top1)
        scores = load_predictions(workspace, evaluation).set_index("label").filter(like="score: ")
        best = scores.idxmax(axis=1).str.removeprefix("score: ")
        assert point.correct.tolist() == (best == best.index).tolist()


def test_a_sweep_that_is_done_is_found_even_when_its_runs_are_deleted(workspace, sample, asked, trainings):
    first = finish(sweep(asked, sample, workspace))
    for kind in ("runs", "evaluations"):
        for name in workspace.names(kind):
            workspace.delete(kind, name)
    trainings.clear()
    assert finish(sweep(asked, sample, workspace)) == first
    assert trainings == []
    assert worth(load_sweep(workspace, first.id), resamples=20).n == 6


def test_a_larger_sweep_finds_the_runs_of_a_smaller_one(workspace, sample, asked, trainings):
    finish(sweep(asked.model_copy(update={"seeds": (0,)}), sample, workspace))
    trainings.clear()
    finish(sweep(asked, sample, workspace))
    assert len(trainings) == 4


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_a_sweep_that_is_left_between_runs_trains_nothing_twice(workspace, sample, asked, trainings, finished):
    activity = sweep(asked, sample, workspace)
    for progress in activity:
        if progress.stage == "sweep" and progress.done == finished:
            break
    activity.close()
    there = load_sweep(workspace, sweep_id(asked, sample))  # what a page shows meanwhile
    assert (len(there.points), there.finished) == (finished, False)
    assert worth(there) is None
    assert finish(sweep(asked, sample, workspace)).finished
    assert len(trainings) == len(set(trainings)) == 8


def test_the_answer_is_there_once_a_seed_is_whole(workspace, sample, asked):
    activity = sweep(asked, sample, workspace)
    for progress in activity:
        if progress.stage == "sweep" and progress.done == 5:
            break
    activity.close()
    assert worth(load_sweep(workspace, sweep_id(asked, sample)), resamples=20).seeds == 1


def test_the_run_that_was_under_way_is_gone_on_with(workspace, sample, asked, base):
    asked = asked.model_copy(update={"runs": both_modes(base=base, epochs=3, batch_size=8), "sizes": (48,)})
    activity = sweep(asked, sample, workspace)
    for progress in activity:
        if progress.stage == "captions" and "epoch 2" in progress.note:
            break
    activity.close()
    first = load_run(workspace, run_id(runs_of(asked, sample)[0], sample))
    assert first.result.state == "stopped"
    finish(sweep(asked, sample, workspace))
    assert "goes on from step" in (first.folder / "log.txt").read_text()


def test_a_run_that_was_stopped_for_good_is_no_point(workspace, sample, asked, base):
    asked = asked.model_copy(update={"runs": both_modes(base=base, epochs=3, batch_size=8), "sizes": (48,)})
    activity = sweep(asked, sample, workspace)
    for progress in activity:
        if progress.stage == "captions" and "epoch 2" in progress.note:
            break
    activity.close()
    run = load_run(workspace, run_id(runs_of(asked, sample)[0], sample))
    settle(run, "keep", workspace)
    with pytest.raises(TrainingError, match=rf"{run.id} was stopped for good after 1 of 3 epochs.*delete it"):
        finish(sweep(asked, sample, workspace))
    workspace.delete("runs", run.id)
    assert finish(sweep(asked, sample, workspace)).finished


def test_one_kind_alone_makes_a_curve_and_no_answer(workspace, sample, asked):
    result = finish(sweep(asked.model_copy(update={"runs": asked.runs[1:]}), sample, workspace))
    assert result.config.modes == ("labels",)
    assert (len(result.curve("labels")), result.curve("captions")) == (2, [])
    assert worth(result) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"id": "a"}'])
def test_a_damaged_file_is_named_with_the_way_out_and_holds_up_no_list(workspace, sample, asked, content):
    asked = asked.model_copy(update={"seeds": (0,), "sizes": (8,)})
    result = finish(sweep(asked, sample, workspace))
    path = workspace.folder("sweeps", result.id) / "sweep.json"
    assert readable_sweeps(workspace) == [result]
    path.write_text(content)
    for read in (lambda: load_sweep(workspace, result.id), lambda: finish(sweep(asked, sample, workspace))):
        with pytest.raises(WorkspaceError, match=r"sweep\.json .*delete its folder"):
            read()
    assert readable_sweeps(workspace) == []
    workspace.delete("sweeps", result.id)
    assert finish(sweep(asked, sample, workspace)) == result  # made again of the runs that are there


def test_numbers_that_contradict_themselves_are_refused(workspace, sample, asked):
    result = finish(sweep(asked.model_copy(update={"seeds": (0,), "sizes": (8,)}), sample, workspace))
    path = workspace.folder("sweeps", result.id) / "sweep.json"
    value = json.loads(path.read_text())
    value["points"][0]["right"] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(WorkspaceError, match=r"sweep\.json is damaged"):
        load_sweep(workspace, result.id)


def test_a_missing_sweep_is_named(workspace):
    with pytest.raises(WorkspaceError, match="there is no sweep 'nothing'"):
        load_sweep(workspace, "nothing")


@given(correct=st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_point_keeps_which_pictures_were_right(correct):
    bits = np.packbits(np.array(correct)).tobytes().hex()
    point = Point(
        kind="labels", pictures=8, seed=0, run="r", evaluation="e", n=len(correct), right=sum(correct), bits=bits
    )
    assert point.correct.tolist() == correct
    assert point.top1 == sum(correct) / len(correct)


# ---- the command


def clipdemo(*arguments):
    return subprocess.run([sys.executable, "-m", "clipdemo", *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """A sweep by the command line whose process is killed after its first run, and that is then asked for again."""
    at = ["--workspace", str(tmp_path_factory.mktemp("commanded"))]
    drawn = clipdemo("sample", "--samples", "60", "--rows", "1200", *at).stdout.splitlines()[-1]
    command = ["sweep", "--sample", drawn, "--sizes", "24,all", "--seeds", "0", "--epochs", "1", *at]
    program = """
import os, signal, sys
from clipdemo import sweep
kept = sweep._saved
def saved(result, workspace):
    kept(result, workspace)
    if result.points:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
sweep._saved = saved
from clipdemo.cli import app
app(sys.argv[1:])
"""
    killed = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return at, clipdemo(*command)


def test_a_killed_sweep_is_gone_on_with_by_the_same_command(commanded):
    from clipdemo.jobs import list_jobs
    from clipdemo.workspace import Workspace

    at, run = commanded
    assert run.returncode == 0, run.stderr
    workspace = Workspace(at[1])
    name = run.stdout.splitlines()[-1]
    result = load_sweep(workspace, name)
    assert result.finished
    job, killed = list_jobs(workspace)[:2]
    assert (job.state, killed.state) == ("finished", "interrupted")
    assert job.result["made"] == {"sweep": name}
    assert SweepConfig(**job.asked["settings"]["sweep"]) == result.config
    assert job.asked["settings"]["sample_id"] == result.sample
    assert load_run(workspace, result.points[0].run).job == killed.id  # found, not trained again
    assert load_run(workspace, result.points[1].run).job == job.id


def test_the_command_prints_a_table_the_sentence_and_the_id(commanded):
    from clipdemo.workspace import Workspace

    at, run = commanded
    result = load_sweep(Workspace(at[1]), run.stdout.splitlines()[-1])
    text = " ".join(run.stdout.split())
    assert f"{result.base.n} test pictures of {result.sample}" in text
    assert worth(result).in_words() in text
    assert "synthetic" in text
    for mode in MODES:
        for place in result.curve(mode):
            assert f"{100 * place.mean:.1f} %" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sizes", "many"], "sizes = 'many': write whole numbers"),
        (["--sizes", "24,9999"], "size 9,999: sample"),
        (["--sizes", "24,12"], "the smallest first"),
        (["--seeds", "0,x"], "seeds = '0,x': write whole numbers"),
        (["--modes", "pictures"], "modes = 'pictures': 'pictures' is none of captions, labels"),
        (["--preset", "slow"], "preset = 'slow' is not known"),
        (["--loss", "multi-positive"], "are told the labels"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(commanded, options, says):
    from clipdemo.workspace import Workspace

    at, _ = commanded
    (drawn,) = Workspace(at[1]).names("samples")
    run = clipdemo("sweep", "--sample", drawn, *options, *at)
    assert run.returncode == 2
    assert says in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_sweep_waits_for_the_device():
    assert "sweep" in QUEUED


@given(
    sizes=st.sets(st.integers(2, 9999), max_size=6), seeds=st.sets(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
    epochs=st.integers(1, 9), rate=st.floats(1e-6, 1), modes=st.sampled_from([MODES, ("labels",), ("captions",)]),
)  # fmt: skip
def test_a_sweep_survives_the_command_line(sizes, seeds, epochs, rate, modes):
    import typer

    from clipdemo.cli import app
    from clipdemo.cli.sweeping import _modes, _numbers
    from clipdemo.commands import sweep_arguments

    runs = tuple(RunConfig(mode=mode, epochs=epochs, learning_rate=rate) for mode in modes)
    config = SweepConfig(sample="some-sample", sizes=tuple(sorted(sizes)), seeds=tuple(seeds), runs=runs)
    params = typer.main.get_command(app).commands["sweep"].make_context("sweep", sweep_arguments(config)).params
    settings = {
        name: params[name] for name in RunConfig.model_fields if name in params and params.get(name) is not None
    }
    again = SweepConfig(
        sample=params["sample"],
        sizes=_numbers("sizes", params["sizes"]),
        seeds=_numbers("seeds", params["seeds"]),
        runs=tuple(configured(params["preset"], mode, settings) for mode in _modes(params["modes"])),
    )
    assert again == config


def test_runs_that_differ_in_more_than_their_mode_are_no_command_line():
    from clipdemo.commands import sweep_arguments

    runs = (RunConfig(mode="captions"), RunConfig(mode="labels", epochs=2))
    with pytest.raises(BadSettings, match="differ in more than their mode"):
        sweep_arguments(SweepConfig(sample="s", runs=runs))


# ---- what it means


def exactly(counts, n=100, seeds=1):
    """bool (n_sizes, n_seeds, n): the first so many pictures right."""
    return np.stack([np.tile(np.arange(n) < count, (seeds, 1)) for count in counts])


def answers(captions, labels, **options):
    return worth_of(SIZES, exactly(captions), exactly(labels), **{"resamples": 50} | options).equivalents


def test_an_equivalent_is_read_off_the_line_between_two_sizes_in_octaves():
    """60 % lies half way between labels' 50 % on 128 and 70 % on 256: at 128 x sqrt(2)."""
    found = answers(captions=[20, 30, 50, 60], labels=[30, 50, 70, 90])
    assert [it.captions for it in found] == list(SIZES)
    assert [it.labels for it in found] == [-INF, pytest.approx(64), pytest.approx(128), pytest.approx(128 * 2**0.5)]


def test_a_curve_that_falls_is_levelled_first():
    """Labels 30, 60, 50, 90 become 30, 55, 55, 90; captions' 55 is a stretch of 128 to 256; 62 is a fifth beyond it."""
    found = answers(captions=[10, 20, 55, 62], labels=[30, 60, 50, 90])
    assert found[2].labels == pytest.approx(256)  # of the stretch what is nearest to 256
    assert found[3].labels == pytest.approx(256 * 2**0.2)
    assert found[2].low <= 128


def test_captions_at_the_level_of_the_base_are_worth_fewer_labels_than_tried():
    (*_, last) = answers(captions=[10, 10, 10, 10], labels=[40, 50, 60, 70])
    assert (last.labels, last.low, last.high) == (-INF, -INF, -INF)


def test_captions_above_all_labels_are_worth_more_than_tried():
    (*_, last) = answers(captions=[80, 85, 90, 95], labels=[10, 20, 30, 40])
    assert (last.labels, last.low, last.high) == (INF, INF, INF)


COUNTS = st.lists(st.integers(0, 100), min_size=4, max_size=4)


@given(counts=COUNTS)
def test_where_both_curves_are_the_same_captions_are_worth_as_many_labels(counts):
    for it in answers(counts, counts, resamples=5):
        assert it.labels == pytest.approx(it.captions)


@given(captions=COUNTS, labels=COUNTS, more=st.integers(0, 30))
def test_better_captions_are_worth_no_fewer_labels_and_better_labels_are_needed_in_no_larger_number(
    captions, labels, more
):
    better = [min(100, count + more) for count in captions]
    raised = [min(100, count + more) for count in labels]
    for it, up, down in zip(
        answers(captions, labels, resamples=5), answers(better, labels, resamples=5), answers(captions, raised, resamples=5),
        strict=True,
    ):  # fmt: skip
        assert up.labels >= it.labels - 1e-6
        assert down.labels <= it.labels + 1e-6


@given(captions=COUNTS, labels=COUNTS)
def test_an_interval_holds_its_value_and_curves_never_fall(captions, labels):
    found = worth_of(SIZES, exactly(captions, seeds=2), exactly(labels, seeds=2), resamples=30)
    for it in found.equivalents:
        assert it.low <= it.labels <= it.high
    for curve in (found.captions, found.labels):
        assert list(curve) == sorted(curve)


@given(counts=COUNTS)
def test_curves_are_levelled_as_scikit_learn_does_it(counts):
    expected = IsotonicRegression().fit_transform(range(4), [count / 100 for count in counts])
    assert worth_of(SIZES, exactly(counts), exactly(counts), resamples=1).labels == pytest.approx(tuple(expected))


def test_the_same_seed_gives_the_same_interval():
    rng = np.random.default_rng(0)
    captions, labels = (rng.random((4, 3, 60)) < np.array(p)[:, None, None] for p in ((0.3, 0.4, 0.5, 0.6),) * 2)
    first, again, other = (worth_of(SIZES, captions, labels, 200, seed).answer for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_seeds_that_differ_widen_the_interval():
    """The same means; once all seeds alike, once far apart."""
    alike = np.concatenate([exactly([c] * 1, 400, 4) for c in (120, 160, 200, 240)])
    labels = np.concatenate([exactly([c] * 1, 400, 4) for c in (100, 180, 260, 340)])
    apart = np.stack(
        [np.concatenate([exactly([c + d], 400)[0] for d in (-60, -20, 20, 60)]) for c in (120, 160, 200, 240)]
    )
    assert apart.mean() == alike.mean()
    narrow, wide = (worth_of(SIZES, captions, labels, 400).answer for captions in (alike, apart))
    assert narrow.labels == wide.labels
    assert wide.low < narrow.low and wide.high > narrow.high


def test_pictures_are_resampled_in_pairs():
    """Captions right where labels are, picture by picture: whichever pictures are drawn, both change alike."""
    rng = np.random.default_rng(1)
    order = rng.random(200)
    labels = np.stack([order[None] < p for p in (0.3, 0.45, 0.6, 0.75)])
    together = worth_of(SIZES, labels, labels, 300).equivalents[1]
    others = np.stack([rng.random(200)[None] < p for p in (0.3, 0.45, 0.6, 0.75)])
    apart = worth_of(SIZES, others, labels, 300).equivalents[1]
    assert (together.low, together.high) == (pytest.approx(128), pytest.approx(128))
    assert apart.high / apart.low > 1.3


def test_the_interval_covers_a_known_truth():
    """Pictures of unequal difficulty, runs of unequal luck; labels' curve is straight in octaves, so the truth is known.

    95 % is asked for. Of 120 such sweeps 0.95 - 2.3 standard errors are allowed to be missed.
    """
    octaves, population = np.log2(SIZES) - 6, np.random.default_rng(0).normal(0, 1, (100_000, 2))
    offsets = {"captions": -0.4 + 0.4 * octaves, "labels": 0.3 + 0.6 * octaves}
    chance = lambda offset, *effects: 1 / (1 + np.exp(-(offset + sum(effects))))  # noqa: E731
    mean = {k: [chance(o, population[:, 0], 0.3 * population[:, 1]).mean() for o in v] for k, v in offsets.items()}
    truth = 2 ** np.interp(mean["captions"][-1], mean["labels"], np.log2(SIZES))
    assert 80 < truth < 400
    covered = []
    for simulation in range(120):
        rng = np.random.default_rng([1, simulation])
        difficulty = rng.normal(0, 1, 200)
        captions, labels = (
            rng.random((4, 3, 200)) < chance(offsets[mode][:, None, None], difficulty, rng.normal(0, 0.3, (4, 3, 1)))
            for mode in MODES
        )
        it = worth_of(SIZES, captions, labels, resamples=200, seed=simulation).answer
        covered.append(it.low <= truth <= it.high)
    assert np.mean(covered) >= 0.95 - 2.3 * math.sqrt(0.95 * 0.05 / 120)


@pytest.mark.parametrize(
    ("labels", "low", "high", "words"),
    [
        (213.7, 131, 334, "as much top-1 as labels on about 210 (130 to 330)"),
        (818.9, 409, INF, "as much top-1 as labels on about 819 (410 to more than 819)"),
        (70, -INF, 96.4, "as much top-1 as labels on about 70 (fewer than 51 to 96)"),
        (51, -INF, INF, "as much top-1 as labels on about 51 (fewer than 51 to more than 819)"),
        (INF, 600, INF, "more top-1 than labels on 819, the most tried (600 to more than 819)"),
        (INF, INF, INF, "more top-1 than labels on 819, the most tried (so in all of the 95 % interval)"),
        (-INF, -INF, 60, "less top-1 than labels on 51, the fewest tried (fewer than 51 to 60)"),
    ],
)
def test_an_answer_in_words(labels, low, high, words):
    it = Equivalent(819, labels, low, high)
    found = Worth((51, 102, 819), 3, 102, (0.1,) * 3, (0.2,) * 3, (it,))
    assert found.in_words() == f"Captions of 819 pictures give {words}"


def test_large_numbers_have_separators():
    it = Equivalent(12_000, 2345.0, 1234.0, INF)
    found = Worth((51, 12_000), 3, 102, (0.1,) * 2, (0.2,) * 2, (it,))
    assert found.in_words() == (
        "Captions of 12,000 pictures give as much top-1 as labels on about 2,300 (1,200 to more than 12,000)"
    )


def test_nothing_heavy_is_imported_to_read_a_sweep():
    program = "import sys, clipdemo.sweep, clipdemo.commands; print([m for m in ('torch', 'scipy.stats') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_default_number_of_resamples_holds_both_ends_of_an_interval():
    assert RESAMPLES * 0.025 >= 50
