"""One process a job, watched from anywhere: what it does, how far it is, whether it lives, how it ended.

A job's folder holds job.json (what was asked), progress.json (where it stands), log.txt (what it printed),
result.json (how it ended), `began`, and `alive`, a file that the process keeps locked. The kernel drops the lock when
the process dies, however it dies, so a state read here is true at that moment and needs no process id.
Jobs started from a shell are jobs as well, so a page shows them too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from clipdemo.errors import BadSettings, ClipDemoError, Stopped, WorkspaceError
from clipdemo.progress import Activity, Progress, T
from clipdemo.workspace import Workspace, atomic_write, read_json, write_json

State = Literal["starting", "waiting", "running", "stopping", "finished", "stopped", "failed", "interrupted"]
Stop = Literal["pause", "keep", "discard"]
STOPS: dict[Stop, str] = {  # what each way to stop a training keeps
    "pause": "stopped to go on later: the best epoch and the last point are kept",
    "keep": "stopped for good: the best epoch so far is kept as the result",
    "discard": "stopped and discarded: nothing of the unfinished run is kept",
}
ENDED: tuple[State, ...] = ("finished", "stopped", "failed", "interrupted")
START_SECONDS = 30.0  # a job that has not locked its file by then died on its way
REPORT_SECONDS = 0.3


@dataclass(frozen=True)
class Job:
    """A job's folder, read anew at every call."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def asked(self) -> dict:
        """What was asked: `command`, `settings`, `created` (seconds since 1970)."""
        return read_json(self.folder / "job.json")

    @property
    def state(self) -> State:
        """What is true right now."""
        if not (self.folder / "began").exists():
            return "starting" if time.time() - self.asked["created"] < START_SECONDS else "interrupted"
        alive = self._alive()
        if self.result:  # read after the lock: a job writes how it ended before it lets go
            return self.result["state"]
        if alive and (self.folder / "stop").exists():
            return "stopping"
        if alive:
            return "waiting" if self._waits() else "running"
        return "interrupted"

    @property
    def result(self) -> dict | None:
        """How it ended: `state`, `message`, `seconds`, and what it `made`; None while it has not."""
        path = self.folder / "result.json"
        return read_json(path) if path.exists() else None

    @property
    def progress(self) -> dict[str, Progress]:
        """The last word of each stage, in the order in which they began."""
        path = self.folder / "progress.json"
        return {name: Progress(**value) for name, value in read_json(path).items()} if path.exists() else {}

    @property
    def seconds(self) -> float:
        """How long it has been going, or went; for one that was killed, until its last sign of life."""
        if self.result:
            return self.result["seconds"]
        killed = self.state == "interrupted" and self.progress
        ended = (self.folder / "progress.json").stat().st_mtime if killed else time.time()
        return ended - self.asked["created"]

    def log(self, lines: int = 20) -> str:
        """The last lines that it printed."""
        path = self.folder / "log.txt"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def stop(self, how: Stop = "pause") -> None:
        """Asks it to stop at the next safe place. Works from any process, and after a restart of the server."""
        atomic_write(self.folder / "stop", how.encode())

    @property
    def asked_to_stop(self) -> Stop | None:
        """How somebody asked it to stop, if anybody did."""
        path = self.folder / "stop"
        if not path.exists():
            return None
        return how if (how := path.read_text()) in STOPS else "pause"

    def _waits(self) -> bool:
        """Whether it has a ticket in a device's queue, see `queues`."""
        return any((self.folder.parent.parent / "queue").glob(f"*/*-{self.id}"))

    def _alive(self) -> bool:
        probe = FileLock(self.folder / "alive")
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return True
        probe.release()
        return False


def list_jobs(workspace: Workspace) -> list[Job]:
    """All jobs, newest first."""
    jobs = [Job(workspace.folder("jobs", name)) for name in workspace.names("jobs")]
    return sorted((job for job in jobs if (job.folder / "job.json").exists()), key=lambda job: job.id, reverse=True)


def load_job(workspace: Workspace, name: str) -> Job:
    """A job by its id. Raises `WorkspaceError` when there is none."""
    job = Job(workspace.folder("jobs", name))
    if not (job.folder / "job.json").exists():
        raise WorkspaceError(f"there is no job {name!r} in {workspace.root}")
    return job


def create_job(workspace: Workspace, command: str, settings: dict[str, object]) -> Job:
    """A new job's folder. Ids begin with the time, so they sort by age."""
    now = time.time_ns()
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now / 1e9))}-{now % 10**9:09d}-{command}"
    with workspace.new_folder("jobs", name) as folder:
        write_json(folder / "job.json", {"command": command, "settings": settings, "created": now / 1e9})
    return Job(workspace.folder("jobs", name))


def launch(workspace: Workspace, command: str, arguments: Sequence[str], settings: dict[str, object]) -> Job:
    """Starts `python -m clipdemo COMMAND ARGUMENTS...` on its own, outliving the page that asked for it."""
    job = create_job(workspace, command, settings)
    return start(workspace, job, arguments)


def start(workspace: Workspace, job: Job, arguments: Sequence[str]) -> Job:
    """Starts the process of a job that has been created."""
    command = job.asked["command"]
    argv = [sys.executable, "-m", "clipdemo", command, *arguments, "--workspace", str(workspace.root), "--job", job.id]
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    # an empty part would be the folder that the job is started from
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "NO_COLOR": "1"}
    with (job.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    _children.append(process)
    return job


_children: list[subprocess.Popen] = []  # kept so that ended ones can be reaped


def reap() -> None:
    """Lets the kernel forget children that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


class Recorder:
    """What a job's own process writes into its folder."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stages: dict[str, Progress] = {}
        self.made: dict[str, str] = {}
        self._written = 0.0
        self._began: dict[str, float] = {}

    def follow(self, activity: Activity[T]) -> Iterator[Progress]:
        """Passes an activity's progress on, noting it down. Raises `Stopped` after somebody asked for it.

        The activity's result is this generator's result.
        """
        try:
            while True:
                try:
                    progress = next(activity)
                except StopIteration as end:
                    self._write()
                    return end.value
                new_stage = progress.stage not in self.stages
                now = time.monotonic()
                seconds = round(now - self._began.setdefault(progress.stage, now), 1)
                self.stages[progress.stage] = progress.model_copy(update={"seconds": seconds})
                if new_stage or progress.done == progress.total or time.monotonic() - self._written > REPORT_SECONDS:
                    self._write()
                    if how := self.job.asked_to_stop:
                        raise Stopped(STOPS[how])
                yield progress
        finally:
            activity.close()  # lets it put away what it was doing, whatever made us leave

    def _write(self) -> None:
        write_json(
            self.job.folder / "progress.json", {name: p.model_dump(mode="json") for name, p in self.stages.items()}
        )
        self._written = time.monotonic()


@contextmanager
def recorded(job: Job) -> Iterator[Recorder]:
    """Marks this process as the job's own while the block runs, and writes down how it ended."""
    alive = FileLock(job.folder / "alive")
    try:
        alive.acquire(timeout=5)  # a page may be probing it just now
    except Timeout:
        raise BadSettings(f"job {job.id} is running already in another process") from None
    (job.folder / "began").touch()  # only now may an unlocked `alive` mean that the process is dead
    recorder, began = Recorder(job), time.time()

    def end(state: State, message: str) -> None:
        seconds = round(time.time() - began, 2)
        result = {"state": state, "message": message, "seconds": seconds, "made": recorder.made}
        write_json(job.folder / "result.json", result)

    try:
        yield recorder
        end("finished", "")
    except (Stopped, KeyboardInterrupt) as reason:
        end("stopped", str(reason) or "interrupted from the keyboard; what was finished is kept")
        raise
    except ClipDemoError as error:
        end("failed", str(error))
        raise
    except BaseException as error:
        end("failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        alive.release()
