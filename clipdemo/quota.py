"""How much of the disk a workspace takes, and which runs go first when that is too much."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from clipdemo.jobs import ENDED, list_jobs
from clipdemo.training.runs import Run, readable_runs
from clipdemo.workspace import Workspace, atomic_write

logger = logging.getLogger(__name__)
WARNING_SHARE = 0.8  # of the quota, from which on it is said what would go


@dataclass(frozen=True)
class Usage:
    """What is used and what may be, in bytes, and the runs that would be removed next, the oldest first."""

    used: int
    quota: int
    next: tuple[Run, ...]

    @property
    def warning(self) -> str:
        """One line; "" while there is enough room."""
        share = self.used / self.quota
        if share < WARNING_SHARE:
            return ""
        goes = f"the run {self.next[0].name} is removed first" if self.next else "no run can be removed"
        full = f"{self.used / 1e9:.1f} of {self.quota / 1e9:.1f} GB"
        return f"{full} are used. When it is full, {goes}; pin what has to stay."


def usage(workspace: Workspace, quota_bytes: int) -> Usage:
    """What the workspace takes now. Reads every file's size, so keep it for some seconds."""
    return Usage(_size(workspace.root), quota_bytes, tuple(_removable(workspace)))


def make_room(workspace: Workspace, quota_bytes: int) -> list[str]:
    """Removes the oldest runs that nobody pinned until the workspace fits its quota; ids of those that went."""
    gone = []
    found = usage(workspace, quota_bytes)
    used = found.used
    for run in found.next:
        if used <= quota_bytes:
            break
        used -= _size(run.folder)
        workspace.delete("runs", run.id)
        logger.warning("run %s was removed: the workspace is over its quota", run.id)
        gone.append(run.id)
    return gone


def is_pinned(run: Run) -> bool:
    """Whether the run has to stay."""
    return (run.folder / "pinned").exists()


def pin(run: Run, pinned: bool) -> None:
    """Has a run stay, or not any more."""
    if pinned:
        atomic_write(run.folder / "pinned", b"")
    else:
        (run.folder / "pinned").unlink(missing_ok=True)


def _removable(workspace: Workspace) -> list[Run]:
    """Ended runs that nobody pinned, the oldest first. While any job goes on, none: it may be reading them."""
    if any(job.state not in ENDED for job in list_jobs(workspace)):
        return []
    return [run for run in reversed(list(readable_runs(workspace))) if not is_pinned(run)]


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:  # removed by someone else just now
            continue
    return total
