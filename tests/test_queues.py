import os
import signal
import subprocess
import sys
import time

import pytest

from clipdemo import queues
from clipdemo.errors import BadSettings, Stopped, WorkspaceError
from clipdemo.jobs import Job, create_job, recorded
from clipdemo.progress import Progress, finish
from clipdemo.queues import change_device, enqueue, move, on_device, owner, submit, ticket_of, tickets, waiting
from clipdemo.workspace import Workspace

# One submission: a job that waits for the device, notes when it has it, and lets go of it again.
SUBMIT = """
import os, sys, time
from pathlib import Path
from clipdemo.jobs import create_job, recorded
from clipdemo.progress import finish, Progress
from clipdemo.queues import enqueue, on_device
from clipdemo.workspace import Workspace
assert "torch" not in sys.modules
place, log = Workspace(sys.argv[1]), Path(sys.argv[2])
job = create_job(place, "train", {})
enqueue(place, job, "cpu")
def note(what):
    with log.open("a") as file:
        file.write(f"{what} {job.id}\\n")
def work():
    note("has")
    yield Progress(stage="work", done=0, total=1)
    time.sleep(0.05)
    note("leaves")
with recorded(job) as recorder:
    note("asks")
    if len(sys.argv) > 3:
        sys.stdin.readline()
    finish(recorder.follow(on_device(place, job, work)))
"""


def start(workspace, log, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(workspace.root), str(log), *arguments], stdin=subprocess.PIPE
    )


def quick():
    yield Progress(stage="work", done=0, total=1)
    return "done"


def test_20_submissions_at_once_have_the_device_one_after_another_and_in_order(workspace, tmp_path):
    log = tmp_path / "log"
    processes = [start(workspace, log, "together") for _ in range(20)]
    while not log.exists() or log.read_text().count("asks") < 20:  # all stand in line before anybody may go
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0] * 20
    lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("asks")]
    took = [job for what, job in lines if what == "has"]
    assert [what for what, _ in lines] == ["has", "leaves"] * 20  # never two at a time
    assert all(a[1] == b[1] for a, b in zip(lines[::2], lines[1::2], strict=True))
    assert took == sorted(took) and len(set(took)) == 20  # first come first served: ids begin with the time
    assert waiting(workspace) == [] and owner(workspace, "cpu") is None


def test_a_killed_owner_frees_the_device_and_a_killed_waiter_is_passed_over(workspace, tmp_path):
    log = tmp_path / "log"
    dead = [start(workspace, log, "together") for _ in range(2)]
    while not log.exists() or log.read_text().count("asks") < 2:
        time.sleep(0.01)
    for process in dead:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(waiting(workspace)) == 2
    last = start(workspace, log)
    last.communicate(timeout=60)
    assert last.returncode == 0
    assert waiting(workspace) == []


@pytest.fixture
def busy(workspace):
    """A job that has the cpu, and three that wait for it."""
    jobs = [create_job(workspace, "train", {}) for _ in range(4)]
    for job in jobs:
        enqueue(workspace, job, "cpu")
    holds = on_device(workspace, jobs[0], quick)
    next(holds)
    yield jobs
    holds.close()


def names(workspace, device="cpu"):
    return [ticket.job for ticket in tickets(workspace, device)]


def test_a_waiting_job_says_so_and_why(workspace, busy):
    with recorded(busy[2]) as recorder:
        progress = next(recorder.follow(on_device(workspace, busy[2], quick)))
        assert progress.stage == "waiting"
        assert progress.note == f"cpu is taken by {busy[0].id}; 1 before this one"
        enqueue(workspace, busy[2], "cpu")
        assert busy[2].state == "waiting"
    assert owner(workspace, "cpu") == busy[0].id


def test_a_waiting_job_can_be_moved(workspace, busy):
    _, a, b, c = (job.id for job in busy)
    move(workspace, c, -1)
    assert names(workspace) == [a, c, b]
    move(workspace, c, -9)
    assert names(workspace) == [c, a, b]
    move(workspace, c, 1)
    assert names(workspace) == [a, c, b]
    move(workspace, a, 9)
    assert names(workspace) == [c, b, a]
    move(workspace, a, 9)
    assert names(workspace) == [c, b, a]


def test_a_job_can_wait_for_another_device_and_has_it_at_once(workspace, busy, monkeypatch):
    monkeypatch.delenv("CLIPDEMO_DEVICE", raising=False)
    change_device(workspace, busy[3].id, "cuda:1")
    assert names(workspace, "cuda:1") == [busy[3].id] and len(names(workspace)) == 2
    assert finish(on_device(workspace, busy[3], quick)) == "done"
    assert os.environ.pop("CLIPDEMO_DEVICE") == "cuda:1"  # what the training then takes
    assert owner(workspace, "cuda:1") is None


def test_a_job_that_is_stopped_while_it_waits_leaves_the_queue(workspace, busy):
    with pytest.raises(Stopped, match="go on later"), recorded(busy[1]) as recorder:
        for _ in recorder.follow(on_device(workspace, busy[1], quick)):
            busy[1].stop()
    assert busy[1].state == "stopped"
    assert ticket_of(workspace, busy[1].id) is None


def test_what_does_not_wait_cannot_be_moved(workspace, busy):
    with pytest.raises(WorkspaceError, match="does not wait"):
        move(workspace, busy[0].id, 1)
    with pytest.raises(BadSettings, match="'tpu': write cpu"):
        change_device(workspace, busy[1].id, "tpu")


def test_a_job_without_a_ticket_waits_for_nobody(workspace, busy):
    assert finish(on_device(workspace, create_job(workspace, "sample", {}), quick)) == "done"


def test_submitting_stands_in_line_before_the_process_is_up(workspace, monkeypatch):
    seen = []
    monkeypatch.setattr("clipdemo.jobs.start", lambda place, job, arguments: seen.append(ticket_of(place, job.id)))
    submit(workspace, "train", [], {}, "cpu")
    submit(workspace, "sample", [], {})
    assert seen[0].device == "cpu" and seen[1] is None


@pytest.mark.parametrize(("variable", "device"), [("cuda", "cuda:0"), ("cuda:3", "cuda:3"), ("cpu", "cpu")])
def test_the_default_device_is_what_the_environment_says(monkeypatch, variable, device):
    monkeypatch.setenv("CLIPDEMO_DEVICE", variable)
    assert queues.default_device() == device


def test_jobs_of_other_workspaces_are_not_seen(tmp_path, busy):
    assert waiting(Workspace(tmp_path / "other")) == []
    assert isinstance(busy[0], Job)
