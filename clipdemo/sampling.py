"""A sample: balanced training pictures, proportional validation and test pictures, nothing shared between them.

Follows the paper, section 1.2, with its leaks closed: no picture, no near-duplicate and no group (patient, case)
stands on both sides of a split, and no picture stands twice in a sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from clipdemo import images
from clipdemo.cleaning import FOREIGN_CAPTION, CleanTable, clean, is_foreign
from clipdemo.errors import BadSettings, PictureError, SampleError
from clipdemo.progress import Activity, Progress
from clipdemo.records import (
    CONTEXT_TOKENS,
    MODES,
    SPLITS,
    CleaningReport,
    CleaningRules,
    DroppedRows,
    Mode,
    SampleConfig,
    Split,
)
from clipdemo.sources import Source, open_source, resolved
from clipdemo.workspace import Workspace, read_json, write_json

MANIFEST_COLUMNS = ("id", "split", "label", "caption", "modality", "group", "image", "pixels", "tokens")
_FILL_ORDER: tuple[Split, ...] = ("test", "validation", "train")  # small, fixed quotas first
_READ_AT_ONCE = 512  # pictures, so that a source that fetches or gathers them need not hold more
_EXAMPLES = 3

EXACT_DUPLICATE = "picture repeats another of the sample"
NEAR_DUPLICATE = "picture is nearly another of the sample"
DUPLICATE_ELSEWHERE = "picture repeats one of another split"
GROUP_ELSEWHERE = "its case is in another split"


@dataclass(frozen=True)
class Sample:
    """An immutable folder of pictures with their captions and labels, split in three."""

    id: str
    folder: Path
    config: SampleConfig
    content_hash: str
    classes: tuple[str, ...]  # in alphabetical order; predictions and scores follow it; none without labels
    report: CleaningReport
    synthetic: bool
    texts: tuple[Mode, ...] = MODES  # what its pictures have: captions, labels or both
    origin: dict[str, str] = field(default_factory=dict)  # where the source's data can be found again

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row a picture, columns `MANIFEST_COLUMNS`, in the order train, validation, test."""
        return pd.read_parquet(self.folder / "manifest.parquet")

    def rows(self, split: Split) -> pd.DataFrame:
        """The manifest's rows of one split; their index is their position in the manifest."""
        return self.manifest[self.manifest["split"] == split]

    def require(self, mode: Mode) -> None:
        """Raises `BadSettings`, with the reason, where this kind of fine-tuning is not possible."""
        if mode not in self.texts:
            other = self.texts[0]
            raise BadSettings(
                f"sample {self.id} has no {mode}: its source has none, or they were left out. "
                f"Fine-tune on {other}, or draw a sample from a source that has {mode}"
            )

    def dropped_picture(self, image: str) -> bytes:
        """The encoded picture of a dropped row, as the report names it."""
        return (self.folder / "dropped" / Path(image).name).read_bytes()

    def picture(self, image: str) -> bytes:
        """The encoded picture named in the manifest's `image` column."""
        return (self.folder / "images" / image).read_bytes()

    @property
    def sizes(self) -> dict[Split, int]:
        """Pictures a split."""
        return {split: sum(self.report.split_classes[split].values()) for split in SPLITS}


def sample_id(config: SampleConfig) -> str:
    """A name made of the settings: the same settings are the same sample."""
    return f"{config.source}-{config.samples}-s{config.seed}-{config.digest()}"


def load_sample(workspace: Workspace, name: str) -> Sample:
    """An existing sample. Raises `SampleError` when there is none of that name or its files are damaged."""
    folder = workspace.folder("samples", name)
    if not folder.is_dir():
        known = ", ".join(workspace.names("samples")[:5]) or "none yet"
        raise SampleError(f"there is no sample {name!r} in {workspace.root}: known are {known}")
    meta = read_json(folder / "sample.json")
    try:
        return Sample(
            id=name,
            folder=folder,
            config=SampleConfig(**meta["config"]),
            content_hash=meta["content_hash"],
            classes=tuple(meta["classes"]),
            report=CleaningReport(**meta["report"]),
            synthetic=meta["synthetic"],
            texts=tuple(meta["texts"]),
            origin=meta["origin"],
        )
    except KeyError as error:
        raise SampleError(
            f"{folder / 'sample.json'} lacks {error}: delete the folder and draw the sample again"
        ) from None


def draw_sample(config: SampleConfig, workspace: Workspace) -> Activity[Sample]:
    """Draws the sample, or finds it already drawn. Raises `BadSettings`, `SourceError` or `SampleError`."""
    config = resolved(config)
    name = sample_id(config)
    with workspace.lock(name):
        if not workspace.folder("samples", name).is_dir():
            source = open_source(config, workspace.source_cache)
            yield Progress(stage="source", done=0, total=1, note="reading the source")
            yield from source.prepare()
            cleaned = clean(source.table(), source.classes, source.synonyms, config.cleaning)
            _check_excluded(config.cleaning, cleaned, source)
            yield Progress(stage="source", done=1, total=1, note=f"{cleaned.total:,} rows, {len(cleaned.rows):,} clean")
            quotas = split_quotas(cleaned, config)
            with workspace.new_folder("samples", name) as folder:
                drawing = _Drawing(source, cleaned, quotas, config, folder)
                yield from drawing.run()
                _write(folder, config, source, cleaned, drawing)
    sample = load_sample(workspace, name)
    total = sum(sample.sizes.values())
    yield Progress(stage="sample", done=total, total=total, note=f"{total:,} pictures")
    return sample


# ---- how many of what


def _check_excluded(rules: CleaningRules, cleaned: CleanTable, source: Source) -> None:
    """Raises `BadSettings` for an excluded class that does not exist."""
    known = {*cleaned.classes, *cleaned.excluded, *(source.classes or ())} - {""}
    for label in rules.exclude:
        if label not in known:
            few = ", ".join(sorted(known)[:20])
            raise BadSettings(f"exclude = {label!r} is no class of {source.name!r}: it has {few or 'no labels'}")


def split_quotas(cleaned: CleanTable, config: SampleConfig) -> dict[Split, dict[str, int]]:
    """How many pictures of each class each split gets. Raises `SampleError` where that cannot be.

    Without labels all pictures count as one class. Where fewer are usable than were asked for, all are taken.
    """
    available = cleaned.classes
    if "labels" in cleaned.uses and len(available) < 2:
        raise SampleError(
            f"the cleaned source has {len(available)} class{'es' * (len(available) != 1)}: at least 2 are needed to "
            "classify anything. Is it the right column? With captions, texts = captions does without labels"
        )
    samples = min(config.samples, len(cleaned.rows))
    n_classes = len(available)
    n_train = int(samples * config.train) // n_classes * n_classes
    held_out = samples - n_train
    n_validation = round(held_out * config.validation / (config.validation + config.test))
    n_test = held_out - n_validation
    if min(n_train, n_validation, n_test) == 0:
        raise SampleError(
            f"{samples} pictures are too few to fill three splits of {n_classes} classes: ask for more, or let rare "
            "classes be left out (smallest_class)"
        )
    test = proportional(available, n_test)
    validation = proportional(available, n_validation)
    left = {label: count - test[label] - validation[label] for label, count in available.items()}
    train = equal_shares(left, n_train)
    return {"train": train, "validation": validation, "test": test}


def proportional(counts: dict[str, int], total: int) -> dict[str, int]:
    """`total` shared out in proportion to `counts` by largest remainders; ties go to the class named first."""
    whole = sum(counts.values())
    exact = {label: total * count / whole for label, count in counts.items()}
    shares = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(counts, key=lambda label: shares[label] - exact[label])
    for label in by_remainder[: total - sum(shares.values())]:
        shares[label] += 1
    return shares


def equal_shares(limits: dict[str, int], total: int) -> dict[str, int]:
    """`total` shared out as equally as `limits` allow: what a small class cannot give, the others do, equally."""
    shares: dict[str, int] = {}
    for i, label in enumerate(sorted(limits, key=limits.__getitem__)):
        equal = (total - sum(shares.values())) // (len(limits) - i)
        shares[label] = max(0, min(limits[label], equal))
    return shares


# ---- which ones


class _Drawing:
    """Goes through each class in a seeded order and gives its rows to the splits until their quotas are full."""

    def __init__(
        self,
        source: Source,
        cleaned: CleanTable,
        quotas: dict[Split, dict[str, int]],
        config: SampleConfig,
        folder: Path,
    ) -> None:
        self.source, self.rows, self.folder, self.rules = source, cleaned.rows, folder, config.cleaning
        self.captions = cleaned.captions if "captions" in cleaned.uses else None
        self.wanted = {split: dict(shares) for split, shares in quotas.items()}
        self.total_of = {split: sum(shares.values()) for split, shares in quotas.items()}
        self.total = sum(self.total_of.values())
        order = self.rows.index.to_numpy()[np.random.default_rng(config.seed).permutation(len(self.rows))]
        labels = self.rows["label"].loc[order].to_numpy()
        self.queues: dict[str, Iterator[int]] = {c: iter(order[labels == c].tolist()) for c in sorted(cleaned.classes)}
        self.split_of_group: dict[str, Split] = {}
        self.split_of_picture: dict[str, Split] = {}  # by the row's id
        self.seen = images.SeenPictures()
        self.taken: list[dict[str, object]] = []
        self.dropped: dict[str, DroppedRows] = {}
        (folder / "images").mkdir()
        (folder / "dropped").mkdir()

    def run(self) -> Activity[None]:
        """Reads pictures until every quota is full or its class is used up; what is missing, training makes up."""
        while chosen := self._choose():
            for first in range(0, len(chosen), _READ_AT_ONCE):
                some = chosen[first : first + _READ_AT_ONCE]
                for (row, split), data in zip(some, self.source.pictures([row for row, _ in some]), strict=True):
                    self._take(row, split, data)
                    if len(self.taken) % 32 == 0:
                        yield Progress(stage="sample", done=len(self.taken), total=self.total, note="reading pictures")

    def _choose(self) -> list[tuple[int, Split]]:
        """The next rows to read: as many as are wanted, and no more."""
        self._spread_training()
        chosen = []
        for split in _FILL_ORDER:
            for label, missing in self.wanted[split].items():
                for _ in range(missing):
                    if (row := self._next(label, split)) is None:
                        break
                    chosen.append((row, split))
                    self.wanted[split][label] -= 1
        return chosen

    def _next(self, label: str, split: Split) -> int | None:
        """The class's next row whose group is not in another split."""
        for row in self.queues[label]:
            if (
                self.captions is not None
                and self.rules.foreign == "drop"
                and is_foreign(caption := self.captions.at[row])
            ):
                self._drop(row, FOREIGN_CAPTION, caption[:120])
                continue
            group = self.rows.at[row, "group"]
            if not group or self.split_of_group.setdefault(group, split) == split:
                return row
            self._drop(row, GROUP_ELSEWHERE)
        self.queues[label] = iter(())
        return None

    def _spread_training(self) -> None:
        """Asks the classes that still have rows for the training pictures that used-up classes cannot give."""
        train = self.wanted["train"]
        empty = [label for label in train if self._used_up(label)]
        missing = sum(train[label] for label in empty)
        rich = [label for label in train if label not in empty]
        for label in empty:
            train[label] = 0
        for i in range(missing if rich else 0):
            train[rich[i % len(rich)]] += 1

    def _used_up(self, label: str) -> bool:
        queue = self.queues[label]
        for row in queue:
            self.queues[label] = _before(row, queue)
            return False
        return True

    def _take(self, row: int, split: Split, data: bytes | PictureError) -> None:
        entry = self.rows.loc[row]
        try:
            if isinstance(data, PictureError):
                raise data
            data, suffix, picture = images.storable(data, entry["id"])
        except PictureError as error:
            self._drop(row, error.reason)
            self.wanted[split][entry["label"]] += 1
            return
        pixels, hashed = images.pixel_hash(picture), images.difference_hash(picture)
        match = self.seen.find(pixels, hashed)
        if match and (reason := self._objection(match, split)):
            self._drop(row, reason, f"{entry['id']} = {match[1]}", data, suffix)
            self.wanted[split][entry["label"]] += 1
            return
        name = f"{row:08d}{suffix}"
        (self.folder / "images" / name).write_bytes(data)
        self.seen.add(entry["id"], pixels, hashed)
        self.split_of_picture[entry["id"]] = split
        self.taken.append(
            {
                **entry[["id", "label", "modality", "group"]],
                "caption": "" if self.captions is None else self.captions.at[row],
                "split": split,
                "image": name,
                "pixels": pixels,
            }
        )

    def _objection(self, match: tuple[str, str], split: Split) -> str:
        """Why a picture that repeats another cannot be taken; "" where it can."""
        kind, twin = match
        if self.rules.repeats == "keep":
            return ""
        if self.rules.repeats == "one-side":
            return "" if self.split_of_picture[twin] == split else DUPLICATE_ELSEWHERE
        return {"exact": EXACT_DUPLICATE, "near": NEAR_DUPLICATE}[kind]

    def _drop(self, row: int, reason: str, example: str = "", data: bytes | None = None, suffix: str = "") -> None:
        so_far = self.dropped.get(reason, DroppedRows(reason=reason, count=0))
        examples, pictures = so_far.examples, so_far.pictures
        if len(examples) < _EXAMPLES:
            examples = [*examples, example or self.rows.at[row, "id"]]
            if data is not None:
                pictures = [*pictures, f"{row:08d}{suffix}"]
                (self.folder / "dropped" / pictures[-1]).write_bytes(data)
        self.dropped[reason] = DroppedRows(reason=reason, count=so_far.count + 1, examples=examples, pictures=pictures)


def _before(first: int, rest: Iterator[int]) -> Iterator[int]:
    yield first
    yield from rest


# ---- what is kept


def content_hash(manifest: pd.DataFrame) -> str:
    """SHA-256 over every row's id, split, label, caption and pixels: what is in the sample, not how it is stored."""
    lines = manifest[["id", "split", "label", "caption", "pixels"]].sort_values("id").to_dict("records")
    return hashlib.sha256("\n".join(json.dumps(line, sort_keys=True) for line in lines).encode()).hexdigest()


def _write(folder: Path, config: SampleConfig, source: Source, cleaned: CleanTable, drawing: _Drawing) -> None:
    if not drawing.taken:
        why = max(drawing.dropped.values(), key=lambda d: d.count, default=None)
        raise SampleError(
            f"no picture of {config.source!r} could be used" + (f" (most often: {why.reason})" if why else "")
        )
    manifest = pd.DataFrame(drawing.taken, columns=list(MANIFEST_COLUMNS[:-1]))
    order = manifest["split"].map({split: i for i, split in enumerate(SPLITS)})
    manifest = manifest.iloc[np.lexsort([manifest["id"], order])].reset_index(drop=True)
    manifest["tokens"] = token_counts(manifest["caption"]) if "captions" in cleaned.uses else 0
    counts = {split: manifest.loc[manifest["split"] == split, "label"].value_counts().sort_index() for split in SPLITS}
    if empty := [split for split in SPLITS if counts[split].empty]:
        raise SampleError(
            f"no picture is left for {' and '.join(empty)}: {len(manifest)} of the source's {cleaned.total:,} rows are "
            "readable and differ. Ask for more pictures, or look at why rows were dropped"
        )
    has_labels = "labels" in cleaned.uses
    share = drawing.total_of["train"] // len(cleaned.classes)
    dropped = [*cleaned.dropped, *sorted(drawing.dropped.values(), key=lambda d: -d.count)]
    report = CleaningReport(
        rows=cleaned.total,
        dropped=dropped,
        sampled=len(manifest),
        not_drawn=cleaned.total - sum(d.count for d in dropped) - len(manifest),
        relabelled=cleaned.relabelled,
        source_classes=cleaned.classes if has_labels else {},
        split_classes={split: {label: int(n) for label, n in counts[split].items()} for split in SPLITS},
        shortfall={
            c: share - int(counts["train"].get(c, 0))
            for c in cleaned.classes
            if has_labels and counts["train"].get(c, 0) < share
        },
        wordings=cleaned.wordings,
        no_labels=cleaned.no_labels,
        long_captions=int((manifest["tokens"] > CONTEXT_TOKENS).sum()),
        foreign_captions=sum(map(is_foreign, manifest["caption"])) if "captions" in cleaned.uses else 0,
    )
    manifest.to_parquet(folder / "manifest.parquet")
    meta = {
        "config": config.model_dump(mode="json"),
        "content_hash": content_hash(manifest),
        "classes": sorted(cleaned.classes) if has_labels else [],
        "synthetic": source.synthetic,
        "texts": list(cleaned.uses),
        "origin": source.origin(),
        "report": report.model_dump(mode="json"),
    }
    write_json(folder / "sample.json", meta)


def token_counts(captions: pd.Series) -> list[int]:
    """Tokens of each caption, start and end included, before anything is cut: by CLIP's own tokenizer."""
    from open_clip.tokenizer import SimpleTokenizer  # imports torch: once all pictures are drawn

    tokenizer = SimpleTokenizer()
    return [len(tokenizer.encode(caption)) + 2 for caption in captions]
