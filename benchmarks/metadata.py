"""Time and memory of sampling 4,096 pictures from a metadata file of 650,000 rows, PubMedVision's own size.

    python -m benchmarks.metadata

The rows are made up (real captions over and over, random body parts) and each has a small picture of noise of its own
in one of 20 archives: about 2 GB of temporary files. Each measurement is a process of its own; the first reads the
JSON file and the archives' directories and keeps what it found, the second finds it.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from benchmarks.machine import keep, peak_bytes
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.sources.phantom import PhantomSettings, PhantomSource
from clipdemo.workspace import Workspace

ROWS, ARCHIVES, SAMPLES = 650_000, 20, 4096


def _files(folder: Path) -> None:
    captions = PhantomSource(PhantomSettings(rows=4000)).table()["caption"].tolist()
    rng, noise = random.Random(0), np.random.default_rng(0)
    with (folder / "PubMedVision_Original_Caption.json").open("w") as file:
        for i in range(ROWS):
            row = {
                "id": f"Original_Caption_{i}",
                "image": [f"images/pmc_{i}_0.jpg"],
                "modality": rng.choice(("CT", "MR", "X-ray")),
                "body_part": rng.choice((*BODY_PARTS, "Others", "", "Chest, Abdomen", "The image shows an arm")),
                "Original_Caption": " ".join(rng.choices(captions, k=rng.randrange(1, 8))),
            }
            file.write(("[" if i == 0 else ",\n") + json.dumps(row))
        file.write("]")
    for archive in range(ARCHIVES):
        with zipfile.ZipFile(folder / f"images_{archive}.zip", "w") as out:
            for i in range(archive, ROWS, ARCHIVES):
                buffer = io.BytesIO()
                picture = Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                picture.resize((64, 64), Image.Resampling.NEAREST).save(buffer, "PNG", compress_level=1)
                out.writestr(f"images/pmc_{i}_0.jpg", buffer.getvalue())


def _draw(data: Path, place: Path, seed: int) -> None:
    began = time.perf_counter()
    config = SampleConfig(source="pubmedvision", samples=SAMPLES, seed=seed, options={"path": str(data)})
    sample = finish(draw_sample(config, Workspace(place)))
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {"rows": sample.report.rows, "pictures": len(sample.manifest), "s": seconds, "peak_mb": peak_bytes() >> 20}
        )
    )


def main(measure: str = typer.Option("", hidden=True), seed: int = typer.Option(0, hidden=True)) -> None:
    """Make the files, draw twice, keep the numbers."""
    if measure:
        data, place = measure.split(":")
        _draw(Path(data), Path(place), seed)
        return
    result = {}
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as place:
        _files(Path(data))
        result["json_megabytes"] = (Path(data) / "PubMedVision_Original_Caption.json").stat().st_size >> 20
        for name, seed in (("first draw", 0), ("next draw", 1)):
            command = [sys.executable, "-m", "benchmarks.metadata", "--measure", f"{data}:{place}", "--seed", str(seed)]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            result[name] = json.loads(out.splitlines()[-1])
            print(name, result[name], flush=True)
    keep("metadata", "python -m benchmarks.metadata", result)


if __name__ == "__main__":
    typer.run(main)
