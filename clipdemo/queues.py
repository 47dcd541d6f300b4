"""One training at a time on a device, first come first served: who waits, in which order, and for what.

    queue/DEVICE/ORDER-JOB     a job that waits for the device; names sort by order, which is when the job was asked for
    queue/DEVICE.lock          held by the job that has the device; the kernel drops it when its process dies
    queue/DEVICE.owner         the id of that job

A ticket of a job that has died is swept by whoever waits behind it. Nothing here imports torch: a job that waits is
small, and imports it when its turn has come.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from clipdemo import jobs
from clipdemo.errors import BadSettings, WorkspaceError
from clipdemo.jobs import ENDED, Job
from clipdemo.progress import Activity, Progress, T
from clipdemo.workspace import Workspace, atomic_write, disk_errors

POLL_SECONDS = 0.2
TRAINING = ("train", "resume", "extend")  # commands whose job is one run
QUEUED = (*TRAINING, "experiment", "sweep", "estimate")  # commands that train, and so wait for a device
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_STEP = 1_000_000  # between two orders, so that one can be put in between


def default_device() -> str:
    """The device that training takes when nobody says: as `machine.pick_device`, guessed without torch."""
    if os.environ.get("CLIPDEMO_DEVICE"):
        return device_name(os.environ["CLIPDEMO_DEVICE"])
    has_gpu = shutil.which("nvidia-smi") or any(Path("/proc/driver/nvidia/gpus").glob("*"))
    if has_gpu and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1"):
        return "cuda:0"
    return "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"


def device_name(text: str) -> str:
    """A device's name in one form. Raises `BadSettings` for what is none."""
    if not _DEVICE.fullmatch(text):
        raise BadSettings(f"device = {text!r}: write cpu, mps, cuda or cuda:1")
    return "cuda:0" if text == "cuda" else text


@dataclass(frozen=True)
class Ticket:
    """A job's place in a device's queue."""

    path: Path

    @property
    def device(self) -> str:
        """The device that it waits for."""
        return _device_of(self.path.parent.name)

    @property
    def order(self) -> int:
        """Smaller comes first."""
        return int(self.path.name.partition("-")[0])

    @property
    def job(self) -> str:
        """The waiting job's id."""
        return self.path.name.partition("-")[2]


def enqueue(workspace: Workspace, job: Job, device: str | None = None) -> None:
    """Puts a job at the end of a device's queue; where it was asked for earlier than others, before them."""
    order = int("".join(job.id.split("-")[:3]))  # its date, time and nanoseconds
    with disk_errors(workspace.root):
        folder = _folder(workspace, device_name(device) if device else default_device())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{order:026d}-{job.id}").touch()


def submit(
    workspace: Workspace, command: str, arguments: Sequence[str], settings: dict[str, object], device: str | None = None
) -> Job:
    """Starts `python -m clipdemo COMMAND ARGUMENTS...` on its own; what trains waits for its device there."""
    job = jobs.create_job(workspace, command, settings)
    if command in QUEUED:
        enqueue(workspace, job, device)
    return jobs.start(workspace, job, arguments)


def tickets(workspace: Workspace, device: str) -> list[Ticket]:
    """Who waits for a device, first come first."""
    found = [Ticket(path) for path in _folder(workspace, device).glob("*-*")]
    return sorted(found, key=lambda ticket: (ticket.order, ticket.job))


def ticket_of(workspace: Workspace, job: str) -> Ticket | None:
    """A job's place, if it waits for any device."""
    return next((Ticket(path) for path in (workspace.root / "queue").glob(f"*/*-{job}")), None)


def waiting(workspace: Workspace) -> list[Ticket]:
    """Everyone who waits, device by device."""
    devices = sorted(path.name for path in (workspace.root / "queue").glob("*") if path.is_dir())
    return [ticket for device in devices for ticket in tickets(workspace, _device_of(device))]


def owner(workspace: Workspace, device: str) -> str | None:
    """The id of the job that has the device now, if any."""
    probe = FileLock(_lock_path(workspace, device))
    try:
        probe.acquire(timeout=0)
    except Timeout:
        with suppress(OSError):
            return _owner_path(workspace, device).read_text()
        return "another job"
    except OSError:  # nobody has ever waited here
        return None
    probe.release()
    return None


def move(workspace: Workspace, job: str, places: int) -> None:
    """Moves a waiting job up (negative) or down in its queue. Raises `WorkspaceError` when it does not wait."""
    ticket = _ticket(workspace, job)
    others = [t for t in tickets(workspace, ticket.device) if t.job != job]
    here = sum(t.order < ticket.order for t in others)
    there = min(max(0, here + places), len(others))
    if there == here or not others:
        return
    before = others[there - 1].order if there else others[0].order - 2 * _STEP
    after = others[there].order if there < len(others) else others[-1].order + 2 * _STEP
    _rename(ticket, ticket.path.with_name(f"{(before + after) // 2:026d}-{job}"))


def change_device(workspace: Workspace, job: str, device: str) -> None:
    """Has a waiting job wait for another device, in the order in which it was asked for."""
    ticket = _ticket(workspace, job)
    folder = _folder(workspace, device_name(device))
    folder.mkdir(parents=True, exist_ok=True)
    _rename(ticket, folder / ticket.path.name)


def on_device(workspace: Workspace, job: Job, work: Callable[[], Activity[T]]) -> Activity[T]:
    """Waits for the job's turn, then does the work with the device its own; its result comes back.

    Progress of the stage "waiting" says who has the device and how many are before. A job without a ticket waits for
    nobody.
    """
    lock = yield from _turn(workspace, job)
    try:
        return (yield from work())
    finally:
        if lock:
            lock.release()


def _turn(workspace: Workspace, job: Job) -> Activity[FileLock | None]:
    try:
        while ticket := ticket_of(workspace, job.id):  # looked up anew: somebody may have moved it
            ahead = _ahead(workspace, ticket)
            if not ahead and (lock := _taken(workspace, ticket)):
                return lock
            yield Progress(stage="waiting", done=0, total=1, note=reason(workspace, ticket, ahead))
            time.sleep(POLL_SECONDS)
        return None
    finally:  # stopped while it waited, or on its way
        if ticket := ticket_of(workspace, job.id):
            ticket.path.unlink(missing_ok=True)


def reason(workspace: Workspace, ticket: Ticket, ahead: int) -> str:
    """Why a job waits, in words."""
    has_it = owner(workspace, ticket.device)
    what = f"{ticket.device} is taken by {has_it}" if has_it else f"{ticket.device} is about to be free"
    return f"{what}; {ahead} before this one" if ahead else f"{what}; this one is next"


def _ahead(workspace: Workspace, ticket: Ticket) -> int:
    """How many live jobs are before this one; tickets of dead ones are swept."""
    alive = 0
    for other in tickets(workspace, ticket.device):
        if (other.order, other.job) >= (ticket.order, ticket.job):
            break
        folder = workspace.root / "jobs" / other.job
        if not (folder / "job.json").exists() or Job(folder).state in ENDED:
            other.path.unlink(missing_ok=True)
        else:
            alive += 1
    return alive


def _taken(workspace: Workspace, ticket: Ticket) -> FileLock | None:
    """The device's lock, and the ticket torn up; None when another job has the device, or the ticket was moved."""
    lock = FileLock(_lock_path(workspace, ticket.device))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    try:
        ticket.path.unlink()
    except FileNotFoundError:
        lock.release()
        return None
    atomic_write(_owner_path(workspace, ticket.device), ticket.job.encode())
    if ticket.device != default_device():
        os.environ["CLIPDEMO_DEVICE"] = ticket.device
    return lock


def _ticket(workspace: Workspace, job: str) -> Ticket:
    if (ticket := ticket_of(workspace, job)) is None:
        raise WorkspaceError(f"job {job!r} does not wait for a device: it has begun, has ended, or never was")
    return ticket


def _rename(ticket: Ticket, to: Path) -> None:
    try:
        ticket.path.rename(to)
    except FileNotFoundError:
        raise WorkspaceError(f"job {ticket.job!r} has just begun, and cannot be moved any more") from None


def _folder(workspace: Workspace, device: str) -> Path:
    return workspace.root / "queue" / device.replace(":", "_")


def _device_of(folder: str) -> str:
    return folder.replace("_", ":")


def _lock_path(workspace: Workspace, device: str) -> Path:
    return _folder(workspace, device).with_suffix(".lock")


def _owner_path(workspace: Workspace, device: str) -> Path:
    return _folder(workspace, device).with_suffix(".owner")
