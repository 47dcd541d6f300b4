import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from clipdemo import general, interpolation
from clipdemo.cli import app
from clipdemo.comparison import evaluate, load_predictions
from clipdemo.embeddings import as_kept
from clipdemo.errors import BadSettings, ComparisonError, ModelError
from clipdemo.evaluation import ranks, scores_of
from clipdemo.general import CLASSES, general_set
from clipdemo.interpolation import (
    Hits,
    Interpolation,
    Point,
    change_from_base,
    find_interpolation,
    interpolate,
    load_correct,
    load_interpolation,
    mixed,
)
from clipdemo.jobs import list_jobs
from clipdemo.models import open_model
from clipdemo.progress import finish
from clipdemo.records import CleaningRules, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.training.loop import train
from clipdemo.training.runs import begin_run
from clipdemo.workspace import write_json
from tests.training.test_loop import small_base

SHARES = (0.0, 0.25, 1.0)
SETTINGS = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def few_plates(monkeypatch):
    """A plate of each view; the whole set takes 5 seconds to draw."""
    monkeypatch.setattr(general, "PLATES_A_VIEW", 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A CLIP so small that a run takes a quarter of a second."""
    return small_base(tmp_path_factory.mktemp("base"))


def tiny_sample(workspace, tiny_source, texts="auto"):
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(90)], classes=("Cat", "Dog"))
    rules = CleaningRules(texts=texts)
    config = SampleConfig(source="tiny", samples=80, train=0.5, validation=0.25, test=0.25, cleaning=rules)
    return finish(draw_sample(config, workspace))


@pytest.fixture
def sample(workspace, tiny_source):
    return tiny_sample(workspace, tiny_source)


def made_up_run(sample, workspace, base, mode="labels"):
    """A run that has ended, whose weights are the base's, each moved a little."""
    run = begin_run(RunConfig(mode=mode, base=base), sample, workspace)
    generator = torch.Generator().manual_seed(5)
    state = open_model(base).network.state_dict()
    moved = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in state.items()
    }
    save_file(moved, run.weights)
    result = {"state": "finished", "best_epoch": 1, "best_validation_top1": 0.5, "epochs_done": 1, "steps": 3}
    write_json(run.folder / "result.json", result | {"seconds": 1.0, "device": "cpu"})
    return run


@pytest.fixture
def run(sample, workspace, base):
    return made_up_run(sample, workspace, base)


def right(workspace, evaluation, split):
    scores, target, _ = scores_of(load_predictions(workspace, evaluation, split))
    return ranks(scores, target) == 0


def as_evaluated(workspace, sample, run, result):
    """Whether both ends have right what `evaluate` finds right, picture by picture."""
    ends = {
        0.0: finish(evaluate(sample, workspace, base=run.config.base)),
        1.0: finish(evaluate(sample, workspace, run)),
    }
    return all(
        np.array_equal(load_correct(workspace, result, share)[split], right(workspace, evaluation, split))
        for share, evaluation in ends.items()
        for split in ("validation", "test")
    )


# ---- mixing


def test_weights_are_mixed_by_hand():
    base = {"w": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    tuned = {"w": torch.tensor([3.0, -2.0]), "count": torch.tensor(7)}
    assert mixed(base, tuned, 0.25)["w"].tolist() == [1.5, 1.0]
    assert mixed(base, tuned, 0.25)["count"].item() == 7
    assert base["w"].tolist() == [1.0, 2.0]  # neither is changed
    assert tuned["w"].tolist() == [3.0, -2.0]


def test_the_ends_are_the_models_themselves_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    base, tuned = ({"w": torch.randn(10_000, generator=generator) * 10**scale} for scale in (-3, 2))
    assert torch.equal(mixed(base, tuned, 0.0)["w"], base["w"])
    assert torch.equal(mixed(base, tuned, 1.0)["w"], tuned["w"])


# ---- measuring


def test_the_ends_have_right_what_evaluations_of_base_and_run_have_right(workspace, sample, run):
    result = finish(interpolate(run, sample, workspace, SHARES))
    assert as_evaluated(workspace, sample, run, result)
    tested = finish(evaluate(sample, workspace, run))
    assert result.points[-1].test.fraction == tested.top1
    assert result.points[-1].test.n == tested.n == 20
    assert result.points[0].test != result.points[-1].test  # or the test could not fail


def test_a_mix_is_a_model_of_its_own(workspace, sample, run):
    """The slow, obvious way: a network that is opened for one mix, whose weights are summed one by one."""
    result = finish(interpolate(run, sample, workspace, SHARES))
    clip, tuned = open_model(run.config.base), load_file(run.weights)
    with torch.no_grad():
        for name, value in clip.network.named_parameters():
            value.copy_(0.75 * value + 0.25 * tuned[name])
    plates = finish(general_set(clip.image_size, workspace))
    scores = as_kept(clip.encode_images(plates.pixels)) @ clip.encode_classes(CLASSES).T
    found = load_correct(workspace, result, 0.25)["general"]
    assert np.array_equal(found, ranks(scores, plates.target) == 0)
    assert result.points[1].general == Hits(right=int(found.sum()), n=33)


@pytest.mark.parametrize(
    "settings",
    [{"tune": "lora"}, {"tune": "last-blocks", "tuned_blocks": 1}, {"averaging": 0.9}, {"interpolation": True}],
    ids=str,
)
def test_runs_of_every_kind_are_whole_models_that_can_be_mixed(workspace, sample, base, settings):
    run = finish(train(RunConfig(mode="labels", base=base, **SETTINGS | settings), sample, workspace))
    assert load_file(run.weights).keys() == open_model(base).network.state_dict().keys()
    assert as_evaluated(workspace, sample, run, finish(interpolate(run, sample, workspace, SHARES)))


def test_a_run_that_continues_another_is_mixed_with_the_first_base(workspace, sample, base, run):
    config = RunConfig(mode="labels", base=base, continues=run.id, **SETTINGS)
    longer = finish(train(config, sample, workspace))
    result = finish(interpolate(longer, sample, workspace, SHARES))
    assert result.base == base
    assert as_evaluated(workspace, sample, longer, result)


def test_pictures_without_labels_choose_from_their_splits_captions(workspace, tiny_source, base):
    sample = tiny_sample(workspace, tiny_source, texts="captions")
    run = made_up_run(sample, workspace, base, mode="captions")
    result = finish(interpolate(run, sample, workspace, SHARES))
    assert result.choices == "captions"
    tested = finish(evaluate(sample, workspace, run))
    assert result.points[-1].test.fraction == tested.retrieval.image_to_text[1]
    assert result.points[-1].general.n == 33


# ---- what is kept


def test_a_finished_interpolation_is_found_and_no_model_is_opened(workspace, sample, run, monkeypatch):
    assert find_interpolation(run, sample, workspace, SHARES) is None
    result = finish(interpolate(run, sample, workspace, SHARES))
    monkeypatch.setattr(interpolation, "open_model", lambda *_: pytest.fail("opened again"))
    assert finish(interpolate(run, sample, workspace, reversed(SHARES))) == result
    assert find_interpolation(run, sample, workspace, SHARES) == result == load_interpolation(workspace, result.id)


def test_other_weights_or_sentences_are_another_interpolation(workspace, sample, run):
    result = finish(interpolate(run, sample, workspace, (1.0,)))
    assert finish(interpolate(run, sample, workspace, (1.0,), "a drawing of {label}")).id != result.id
    save_file(open_model(run.config.base).network.state_dict(), run.weights)
    assert find_interpolation(run, sample, workspace, (1.0,)) is None
    assert finish(interpolate(run, sample, workspace, (1.0,))).id != result.id


def test_an_interrupted_computation_goes_on_where_it_was(workspace, sample, run, tmp_path, monkeypatch):
    activity = interpolate(run, sample, workspace, SHARES)
    for progress in activity:
        if progress.stage == "interpolate" and progress.done == 2:  # within the last share
            break
    activity.close()
    assert find_interpolation(run, sample, workspace, SHARES) is None
    done = []
    monkeypatch.setattr(
        interpolation, "mixed", lambda base, tuned, share: (done.append(share), mixed(base, tuned, share))[1]
    )
    result = finish(interpolate(run, sample, workspace, SHARES))
    assert done == [1.0]
    workspace.delete("interpolations", result.id)
    assert finish(interpolate(run, sample, workspace, SHARES)) == result  # as an unbroken one
    assert done == [1.0, *SHARES]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "other pictures", "other numbers"])
def test_a_damaged_share_is_made_again_and_that_is_said(workspace, sample, run, caplog, damage):
    result = finish(interpolate(run, sample, workspace, SHARES))
    folder = workspace.folder("interpolations", result.id)
    path = folder / "share-0.25.npz"
    whole = path.read_bytes()
    few = np.zeros(3, bool)
    if damage == "other pictures":
        np.savez(path, validation=few, test=few, general=few)
    elif damage == "other numbers":
        np.savez(path, validation=np.zeros(20), test=np.zeros(20), general=np.zeros(33))
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\0" * 100, "empty": b""}[damage])
    (folder / "interpolation.json").write_text("{")
    with caplog.at_level(logging.WARNING, "clipdemo"), pytest.raises(ComparisonError, match=r"share 0\.25 .* is lost"):
        load_correct(workspace, result, 0.25)
    caplog.clear()
    assert finish(interpolate(run, sample, workspace, SHARES)) == result
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "share-0.25.npz of interpolation" in caplog.text
    assert "it has to be made again" in caplog.text
    assert load_interpolation(workspace, result.id) == result


# ---- reading it


def point(share, validation, test=0):
    return Point(
        share=share, validation=Hits(right=validation, n=9), test=Hits(right=test, n=9), general=Hits(right=1, n=2)
    )


def made_up(*points):
    names = dict.fromkeys(("id", "run", "base", "sample", "sample_hash", "template", "general_set"), "x")
    return Interpolation(**names, choices="labels", points=points)


def test_the_recommended_share_is_best_on_validation_whatever_the_test_says():
    assert made_up(point(0, 3, test=9), point(0.5, 7, test=1), point(1, 6, test=8)).recommended.share == 0.5


def test_of_equally_good_shares_the_largest_is_recommended():
    assert made_up(point(0, 7), point(0.5, 7), point(1, 6)).recommended.share == 0.5


def test_gain_and_forgetting_are_counted_on_the_same_pictures(workspace, sample, run):
    result = finish(interpolate(run, sample, workspace, SHARES))
    for measured in ("test", "general"):
        paired = change_from_base(workspace, result, 1.0, measured)
        before, after = (getattr(result.points[i], measured) for i in (0, -1))
        assert paired.fixed - paired.broken == after.right - before.right
        assert paired.difference == pytest.approx(after.fraction - before.fraction)
    with pytest.raises(ComparisonError, match=r"share 0\.3 .* was not measured: measured are 0, 0\.25, 1"):
        load_correct(workspace, result, 0.3)


# ---- what cannot be


def test_a_run_without_weights_is_refused(workspace, sample, base, run):
    unfinished = begin_run(RunConfig(mode="labels", base=base, seed=1), sample, workspace)
    with pytest.raises(ComparisonError, match=f"run {unfinished.id} has no weights to mix"):
        finish(interpolate(unfinished, sample, workspace))
    assert find_interpolation(unfinished, sample, workspace) is None
    run.weights.unlink()
    with pytest.raises(ComparisonError, match="has no weights to mix"):
        finish(interpolate(run, sample, workspace))
    assert workspace.names("interpolations") == []


def test_weights_that_do_not_load_are_named(workspace, sample, run):
    run.weights.write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"weights\.safetensors for base"):
        finish(interpolate(run, sample, workspace))


def test_a_run_of_another_sample_is_refused(workspace, sample, run):
    with pytest.raises(ComparisonError, match=f"was trained on sample {sample.id}, not on other"):
        finish(interpolate(run, SimpleNamespace(id="other"), workspace))


@pytest.mark.parametrize("shares", [(), (0.0, 1.1), (-0.1,), (float("nan"),)], ids=str)
def test_shares_lie_between_base_and_run(workspace, sample, run, shares):
    with pytest.raises(BadSettings, match=r"each from 0 \(the base\) to 1 \(the run\)"):
        finish(interpolate(run, sample, workspace, shares))


def test_an_interpolation_that_is_not_there_is_named(workspace):
    with pytest.raises(ComparisonError, match="no finished interpolation 'nothing' .* none yet"):
        load_interpolation(workspace, "nothing")


# ---- the command


def test_the_command_prints_a_table_and_is_a_job(workspace, run, sample):
    done = CliRunner().invoke(app, ["interpolate", "--run", run.id, "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    key = done.stdout.splitlines()[-1]
    result = load_interpolation(workspace, key)
    assert [point.share for point in result.points] == [i / 10 for i in range(11)]
    (marked,) = (line for line in done.stdout.splitlines() if "recommended" in line)
    assert marked.split("│")[1].strip() == f"{result.recommended.share:g}"
    assert "was pretrained on something else" in done.stdout
    (job,) = list_jobs(workspace)
    assert job.result["made"] == {"interpolation": key}
    assert job.progress["interpolate"].done == 11


def test_the_command_refuses_a_run_that_has_not_ended_in_one_line(workspace, sample, base):
    unfinished = begin_run(RunConfig(mode="labels", base=base), sample, workspace)
    done = CliRunner().invoke(app, ["interpolate", "--run", unfinished.id, "--workspace", str(workspace.root)])
    assert done.exit_code == 2
    assert f"error: run {unfinished.id} has no weights to mix" in done.stderr
