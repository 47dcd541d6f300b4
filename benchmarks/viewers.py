"""Thirty visitors watch one live run: what that costs the server, and how late they see a step.

    python -m benchmarks.viewers --pages 30

Real pages of one headless Chromium stand open on the Train page. The run is a stand-in: a thread writes metrics.jsonl
and progress.json four times a second, as training does, and holds the job's lock. For a minute after all pages show the
run, the server's CPU time is taken (its children included), and a few pages note when each step appeared. A step's lag
is the time from its being written until a page shows it or a later one; half a second of it is waiting for the next
look, of which there is one a second. Chromium and the stand-in share the machine with the server, so the lag is that
of a machine that is busy with more than a server would be; the browser's own CPU time is kept beside it.
"""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import typer
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from benchmarks.machine import keep
from clipdemo.jobs import Job
from clipdemo.progress import Progress
from clipdemo.records import RunConfig, Step
from clipdemo.training.runs import Run, begin_run
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


def main(pages: int = 30, seconds: float = 60) -> None:
    """Opens all pages, watches for a while, and keeps the numbers."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = Workspace(Path(folder) / "workspace")
        with _live_run(workspace) as (job, written), served(workspace.root) as address:
            browser = launch(playwright)
            opened = _open(browser.new_context(viewport={"width": 1000, "height": 700}), address, job, pages)
            print(f"{len(opened)} pages watch", flush=True)
            observed = opened[:: max(1, len(opened) // OBSERVED)][:OBSERVED]
            for page in observed:
                page.evaluate(OBSERVE)
            server, chromium = _processes()
            before, began = (_cpu_seconds(server), _cpu_seconds(chromium)), time.monotonic()
            opened[0].wait_for_timeout(1000 * seconds)
            wall = time.monotonic() - began
            after = _cpu_seconds(server), _cpu_seconds(chromium)
            seen = [page.evaluate("window.seen") for page in observed]
            memory = server.memory_info().rss
            browser.close()
    lags = [lag for each in seen for lag in _lags(each, written)]
    result = {
        "pages": pages,
        "seconds": round(wall, 1),
        "server_cores": round((after[0] - before[0]) / wall, 2),
        "server_megabytes": round(memory / 1e6),
        "browser_cores": round((after[1] - before[1]) / wall, 2),
        "pages_observed": len(seen),
        "lag_seconds": {"median": round(median(lags), 2), "worst": round(max(lags), 2), "n": len(lags)},
        "refreshes_a_second_and_page": round(median(len(each) for each in seen) / wall, 2),
    }
    print(result)
    keep("viewers", f"python -m benchmarks.viewers --pages {pages} --seconds {seconds:g}", result)


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


def _processes() -> tuple[psutil.Process, psutil.Process]:
    """The server and the browser, among this process's descendants."""
    found = psutil.Process().children(recursive=True)
    server = next(process for process in found if "streamlit" in process.cmdline())
    return server, next(process for process in found if "--headless" in process.cmdline())


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
