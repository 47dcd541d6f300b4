"""Seconds until the Explore page can be used, and from a click on it to new neighbours, with three models.

    python -m benchmarks.explore_page

The page is opened in a fresh browser profile, of a server that has just started (the first visitor) and then once more
in another profile (the next one). It is interactive when its script has ended and its buttons stand there, and complete
when all pictures are drawn. A click takes until the counter and the rows of pictures are those of another picture, all
of them drawn, and the script has ended; words take from Enter to other pictures. Both moments are read from the
browser's own clock, so nothing that drives it counts. Server and Chromium share the machine; `load_average` says how
busy it was.

Nothing is trained or encoded. Pictures and captions are those of a real sample of 4,096; more rows repeat its pictures
under captions and ids of their own. The base is the built-in model turned into a space of `--width` dimensions, so
words are encoded for real; embeddings of pictures and captions are made up: clusters of about a hundred, others for
each model. Indexes over them are the real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
import typer
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.machine import keep
from clipdemo.embeddings import embeddings_id, model_id, rows_digest, texts_id, unit_rows
from clipdemo.evaluation import distinct
from clipdemo.models import BUILT_IN_FOLDER, Clip, open_model
from clipdemo.neighbours import neighbourhood
from clipdemo.progress import finish
from clipdemo.records import MODES, SPLITS, CleaningReport, RunConfig, SampleConfig
from clipdemo.sampling import Sample, content_hash, draw_sample, load_sample, sample_id
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, read_json, write_json
from tests import workspace_factory as factory
from tools.serving import launch, process_of, served, used_by

PICTURES, ROWS, WIDTH = 4096, 500_000, 512
ROUNDS, WARM_UPS, CLICKS = 3, 3, 15
A_CLUSTER, BLOCK = 100, 16_384
SCATTER = 0.7  # of a picture beside its cluster's centre of length 1: a cosine of about 0.67 within it
NOISE, ASIDE = 0.25, 0.75  # of a caption beside its picture of length 1
PATIENCE = 300_000  # milliseconds
SHOWN = 24  # near pictures of three models

FINDINGS = ("fracture", "a bright mass", "unremarkable appearances", "an effusion", "calcification", "oedema")
PARTS = ("the ankle", "the chest", "the brain", "the abdomen", "the retina", "the breast")
WORDS = [f"{finding} of {part}" for finding, part in product(FINDINGS, PARTS)]

WATCH = """() => {
    const app = document.querySelector('.stApp'), main = document.querySelector('[data-testid=stMain]')
    window.shown = () => {
        const images = [...main.querySelectorAll('[data-testid=stImage] img')]
        return {
            counter: main.textContent.match(/[\\d,]+ of [\\d,]+ pictures/)?.[0] ?? '',
            pictures: images.map(image => image.src + image.alt).join(' '),
            count: images.length,
            drawn: images.every(image => image.complete && image.naturalWidth),
        }
    }
    window.asked = window.ended = 0
    const note = () => { window.asked = performance.now(); window.before = window.shown() }
    addEventListener('click', note, {capture: true})
    addEventListener('keydown', event => { if (event.key === 'Enter') note() }, {capture: true})
    // a rerun may be over before anybody has looked whether it runs
    const look = () => { if (app.dataset.testScriptState === 'notRunning') window.ended = performance.now() }
    new MutationObserver(look).observe(app, {attributes: true, attributeFilter: ['data-test-script-state']})
}"""
# Seconds since what was asked, once it is there; -1 where the script has ended and the same is shown a second later.
ANSWERED = """([count, counted]) => {
    const now = performance.now()
    if (window.ended <= window.asked || document.querySelector('.stApp').dataset.testScriptState !== 'notRunning')
        return false
    const is = window.shown(), was = window.before
    if (is.pictures !== was.pictures && is.count >= count && is.drawn && (!counted || is.counter !== was.counter))
        return (now - window.asked) / 1000
    return is.pictures === was.pictures && now - window.ended > 1000 ? -1 : false
}"""
ENDED = "() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'"
DRAWN = """count => {
    const images = [...document.querySelectorAll('[data-testid=stImage] img')]
    return images.length >= count && images.every(image => image.complete && image.naturalWidth)
}"""


def main(
    rows: int = ROWS,
    width: int = WIDTH,
    rounds: int = ROUNDS,
    clicks: int = CLICKS,
    prepare: str = typer.Option("", hidden=True),
) -> None:
    """Measures the page on a small and on a large sample; keeps the numbers of the usual sizes only."""
    if prepare:
        print(json.dumps(_prepared(Workspace(prepare), rows, width)))
        return
    result: dict[str, object] = {"width": width}
    with sync_playwright() as playwright:
        browser = launch(playwright)
        browser.new_page().goto("about:blank")  # the browser's own start is not ours
        for n in dict.fromkeys((PICTURES, rows)):
            with tempfile.TemporaryDirectory(prefix="clipdemo-explore-") as folder:
                root = Path(folder) / "workspace"
                made = _prepared_apart(root, n, width)
                result[f"3 models x {n:,} pictures"] = made | _measured(browser, root, made["sample"], rounds, clicks)
    if (rows, width, rounds, clicks) == (ROWS, WIDTH, ROUNDS, CLICKS):
        keep("explore_page", "python -m benchmarks.explore_page", result)


# ---- what a visitor waits for


def _measured(browser: Browser, root: Path, sample: str, rounds: int, clicks: int) -> dict[str, object]:
    """Seconds of opening the page by visitor, then of clicks in the last server, and its memory after these."""
    found: dict[str, list[float]] = {}
    for round_ in range(rounds):
        with served(root) as address:
            url = f"{address}/explore?sample={sample}"
            for visitor in ("first", "next"):
                with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
                    interactive, complete = _opened(context.new_page(), url)
                found.setdefault(f"{visitor}_visitor_interactive_seconds", []).append(interactive)
                found.setdefault(f"{visitor}_visitor_complete_seconds", []).append(complete)
            if round_ == rounds - 1:
                with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
                    clicked = _clicked(context, url, clicks)
                memory = _megabytes(process_of(address))
    row = {name: _summary(seconds) for name, seconds in (found | clicked).items()}
    print(sample, {name: (value["median"], value["worst"]) for name, value in row.items()}, memory, flush=True)
    return row | {"server_megabytes": memory, "load_average": round(os.getloadavg()[0], 1)}


def _opened(page: Page, url: str) -> tuple[float, float]:
    """Seconds until it is interactive, and until it is complete."""
    began = time.perf_counter()
    page.goto(url, timeout=PATIENCE)
    # not `expect`, which looks again only after 100, 250, 500 milliseconds and every second
    page.get_by_role("button", name="Next").wait_for(timeout=PATIENCE)
    page.wait_for_function(ENDED, timeout=PATIENCE)
    interactive = time.perf_counter() - began
    page.wait_for_function(DRAWN, arg=SHOWN, timeout=PATIENCE)
    return interactive, time.perf_counter() - began


def _clicked(context: BrowserContext, url: str, clicks: int) -> dict[str, list[float]]:
    """Seconds of each click, or sentence, after the warm-ups."""
    page = context.new_page()
    _opened(page, url)
    page.evaluate(WATCH)
    found = {}
    for name in ("Next", "Random"):
        button = page.get_by_role("button", name=name)
        found[f"{name.lower()}_seconds"] = _answers(page, button.click, clicks, counted=True)
    page.goto(f"{url}&section=words", timeout=PATIENCE)
    field, words = page.get_by_role("textbox", name="Words"), iter(WORDS)
    field.wait_for(timeout=PATIENCE)
    page.wait_for_function(ENDED, timeout=PATIENCE)
    page.evaluate(WATCH)

    def enter() -> None:
        field.fill(next(words))
        field.press("Enter")

    return found | {"words_seconds": _answers(page, enter, clicks, counted=False)}


def _answers(page: Page, ask: Callable[[], None], clicks: int, counted: bool) -> list[float]:
    """Seconds from asking to what was asked for; what leads back to the same, as chance may, is asked again."""
    seconds: list[float] = []
    while len(seconds) < WARM_UPS + clicks:
        ask()
        answer = page.wait_for_function(ANSWERED, arg=[SHOWN, counted], timeout=PATIENCE).json_value()
        if answer > 0:
            seconds.append(answer)
    return seconds[WARM_UPS:]


def _summary(seconds: list[float]) -> dict[str, object]:
    rounds = [round(value, 3) for value in seconds]
    return {"median": round(median(seconds), 3), "worst": max(rounds), "rounds": rounds}


def _megabytes(server: psutil.Process) -> dict[str, int]:
    """What the server holds, and how much of it is not pages of files, which the system may take back."""
    held = server.memory_info()
    return {"all": used_by(server)[0] >> 20, "its_own": (held.rss - held.shared) >> 20}


# ---- what is made up


def _prepared_apart(root: Path, rows: int, width: int) -> dict[str, object]:
    """What `_prepared` says, in a process of its own, so that none of its memory is this one's."""
    command = [sys.executable, "-m", "benchmarks.explore_page", "--prepare", str(root)]
    command += ["--rows", str(rows), "--width", str(width)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
    print(out, flush=True)
    return json.loads(out)


def _prepared(workspace: Workspace, rows: int, width: int) -> dict[str, object]:
    """A sample, two runs on it, and all three models' embeddings and indexes."""
    began = time.perf_counter()
    sample = finish(draw_sample(SampleConfig(samples=min(rows, PICTURES)), workspace))
    if rows > len(sample.manifest):
        sample = _widened(workspace, sample, rows)
    base = f"local-dir:{_turned_base(workspace.root.parent / 'base', width)}"
    runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode, base=base)) for mode in MODES]
    kinds = [_looked_at(workspace, sample, run, base, seed) for seed, run in enumerate((None, *runs))]
    return {"sample": sample.id, "indexes": kinds, "prepared_seconds": round(time.perf_counter() - began)}


def _widened(workspace: Workspace, drawn: Sample, rows: int) -> Sample:
    """A sample of so many rows in the place of another whose pictures it repeats, each time with another caption."""
    config = drawn.config.model_copy(update={"samples": rows})
    counts = {split: round(rows * getattr(config, split)) for split in SPLITS[1:]}
    counts = {SPLITS[0]: rows - sum(counts.values())} | counts
    manifest = drawn.manifest.iloc[
        np.concatenate([np.resize(drawn.rows(split).index, n) for split, n in counts.items()])
    ].reset_index(drop=True)
    number = pd.Series(np.arange(rows)).astype(str).str.zfill(7)
    manifest["id"], manifest["group"] = "phantom_" + number, "case_" + number
    manifest["caption"] += " Case " + number + "."
    classes = {split: manifest["label"][manifest["split"] == split].value_counts().to_dict() for split in SPLITS}
    report = CleaningReport(
        rows=rows,
        dropped=[],
        sampled=rows,
        not_drawn=0,
        relabelled=0,
        source_classes=manifest["label"].value_counts().to_dict(),
        split_classes=classes,
    )
    meta = read_json(drawn.folder / "sample.json") | {
        "config": config.model_dump(mode="json"),
        "content_hash": content_hash(manifest),
        "report": report.model_dump(mode="json"),
    }
    with workspace.new_folder("samples", sample_id(config)) as folder:
        shutil.copytree(drawn.folder / "images", folder / "images")
        manifest.to_parquet(folder / "manifest.parquet")
        write_json(folder / "sample.json", meta)
    workspace.delete("samples", drawn.id)
    return load_sample(workspace, sample_id(config))


def _turned_base(folder: Path, width: int) -> Path:
    """The built-in model with its features turned into a space of more dimensions, where all cosines stay."""
    from safetensors.torch import load_file, save_file
    from torch import from_numpy

    told = read_json(BUILT_IN_FOLDER / "open_clip_config.json")
    narrow, told["model_cfg"]["embed_dim"] = told["model_cfg"]["embed_dim"], width
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((width, narrow)))[0].T.astype(np.float32)
    weights = load_file(BUILT_IN_FOLDER / "open_clip_model.safetensors")
    for name in ("visual.proj", "text_projection"):
        weights[name] = weights[name].float() @ from_numpy(turn.copy())
    folder.mkdir(exist_ok=True)
    write_json(folder / "open_clip_config.json", told)
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def _looked_at(workspace: Workspace, sample: Sample, run: Run | None, base: str, seed: int) -> dict[str, str]:
    """Kinds of a model's two indexes, over embeddings that nobody has computed."""
    clip, model = open_model(base, run.weights if run else None), model_id(run, base)
    captions, text_of = distinct(sample.manifest["caption"].tolist())
    pictures = _keep_rows(
        workspace, embeddings_id(model, clip, sample, "all"), "images.npy", _picture_rows(clip, len(text_of), seed)
    )
    first = np.unique(text_of, return_index=True)[1]
    _keep_rows(workspace, texts_id(model, clip, captions), "texts.npy", _caption_rows(pictures[first], seed))
    space = finish(neighbourhood(clip, model, sample, workspace))
    return {"pictures": space.pictures.card.kind, "captions": space.texts.card.kind}


def _keep_rows(workspace: Workspace, name: str, file: str, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """Unit float16 rows, written where `embeddings` looks for what it has encoded."""
    rows = np.concatenate([block.astype(np.float16) for block in blocks])
    with workspace.new_folder("embeddings", name) as folder:
        np.save(folder / file, rows)
        write_json(folder / "embeddings.json", {"rows": len(rows), "digest": rows_digest(rows)})
    return rows


def _picture_rows(clip: Clip, n: int, seed: int) -> Iterator[np.ndarray]:
    """Members of clusters round centres of random direction. Which cluster each is in, all models agree upon."""
    width = clip.network.visual.output_dim
    cluster = np.random.default_rng(0).integers(0, max(1, n // A_CLUSTER), n)
    rng = np.random.default_rng(seed)
    centres = _unit(rng, cluster.max() + 1, width)
    for first in range(0, n, BLOCK):
        here = cluster[first : first + BLOCK]
        yield unit_rows(centres[here] + SCATTER * _unit(rng, len(here), width))


def _caption_rows(pictures: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Captions: close to their pictures, and all to one side as CLIP's texts are."""
    rng = np.random.default_rng(100 + seed)
    side = _unit(rng, 1, pictures.shape[1])
    for first in range(0, len(pictures), BLOCK):
        block = unit_rows(pictures[first : first + BLOCK])
        yield unit_rows(block + NOISE * _unit(rng, *block.shape) + ASIDE * side)


def _unit(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    return unit_rows(rng.standard_normal((n, width), np.float32))


if __name__ == "__main__":
    typer.run(main)
