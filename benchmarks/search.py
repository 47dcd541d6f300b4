"""Kinds of index on half a million synthetic rows: recall, time a query, time to build, memory and disk.

    python -m benchmarks.search

Rows are float16 on disk, as embeddings are kept: clusters of about a hundred around centres of random direction, each
row half its centre and half noise (cosine about 0.5 within a cluster). Queries are new members of the clusters, and
"shifted" ones, which all lie to one side of the rows as a CLIP's texts do of its pictures. Each kind is built, then
opened in a process of its own, where it and the exact one answer the same queries in turns. Memory is what that
process has more after 200 queries than before it opened the index: "anonymous" it must have, "mapped" can be dropped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import typer

from benchmarks.machine import keep, peak_bytes
from clipdemo import search
from clipdemo.embeddings import unit_rows
from clipdemo.progress import finish
from clipdemo.workspace import Workspace

DIM, A_CLUSTER, QUERIES = 512, 100, 200
EXACT_SIZES = (4096, 16_384, 65_536)
SPREAD_ROWS, SPREAD_DIMENSIONS = 65_536, 16


def _unit(rng: np.random.Generator, n: int) -> np.ndarray:
    return unit_rows(rng.standard_normal((n, DIM), np.float32))


def _make(folder: Path, n: int) -> None:
    """rows.npy, queries.npy and shifted.npy."""
    rng = np.random.default_rng(0)
    centres = _unit(rng, max(1, n // A_CLUSTER))
    rows = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float16, (n, DIM))
    members = lambda many: unit_rows(centres[rng.integers(0, len(centres), many)] + _unit(rng, many))  # noqa: E731
    for first in range(0, n, 16_384):
        rows[first : first + 16_384] = members(min(16_384, n - first))
    rows.flush()
    np.save(folder / "queries.npy", members(search.PROBES + QUERIES))
    np.save(folder / "shifted.npy", unit_rows(members(search.PROBES + QUERIES) + _unit(rng, 1)))


def _rows(folder: Path) -> np.ndarray:
    return np.load(folder / "rows.npy", mmap_mode="r")


def _memory() -> dict[str, int]:
    """Megabytes of this process that are its own, and that are pages of files."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    size = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"anonymous": size["Anonymous"] >> 10, "mapped": (size["Rss"] - size["Anonymous"]) >> 10}


def _milliseconds(index: search.Index, query: np.ndarray) -> float:
    began = time.perf_counter()
    index.search(query[None], search.RECALL_DEPTH)
    return 1000 * (time.perf_counter() - began)


def _build(folder: Path, kind: search.Kind) -> dict[str, object]:
    rows, shifted = _rows(folder), np.load(folder / "shifted.npy")[: search.PROBES]
    index = finish(search.index_of(rows, Workspace(folder), kind, {"shifted": shifted}, kind))
    card = index.card
    return {
        "build_seconds": round(card.seconds, 1),
        "build_peak_megabytes": peak_bytes() >> 20,
        "file_megabytes": card.bytes >> 20,
        "effort": card.effort,
        "recall_when_built": {name: round(value, 4) for name, value in card.recall.items()},
    }


def _measure(folder: Path, kind: search.Kind) -> dict[str, object]:
    """An index just opened, beside the exact one: memory, recall at 10 of new queries, percentiles of milliseconds."""
    rows, place = _rows(folder), Workspace(folder)
    sorts = {name: np.load(folder / f"{name}.npy")[search.PROBES :] for name in ("queries", "shifted")}
    search.rows_digest(rows)
    finish(search.build_index(rows[:500].copy())).search(sorts["queries"], 1)  # FAISS itself is not the index's memory
    before = _memory()
    began = time.perf_counter()
    index = finish(search.index_of(rows, place, kind, kind=kind))
    opened = time.perf_counter() - began
    for query in sorts["queries"]:
        index.search(query[None], search.RECALL_DEPTH)
    memory = {name: value - before[name] for name, value in _memory().items()}
    exact = finish(search.index_of(rows, place, "exact", kind="exact"))
    result: dict[str, object] = {"open_seconds": round(opened, 2), "megabytes": memory}
    for name, queries in sorts.items():
        depth = search.RECALL_DEPTH
        exact_ms, ms = zip(*((_milliseconds(exact, q), _milliseconds(index, q)) for q in queries), strict=True)
        found, truth = index.search(queries, depth)[1], exact.search(queries, depth)[1]
        shared = [len(np.intersect1d(a, b)) / depth for a, b in zip(found, truth, strict=True)]
        result[name] = {
            "recall_at_10": round(float(np.mean(shared)), 4),
            "p50_ms": round(float(np.median(ms)), 3),
            "p95_ms": round(float(np.percentile(ms, 95)), 3),
            "exact_p50_ms": round(float(np.median(exact_ms)), 3),
            "times_as_fast": round(float(np.median(exact_ms) / np.median(ms)), 1),
        }
    return result


def _small(folder: Path, kind: str) -> dict[str, float]:
    """Median milliseconds of an exact search by number of rows, which `EXACT_BYTES` was chosen by."""
    queries = np.load(folder / "queries.npy")[:QUERIES]
    found = {}
    for n in EXACT_SIZES:
        index = finish(search.build_index(_rows(folder)[:n], kind="exact"))
        found[str(n)] = round(float(np.median([_milliseconds(index, query) for query in queries])), 3)
    return found


def _spread(folder: Path, kind: search.Kind) -> dict[str, object]:
    """A kind on rows without clusters, on a smooth surface of few dimensions, which `lists_pay` is there for."""
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((SPREAD_ROWS + QUERIES, SPREAD_DIMENSIONS), np.float32)
    first, second = (rng.standard_normal(size, np.float32) for size in ((SPREAD_DIMENSIONS, 64), (64, DIM)))
    points = unit_rows(np.tanh(hidden @ first / SPREAD_DIMENSIONS**0.5) @ second)
    index = finish(search.build_index(points[QUERIES:].astype(np.float16), kind=kind))
    return {
        "build_seconds": round(index.card.seconds, 1),
        "effort": index.card.effort,
        "recall_when_built": {name: round(value, 4) for name, value in index.card.recall.items()},
        "p50_ms": round(float(np.median([_milliseconds(index, query) for query in points[:QUERIES]])), 3),
        "lists_pay": search.lists_pay(index.card) if kind == "ivf" else None,
    }


STAGES = {"build": _build, "measure": _measure, "small": _small, "spread": _spread}


def _apart(folder: str, stage: str, kind: str) -> dict:
    """What a stage finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.search", "--stage", f"{stage}:{kind}:{folder}"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
    print(stage, kind, out, flush=True)
    return json.loads(out)


def main(rows: int = 500_000, stage: str = typer.Option("", hidden=True)) -> None:
    """Build, measure, keep."""
    if stage:
        name, kind, folder = stage.split(":", 2)
        print(json.dumps(STAGES[name](Path(folder), kind)))
        return
    with tempfile.TemporaryDirectory(prefix="clipdemo-search-") as folder:
        _make(Path(folder), rows)
        kinds = {kind: _apart(folder, "build", kind) for kind in ("exact", "ivf", "hnsw")}
        for kind in kinds:
            kinds[kind] |= _apart(folder, "measure", kind)
        result = {
            "rows": rows,
            "dim": DIM,
            "kinds": kinds,
            "exact_p50_ms_by_rows": _apart(folder, "small", "exact"),
            "without_clusters": {kind: _apart(folder, "spread", kind) for kind in ("exact", "ivf", "hnsw")},
        }
    if rows == 500_000:
        keep("search", "python -m benchmarks.search", result)


if __name__ == "__main__":
    typer.run(main)
