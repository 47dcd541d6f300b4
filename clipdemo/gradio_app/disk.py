"""The temporary folder: whose it is, how much it may hold, and how it is swept."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

MAX_UPLOAD_BYTES = 32 * 2**20
MAX_FILES, MAX_FILES_BYTES = 10_000, 2**30  # of all that lies in the folder; beyond, uploads are refused with 503
KEPT_SECONDS = 600  # of a picture that is open on the page
SWEPT_SECONDS = 30  # from one look for what is older to the next
_held: list[FileLock] = []  # for as long as the process lives


@cache
def temporary() -> Path:
    """A private folder of this process. It goes with the process, or when the next one finds its lock free."""
    root = Path(tempfile.gettempdir())
    for left in root.glob("clipdemo-gradio-*"):
        try:
            with FileLock(left / "alive", timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except (Timeout, OSError):  # somebody uses it, or it is another user's
            continue
    folder = Path(tempfile.mkdtemp(prefix="clipdemo-gradio-")).resolve()  # as paths that come back are, to be compared
    _held.append(lock := FileLock(folder / "alive"))
    lock.acquire()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def uploads_folder() -> Path:
    """Where Gradio writes what is sent to it."""
    return temporary() / "uploads"


def full() -> bool:
    """Whether the folder holds as much as it may."""
    size = 0
    for count, path in enumerate(uploads_folder().rglob("*"), start=1):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
        if count > MAX_FILES or size > MAX_FILES_BYTES:
            return True
    return False


def sweep() -> None:
    """Deletes what is older than `KEPT_SECONDS`, also what a caller who hung up left half sent.

    Gradio's own `delete_cache` knows only of files that came to their end, under the name that it asks for.
    """
    before = time.time() - KEPT_SECONDS
    for path in sorted(uploads_folder().rglob("*"), reverse=True):  # what is in a folder before the folder
        with suppress(OSError):  # gone already, or a folder with something in it
            if path.is_dir():
                if path.stat().st_mtime < before:
                    path.rmdir()
            elif path.stat().st_ctime < before:  # a copy has its original's st_mtime
                path.unlink()


@asynccontextmanager
async def tidied() -> AsyncIterator[None]:
    """Sweeps while a server runs, and deletes the folder when it stops: a signal ends it without its `atexit`."""
    sweeping = asyncio.create_task(_sweeping())
    try:
        yield
    finally:
        sweeping.cancel()
    shutil.rmtree(temporary(), ignore_errors=True)


async def _sweeping() -> None:
    while True:
        await asyncio.to_thread(sweep)
        await asyncio.sleep(SWEPT_SECONDS)
