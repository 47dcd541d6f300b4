"""What page tests share: a page opened as a visitor opens it, in a workspace of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from clipdemo import jobs
from tests import workspace_factory as factory

MAIN = Path(__file__).resolve().parents[2] / "clipdemo" / "ui" / "main.py"


@pytest.fixture
def open_page(workspace, monkeypatch) -> Callable[..., AppTest]:
    """Opens a page by name, with the parameters of its address."""
    monkeypatch.setenv("CLIPDEMO_WORKSPACE", str(workspace.root))

    def open_(name: str, **parameters: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=30).run()
        if name != "home":
            app.switch_page(f"../../pages/{name}.py")
        for key, value in parameters.items():
            app.query_params[key] = value
        return app.run()

    return open_


@pytest.fixture
def full(workspace):
    """The made-up workspace with a sample, two runs, a comparison and a finished experiment."""
    sample = factory.make_sample(workspace)
    comparison = factory.make_comparison(workspace, sample)
    stages = {"sample": (60, 60), "captions": (60, 60)}
    result = {"state": "finished", "made": {"comparison": comparison.id}}
    factory.make_job(workspace, "experiment", factory.experiment_settings(sample), stages, result)
    return comparison


@pytest.fixture
def launched(monkeypatch) -> list[tuple]:
    """What pages ask `jobs.start` for; the jobs are made but no process starts."""
    asked = []

    def start(workspace, job, arguments):
        asked.append((job.asked["command"], list(arguments), job.asked["settings"]))
        return job

    monkeypatch.setattr(jobs, "start", start)
    return asked
