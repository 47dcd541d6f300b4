"""Whether a training step costs more, in time or memory, when the sample is larger: 4 k, 64 k and 512 k rows.

    python -m benchmarks.scale

The rows are synthetic (noise, real captions over and over) and lie in the same files as a sample's: pictures and tokens
mapped from disk, 8 GB of them at 512 k rows. Steps of the three sizes take turns in one process each, so that each has
its own memory; anonymous memory is what the process really holds, pages of mapped files can be dropped at any time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import typer

from benchmarks.machine import keep

SIZES = (4096, 65_536, 524_288)
STEPS, BATCH, ROUNDS = 20, 64, 3


def _files(folder: Path) -> None:
    """The files of the largest size; the smaller ones are their first rows."""
    rng, n = np.random.default_rng(0), SIZES[-1]
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (n, 72, 72, 3))
    for i in range(0, n, 8192):
        pixels[i : i + 8192] = rng.integers(0, 256, (8192, 72, 72, 3), dtype=np.uint8)
    pixels.flush()
    from benchmarks.engine import make_clip, make_pairs

    few = make_pairs(make_clip("builtin"), "captions", 8192)
    tokens = np.lib.format.open_memmap(folder / "tokens.npy", "w+", np.int32, (n, few.captions.shape[1]))
    for i in range(0, n, 8192):
        tokens[i : i + 8192] = few.captions
    tokens.flush()


def _steps(folder: Path, n: int) -> None:
    """Prints median seconds of a step, seconds before the first one and anonymous megabytes after all of them."""
    from benchmarks.engine import Engine, make_clip, make_pairs
    from clipdemo import machine
    from clipdemo.training.schedule import batches

    machine.prepare_cpu()
    began = time.perf_counter()
    clip = make_clip("builtin")
    pairs = make_pairs(clip, "captions", 8)
    pairs.pixels = np.load(folder / "pixels.npy", mmap_mode="r")[:n]
    pairs.captions = np.load(folder / "tokens.npy", mmap_mode="r")[:n]
    pairs.classes = np.zeros(n, dtype=np.int64)
    engine, seconds = Engine(clip, pairs), []
    order = batches(n, BATCH, 0, 1)[: STEPS + 3]
    started = time.perf_counter() - began
    last = time.perf_counter()
    for _, batch in pairs.batches(np.sort(rows) for rows in order):
        engine.step(batch)
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    anonymous = next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
    print(json.dumps({"step": median(seconds[3:]), "start": started, "megabytes": anonymous >> 10}))


def main(measure: str = typer.Option("", hidden=True)) -> None:
    """Measure, tabulate, keep."""
    if measure:
        folder, n = measure.rsplit(":", 1)
        _steps(Path(folder), int(n))
        return
    found: dict[int, list[dict[str, float]]] = {n: [] for n in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        _files(Path(folder))
        for _ in range(ROUNDS):
            for n in SIZES:
                command = [sys.executable, "-m", "benchmarks.scale", "--measure", f"{folder}:{n}"]
                out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                found[n].append(json.loads(out.splitlines()[-1]))
                print(n, found[n][-1], flush=True)
    result = {
        str(n): {key: round(median(r[key] for r in rounds), 4) for key in rounds[0]} for n, rounds in found.items()
    }
    print(json.dumps(result, indent=1))
    keep("scale", "python -m benchmarks.scale", {"batch": BATCH, "rounds": ROUNDS, "rows": result})


if __name__ == "__main__":
    typer.run(main)
