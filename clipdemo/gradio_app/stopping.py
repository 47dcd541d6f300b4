"""Gradio's pages hang up when a server is told to stop, so that it does not wait for them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def told_to_stop(event: asyncio.Event) -> Iterator[None]:
    """Sets the event at the signals that end a server, which waits for open pages to hang up before it ends anything.

    Gradio ends its pages' connections at this event, and sets it itself only where its own server runs.
    """
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        loop.call_soon_threadsafe(event.set)
        signal.signal(number, before[number])
        if callable(before[number]):
            before[number](number, frame)
        else:
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.getsignal(number)
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)
