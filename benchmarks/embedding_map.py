"""What an embedding map costs: PCA and UMAP in seconds, and points in a browser.

    python -m benchmarks.embedding_map

Embeddings are made up: 13 clusters of unit rows, 512 numbers each. UMAP's first layout includes what numba compiles
anew in every process. Points are drawn by a headless Chromium, whose WebGL is software (SwiftShader) that shares the
cores with all else. No graphics card was tried: with one, the main thread's time is what is left of the limits here.

Panning is a drag of the mouse over the chart for `SECONDS`: frames are what the browser drew, moves what Plotly
answered with a redraw, the main thread's time is the processor's for the page itself (software WebGL works in another
process, and lets the page wait), and the longest wait is the time between two frames.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import plotly
from playwright.sync_api import CDPSession, Page, sync_playwright
from plotly.offline import get_plotlyjs

from benchmarks.machine import keep
from clipdemo.embeddings import unit_rows
from clipdemo.map_charts import Group, animated_figure, by_class, highlighted, hover_texts, map_figure
from clipdemo.progress import finish
from clipdemo.projection import Map, MapSettings, pca_map, umap_map, umap_version
from tools.serving import launch

CLASSES, DIM, SECONDS = 13, 512, 3
PCA_ROWS, UMAP_ROWS = (4096, 100_000), (1024, 4096, 10_000)
POINTS, ANIMATED = (1000, 10_000, 20_000, 100_000), (1000, 10_000)
COMMAND = "python -m benchmarks.embedding_map"
DRAW = """async figure => {
    const began = performance.now()
    const parsed = JSON.parse(figure)
    await Plotly.newPlot('chart', parsed.data, parsed.layout)
    if (parsed.frames) await Plotly.addFrames('chart', parsed.frames)
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
    return (performance.now() - began) / 1000
}"""
COUNT = """() => {
    window.frames_at = []
    window.moves = 0
    document.getElementById('chart').on('plotly_relayouting', () => window.moves++)
    const look = now => { window.frames_at.push(now); requestAnimationFrame(look) }
    requestAnimationFrame(look)
}"""
PLAY = """async duration => {
    const chart = document.getElementById('chart')
    const began = performance.now()
    await Plotly.animate(chart, null, {
        frame: {duration: duration, redraw: true}, transition: {duration: 0}, mode: 'immediate'
    })
    return (performance.now() - began) / 1000
}"""


def main() -> None:
    """PCA, UMAP, then the browser; what is done is printed as it comes."""
    result = {"umap": umap_version(), "plotly": plotly.__version__}
    result["pca_seconds"] = {n: _said(f"PCA of {n:,}", _pca_seconds(n)) for n in PCA_ROWS}
    result["umap_import_seconds"] = _said("import of UMAP", _import_seconds())
    result["umap_seconds"] = {
        f"{n}{', first in its process' if not place else ''}": _said(f"UMAP of {n:,}", _umap_seconds(n))
        for place, n in enumerate((UMAP_ROWS[0], *UMAP_ROWS))
    }
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        result["drawn"] = {n: _said(f"{n:,} points", _drawn(page, n)) for n in POINTS}
        result["animated"] = {n: _said(f"animation of {n:,} points", _animated(page, n)) for n in ANIMATED}
        browser.close()
    result["note"] = "headless Chromium with software WebGL; seconds of one run each"
    keep("embedding_map", COMMAND, result)


def _said(what: str, number: object) -> object:
    print(f"{what}: {number}", flush=True)
    return number


def embeddings(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures and texts about 13 centres, float32 rows of unit length, and each picture's centre."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    of = rng.integers(0, CLASSES, n)
    images = centres[of] + 1.5 * rng.normal(size=(n, DIM)).astype(np.float32)
    return unit_rows(images), unit_rows(centres), of


def _pca_seconds(n: int) -> float:
    images, texts, _ = embeddings(n)
    began = time.perf_counter()
    pca_map({"model": images}, {"model": texts})
    return round(time.perf_counter() - began, 2)


def _import_seconds() -> float:
    began = time.perf_counter()
    import umap  # noqa: F401

    return round(time.perf_counter() - began, 1)


def _umap_seconds(n: int) -> float:
    images, texts, _ = embeddings(n)
    began = time.perf_counter()
    finish(umap_map({"model": images}, {"model": texts}, MapSettings(method="umap")))
    return round(time.perf_counter() - began, 1)


# ---- in a browser


def _parts(n: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    of = rng.integers(0, CLASSES, n)
    centres = rng.uniform(-8, 8, (CLASSES, 2))
    images = {m: (centres[of] + rng.normal(size=(n, 2))).astype(np.float32) for m in ("base", "tuned")}
    texts = {m: centres.astype(np.float32) for m in images}
    labels = [f"Class {i}" for i in of]
    captions = ["a caption of usual length, as it is shown when the mouse rests on a point"] * n
    rows = pd.DataFrame({"label": labels, "split": "train", "caption": captions})
    return {
        "found": Map(MapSettings(), np.arange(n), images, texts, {}),
        "groups": by_class(labels),
        "hover": hover_texts(rows),
        "sentences": [f"Class {i}" for i in range(CLASSES)],
        "before": "base",
    }


def _open(page: Page, figure: object) -> dict[str, float]:
    page.set_content("<div id='chart' style='width: 1000px'></div>")
    page.add_script_tag(content=get_plotlyjs())
    text = figure.to_json()
    return {"megabytes": round(len(text) / 1e6, 1), "draw_seconds": round(page.evaluate(DRAW, text), 2)}


def _groupings(parts: dict[str, object]) -> dict[str, list[Group]]:
    """13 traces, or 2."""
    labels = [text.partition("</b>")[0].removeprefix("<b>") for text in parts["hover"]]
    return {"by class": parts["groups"], "one class": highlighted(labels, "Class 0")}


def _drawn(page: Page, n: int) -> dict[str, dict[str, float]]:
    parts, found = _parts(n), {}
    for name, groups in _groupings(parts).items():
        figure = map_figure(**parts | {"groups": groups}).update_layout(dragmode="pan")
        found[name] = _open(page, figure) | _panned(page)
    return found


def _panned(page: Page) -> dict[str, float]:
    box = page.locator(".nsewdrag").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.evaluate(COUNT)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.mouse.down()
    before = _busy_seconds(session)
    began, step = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        step += 1
        page.mouse.move(x + 80 * np.sin(step / 20), y + 60 * np.cos(step / 20))
    busy = _busy_seconds(session) - before
    at, moves = np.array(page.evaluate("window.frames_at")), page.evaluate("window.moves")
    page.mouse.up()
    seconds = float(at[-1] - at[0]) / 1000
    return {
        "frames_a_second": round(len(at) / seconds, 1),
        "moves_asked_a_second": round(step / seconds, 1),
        "moves_a_second": round(moves / seconds, 1),
        "main_thread_milliseconds_a_move": round(1000 * busy / max(moves, 1), 1),
        "longest_wait_milliseconds": round(float(np.diff(at).max())),
    }


def _busy_seconds(session: CDPSession) -> float:
    """That the page's main thread has worked so far; the drawing process's work is not in it."""
    return next(m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")


def _animated(page: Page, n: int) -> dict[str, dict[str, float]]:
    """Frames as fast as they can be drawn."""
    parts, found = _parts(n), {}
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    for name, groups in _groupings(parts).items():
        figure = animated_figure(**parts | {"groups": groups}, after="tuned", titles=("Base", "Tuned"))
        found[name] = _open(page, figure)
        before = _busy_seconds(session)
        seconds = page.evaluate(PLAY, 0)
        busy = _busy_seconds(session) - before
        found[name] |= {
            "frames": len(figure.frames),
            "frames_a_second": round(len(figure.frames) / seconds, 1),
            "main_thread_milliseconds_a_frame": round(1000 * busy / len(figure.frames)),
        }
    return found


if __name__ == "__main__":
    main()
