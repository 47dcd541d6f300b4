"""What tests share: a workspace of their own, and a tiny source whose every picture a test can plan."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

from clipdemo import sources
from clipdemo.records import Record
from clipdemo.sampling import Sample
from clipdemo.workspace import Workspace
from tests import workspace_factory as factory
from tests.tiny_source import TinySource

settings.register_profile("untimed", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: more threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    """A workspace for all tests of a file, where they only read it."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def sample(place) -> Sample:
    """The small made-up sample in it."""
    return factory.make_sample(place)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A tiny base model that open_clip opens from a folder."""
    from tests.training.test_loop import small_base  # imports torch

    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tiny_source(monkeypatch) -> Callable[..., TinySource]:
    """Registers a source named "tiny" that holds the rows given."""

    def register(rows, classes=("Cat", "Dog", "Eel")) -> TinySource:
        source = TinySource(rows, classes)
        kind = sources.Kind("planned by a test", Record, lambda options, seed, cache: source)
        monkeypatch.setitem(sources.SOURCES, "tiny", kind)
        return source

    return register
