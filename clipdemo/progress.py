"""How long work tells where it stands.

Long functions are generators: they yield `Progress` and return their result, so that one piece of code serves a
progress bar, a web page and a test, and whoever consumes them may stop between two values.

    sample = yield from draw_sample(...)      # inside other long work
    sample = finish(draw_sample(...))         # when nobody watches
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Progress(BaseModel):
    """Where a stage of some work stands: `done` of `total` units, and a line to read."""

    model_config = ConfigDict(frozen=True)

    stage: str
    done: int
    total: int
    note: str = ""
    seconds: float = 0.0  # that the stage has been going, noted by a job


Activity = Generator[Progress, None, T]


def finish(activity: Activity[T]) -> T:
    """Runs an activity to its end and returns its result; its progress goes unseen."""
    while True:
        try:
            next(activity)
        except StopIteration as end:
            return end.value
