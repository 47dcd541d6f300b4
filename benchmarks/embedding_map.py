"""What an embedding map costs: PCA and UMAP in seconds, and points in a browser.

    python -m benchmarks.embedding_map            # all of it
    python -m benchmarks.embedding_map --browser  # the browser only; PCA and UMAP stay as they were measured

Embeddings are made up: 13 clusters of unit rows, 512 numbers each. UMAP's first layout includes what numba compiles
anew in every process. Points are drawn in a Streamlit page of their own by a headless Chromium without a graphics card:
as pixels of one image (`assets/map.js`, which the Explore page shows) and by `st.echarts_chart` (Canvas 2D, with the
settings that make it fastest: large mode, no pause between two moves). What Plotly's WebGL needed when the page drew
with it is kept from an earlier run: there, software WebGL (SwiftShader) shared the cores with all else.

Panning is a drag of the mouse over the chart for `SECONDS`, and playing is the way from one model to the next. Frames
are what the browser drew, moves those in which the points were drawn anew (asking for a move is not drawing it: ECharts
answers any number of moves within 100 milliseconds with one drawing unless it is told not to), the main thread's time
is the processor's for the page, and the longest wait is the time between two drawings. Seconds until drawn are from the
address to the first drawing, megabytes what came over the socket, the page's own among it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.machine import RESULTS, keep, machine
from clipdemo.embeddings import unit_rows
from clipdemo.map_charts import Group, by_class, highlighted, hover_of, map_data
from clipdemo.progress import finish
from clipdemo.projection import Map, MapSettings, pca_map, umap_map, umap_version
from tools.serving import ROOT, healthy, launch

CLASSES, DIM, SECONDS = 13, 512, 3
PCA_ROWS, UMAP_ROWS = (4096, 100_000), (1024, 4096, 10_000)
POINTS, ANIMATED = (1000, 10_000, 20_000, 100_000), (1000, 10_000, 100_000)
COLOURINGS = ("by class", "one class")  # 13 groups, or 2
COMMAND = "python -m benchmarks.embedding_map"
COUNT = """(() => {
    window.drawn_at = []
    window.frames_at = []
    let fresh = false
    const context = CanvasRenderingContext2D.prototype
    for (const name of ['putImageData', 'clearRect']) {  // with which one chart or the other begins to draw
        const draw = context[name]
        context[name] = function (...given) { fresh = true; return draw.apply(this, given) }
    }
    const look = now => {
        window.frames_at.push(now)
        if (fresh) window.drawn_at.push(now)
        fresh = false
        requestAnimationFrame(look)
    }
    requestAnimationFrame(look)
})()"""
FORGET = "() => { window.drawn_at = []; window.frames_at = [] }"
CHARTS = {"pixels": ".map .field canvas", "echarts": "[data-testid=stEChartsChart][aria-busy=false] canvas"}


def main() -> None:
    """PCA, UMAP, then the browser; what is done is printed as it comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser", action="store_true", help="leave PCA and UMAP as they were measured")
    path = RESULTS / "embedding_map.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    result = {name: before[name] for name in PROJECTED} if parser.parse_args().browser else _projected()
    result["plotly_webgl"] = before.get("plotly_webgl")
    result["load_before"] = [round(load, 1) for load in os.getloadavg()]
    with _served() as address, sync_playwright() as playwright:
        browser = launch(playwright)
        for chart in CHARTS:
            asked = {"drawn": POINTS, "animated": ANIMATED if chart == "pixels" else ANIMATED[:2]}
            result[chart] = {
                kind: {n: _said(f"{chart}, {n:,} points {kind}", _looks(browser, address, chart, n, kind)) for n in of}
                for kind, of in asked.items()
            }
        browser.close()
    result["load_after"] = [round(load, 1) for load in os.getloadavg()]
    result["note"] = (
        "headless Chromium without a graphics card; seconds of one run each; the load is of the last 1, 5 and 15 "
        "minutes, and others worked on the same cores; plotly_webgl is kept from when the page drew with it, and so "
        "are PCA and UMAP where --browser was given: projected_on is what they were measured on"
    )
    keep("embedding_map", COMMAND, result)


PROJECTED = ("umap", "pca_seconds", "umap_import_seconds", "umap_seconds", "projected_on")


def _projected() -> dict[str, object]:
    result = {"umap": umap_version(), "projected_on": machine()["processor"]}
    result["pca_seconds"] = {n: _said(f"PCA of {n:,}", _pca_seconds(n)) for n in PCA_ROWS}
    result["umap_import_seconds"] = _said("import of UMAP", _import_seconds())
    result["umap_seconds"] = {
        f"{n}{', first in its process' if not place else ''}": _said(f"UMAP of {n:,}", _umap_seconds(n))
        for place, n in enumerate((UMAP_ROWS[0], *UMAP_ROWS))
    }
    return result


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


# ---- the page that is measured


def page() -> None:
    """A chart alone: its kind, number of points, colours and whether it moves are in the address."""
    asked = st.query_params
    n, moves = int(asked["n"]), asked["kind"] == "animated"
    found, groups, rows = _parts(n, asked["colours"])
    if asked["chart"] == "echarts":
        st.echarts_chart(_option(found, groups, rows, moves), height=620, key="chart")
        return
    from clipdemo.ui.explore.map import point_map

    titles, ends = {"base": "Base", "tuned": "Tuned"}, ("base", "tuned" if moves else None)
    sentences = [f"Class {i}" for i in range(CLASSES)]
    data = map_data(found, groups, hover_of(rows), sentences, titles, *ends)
    point_map(data=data, key="chart", on_brush_change=lambda: None)


def _parts(n: int, colours: str) -> tuple[Map, list[Group], pd.DataFrame]:
    rng = np.random.default_rng(0)
    of = rng.integers(0, CLASSES, n)
    centres = rng.uniform(-8, 8, (CLASSES, 2))
    images = {m: (centres[of] + rng.normal(size=(n, 2))).astype(np.float32) for m in ("base", "tuned")}
    texts = {m: centres.astype(np.float32) for m in images}
    labels = [f"Class {i}" for i in of]
    captions = [
        f"a caption of usual length, as it is shown when the mouse rests on point {i} of them" for i in range(n)
    ]
    rows = pd.DataFrame({"label": labels, "split": "train", "caption": captions})
    groups = by_class(labels) if colours == "by class" else highlighted(labels, "Class 0")
    return Map(MapSettings(), np.arange(n), images, texts, {}), groups, rows


def _option(found: Map, groups: list[Group], rows: pd.DataFrame, moves: bool) -> dict[str, object]:
    """The same points as an ECharts option, with the zoom inside and a hover; a timeline where they move."""
    base, tuned = found.images["base"], found.images["tuned"]
    frame = pd.DataFrame({"x": base[:, 0], "y": base[:, 1], "u": tuned[:, 0], "v": tuned[:, 1]})
    frame = frame.assign(group=0, what=rows["label"] + ", train", caption=rows["caption"])
    for number, group in enumerate(groups):
        frame.loc[group.places, "group"] = number
    picked = [{"transform": {"type": "filter", "config": {"dimension": "group", "=": i}}} for i in range(len(groups))]
    series = [
        {
            "name": group.name, "type": "scatter", "datasetIndex": i + 1, "encode": {"x": "x", "y": "y"},
            "symbolSize": group.size, "itemStyle": {"color": group.colour, "opacity": group.opacity},
            "large": not moves, "largeThreshold": 0, "progressive": 0, "progressiveThreshold": 10**7,
        }
        for i, group in enumerate(groups)
    ]  # fmt: skip
    axis = {"min": -12, "max": 12, "show": False}
    option = {
        "dataset": [{"source": frame}, *picked], "series": series, "xAxis": axis, "yAxis": axis, "legend": {},
        "tooltip": {"formatter": "<b>{@what}</b><div>{@caption}</div>"}, "animation": moves,
        "dataZoom": [
            {"type": "inside", f"{way}AxisIndex": 0, "filterMode": "none", "throttle": 0, "start": 25, "end": 75}
            for way in "xy"
        ],
    }  # fmt: skip
    if not moves:
        return option
    option |= {"animationThreshold": 10**7, "animationDuration": 0, "animationDurationUpdate": 1600}
    option["timeline"] = {"axisType": "category", "data": ["Base", "Tuned"], "playInterval": 1000, "loop": False}
    ends = [{"series": [{"encode": {"x": x, "y": y}} for _ in groups]} for x, y in ("xy", "uv")]
    return {"baseOption": option, "options": ends}


# ---- in a browser


@contextmanager
def _served() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "alone.py"
        script.write_text("from benchmarks.embedding_map import page\n\npage()\n")
        command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
        command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
        paths = os.environ | {"PYTHONPATH": str(ROOT)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=ROOT, env=paths, **quiet)
        try:
            if not healthy(process, f"http://127.0.0.1:{port}"):
                raise RuntimeError("the page's server did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _looks(browser: Browser, address: str, chart: str, n: int, kind: str) -> dict[str, dict[str, float]]:
    found = {}
    for colours in COLOURINGS:
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.add_init_script(COUNT)
        found[colours] = _opened(page, f"{address}/?chart={chart}&n={n}&kind={kind}&colours={colours}", CHARTS[chart])
        found[colours] |= _panned(page, CHARTS[chart]) if kind == "drawn" else _played(page, chart)
        page.close()
    return found


def _opened(page: Page, address: str, chart: str) -> dict[str, float]:
    received = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    began = time.monotonic()
    page.goto(address)
    page.locator(chart).first.wait_for(timeout=120_000)
    page.wait_for_function("window.drawn_at.length > 0", timeout=120_000)
    seconds = time.monotonic() - began
    return {"megabytes": round(sum(received) / 1e6, 1), "seconds_until_drawn": round(seconds, 2)}


def _panned(page: Page, chart: str) -> dict[str, float]:
    page.wait_for_timeout(1500)  # what a page has to do after its first drawing is not the drag's
    box = page.locator(chart).first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(FORGET)
    before, began, step = _busy_seconds(session), time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        step += 1
        page.mouse.move(x + 80 * np.sin(step / 20), y + 60 * np.cos(step / 20))
    busy, seconds = _busy_seconds(session) - before, time.monotonic() - began
    drawn, frames = page.evaluate("[window.drawn_at, window.frames_at]")
    page.mouse.up()
    return {
        "frames_a_second": round(len(frames) / seconds, 1),
        "moves_asked_a_second": round(step / seconds, 1),
        "moves_a_second": round(len(drawn) / seconds, 1),
        "main_thread_milliseconds_a_move": round(1000 * busy / max(len(drawn), 1), 1),
        "longest_wait_milliseconds": round(float(np.diff(drawn).max())) if len(drawn) > 1 else None,
    }


def _played(page: Page, chart: str) -> dict[str, float]:
    """Frames from the first to the last in which points moved."""
    page.wait_for_timeout(1500)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.evaluate(FORGET)
    before = _busy_seconds(session)
    if chart == "pixels":
        page.get_by_role("button", name="Play").click()
    else:
        box = page.locator(CHARTS[chart]).first.bounding_box()  # its button is a part of its picture
        page.mouse.click(box["x"] + box["width"] / 2 - 184, box["y"] + box["height"] - 42)
    page.wait_for_timeout(4000)
    busy, drawn = _busy_seconds(session) - before, np.array(page.evaluate("window.drawn_at"))
    waits = np.diff(drawn)
    waits = waits[waits < 800]  # ECharts waits between its button and its first step
    return {
        "frames": len(drawn),
        "frames_a_second": round(1000 * len(waits) / float(waits.sum()), 1) if len(waits) else 0.0,
        "main_thread_milliseconds_a_frame": round(1000 * busy / max(len(drawn), 1), 1),
        "longest_wait_milliseconds": round(float(waits.max())) if len(waits) else None,
    }


def _busy_seconds(session: CDPSession) -> float:
    """That the page's main thread has worked so far; the drawing process's work is not in it."""
    return next(m["value"] for m in session.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
