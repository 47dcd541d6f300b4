"""A real browser in front of a real server: `streamlit run app.py` on a free port, with a workspace of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from clipdemo.jobs import list_jobs

ROOT = Path(__file__).resolve().parents[2]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS = 120

expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    with sync_playwright() as playwright:
        if chromium is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("Chromium is missing: apt-get install chromium, or python -m playwright install chromium")
        started = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield started
        started.close()


@pytest.fixture
def server(workspace, tmp_path) -> Iterator[str]:
    """The address of a server of this test's own, started from a folder that is not the repository."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    # one thread a job: with more, trainings beside other tests wait for each other's threads and take many times longer
    environment = os.environ | {"CLIPDEMO_WORKSPACE": str(workspace.root), "OMP_NUM_THREADS": "1"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        _wait_until_healthy(process, address, tmp_path / "server.log")
        yield address
    finally:
        for job in list_jobs(workspace):  # jobs outlive the server, and must not outlive the test
            job.stop()
        process.terminate()
        process.wait(timeout=20)


def _wait_until_healthy(process: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(START_SECONDS * 10):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            try:  # waits a tenth of a second, or for its end
                process.wait(timeout=0.1)
            except subprocess.TimeoutExpired:
                continue
            break
    pytest.fail(f"the server did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def visit(browser, server) -> Iterator[Callable[..., Page]]:
    """Opens a page in a fresh browser profile and waits until the page has been drawn."""
    contexts = []

    def open_(path: str = "", width: int = 1440, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{server}/{path}")
        settled(page)
        return page

    yield open_
    for context in contexts:
        context.close()


def settled(page: Page) -> None:
    """Waits until the page's script has run to its end."""
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator('.stApp[data-test-script-state="notRunning"]')).to_be_visible()
