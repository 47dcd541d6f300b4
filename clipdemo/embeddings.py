"""A model's picture embeddings of a sample: encoded once, kept on disk, used by everything that needs them.

Kept in float16, which moves a cosine by about 2e-5; whoever reads them gets float32 rows of unit length. Everything
reads them from here, so all pages and commands have the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np

from clipdemo.models import Clip, base_digest, files_digest
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.records import Split
from clipdemo.sampling import Sample
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, atomic_write, disk_errors, read_json, write_json

logger = logging.getLogger(__name__)
STEP = 1024  # pictures between two reports, and that a killed process loses at most


def model_id(run: Run | None, base: str) -> str:
    """A name that changes with the weights: of a run, or of a base model where `run` is None."""
    return f"{run.id}-{files_digest(run.weights)}" if run else f"base-{base_digest(base)}"


def embeddings_id(model: str, clip: Clip, sample: Sample, split: Split) -> str:
    """A name made of all that decides the embeddings: weights, preprocessing and pictures."""
    key = f"{sample.content_hash} {clip.image_size} {clip.mean} {clip.std} {clip.precision}"
    return f"{model}-{hashlib.sha256(key.encode()).hexdigest()[:8]}-{split}"


def image_embeddings(
    clip: Clip, model: str, sample: Sample, split: Split, workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.ndarray]:
    """float32 (n, dim), rows of unit length in the manifest's order: a split's pictures as the model sees them.

    `model` is the `model_id` of what `clip` was opened from. A file that is damaged is made again, and a broken-off
    one is gone on with.
    """
    name = embeddings_id(model, clip, sample, split)
    folder = workspace.folder("embeddings", name)
    with workspace.lock(name):
        if (kept := _kept(folder)) is None:
            if folder.is_dir():
                logger.warning("embeddings %s are damaged or of another version: they are made again", name)
                workspace.delete("embeddings", name)
            yield from _encode(clip, sample, split, workspace, name, stage)
            kept = np.load(folder / "images.npy", mmap_mode="r")
    return unit_rows(kept)


def unit_rows(kept: np.ndarray) -> np.ndarray:
    """float32 rows of unit length, of what was kept in float16."""
    rows = np.asarray(kept, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_kept(features: np.ndarray) -> np.ndarray:
    """Fresh float32 features as they would come back from disk, so that fresh and kept ones give equal numbers."""
    return unit_rows(features.astype(np.float16))


def _kept(folder: Path) -> np.ndarray | None:
    """The file's rows, mapped from disk; None where it is not there or not what was written."""
    try:
        rows = np.load(folder / "images.npy", mmap_mode="r")
        return rows if read_json(folder / "embeddings.json")["digest"] == _digest(rows) else None
    except Exception:  # whatever a truncated or foreign file makes NumPy say
        return None


def _digest(rows: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows), digest_size=16).hexdigest()


def _encode(clip: Clip, sample: Sample, split: Split, workspace: Workspace, name: str, stage: str) -> Activity[None]:
    """Writes a split's embeddings, a step at a time; what a killed process has written is kept."""
    pixels = yield from sample_pixels(sample, clip.image_size, workspace)
    places = sample.rows(split).index.to_numpy()
    partial = workspace.root / ".partial" / f"embeddings-{name}"
    with disk_errors(partial):
        partial.mkdir(exist_ok=True)
        rows, done = _begun(partial, len(places))
        for first in range(done, len(places), STEP):
            found = clip.encode_images(pixels[places[first : first + STEP]]).astype(np.float16)
            if rows is None:
                rows = np.lib.format.open_memmap(
                    partial / "images.npy", mode="w+", dtype=np.float16, shape=(len(places), found.shape[1])
                )
            rows[first : first + len(found)] = found
            rows.flush()
            done = first + len(found)
            atomic_write(partial / "done.json", json.dumps({"done": done}).encode())
            yield Progress(stage=stage, done=done, total=len(places), note=f"encoding {len(places):,} {split} pictures")
        (partial / "done.json").unlink()
        write_json(partial / "embeddings.json", {"rows": len(places), "digest": _digest(rows)})
        target = workspace.folder("embeddings", name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def _begun(partial: Path, n: int) -> tuple[np.memmap | None, int]:
    """What a broken-off process has written, and how many rows of it hold."""
    try:
        done = int(json.loads((partial / "done.json").read_bytes())["done"])
        rows = np.lib.format.open_memmap(partial / "images.npy", mode="r+")
        return (rows, done) if rows.shape[0] == n and rows.dtype == np.float16 and 0 <= done <= n else (None, 0)
    except Exception:
        return None, 0
