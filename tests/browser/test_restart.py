"""The server dies in the middle of a run, and comes back: neither the run nor those who watch it need anybody's help."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from clipdemo.jobs import list_jobs
from clipdemo.records import RunConfig
from clipdemo.training.loop import REPORT_STEPS
from clipdemo.training.runs import load_run
from clipdemo.training.schedule import batches
from tests import workspace_factory as factory
from tools.serving import ROOT, healthy, settled

pytestmark = pytest.mark.browser

CONFIG = RunConfig(mode="captions", epochs=16, batch_size=4)
LONGEST = 240_000  # milliseconds, of a run beside other tests


@pytest.fixture
def start(workspace, tmp_path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts a server, always on the same port, and waits until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.address", "127.0.0.1"]
    settings = os.environ | {"CLIPDEMO_WORKSPACE": str(workspace.root), "OMP_NUM_THREADS": "1"}
    servers = []

    def start_() -> subprocess.Popen:
        with (tmp_path / "server.log").open("ab") as log:
            server = subprocess.Popen(
                [*command, "--server.port", str(port)], cwd=tmp_path, env=settings, stdout=log, stderr=log
            )
        servers.append(server)
        server.address = f"http://127.0.0.1:{port}"
        assert healthy(server, server.address), (tmp_path / "server.log").read_text()[-2000:]
        return server

    yield start_
    for job in list_jobs(workspace):  # jobs outlive the server, and must not outlive the test
        job.stop()
    for server in servers:
        server.kill()
        server.wait()


@pytest.fixture
def tabs(browser) -> Iterator[list[Page]]:
    """One tab of each of two visitors."""
    contexts = [browser.new_context(), browser.new_context()]
    yield [context.new_page() for context in contexts]
    for context in contexts:
        context.close()


def fill(page: Page, label: str, value: int) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(str(value))
    field.press("Tab")
    settled(page)


def test_a_run_and_its_watchers_survive_the_server(start, tabs, workspace):
    sample = factory.make_sample(workspace)
    server = start()
    first, second = tabs
    first.goto(f"{server.address}/train")
    settled(first)
    fill(first, "Epochs", CONFIG.epochs)
    fill(first, "Batch size", CONFIG.batch_size)
    first.get_by_role("button", name="Start fine-tuning", exact=True).click()
    expect(first).to_have_url(re.compile("job="))
    second.goto(first.url)
    for tab in tabs:
        expect(tab.get_by_text(re.compile(rf"epoch \d+ of {CONFIG.epochs}"))).to_be_visible()

    server.kill()
    server.wait()
    for tab in tabs:
        expect(tab.locator('.stApp[data-test-connection-state="CONNECTED"]')).to_have_count(0)
    assert list_jobs(workspace)[0].state == "running"  # without anybody who looks
    start()

    for tab in tabs:  # nobody reloads them
        expect(tab.get_by_text(re.compile("The run finished after"))).to_be_visible(timeout=LONGEST)
        expect(tab.get_by_test_id("stException")).to_have_count(0)
    run = load_run(workspace, workspace.names("runs")[0])
    assert run.config.epochs == CONFIG.epochs and run.config.batch_size == CONFIG.batch_size
    assert_whole(run, epoch_steps=len(batches(sample.sizes["train"], CONFIG.batch_size, 0, 0)))


def assert_whole(run, epoch_steps: int) -> None:
    """Its lines are those of a run that nobody disturbed: one every few steps and one an epoch, in order."""
    total = run.config.epochs * epoch_steps
    trained = [step for step in run.steps() if step.training_loss is not None]
    assert [step.step for step in trained] == sorted({*range(REPORT_STEPS, total + 1, REPORT_STEPS), total})
    validated = [step for step in run.steps() if step.validation_loss is not None]
    assert [step.step for step in validated] == list(range(0, total + 1, epoch_steps))
    seconds = [step.seconds for step in run.steps()]
    assert seconds == sorted(seconds)
