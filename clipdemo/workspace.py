"""Where everything lives on disk. Nothing else in the program decides on a path or writes without `atomic_*`.

    uploads/ID/       files that came through a page                     kept by `uploads`
    samples/ID/       manifest.parquet, images/, dropped/, sample.json   drawn by `sampling`
    runs/ID/          config.json, metrics.jsonl, weights.safetensors    written by `training`
    embeddings/ID/    images.npy or texts.npy, embeddings.json           of one model and sample, by `embeddings`
    indexes/ID/       index.faiss, index.json                            of embeddings, for neighbours, by `search`
    evaluations/ID/   predictions.parquet, validation.parquet, evaluation.json   written by `comparison`
    comparisons/ID/   comparison.json
    sweeps/ID/        sweep.json                                         many runs on parts of a sample
    interpolations/ID/   weights between a base and a run
    maps/ID/          map.npz, map.json                                  a sample in two dimensions, by `projection`
    jobs/ID/          job.json, progress.json, log.txt, alive, result.json   one process each, see `jobs`
    cache/            can be deleted at any time

Ids are made of the settings, so work that is finished is found again instead of done again.
A folder appears under its name only when it is whole; what a killed process leaves lies in `.partial/` and is swept.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from clipdemo.errors import WorkspaceError

_KINDS = (
    "uploads",
    "samples",
    "runs",
    "embeddings",
    "indexes",
    "evaluations",
    "comparisons",
    "sweeps",
    "interpolations",
    "maps",
    "jobs",
    "cache",
)
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_STALE_SECONDS = 24 * 3600
PARTIAL = ".*-????????"  # what a process that was killed in `atomic_write` leaves


def default_workspace() -> Path:
    """`CLIPDEMO_WORKSPACE` where it is set, else a folder in the user's own data directory."""
    configured = os.environ.get("CLIPDEMO_WORKSPACE")
    return Path(configured).expanduser() if configured else user_data_path("clipdemo", appauthor=False)


class Workspace:
    """One folder that holds all samples, runs and results. Raises `WorkspaceError` when it cannot be written."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = (Path(root).expanduser() if root is not None else default_workspace()).resolve()
        with disk_errors(self.root):
            for kind in (*_KINDS, ".partial"):
                (self.root / kind).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):  # mkdir of what exists says nothing about writing
                pass

    def folder(self, kind: str, name: str) -> Path:
        """The path of one thing, whether it exists or not. Raises `WorkspaceError` for a name that is no id."""
        if kind not in _KINDS or not _ID.fullmatch(name):
            raise WorkspaceError(f"{name!r} is not the name of anything in {kind} (small letters, digits, . _ -)")
        return self.root / kind / name

    @property
    def source_cache(self) -> Path:
        """Where sources keep what they have fetched or unpacked; can be deleted at any time."""
        with disk_errors(self.root):
            (folder := self.root / "cache" / "sources").mkdir(parents=True, exist_ok=True)
        return folder

    def names(self, kind: str) -> list[str]:
        """Names of all things of a kind, newest first."""
        with disk_errors(self.root):
            found = [p for p in (self.root / kind).iterdir() if p.is_dir() and _ID.fullmatch(p.name)]
            times = {p.name: _modified(p) for p in found}
        return sorted(times, key=lambda name: (-times[name], name))

    @contextmanager
    def new_folder(self, kind: str, name: str) -> Iterator[Path]:
        """A folder to fill; it gets its name when the block ends well, and vanishes when it does not.

        If another process was first, its folder stays: the same name means the same content.
        """
        target = self.folder(kind, name)
        with disk_errors(target):
            partial = Path(tempfile.mkdtemp(prefix=f"{kind}-{name}-", dir=self.root / ".partial"))
            try:
                yield partial
                try:
                    partial.rename(target)
                except OSError:
                    if not target.is_dir():
                        raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def delete(self, kind: str, name: str) -> None:
        """Removes one thing for good: first its name in one step, then its files. Nothing happens if it is gone."""
        folder = self.folder(kind, name)
        with disk_errors(folder):
            doomed = Path(tempfile.mkdtemp(prefix="deleted-", dir=self.root / ".partial"))
            with suppress(FileNotFoundError):
                folder.rename(doomed / name)
            shutil.rmtree(doomed, ignore_errors=True)

    def lock(self, name: str) -> FileLock:
        """A lock between processes, so that two that want the same thing make it once."""
        return FileLock(self.root / ".partial" / f"{name}.lock")

    def sweep(self) -> None:
        """Removes what killed processes left unfinished more than a day ago."""
        for path in (self.root / ".partial").iterdir():
            if path.is_dir() and time.time() - _modified(path) > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed by someone else just now
        return 0.0


def file_state(path: Path | str) -> tuple[int, ...]:
    """What changes when a file is replaced or written: under an equal state its content need not be read again."""
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system says about a disk into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WorkspaceError(
                f"no space left on the disk that holds {path}: free some, or use --workspace"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise WorkspaceError(
                f"cannot write to {path} ({error.strerror}): choose another with --workspace"
            ) from error
        raise


def atomic_write(path: Path, data: bytes) -> None:
    """Replaces a file in one step: a reader, or a crash at any moment, sees the old content or the new."""
    with disk_errors(path):
        partial = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_json(path: Path, value: object) -> None:
    """Writes JSON that a person can read, atomically."""
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict:
    """Reads a JSON object. Raises `WorkspaceError` when it is missing or not one."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WorkspaceError(f"{path} is not there") from None
    except (ValueError, OSError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}): delete its folder and make it again") from None
    if not isinstance(value, dict):
        raise WorkspaceError(f"{path} does not hold an object: delete its folder and make it again")
    return value
