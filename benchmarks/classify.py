"""Seconds from a picture's bytes to the answer, and what 500 pictures take.

    python -m benchmarks.classify

The model is open already; the first answer of a process is told apart from later ones. ViT-B-32 has random weights,
which take as long as trained ones. No sample, so neither captions nor familiarity: they are two matrix products.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import typer
from PIL import Image

from benchmarks.machine import keep, peak_bytes

PIXELS = 512  # side of a dropped JPEG


def main(rounds: int = 5, pictures: int = 500) -> None:
    """Measures each model in processes of its own."""
    result: dict[str, object] = {"threads": os.environ.get("OMP_NUM_THREADS", "as many as cores")}
    result["load_average"] = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("built-in", "ViT-B-32, random weights"):
            base = "builtin" if name == "built-in" else _random_vit(Path(folder))
            context = multiprocessing.get_context("spawn")
            with context.Pool(1, maxtasksperchild=1) as pool:
                measured = [pool.apply(_measure, (base, pictures if i == 0 else 0)) for i in range(rounds)]
            firsts = [found["first answer, seconds"] for found in measured]
            result[name] = measured[0] | {"first answer, seconds": median(firsts), "first answers": firsts}
    keep("classify", f"python -m benchmarks.classify --rounds {rounds} --pictures {pictures}", result)


def _random_vit(folder: Path) -> str:
    import open_clip
    from safetensors.torch import save_file

    settings = open_clip.get_model_config("ViT-B-32")
    network = open_clip.create_model("ViT-B-32", pretrained=None)
    config = {"model_cfg": settings, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def _measure(base: str, pictures: int) -> dict[str, object]:
    from clipdemo.classify import classified, classify, open_classifier
    from clipdemo.drop import dropped_picture, read_drop
    from clipdemo.models import open_model
    from clipdemo.progress import finish
    from clipdemo.workspace import Workspace

    with tempfile.TemporaryDirectory() as folder:
        classifier = finish(open_classifier(Workspace(folder), open=lambda _, weights: open_model(base, weights)))
    files = [(f"{i}.jpg", _jpeg(i)) for i in range(max(20, pictures))]
    times = []
    for name, data in files[:20]:
        begin = time.perf_counter()
        classify(classifier, [dropped_picture(data, name, classifier.sizes)])
        times.append(time.perf_counter() - begin)
    found: dict[str, object] = {"first answer, seconds": times[0], "later answers, median seconds": median(times[1:])}
    if pictures:
        before, begin = peak_bytes(), time.perf_counter()
        answered = sum(1 for _ in classified(classifier, read_drop(files, classifier.sizes)))
        found |= {f"{answered} pictures, a second": answered / (time.perf_counter() - begin)}
        found |= {"peak bytes before": before, "peak bytes after": peak_bytes()}
    return found


def _jpeg(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    typer.run(main)
