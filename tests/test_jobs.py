import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clipdemo import jobs
from clipdemo.errors import BadSettings, Stopped, TrainingError, WorkspaceError
from clipdemo.jobs import create_job, launch, list_jobs, load_job, recorded
from clipdemo.progress import Progress, finish

HOLD = """
import sys
from pathlib import Path
from clipdemo.jobs import Job, recorded
with recorded(Job(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def counting(n, left_at=None):
    try:
        for i in range(n):
            yield Progress(stage="count", done=i, total=n)
        return "counted"
    finally:
        if left_at is not None:
            left_at.append(i)


def test_a_job_that_ends_well_is_finished(workspace):
    job = create_job(workspace, "test", {"n": 3})
    assert job.state == "starting"
    with recorded(job) as recorder:
        assert job.state == "running"
        assert finish(recorder.follow(counting(3))) == "counted"
        recorder.made["thing"] = "x"
    assert job.state == "finished"
    assert job.result["made"] == {"thing": "x"}
    assert job.progress["count"].done == 2
    assert job.asked["settings"] == {"n": 3}


@pytest.mark.parametrize(
    ("error", "state", "says"),
    [(TrainingError("too hot"), "failed", "too hot"), (ValueError("ours"), "failed", "ValueError: ours"),
     (KeyboardInterrupt(), "stopped", "keyboard")],
)  # fmt: skip
def test_how_a_job_ended_is_written_down(workspace, error, state, says):
    job = create_job(workspace, "test", {})
    with pytest.raises(type(error)), recorded(job):
        raise error
    assert job.state == state
    assert says in job.result["message"]


def test_stop_is_heard_and_the_work_puts_its_things_away(workspace):
    job, left_at = create_job(workspace, "test", {}), []
    with pytest.raises(Stopped), recorded(job) as recorder:
        follow = recorder.follow(counting(100_000_000, left_at))
        next(follow)
        job.stop()
        assert job.state == "stopping"
        for _ in follow:
            pass
    assert job.state == "stopped"
    assert len(left_at) == 1


def test_a_killed_job_shows_as_interrupted(workspace):
    job = create_job(workspace, "test", {})
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(job.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert held.stdout.readline() == b"held\n"
    assert job.state == "running"
    os.kill(held.pid, signal.SIGKILL)
    held.wait()
    assert job.state == "interrupted"
    held.stdin.close()
    held.stdout.close()


def test_two_processes_cannot_be_the_same_job(workspace, monkeypatch):
    job = create_job(workspace, "test", {})
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(job.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    held.stdout.readline()
    with pytest.raises(BadSettings, match="running already"), recorded(job):
        pass
    held.communicate()
    assert job.state == "finished"


def test_a_job_that_never_began_is_not_starting_for_ever(workspace, monkeypatch):
    job = create_job(workspace, "test", {})
    monkeypatch.setattr(jobs, "START_SECONDS", 0)
    assert job.state == "interrupted"


def test_watching_does_not_disturb(workspace):
    """A page that probes at every moment never makes a job believe that it runs twice."""
    job, over, seen = create_job(workspace, "test", {}), threading.Event(), set()

    def probe():
        while not over.is_set():
            seen.add(job.state)

    watchers = [threading.Thread(target=probe) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    with recorded(job) as recorder:
        finish(recorder.follow(counting(2000)))
    over.set()
    for watcher in watchers:
        watcher.join()
    assert job.state == "finished"
    assert "running" in seen
    assert seen <= {"starting", "running", "finished"}


def test_launch_runs_the_command_line_and_lists_newest_first(workspace):
    older = create_job(workspace, "older", {})
    job = launch(workspace, "sample", ["--source", "nowhere"], {"source": "nowhere"})
    assert jobs._children[-1].wait(timeout=60) == 2
    assert job.state == "failed"
    assert (
        job.result["message"]
        == "source 'nowhere' is not known: choose one of phantom, pubmedvision, folder, table, hub"
    )
    assert "error: source 'nowhere'" in job.log()
    assert [j.id for j in list_jobs(workspace)] == [job.id, older.id]
    jobs.reap()
    assert jobs._children == []


@pytest.mark.parametrize("given", [None, "", "/first", os.pathsep.join(["/first", "/second"])])
def test_a_jobs_process_finds_the_program_first_and_then_what_its_parent_found(workspace, monkeypatch, given):
    if given is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", given)
    started = {}
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda argv, **settings: started.update(settings["env"]))
    monkeypatch.setattr(jobs, "_children", [])
    jobs.start(workspace, create_job(workspace, "test", {}), [])
    program = str(Path(jobs.__file__).resolve().parent.parent)
    assert started["PYTHONPATH"].split(os.pathsep) == [program, *(given.split(os.pathsep) if given else [])]


def test_an_unknown_job_is_named(workspace):
    with pytest.raises(WorkspaceError, match="no job 'x'"):
        load_job(workspace, "x")
