"""What captions are worth: both fine-tunings on ever more of one sample's pictures, three seeds, as a user would ask.

    python -m benchmarks.worth --workspace DIR    # about ten minutes on 2 cores; broken off, it goes on from there

Built-in source, 1,024 pictures, preset plain. All runs are measured on the same test pictures, and nothing is chosen by
these numbers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import typer

from benchmarks.machine import keep
from clipdemo.jobs import list_jobs
from clipdemo.sweep import load_sweep
from clipdemo.workspace import Workspace
from clipdemo.worth import worth

ROOT = Path(__file__).resolve().parent.parent


def main(
    samples: int = 1024, sizes: str = "64,128,256,512,all", seeds: str = "0,1,2", workspace: Path | None = None
) -> None:
    """Draw, sweep, keep."""
    folder = workspace or Path(tempfile.mkdtemp())
    sample = clipdemo("sample", "--samples", str(samples), workspace=folder)
    name = clipdemo("sweep", "--sample", sample, "--sizes", sizes, "--seeds", seeds, workspace=folder)
    place = Workspace(folder)
    result = load_sweep(place, name)
    answer = worth(result)
    print("| training pictures | captions | labels |\n|---|---|---|")
    for captions, labels in zip(result.curve("captions"), result.curve("labels"), strict=True):
        print(f"| {captions.pictures} | {100 * captions.mean:.1f} | {100 * labels.mean:.1f} |")
    sentences = [answer.in_words(equivalent) for equivalent in answer.equivalents]
    print(*sentences, sep="\n")
    seconds = sum(job.seconds for job in list_jobs(place) if job.asked["command"] == "sweep")
    keep(
        "worth",
        f"python -m benchmarks.worth --samples {samples} --sizes {sizes} --seeds {seeds}",
        {
            "sample_hash": result.sample_hash,
            "test_pictures": result.base.n,
            "runs": result.total,
            "seconds": round(seconds),
            "base_top1": result.base.top1,
            "curves": {mode: [asdict(place) for place in result.curve(mode)] for mode in result.config.modes},
            "in_words": sentences,
        },
    )


def clipdemo(*arguments: str, workspace: Path) -> str:
    """What a command prints last: the id of what it made."""
    command = [sys.executable, "-m", "clipdemo", *arguments, "--workspace", str(workspace)]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout.splitlines()[-1]


if __name__ == "__main__":
    typer.run(main)
