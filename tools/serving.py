"""Starts the app on a free port and a headless Chromium beside it: for screenshots, measurements and browser tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page, Playwright, expect

ROOT = Path(__file__).resolve().parent.parent
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
START_SECONDS = 120


@contextmanager
def served(workspace: Path, log: Path | None = None, **environment: str) -> Iterator[str]:
    """The address of `streamlit run app.py` on 127.0.0.1, started from a folder that is not the repository.

    It is stopped at the block's end. Raises `RuntimeError`, with the end of its log, when it does not get healthy.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    log = log or Path(os.devnull)
    with log.open("wb") as out:
        settings = os.environ | {"CLIPDEMO_WORKSPACE": str(workspace), **environment}
        process = subprocess.Popen(command, cwd=workspace.parent, env=settings, stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{port}"
        if not healthy(process, address):
            raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:] if log.is_file() else ''}")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


def healthy(process: subprocess.Popen, address: str) -> bool:
    """Whether the server answers before it ends or time is up."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return True
        except OSError:
            try:  # waits a moment, or for its end
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            return False
    return False


def chromium() -> str | None:
    """The path of an installed Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def process_of(address: str) -> psutil.Process:
    """The server of this address, which this process has started."""
    port = address.rpartition(":")[2]
    return next(one for one in psutil.Process().children(recursive=True) if port in one.cmdline())


def used_by(process: psutil.Process) -> tuple[int, float]:
    """Bytes of memory and seconds of CPU of a process and all that it has started, now."""
    memory, seconds = 0, 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended in the meantime
            held, times = one.memory_info().rss, one.cpu_times()
            memory, seconds = memory + held, seconds + times.user + times.system
    return memory, seconds


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium that asks nobody for anything."""
    return playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))


def settled(page: Page) -> None:
    """Waits until the page's script has run to its end."""
    expect(page.locator("h1").first).to_be_visible()
    expect(page.locator('.stApp[data-test-script-state="notRunning"]')).to_be_visible()
