"""Seconds until the Train page has drawn the curves of a run with 50,000 lines of training and 500 of validation.

    python -m benchmarks.long_run

Each round starts a new server, which has read nothing yet, and opens the page in a fresh profile (first visitor), then
in another one (next visitor). Beside it, without a browser, what reading the file costs: every line anew, as
`Run.steps` does it, for the first time and for one more line through `cached`.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright

from benchmarks.machine import keep
from clipdemo.records import RunConfig, RunResult, Step
from clipdemo.training.runs import Run, begin_run
from clipdemo.ui.cached import Metrics
from clipdemo.workspace import Workspace, write_json
from tests import workspace_factory as factory
from tools.serving import launch, served

LINES, EPOCHS, ROUNDS = 50_000, 500, 5
CURVES_DRAWN = """() => {
    const drawn = [...document.querySelectorAll('[data-testid="stEChartsChart"] canvas')].filter((canvas) => {
        const pixels = canvas.getContext('2d').getImageData(0, 100, canvas.width, canvas.height - 100).data
        let coloured = 0  // in the colour of captions; the legend is above
        for (let i = 0; i < pixels.length; i += 4)
            coloured += pixels[i] === 0 && pixels[i + 1] === 114 && pixels[i + 2] === 178 && pixels[i + 3] === 255
        return coloured > 50
    })
    return drawn.length === 2
}"""


def main() -> None:
    """Writes the run, opens the page in all rounds, reads the file, and keeps the numbers."""
    visits: dict[str, list[float]] = {"first_visitor_seconds": [], "next_visitor_seconds": []}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = Workspace(Path(folder) / "workspace")
        run = make_long_run(workspace)
        browser = launch(playwright)
        browser.new_page().goto("about:blank")  # the browser's own start is not ours
        for _ in range(ROUNDS):
            with served(workspace.root) as address:
                for seconds in visits.values():
                    seconds.append(_until_drawn(browser, address))
            print({name: f"{values[-1]:.2f}" for name, values in visits.items()}, flush=True)
        reading = _reading(run)
    result = {name: {"median": round(median(v), 2), "rounds": [round(x, 2) for x in v]} for name, v in visits.items()}
    print({name: value["median"] for name, value in result.items()}, reading)
    keep("long_run", "python -m benchmarks.long_run", {"lines": LINES + EPOCHS + 1, **result, "reading": reading})


def make_long_run(workspace: Workspace) -> Run:
    """A finished run whose lines are plainly made up: four steps a line, hundred lines an epoch."""
    config = RunConfig(mode="captions", epochs=EPOCHS)
    run = begin_run(config, factory.make_sample(workspace), workspace)
    with (run.folder / "metrics.jsonl").open("w") as file:
        for line in range(LINES + 1):
            for step in _lines(line, line * EPOCHS / LINES):
                file.write(step.model_dump_json(exclude_none=True) + "\n")
    run.weights.write_bytes(b"not weights")
    result = RunResult(
        state="finished", best_epoch=EPOCHS, best_validation_top1=0.75, epochs_done=EPOCHS, steps=4 * LINES,
        seconds=float(LINES), device="made-up",
    )  # fmt: skip
    write_json(run.folder / "result.json", result.model_dump(mode="json"))
    return run


def _lines(line: int, epoch: float) -> list[Step]:
    wave = math.sin(line * line)  # as restless as a real loss
    where = {"step": 4 * line, "epoch": epoch, "seconds": float(line)}
    found = []
    if line:
        loss = 4 / (1 + epoch / 50) + 0.1 * wave
        found.append(Step(**where, training_loss=loss, learning_rate=1e-4 * (1 - line / LINES), logit_scale=50 + wave))
    if line * EPOCHS % LINES == 0:
        found.append(Step(**where, validation_loss=4 / (1 + epoch / 60), validation_top1=0.25 + epoch / (2 * EPOCHS)))
    return found


def _until_drawn(browser: Browser, address: str) -> float:
    """From the address to a curve in both charts, in a profile that has nothing of the app."""
    with browser.new_context() as context:
        page = context.new_page()
        began = time.perf_counter()
        page.goto(f"{address}/train")
        page.wait_for_function(CURVES_DRAWN, timeout=60_000)
        return time.perf_counter() - began


def _reading(run: Run) -> dict[str, float]:
    """Median seconds of reading all, of reading all once to keep it, and of one more line than is kept."""
    path = run.folder / "metrics.jsonl"
    metrics = [Metrics(path) for _ in range(ROUNDS)]
    last = run.steps()[-1].model_dump_json(exclude_none=True) + "\n"

    def one_more() -> None:
        with path.open("a") as file:
            file.write(last)
        metrics[0].read()

    numbers = {
        "all_lines": _median(run.steps),
        "all_lines_kept": median(_seconds(each.read) for each in metrics),
        "one_more_line": _median(one_more),
        "nothing_new": _median(metrics[0].read),
    }
    return {f"{name}_seconds": float(f"{value:.2g}") for name, value in numbers.items()}


def _median(call: Callable[[], object]) -> float:
    return median(_seconds(call) for _ in range(ROUNDS))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
