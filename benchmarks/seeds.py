"""The whole experiment with several seeds: mean and standard deviation of every number, and how long it took.

    python -m benchmarks.seeds --samples 4096 --seeds 5

Each seed draws another sample, shuffles otherwise and has other test pictures. Nothing is chosen by these numbers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import typer

from benchmarks.machine import keep

ROOT = Path(__file__).resolve().parent.parent


def main(samples: int = 4096, seeds: int = 5, workspace: Path | None = None) -> None:
    """Run, tabulate, keep."""
    folder = workspace or Path(tempfile.mkdtemp())
    rows = []
    for seed in range(seeds):
        began = time.monotonic()
        command = [sys.executable, "-m", "clipdemo", "experiment", "--samples", str(samples), "--seed", str(seed)]
        run = subprocess.run(
            [*command, "--workspace", str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.monotonic() - began
        comparison = json.loads(Path(run.stdout.splitlines()[-1]).read_text())
        models = {m["name"]: {"top1": m["top1"], "top3": m["top3"], "n": m["n"]} for m in comparison["models"]}
        rows.append(
            {"seed": seed, "seconds": round(seconds, 1), "sample_hash": comparison["sample_hash"], "models": models}
        )
        print(
            f"seed {seed}: {seconds:.0f} s", {name: f"{100 * m['top1']:.1f}" for name, m in models.items()}, flush=True
        )
    summary = {
        name: {
            k: {"mean": mean(r["models"][name][k] for r in rows), "sd": stdev(r["models"][name][k] for r in rows)}
            for k in ("top1", "top3")
        }
        for name in rows[0]["models"]
    }
    ordered = [
        r["models"]["base"]["top1"] < r["models"]["captions"]["top1"] < r["models"]["labels"]["top1"] for r in rows
    ]
    print("| model | top-1 % | top-3 % |\n|---|---|---|")
    for name, numbers in summary.items():
        cells = " | ".join(f"{100 * numbers[k]['mean']:.1f} ± {100 * numbers[k]['sd']:.1f}" for k in ("top1", "top3"))
        print(f"| {name} | {cells} |")
    print(f"base < captions < labels in {sum(ordered)} of {len(ordered)} seeds")
    command = f"python -m benchmarks.seeds --samples {samples} --seeds {seeds}"
    keep(f"seeds-{samples}", command, {"samples": samples, "summary": summary, "ordered": sum(ordered), "seeds": rows})


if __name__ == "__main__":
    typer.run(main)
