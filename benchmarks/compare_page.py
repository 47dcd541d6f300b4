"""Seconds until the Compare page can be used, section by section, and from a new sentence to its numbers.

    python -m benchmarks.compare_page

A section is opened by its address in a fresh browser profile, of a server that has just started (the first visitor) and
then once more in another profile (the next one). It is interactive when the page's script has ended and its controls
stand there, and complete when the section's own content does too: table, chart, pictures or button. "nothing" is the
same page in an empty workspace, which is the least that server and browser take. All predictions are made up; only the
prompt lab opens models, the built-in one and two more of its size. Server and Chromium share the machine;
`load_average` says how busy it was.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import typer
from playwright.sync_api import Browser, Page, expect, sync_playwright

from benchmarks.machine import keep
from clipdemo.comparison import compare, measure
from clipdemo.progress import finish
from clipdemo.records import MODES, Comparison, RunConfig
from clipdemo.sampling import Sample
from clipdemo.workspace import Workspace
from tests import workspace_factory as factory
from tools.serving import launch, served, settled

CHART = ".js-plotly-plot .main-svg"
CONTENT = {  # what a visitor came for
    "nothing": "text=There is no comparison yet",
    "board": "canvas",
    "classes": CHART,
    "confusion": CHART,
    "pictures": "[data-testid=stImage] img",
    "calibration": CHART,
    "worth": "button:has-text('Start the sweep')",
    "weights": "button:has-text('Measure the way')",
    "report": "button:has-text('Download the report')",
}
SIZES = {"3 models x 410 pictures": (3, 410), "10 models x 10,000 pictures": (10, 10_000)}
PATIENCE = 120_000  # milliseconds
ENDED = "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
COUNT_ENDS = """() => {  // a rerun may be over before anybody has looked whether it runs
    const app = document.querySelector('.stApp')
    window.ended = 0
    const look = () => { if (app.dataset.testScriptState === 'notRunning') window.ended += 1 }
    new MutationObserver(look).observe(app, {attributes: true, attributeFilter: ['data-test-script-state']})
}"""


def main(rounds: int = 5, edits: int = 7) -> None:
    """Measures the prompt lab, and every section with few and with many predictions; keeps what it has after each."""
    command = f"python -m benchmarks.compare_page --rounds {rounds} --edits {edits}"
    result: dict[str, object] = {}
    with sync_playwright() as playwright:
        browser = launch(playwright)
        browser.new_page().goto("about:blank")  # the browser's own start is not ours
        with tempfile.TemporaryDirectory() as folder:
            result["nothing"] = _section(browser, Workspace(Path(folder) / "workspace"), "", "nothing", rounds)
        result["prompt lab, 3 models x 410 pictures"] = _prompt_lab(browser, edits)
        for name, (models, pictures) in SIZES.items():
            with tempfile.TemporaryDirectory() as folder:
                workspace = Workspace(Path(folder) / "workspace")
                comparison = _made_up(workspace, models, pictures)
                result[name] = {
                    section: _section(
                        browser, workspace, f"?comparison={comparison.id}&section={section}", section, rounds
                    )
                    for section in CONTENT
                    if section != "nothing"
                }
            keep("compare_page", command, result)


# ---- sections


def _section(browser: Browser, workspace: Workspace, query: str, section: str, rounds: int) -> dict[str, object]:
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with served(workspace.root) as address:
            for visitor in ("first", "next"):
                interactive, complete = _opened(browser, f"{address}/compare{query}", CONTENT[section])
                found.setdefault(f"{visitor}_visitor_interactive_seconds", []).append(interactive)
                found.setdefault(f"{visitor}_visitor_complete_seconds", []).append(complete)
    row = {name: _summary(seconds) for name, seconds in found.items()}
    print(section, {name: value["median"] for name, value in row.items()}, flush=True)
    return row | {"load_average": round(os.getloadavg()[0], 1)}


def _opened(browser: Browser, address: str, content: str) -> tuple[float, float]:
    """Seconds until it is interactive, and until it is complete."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        began = time.perf_counter()
        page.goto(address, timeout=PATIENCE)
        # not `expect`, which looks again only after 100, 250, 500 milliseconds and every second
        page.locator("h1").first.wait_for(timeout=PATIENCE)
        page.wait_for_function(ENDED, timeout=PATIENCE)
        interactive = time.perf_counter() - began
        page.locator(content).first.wait_for(timeout=PATIENCE)
        return interactive, time.perf_counter() - began


def _summary(seconds: list[float]) -> dict[str, object]:
    return {"median": round(median(seconds), 2), "rounds": [round(value, 2) for value in seconds]}


def _made_up(workspace: Workspace, models: int, pictures: int) -> Comparison:
    """A comparison of a base model with runs of both kinds and several seeds, whose scores are drawn."""
    sample = factory.make_sample(workspace, sizes={"train": 36, "validation": 12, "test": pictures})
    made = [factory.make_evaluation(workspace, sample, "base", None, _scores(sample, 0, 0.05))]
    for i in range(models - 1):
        mode, seed = MODES[i % 2], i // 2
        run = factory.make_run(workspace, sample, RunConfig(mode=mode, seed=seed))
        scores = _scores(sample, i + 1, 0.1 + 0.05 * (i % 2))
        made.append(factory.make_evaluation(workspace, sample, mode, run, scores, key=f"{mode}-{seed}"))
    return compare(made, workspace)


def _scores(sample: Sample, seed: int, skill: float) -> np.ndarray:
    """Cosines of a model with some skill."""
    target = np.array([sample.classes.index(label) for label in sample.rows("test")["label"]])
    scores = np.random.default_rng(seed).normal(0.2, 0.1, (len(target), len(sample.classes)))
    scores[np.arange(len(target)), target] += skill
    return scores


# ---- the prompt lab


def _prompt_lab(browser: Browser, edits: int) -> dict[str, object]:
    """From opening the lab, and from each new sentence, to three models' numbers on validation pictures."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        sample = factory.make_sample(workspace, sizes={"train": 36, "validation": 410, "test": 410})
        runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES]
        comparison = finish(measure(sample, workspace, runs))
        with served(workspace.root) as address, browser.new_context() as context:
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"{address}/compare?comparison={comparison.id}&section=prompts", timeout=PATIENCE)
            expect(page.get_by_test_id("stTable").first).to_be_visible(timeout=PATIENCE)
            settled(page)
            opened = time.perf_counter() - began
            page.evaluate(COUNT_ENDS)
            seconds = [_edited(page, f"an image of type {i}: the {{label}}") for i in range(edits)]
    row = {"opened_seconds": round(opened, 2), "sentence_to_numbers_seconds": _summary(seconds)}
    print("prompt lab", row, flush=True)
    return row


def _edited(page: Page, sentence: str) -> float:
    """From the keys that end the editing to the end of the page's script, with a table there."""
    field = page.get_by_role("textbox", name="Sentences, one a line")
    field.fill(sentence)
    began = time.perf_counter()
    ended = page.evaluate("window.ended")
    field.press("ControlOrMeta+Enter")
    page.wait_for_function("ended => window.ended > ended", arg=ended, timeout=PATIENCE)
    expect(page.get_by_test_id("stTable").first).to_be_visible()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
