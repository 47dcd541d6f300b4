"""A real browser in front of a real server: `streamlit run app.py` on a free port, with a workspace of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from clipdemo.jobs import list_jobs
from tools.serving import chromium, launch, served, settled

expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        if chromium() is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("Chromium is missing: apt-get install chromium, or python -m playwright install chromium")
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture
def server(workspace, tmp_path) -> Iterator[str]:
    """The address of a server of this test's own, started from a folder that is not the repository."""
    # one thread a job: with more, trainings beside other tests wait for each other's threads and take many times longer
    with served(workspace.root, tmp_path / "server.log", OMP_NUM_THREADS="1") as address:
        yield address
        for job in list_jobs(workspace):  # jobs outlive the server, and must not outlive the test
            job.stop()


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
