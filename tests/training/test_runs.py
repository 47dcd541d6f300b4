"""What becomes of a run that is stopped, broken off, continued or renamed."""

import pytest

from clipdemo.errors import TrainingError
from clipdemo.jobs import create_job, recorded
from clipdemo.progress import finish
from clipdemo.records import RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.training.loop import train
from clipdemo.training.runs import PREVIOUS, begin_run, load_run, run_id, run_state, runs_of_job, settle

CONFIG = RunConfig(mode="labels", epochs=4, batch_size=16)


@pytest.fixture
def sample(workspace, tiny_source):
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(90)], classes=("Cat", "Dog"))
    return finish(draw_sample(SampleConfig(source="tiny", samples=80), workspace))


def stopped(workspace, sample, config=CONFIG, epochs=2):
    """A run that somebody stopped after so many epochs."""
    activity = train(config, sample, workspace, "the-job")
    for progress in activity:
        if progress.stage == "labels" and progress.done >= epochs * 4 + 1:
            activity.close()
            break
    return load_run(workspace, run_id(config, sample))


def test_a_paused_run_goes_on_from_its_last_point(workspace, sample):
    run = stopped(workspace, sample)
    settle(run, "pause", workspace)
    assert run_state(run, workspace) == "stopped" and run.checkpoints
    first = run.steps()
    run = finish(train(CONFIG, sample, workspace))
    assert run_state(run, workspace) == "finished" and run.checkpoints == []
    assert run.steps()[: len(first) - 1] == first[:-1]  # nothing was measured again but what came after the point
    assert [step.step for step in run.steps() if step.validation_top1 is not None] == [0, 4, 8, 12, 16]


def test_a_kept_run_is_a_result_and_is_not_trained_again(workspace, sample):
    run = stopped(workspace, sample)
    settle(run, "keep", workspace)
    assert run_state(run, workspace) == "finished" and run.checkpoints == []
    before = run.weights.read_bytes(), run.result
    assert run.result.state == "kept" and run.result.epochs_done == 2
    again = finish(train(CONFIG, sample, workspace))
    assert (again.weights.read_bytes(), again.result) == before


def test_a_discarded_run_is_gone(workspace, sample):
    run = stopped(workspace, sample)
    settle(run, "discard", workspace)
    assert workspace.names("runs") == []


@pytest.mark.parametrize("how", ["pause", "keep", "discard"])
def test_a_finished_run_is_left_alone_by_a_stop_that_comes_late(workspace, sample, how):
    run = finish(train(RunConfig(mode="labels", epochs=1, batch_size=16), sample, workspace))
    settle(run, how, workspace)
    assert load_run(workspace, run.id).result.state == "finished"


def test_the_newest_two_checkpoints_are_kept_and_the_older_one_stands_in(workspace, sample):
    whole = finish(train(CONFIG, sample, workspace))
    expected = whole.weights.read_bytes()
    workspace.delete("runs", whole.id)
    run = stopped(workspace, sample, epochs=3)
    assert [path.name for path in run.checkpoints] == ["checkpoint.safetensors", PREVIOUS]
    run.checkpoint.write_bytes(b"what a bad disk gives back")
    assert finish(train(CONFIG, sample, workspace)).weights.read_bytes() == expected
    assert "the one before it is taken" in (run.folder / "log.txt").read_text()


def test_patience_ends_a_run_that_gets_no_better(workspace, sample):
    config = RunConfig(mode="labels", epochs=12, batch_size=16, learning_rate=1e-9, patience=2)
    run = finish(train(config, sample, workspace))
    assert run.result.state == "finished" and run.result.early
    assert (run.result.best_epoch, run.result.epochs_done) == (1, 3)  # such a rate changes nothing


def test_a_run_can_go_on_a_bit_longer_from_its_best_weights(workspace, sample):
    first = finish(train(RunConfig(mode="labels", epochs=2, batch_size=16), sample, workspace))
    longer = RunConfig(mode="labels", epochs=1, batch_size=16, continues=first.id)
    second = finish(train(longer, sample, workspace))
    assert second.id != first.id
    start = next(step for step in second.steps() if step.step == 0)
    assert start.validation_top1 == first.result.best_validation_top1


def test_only_an_ended_run_of_the_same_sample_and_base_can_be_continued(workspace, sample):
    begun = begin_run(CONFIG, sample, workspace)
    with pytest.raises(TrainingError, match="cannot be continued like this: it has to have ended"):
        finish(train(RunConfig(mode="labels", continues=begun.id), sample, workspace))
    with pytest.raises(TrainingError, match="no run 'nothing'"):
        finish(train(RunConfig(mode="labels", continues="nothing"), sample, workspace))


def test_a_run_has_the_state_of_the_job_that_trains_it(workspace, sample):
    job = create_job(workspace, "train", {})
    run = begin_run(CONFIG, sample, workspace, job.id)
    assert run_state(run, workspace) == "starting"
    with recorded(job):
        assert run_state(run, workspace) == "running"
        job.stop()
        assert run_state(run, workspace) == "stopping"
        assert [r.id for r in runs_of_job(workspace, job.id)] == [run.id]
    with pytest.raises(ValueError, match="ours"), recorded(failing := create_job(workspace, "train", {})):
        raise ValueError("ours")
    assert run_state(begin_run(CONFIG, sample, workspace, failing.id), workspace) == "failed"
    assert run_state(begin_run(CONFIG, sample, workspace), workspace) == "interrupted"


def test_a_run_can_be_called_something_else(workspace, sample):
    run = begin_run(CONFIG, sample, workspace)
    assert run.name == run.id
    run.rename("  my   best\nrun " + "x" * 200)
    assert run.name.startswith("my best run xxx") and len(run.name) == 80
    run.rename("")
    assert run.name == run.id


def test_what_a_kill_left_of_a_write_is_swept(workspace, sample):
    run = begin_run(CONFIG, sample, workspace)
    (run.folder / ".weights.safetensors-0a1b2c3d").write_bytes(b"half")
    begin_run(CONFIG, sample, workspace)
    assert not list(run.folder.glob(".*"))
