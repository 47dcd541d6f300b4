"""A model's embeddings of a sample's pictures and texts: encoded once, kept on disk, used by all that needs them.

Kept in float16, which moves a cosine by about 2e-5; whoever reads them gets float32 rows of unit length. Everything
reads them from here, so all pages and commands have the same numbers. `mapped_...` give the float16 rows as they lie on
disk, for samples that are larger than memory; `unit_rows` of some of them is what the others give of all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from clipdemo.models import Clip, base_digest, files_digest
from clipdemo.pixels import sample_pixels
from clipdemo.progress import Activity, Progress
from clipdemo.prompts import Wordings, averaged, prompts_of
from clipdemo.records import DEFAULT_TEMPLATE, SPLITS, Split
from clipdemo.sampling import Sample
from clipdemo.tokens import tokenizer_digest
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, atomic_write, disk_errors, file_state, read_json, write_json

logger = logging.getLogger(__name__)
STEP = 1024  # pictures between two reports, and that a killed process loses at most
IMAGES, TEXTS = "images.npy", "texts.npy"

Encode = Callable[[slice], np.ndarray]  # some of the rows -> float (n, dim)


def model_id(run: Run | None, base: str) -> str:
    """A name that changes with the weights: of a run, or of a base model where `run` is None."""
    return f"{run.id}-{files_digest(run.weights)}" if run else f"base-{base_digest(base)}"


def embeddings_id(model: str, clip: Clip, sample: Sample, split: Split | Literal["all"]) -> str:
    """A name made of all that decides the embeddings: weights, preprocessing and pictures."""
    key = f"{sample.content_hash} {clip.image_size} {clip.mean} {clip.std} {clip.precision}"
    return f"{model}-{_short(key)}-{split}"


def texts_id(model: str, clip: Clip, texts: Sequence[str]) -> str:
    """A name made of all that decides the embeddings: weights, tokenizer and texts, in their order."""
    return f"{model}-{_short(json.dumps([clip.precision, tokenizer_digest(clip), *texts]))}-texts"


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


# ---- pictures


def image_embeddings(
    clip: Clip, model: str, sample: Sample, split: Split, workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.ndarray]:
    """float32 (n, dim), rows of unit length in the manifest's order: a split's pictures as the model sees them.

    `model` is the `model_id` of what `clip` was opened from. A file that is damaged is made again, and a broken-off
    one is gone on with.
    """
    return unit_rows((yield from _mapped_split(clip, model, sample, split, workspace, stage)))


def sample_embeddings(
    clip: Clip, model: str, sample: Sample, workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.ndarray]:
    """float32 (n, dim), rows of unit length: all pictures of a sample, one a row of the manifest."""
    return unit_rows((yield from mapped_sample(clip, model, sample, workspace, stage)))


def mapped_sample(
    clip: Clip, model: str, sample: Sample, workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.memmap]:
    """float16 (n, dim), mapped from disk and read-only: all pictures of a sample, one a row of the manifest.

    A copy of what the splits have, so that their numbers are the same; takes 2 x dim bytes a picture of disk.
    """

    def gather() -> Activity[Encode]:
        parts = {}
        for split in SPLITS:
            parts[split] = yield from _mapped_split(clip, model, sample, split, workspace, stage)
        splits = sample.manifest["split"].to_numpy()
        within = np.empty(len(splits), np.int64)  # place in its split of each row
        for split in SPLITS:
            within[splits == split] = np.arange(len(parts[split]))
        return lambda rows: np.stack([parts[s][i] for s, i in zip(splits[rows], within[rows], strict=True)])

    name, total = embeddings_id(model, clip, sample, "all"), len(sample.manifest)
    return (yield from _kept_or_made(workspace, name, IMAGES, total, gather, stage, f"gathering {total:,} pictures"))


def _mapped_split(
    clip: Clip, model: str, sample: Sample, split: Split, workspace: Workspace, stage: str
) -> Activity[np.memmap]:
    places = sample.rows(split).index.to_numpy()

    def prepare() -> Activity[Encode]:
        pixels = yield from sample_pixels(sample, clip.image_size, workspace)
        return lambda rows: clip.encode_images(pixels[places[rows]])

    name, note = embeddings_id(model, clip, sample, split), f"encoding {len(places):,} {split} pictures"
    return (yield from _kept_or_made(workspace, name, IMAGES, len(places), prepare, stage, note))


# ---- texts


def text_embeddings(
    clip: Clip, model: str, texts: Sequence[str], workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.ndarray]:
    """float32 (n, dim), rows of unit length: the texts as the model reads them, in their order."""
    return unit_rows((yield from mapped_texts(clip, model, texts, workspace, stage)))


def mapped_texts(
    clip: Clip, model: str, texts: Sequence[str], workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.memmap]:
    """float16 (n, dim), mapped from disk and read-only: the texts as the model reads them, in their order."""

    def prepare() -> Activity[Encode]:
        return lambda rows: clip.encode_texts(texts[rows])
        yield  # an activity like the others, with nothing to tell

    name, note = texts_id(model, clip, texts), f"encoding {len(texts):,} texts"
    return (yield from _kept_or_made(workspace, name, TEXTS, len(texts), prepare, stage, note))


def caption_embeddings(
    clip: Clip, model: str, sample: Sample, workspace: Workspace, stage: str = "embeddings"
) -> Activity[np.ndarray]:
    """float32 (m, dim), rows of unit length: a sample's distinct captions, in order of first appearance.

    `evaluation.distinct` of the manifest's captions gives their words, and which of them each picture has.
    """
    captions = sample.manifest["caption"].drop_duplicates().tolist()
    return (yield from text_embeddings(clip, model, captions, workspace, stage))


def class_embeddings(
    clip: Clip,
    model: str,
    classes: Sequence[str],
    workspace: Workspace,
    template: str = DEFAULT_TEMPLATE,
    wordings: Wordings | None = None,
    stage: str = "embeddings",
) -> Activity[np.ndarray]:
    """float32 (n_classes, dim), rows of unit length: what stands for each class, as `Clip.encode_classes` has it."""
    prompts = [prompts_of(label, template, wordings) for label in classes]
    sentences = [sentence for of_class in prompts for sentence in of_class]
    features = yield from text_embeddings(clip, model, sentences, workspace, stage)
    return averaged(features, prompts)


# ---- what is kept


def unit_rows(kept: np.ndarray) -> np.ndarray:
    """float32 rows of unit length, of what was kept in float16."""
    rows = np.asarray(kept, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_kept(features: np.ndarray) -> np.ndarray:
    """Fresh float32 features as they would come back from disk, so that fresh and kept ones give equal numbers."""
    return unit_rows(features.astype(np.float16))


def rows_digest(rows: np.ndarray) -> str:
    """32 hexadecimal digits that change with any number of the rows. Computed once for each state of a file."""
    file = getattr(rows, "filename", None)
    whole = np.load(file, mmap_mode="r") if file else None
    if whole is None or (rows.shape, rows.strides, rows.dtype) != (whole.shape, whole.strides, whole.dtype):
        return _digest(rows)  # not all of a file
    return _file_digest(str(file), file_state(file))


@lru_cache(maxsize=256)
def _file_digest(file: str, state: tuple[int, ...]) -> str:
    """The digest of the rows in a .npy file, which half a million rows take half a second for."""
    return _digest(np.load(file, mmap_mode="r"))


def _digest(rows: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows), digest_size=16).hexdigest()


def _kept_or_made(
    workspace: Workspace,
    name: str,
    file: str,
    total: int,
    prepare: Callable[[], Activity[Encode]],
    stage: str,
    note: str,
) -> Activity[np.memmap]:
    """The rows kept under a name, mapped from disk; made first where they are not there or not what was written."""
    folder = workspace.folder("embeddings", name)
    with workspace.lock(name):
        if (kept := _kept(folder / file)) is None:
            if folder.is_dir():
                logger.warning("embeddings %s are damaged or of another version: they are made again", name)
                workspace.delete("embeddings", name)
            encode = yield from prepare()
            for done in _make(workspace, name, file, total, encode):
                yield Progress(stage=stage, done=done, total=total, note=note)
            kept = np.load(folder / file, mmap_mode="r")
    return kept


def _kept(path: Path) -> np.memmap | None:
    """The file's rows, mapped from disk; None where it is not there or not what was written."""
    try:
        rows = np.load(path, mmap_mode="r")
        return rows if read_json(path.parent / "embeddings.json")["digest"] == rows_digest(rows) else None
    except Exception:  # whatever a truncated or foreign file makes NumPy say
        return None


def _make(workspace: Workspace, name: str, file: str, total: int, encode: Encode) -> Iterator[int]:
    """Writes embeddings, a step at a time, and yields how many are done; what a killed process has written is kept."""
    partial = workspace.root / ".partial" / f"embeddings-{name}"
    with disk_errors(partial):
        partial.mkdir(exist_ok=True)
        rows, done = _begun(partial / file, total)
        for first in range(done, total, STEP):
            found = encode(slice(first, min(first + STEP, total))).astype(np.float16)
            if rows is None:
                rows = np.lib.format.open_memmap(
                    partial / file, mode="w+", dtype=np.float16, shape=(total, found.shape[1])
                )
            rows[first : first + len(found)] = found
            rows.flush()
            done = first + len(found)
            atomic_write(partial / "done.json", json.dumps({"done": done}).encode())
            yield done
        (partial / "done.json").unlink()
        write_json(partial / "embeddings.json", {"rows": total, "digest": _digest(rows)})
        target = workspace.folder("embeddings", name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def _begun(path: Path, n: int) -> tuple[np.memmap | None, int]:
    """What a broken-off process has written, and how many rows of it hold."""
    try:
        done = int(json.loads((path.parent / "done.json").read_bytes())["done"])
        rows = np.lib.format.open_memmap(path, mode="r+")
        return (rows, done) if rows.shape[0] == n and rows.dtype == np.float16 and 0 <= done <= n else (None, 0)
    except Exception:
        return None, 0
