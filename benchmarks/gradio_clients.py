"""Eight programs at once on the mounted API for a minute: what is answered, in what order, how fast, what is refused.

python -m benchmarks.gradio_clients

Each client sends one call after another over plain HTTP. Order: a call that was put into the queue before another was
(its id came back before the other was sent) has to end before it, but for what the clock cannot tell. Afterwards, more
calls at once than the queue takes.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
import typer

from benchmarks.machine import keep
from clipdemo.gradio_app import MAX_WAITING
from clipdemo.images import encode_png
from tools.serving import served

CLOCK_SECONDS = 0.05  # what ends less apart than this is called the same time: a stream is read when its thread runs
BURST = 60


def main(clients: int = 8, seconds: float = 60.0) -> None:
    """The built-in base answers, in a new workspace."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "workspace") as address:
        begin = time.perf_counter()
        urllib.request.urlopen(f"{address}/gradio/").close()
        first_page = time.perf_counter() - begin
        begin = time.perf_counter()
        _call(address, _picture(0))
        first_answer = time.perf_counter() - begin
        minute = _minute(address, clients, seconds)
        burst = _burst(address)
    result = {"first /gradio page, seconds": first_page, "first answer, seconds": first_answer, **minute, **burst}
    print(json.dumps(result, indent=2))
    keep("gradio_clients", f"python -m benchmarks.gradio_clients --clients {clients} --seconds {seconds:g}", result)


def _minute(address: str, clients: int, seconds: float) -> dict[str, object]:
    calls: list[tuple[float, float, float, str]] = []  # sent, in the queue, ended, kind
    wrong: list[str] = []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        turn = 0
        while time.perf_counter() < end:
            name = number * 1_000_000 + turn
            sent, queued, ended, kind, answer = _call(address, _picture(name % 50))
            calls.append((sent, queued, ended, kind))
            if kind == "complete" and expected.setdefault(name % 50, answer) != answer:
                wrong.append(str(name))
            turn += 1

    expected: dict[int, object] = {}
    _together([threading.Thread(target=client, args=(number,)) for number in range(clients)])
    waited = np.array([ended - sent for sent, _, ended, _ in calls])
    overtaken = sum(
        one[1] < other[0] and one[2] > other[2] + CLOCK_SECONDS for one in calls for other in calls if one is not other
    )
    return {
        "clients": clients,
        "calls sent": len(calls),
        "kinds of answers": Counter(kind for *_, kind in calls),
        "same picture, another answer": len(wrong),
        "calls overtaken by a later one": overtaken,
        "answers a second": len(calls) / seconds,
        "seconds, median": float(np.median(waited)),
        "seconds, 95th percentile": float(np.quantile(waited, 0.95)),
        "seconds, longest": float(waited.max()),
    }


def _burst(address: str) -> dict[str, object]:
    kinds: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: kinds.append(_call(address, _picture(n % 50))[3])) for n in range(BURST)
    ]
    _together(threads)
    return {"queue takes": MAX_WAITING, "calls at once": BURST, "kinds of answers at once": Counter(kinds)}


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _picture(seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8).repeat(28, 0).repeat(28, 1)
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()


def _call(address: str, picture: str) -> tuple[float, float, float, str, object]:
    """When it was sent, put into the queue and answered, how it ended, and with what."""
    call = f"{address}/gradio/gradio_api/call/classify"
    body = json.dumps({"data": [{"url": picture, "meta": {"_type": "gradio.FileData"}}, "", "", ""]}).encode()
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    sent = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            event = json.load(reply)["event_id"]
        queued = time.perf_counter()
        with urllib.request.urlopen(f"{call}/{event}", timeout=120) as stream:
            kind, data = stream.read().decode().strip().split("\n\n")[-1].splitlines()
    except urllib.error.HTTPError as error:
        now = time.perf_counter()
        return sent, now, now, f"refused with {error.code}", error.read().decode()
    except (OSError, ValueError) as error:
        now = time.perf_counter()
        return sent, now, now, f"lost: {type(error).__name__}", None
    return sent, queued, time.perf_counter(), kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


if __name__ == "__main__":
    typer.run(main)
