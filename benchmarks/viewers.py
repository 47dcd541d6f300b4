"""Thirty visitors watch one live run: what that costs the server, and how late they see a step.

    python -m benchmarks.viewers --sockets 30 --pages 30

The server by itself: bare websockets speak Streamlit's protocol as its frontend does (a fragment is run again because
the client asks for it, once an interval), beside a real training in its own process. A viewer's lag is the time from a
line's appearing in metrics.jsonl to the arrival of the chart that holds its point, or a later one; half a second of it
is waiting for the next look, of which there is one a second.

With browsers: real pages of one headless Chromium stand open on the Train page. The run is a stand-in: a thread writes
metrics.jsonl and progress.json four times a second, and holds the job's lock; a few pages note when each step appeared.
Chromium and the stand-in share the machine with the server, so the lag is that of a machine that is busy with more than
a server would be; the browser's own CPU time is kept beside it.

In both, the server's CPU time (its children's included) is taken for a minute after all show the run.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import typer
import websockets
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.machine import keep
from clipdemo import commands, queues
from clipdemo.jobs import Job
from clipdemo.progress import Progress, finish
from clipdemo.records import RunConfig, SampleConfig, Step
from clipdemo.sampling import draw_sample
from clipdemo.training.runs import Run, begin_run, load_run, run_id
from clipdemo.workspace import Workspace, write_json
from tests import workspace_factory as factory
from tools.serving import launch, served

STEPS_A_SECOND = 4
EPOCHS, EPOCH_STEPS = 200, 100
OBSERVED = 5  # pages, spread over all, whose text is watched
OBSERVE = """() => {
    window.seen = {}
    const look = () => {
        const found = document.body.innerText.match(/at step (\\d+)/)
        if (found) window.seen[found[1]] ??= Date.now() / 1000
    }
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true})
    look()
}"""


def main(sockets: int = 30, pages: int = 30, seconds: float = 60) -> None:
    """Watches with sockets, then with pages, and keeps the numbers; 0 of either leaves it out."""
    result: dict[str, object] = {}
    if sockets:
        result["sockets"] = _with_sockets(sockets, seconds)
        print(result["sockets"], flush=True)
    if pages:
        result["browser"] = _with_pages(pages, seconds)
        print(result["browser"])
    keep("viewers", f"python -m benchmarks.viewers --sockets {sockets} --pages {pages} --seconds {seconds:g}", result)


# ---- the server by itself


def _with_sockets(sockets: int, seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        with served(workspace.root) as address, _real_run(workspace) as (job, run):
            return asyncio.run(_watched(address, job, run, sockets, seconds))


@contextmanager
def _real_run(workspace: Workspace) -> Iterator[tuple[Job, Run]]:
    """A training of the built-in model, launched as a page launches it, which is stopped at the block's end."""
    sample = finish(draw_sample(SampleConfig(samples=512), workspace))
    config = RunConfig(mode="labels", epochs=1000)
    settings = {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}
    job = queues.submit(workspace, "train", commands.train_arguments(config, sample.id), settings)
    name = run_id(config, sample)
    while not (workspace.folder("runs", name) / "metrics.jsonl").exists():
        time.sleep(0.1)
    try:
        yield job, load_run(workspace, name)
    finally:
        job.stop("discard")
        while job.state in ("running", "stopping"):
            time.sleep(0.1)


async def _watched(address: str, job: Job, run: Run, sockets: int, seconds: float) -> dict[str, object]:
    written: dict[float, float] = {}  # epoch -> when its line appeared
    viewers = [_Viewer() for _ in range(sockets)]
    tasks = [asyncio.create_task(_note_lines(run, written))]
    tasks += [asyncio.create_task(viewer.watch(address, f"job={job.id}")) for viewer in viewers]
    while not all(viewer.arrived for viewer in viewers):
        await asyncio.wait(tasks, timeout=0.1)
        for task in tasks:
            if task.done():
                task.result()  # a connection that failed ends the measurement
    server = _server()
    trainer = next(p for p in psutil.process_iter(["cmdline"]) if job.id in (p.info["cmdline"] or []))
    before, began, since = (_cpu_seconds(server), _cpu_seconds(trainer)), time.monotonic(), time.time()
    await asyncio.sleep(seconds)
    wall = time.monotonic() - began
    after = _cpu_seconds(server), _cpu_seconds(trainer)
    memory = server.memory_info().rss
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    each = [lags for viewer in viewers if (lags := _lags_of(viewer.arrived, written, since))]
    lags = np.concatenate(each)
    return {
        "viewers": len(each),
        "seconds": round(wall, 1),
        "server_cores": round((after[0] - before[0]) / wall, 2),
        "server_megabytes": round(memory / 1e6),
        "trainer_cores": round((after[1] - before[1]) / wall, 2),
        "lines_a_second": round(sum(moment > since for moment in written.values()) / wall, 2),
        "lag_seconds": {
            "median": round(float(np.median(lags)), 2),
            "p95": round(float(np.percentile(lags, 95)), 2),
            "worst": round(float(lags.max()), 2),
            "n": len(lags),
        },
        "refreshes_a_second_and_viewer": round(
            sum(moment > since for viewer in viewers for moment in viewer.refreshed) / len(viewers) / wall, 2
        ),
    }


async def _note_lines(run: Run, written: dict[float, float]) -> None:
    """Looks at the run's file fifty times a second, and notes when each line of training appeared."""
    with (run.folder / "metrics.jsonl").open() as file:
        while True:
            while (line := file.readline()).endswith("\n"):
                if "training_loss" in (values := json.loads(line)):
                    written[values["epoch"]] = time.time()
            await asyncio.sleep(0.02)


def _lags_of(arrived: dict[float, float], written: dict[float, float], since: float) -> list[float]:
    """How late each line written since then came, with its own chart or a later one."""
    charts = sorted(arrived.items())
    lags = []
    for epoch, moment in written.items():
        came = next((now for newest, now in charts if newest >= epoch), None)
        if moment > since and came is not None:
            lags.append(came - moment)
    return lags


class _Viewer:
    """A browser without the browser: what Streamlit's frontend sends and keeps, and nothing is drawn."""

    def __init__(self) -> None:
        self.arrived: dict[float, float] = {}  # newest epoch in a chart -> when it came first
        self.refreshed: list[float] = []  # when each run of a fragment ended
        self._kept: dict[str, ForwardMsg] = {}  # messages that the server may refer to instead of sending them again
        self._timers: dict[str, asyncio.Task] = {}
        self._query = self._page = ""

    async def watch(self, address: str, query: str) -> None:
        """Opens the Train page and keeps it open until it is cancelled."""
        self._query = query
        where = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
        async with websockets.connect(where, subprotocols=["streamlit"], max_size=None) as socket:
            try:
                await self._ask(socket, page_name="train")
                async for data in socket:
                    self._take(socket, ForwardMsg.FromString(data))
            finally:
                self._forget_timers()

    async def _ask(self, socket: websockets.ClientConnection, **values: object) -> None:
        message = BackMsg()
        known = {"query_string": self._query, "page_script_hash": self._page, "cached_message_hashes": self._kept}
        for name, value in (known | values).items():
            if name == "cached_message_hashes":
                message.rerun_script.cached_message_hashes.extend(value)
            else:
                setattr(message.rerun_script, name, value)
        await socket.send(message.SerializeToString())

    def _take(self, socket: websockets.ClientConnection, message: ForwardMsg) -> None:
        if message.metadata.cacheable:
            self._kept[message.hash] = message
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self._page = message.new_session.page_script_hash
            self._forget_timers()
        elif kind == "auto_rerun" and message.auto_rerun.fragment_id not in self._timers:
            asked = message.auto_rerun
            self._timers[asked.fragment_id] = asyncio.create_task(self._tick(socket, asked.fragment_id, asked.interval))
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                if timer := self._timers.pop(fragment, None):
                    timer.cancel()
        elif kind == "script_finished" and self._timers:
            self.refreshed.append(time.time())
        elif (epoch := _newest_epoch(message)) is not None:
            self.arrived.setdefault(epoch, time.time())

    async def _tick(self, socket: websockets.ClientConnection, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._ask(socket, fragment_id=fragment, is_auto_rerun=True)

    def _forget_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


def _newest_epoch(message: ForwardMsg) -> float | None:
    """The last epoch of the training curve in a chart; None for what is no chart, or one without that curve."""
    for dataset in message.delta.new_element.echarts_chart.datasets:
        table = pa.ipc.open_stream(io.BytesIO(dataset.data.data)).read_all()
        for name in table.column_names:
            if name.endswith(", training"):
                drawn = ~np.isnan(table.column(name).to_numpy().astype(float))
                return float(table.column("epoch").to_numpy()[drawn].max()) if drawn.any() else None
    return None


# ---- with browsers


def _with_pages(pages: int, seconds: float) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = Workspace(Path(folder) / "workspace")
        with _live_run(workspace) as (job, written), served(workspace.root) as address:
            browser = launch(playwright)
            opened = _open(browser.new_context(viewport={"width": 1000, "height": 700}), address, job, pages)
            print(f"{len(opened)} pages watch", flush=True)
            observed = opened[:: max(1, len(opened) // OBSERVED)][:OBSERVED]
            for page in observed:
                page.evaluate(OBSERVE)
            server, chromium = _server(), _chromium()
            before, began = (_cpu_seconds(server), _cpu_seconds(chromium)), time.monotonic()
            opened[0].wait_for_timeout(1000 * seconds)
            wall = time.monotonic() - began
            after = _cpu_seconds(server), _cpu_seconds(chromium)
            seen = [page.evaluate("window.seen") for page in observed]
            memory = server.memory_info().rss
            browser.close()
    lags = [lag for each in seen for lag in _lags(each, written)]
    return {
        "pages": pages,
        "seconds": round(wall, 1),
        "server_cores": round((after[0] - before[0]) / wall, 2),
        "server_megabytes": round(memory / 1e6),
        "browser_cores": round((after[1] - before[1]) / wall, 2),
        "pages_observed": len(seen),
        "lag_seconds": {"median": round(median(lags), 2), "worst": round(max(lags), 2), "n": len(lags)},
        "refreshes_a_second_and_page": round(median(len(each) for each in seen) / wall, 2),
    }


def _lags(seen: dict[str, float], written: dict[int, float]) -> list[float]:
    """How late a page showed each step, or one after it, from its first look to its last."""
    shown = sorted((int(step), moment) for step, moment in seen.items())
    return [
        now - written[step]
        for (before, _), (after, now) in pairwise(shown)
        for step in range(before + 1, after + 1)
        if step in written
    ]


def _open(context: BrowserContext, address: str, job: Job, pages: int) -> list[Page]:
    """Pages that all show the live run, opened one after another as a class comes in."""
    opened = []
    for _ in range(pages):
        page = context.new_page()
        page.goto(f"{address}/train?job={job.id}", timeout=120_000)
        opened.append(page)
    for page in opened:
        expect(page.get_by_text("at step")).to_be_visible(timeout=120_000)
    return opened


def _server() -> psutil.Process:
    """The server, among this process's descendants."""
    return next(p for p in psutil.Process().children(recursive=True) if "streamlit" in p.cmdline())


def _chromium() -> psutil.Process:
    return next(p for p in psutil.Process().children(recursive=True) if "--headless" in p.cmdline())


def _cpu_seconds(process: psutil.Process) -> float:
    """What the process and all below it have used; who has ended meanwhile is missing."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


# ---- the stand-in for a run


@contextmanager
def _live_run(workspace: Workspace) -> Iterator[tuple[Job, dict[int, float]]]:
    """A job that lives and writes while the block runs, and when each step was written (seconds since 1970)."""
    sample, config = factory.make_sample(workspace), RunConfig(mode="captions", epochs=EPOCHS)
    run = begin_run(config, sample, workspace)
    settings = {"sample_id": sample.id, "runs": [config.model_dump(mode="json")]}
    job = factory.make_job(workspace, "train", settings, {"captions": (0, EPOCHS * EPOCH_STEPS)})
    lock = factory.keep_alive(job)
    written: dict[int, float] = {}
    over = threading.Event()
    writer = threading.Thread(target=_write, args=(run, job, written, over))
    writer.start()
    try:
        yield job, written
    finally:
        over.set()
        writer.join()
        lock.release()


def _write(run: Run, job: Job, written: dict[int, float], over: threading.Event) -> None:
    step = 0
    while not over.wait(1 / STEPS_A_SECOND):
        step += 1
        numbers = {"training_loss": 2 + math.sin(step), "learning_rate": 1e-4, "logit_scale": 50.0}
        if step % EPOCH_STEPS == 0:
            numbers |= {"validation_loss": 2.0, "validation_top1": 0.5}
        line = Step(step=step, epoch=step / EPOCH_STEPS, seconds=step / STEPS_A_SECOND, **numbers)
        progress = Progress(stage="captions", done=step, total=EPOCHS * EPOCH_STEPS, note=f"at step {step}")
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")
        write_json(job.folder / "progress.json", {"captions": progress.model_dump(mode="json")})
        written[step] = time.time()


if __name__ == "__main__":
    typer.run(main)
