import pytest

from clipdemo import quota
from clipdemo.records import RunConfig
from clipdemo.training.runs import load_run
from tests import workspace_factory as factory


@pytest.fixture
def runs(workspace):
    """Three runs of one sample, the oldest first, a megabyte each and more."""
    sample = factory.make_sample(workspace)
    made = []
    for seed in range(3):
        run = factory.make_real_run(workspace, sample, RunConfig(mode="labels", seed=seed))
        (run.folder / "ballast").write_bytes(bytes(1_000_000))
        made.append(load_run(workspace, run.id))
    names = workspace.names("runs")
    return [next(run for run in made if run.id == name) for name in reversed(names)]


def test_the_oldest_run_that_nobody_pinned_goes_first(workspace, runs):
    quota.pin(runs[0], True)
    used = quota.usage(workspace, 1).used
    gone = quota.make_room(workspace, used - 1)
    assert gone == [runs[1].id]
    assert set(workspace.names("runs")) == {runs[0].id, runs[2].id}


def test_nothing_goes_while_there_is_room(workspace, runs):
    assert quota.make_room(workspace, quota.usage(workspace, 1).used) == []


def test_nothing_goes_while_a_job_is_going(workspace, runs):
    job = factory.make_job(workspace, "train", {"runs": []}, {}, None)
    with factory.keep_alive(job):
        assert quota.make_room(workspace, 1) == []
    assert len(quota.make_room(workspace, 1)) == 3


def test_pinned_runs_stay_even_where_that_leaves_too_much(workspace, runs):
    for run in runs:
        quota.pin(run, True)
    assert quota.make_room(workspace, 1) == [] and len(workspace.names("runs")) == 3
    quota.pin(runs[2], False)
    assert quota.make_room(workspace, 1) == [runs[2].id]


def test_it_is_said_before_it_happens_which_run_goes(workspace, runs):
    used = quota.usage(workspace, 1).used
    assert quota.usage(workspace, 2 * used).warning == ""
    warning = quota.usage(workspace, int(1.1 * used)).warning
    assert runs[0].name in warning and "removed first" in warning
