"""Everything that pages can have done to the workspace. Each act asks first whether this session may.

No other module of the pages starts, stops, moves, deletes or keeps anything; a test reads them all to make sure.
What a page hides or greys out is for the eyes: the check that counts is here, on the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from clipdemo import jobs, queues, quota
from clipdemo.hosting import Action
from clipdemo.jobs import Job, Stop
from clipdemo.marks import set_mark
from clipdemo.progress import finish
from clipdemo.records import Comparison
from clipdemo.training.runs import Run
from clipdemo.ui import roles, state
from clipdemo.uploads import keep_upload as keep
from clipdemo.workspace import Workspace

_NEEDS: dict[str, Action] = {
    "sample": "draw",
    "look": "draw",
    "experiment": "train",
    "train": "train",
    "resume": "train",
    "extend": "train",
    "sweep": "train",
    "estimate": "train",
    "compare": "measure",
    "interpolate": "measure",
    "index": "measure",
    "map": "measure",
}


def start(workspace: Workspace, command: str, arguments: Sequence[str], settings: dict[str, object]) -> Job:
    """Has a command run as a job, in its device's queue where it trains. Raises `Forbidden`."""
    roles.require(_NEEDS[command])
    rules = roles.rules()
    if rules.hosted:
        going = sum(job.state not in jobs.ENDED for job in jobs.list_jobs(workspace))
        rules.check_size(settings, going)
        if gone := quota.make_room(workspace, int(rules.limits.quota_gigabytes * 1e9)):
            state.notice(f"The disk was full: {len(gone)} of the oldest runs were removed.")
    return queues.submit(workspace, command, arguments, settings)


def stop(workspace: Workspace, job: str, how: Stop = "pause") -> None:
    """Asks a job to stop. Raises `Forbidden`."""
    roles.require("stop")
    jobs.load_job(workspace, job).stop(how)


def move(workspace: Workspace, job: str, places: int) -> None:
    """Moves a waiting job in its queue. Raises `Forbidden`."""
    roles.require("stop")
    queues.move(workspace, job, places)


def change_device(workspace: Workspace, job: str, device: str) -> None:
    """Has a waiting job wait for another device. Raises `Forbidden`."""
    roles.require("stop")
    queues.change_device(workspace, job, device)


def delete(workspace: Workspace, kind: str, name: str) -> None:
    """Removes one thing for good. Raises `Forbidden`."""
    roles.require("delete")
    workspace.delete(kind, name)


def mark(workspace: Workspace, comparison: Comparison, picture: str, wrong: bool) -> None:
    """Marks a picture's label as wrong, or takes that back. Raises `Forbidden`."""
    roles.require("mark")
    set_mark(workspace, comparison, picture, wrong)


def rename(run: Run, name: str) -> None:
    """Gives a run another name to be read by. Raises `Forbidden`."""
    roles.require("mark")
    run.rename(name)


def pin(run: Run, pinned: bool) -> None:
    """Has a run stay when room is made. Raises `Forbidden`."""
    roles.require("delete")
    quota.pin(run, pinned)


def export(workspace: Workspace, run: Run, kind: Literal["model", "space"]) -> bytes:
    """A run as a ZIP file to take home. Raises `Forbidden`."""
    roles.require("export")
    from clipdemo.export import zipped  # imports huggingface_hub

    return finish(zipped(run, workspace, kind))


def publish(
    workspace: Workspace, run: Run, kind: Literal["model", "space"], repository: str, token: str, private: bool
) -> str:
    """Pushes a run to the Hub under somebody's token; its address there. Raises `Forbidden`."""
    roles.require("export")
    from clipdemo.export import pushed

    return finish(pushed(run, workspace, kind, repository, token, private))


def keep_upload(files: Sequence[tuple[str, BinaryIO]], workspace: Workspace) -> Path:
    """Keeps files that came through the page; their path. Raises `Forbidden`, also for too many bytes."""
    roles.require("upload")
    roles.rules().check_upload(sum(_size(content) for _, content in files))
    return keep(files, workspace)


def _size(content: BinaryIO) -> int:
    place = content.tell()
    size = content.seek(0, 2)
    content.seek(place)
    return size
