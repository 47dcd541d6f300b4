"""A sample: balanced training pictures, proportional validation and test pictures, nothing shared between them.

Follows the paper, section 1.2, with its leaks closed: no picture, no near-duplicate and no group (patient, case)
stands on both sides of a split, and no picture stands twice in a sample.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from clipdemo import images
from clipdemo.cleaning import CleanTable, clean
from clipdemo.errors import BadSettings, PictureError, SampleError
from clipdemo.progress import Activity, Progress
from clipdemo.records import SPLITS, CleaningReport, DroppedRows, SampleConfig, Split
from clipdemo.sources import Source, open_source
from clipdemo.workspace import Workspace, read_json, write_json

MANIFEST_COLUMNS = ("id", "split", "label", "caption", "modality", "group", "image", "pixels")
LEAST_CLASS_SIZE = 3  # one picture a split
LONG_CAPTION_WORDS = 55  # about 77 tokens; the tokenizer, which knows exactly, is too slow to import for a count
_FILL_ORDER: tuple[Split, ...] = ("test", "validation", "train")  # small, fixed quotas first

EXACT_DUPLICATE = "picture repeats another of the sample"
NEAR_DUPLICATE = "picture is nearly another of the sample"
UNREADABLE = "picture cannot be read"
GROUP_ELSEWHERE = "its case is in another split"


@dataclass(frozen=True)
class Sample:
    """An immutable folder of pictures with their captions and labels, split in three."""

    id: str
    folder: Path
    config: SampleConfig
    content_hash: str
    classes: tuple[str, ...]  # in alphabetical order; predictions and scores follow it
    report: CleaningReport
    synthetic: bool

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """One row a picture, columns `MANIFEST_COLUMNS`, in the order train, validation, test."""
        return pd.read_parquet(self.folder / "manifest.parquet")

    def rows(self, split: Split) -> pd.DataFrame:
        """The manifest's rows of one split; their index is their position in the manifest."""
        return self.manifest[self.manifest["split"] == split]

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
        )
    except KeyError as error:
        raise SampleError(
            f"{folder / 'sample.json'} lacks {error}: delete the folder and draw the sample again"
        ) from None


def draw_sample(config: SampleConfig, workspace: Workspace) -> Activity[Sample]:
    """Draws the sample, or finds it already drawn. Raises `BadSettings`, `SourceError` or `SampleError`."""
    source = open_source(config.source, config.seed, config.options)
    for label in config.exclude:
        if label not in source.classes:
            raise BadSettings(
                f"exclude = {label!r} is no class of {config.source!r}: it has {', '.join(source.classes)}"
            )
    name = sample_id(config)
    with workspace.lock(name):
        if not workspace.folder("samples", name).is_dir():
            yield Progress(stage="sample", done=0, total=config.samples, note="reading the source")
            cleaned = clean(source.table(), source.classes, source.synonyms, config.exclude)
            quotas = split_quotas(cleaned, config)
            with workspace.new_folder("samples", name) as folder:
                (folder / "images").mkdir()
                drawing = _Drawing(source, cleaned, quotas, config.seed, folder)
                yield from drawing.run()
                _write(folder, config, source, cleaned, drawing)
    sample = load_sample(workspace, name)
    total = sum(sample.sizes.values())
    yield Progress(stage="sample", done=total, total=total, note=f"{total:,} pictures")
    return sample


# ---- how many of what


def split_quotas(cleaned: CleanTable, config: SampleConfig) -> dict[Split, dict[str, int]]:
    """How many pictures of each class each split gets. Raises `SampleError` where that cannot be."""
    available = cleaned.classes
    if len(available) < 2:
        raise SampleError(f"the cleaned source has {len(available)} class: at least 2 are needed to classify anything")
    for label, count in available.items():
        if count < LEAST_CLASS_SIZE:
            raise SampleError(
                f"class {label!r} has {count} usable picture{'s' * (count != 1)}, and at least {LEAST_CLASS_SIZE} are "
                f"needed (one a split): leave it out (exclude {label!r}) or give the source more rows"
            )
    if config.samples > len(cleaned.rows):
        raise SampleError(
            f"{config.samples:,} pictures were asked for, but only {len(cleaned.rows):,} of the source's "
            f"{cleaned.total:,} rows are usable: ask for fewer"
        )
    n_classes = len(available)
    n_train = int(config.samples * config.train) // n_classes * n_classes
    held_out = config.samples - n_train
    n_validation = round(held_out * config.validation / (config.validation + config.test))
    n_test = held_out - n_validation
    if min(n_train, n_validation, n_test) == 0:
        raise SampleError(
            f"{config.samples} pictures are too few to fill three splits of {n_classes} classes: ask for more"
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
        self, source: Source, cleaned: CleanTable, quotas: dict[Split, dict[str, int]], seed: int, folder: Path
    ) -> None:
        self.source, self.rows, self.folder = source, cleaned.rows, folder
        self.wanted = {split: dict(shares) for split, shares in quotas.items()}
        self.total = sum(sum(shares.values()) for shares in quotas.values())
        order = self.rows.index.to_numpy()[np.random.default_rng(seed).permutation(len(self.rows))]
        labels = self.rows["label"].loc[order].to_numpy()
        self.queues: dict[str, Iterator[int]] = {c: iter(order[labels == c].tolist()) for c in sorted(cleaned.classes)}
        self.split_of_group: dict[str, Split] = {}
        self.seen = images.SeenPictures()
        self.taken: list[dict[str, object]] = []
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def run(self) -> Activity[None]:
        """Reads pictures until every quota is full or its class is used up; what is missing, training makes up."""
        while chosen := self._choose():
            for (row, split), data in zip(chosen, self.source.pictures([row for row, _ in chosen]), strict=True):
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

    def _take(self, row: int, split: Split, data: bytes | None) -> None:
        entry = self.rows.loc[row]
        problem, pixels = UNREADABLE, ""
        if data is not None:
            try:
                picture = images.decode(data, entry["id"])
            except PictureError:
                pass
            else:
                pixels, hashed = images.pixel_hash(picture), images.difference_hash(picture)
                match = self.seen.find(pixels, hashed)
                problem = {None: "", "exact": EXACT_DUPLICATE, "near": NEAR_DUPLICATE}[match and match[0]]
        if problem:
            self._drop(row, problem)
            self.wanted[split][entry["label"]] += 1
            return
        name = f"{row:08d}.png"
        (self.folder / "images" / name).write_bytes(data)
        self.seen.add(entry["id"], pixels, hashed)
        self.taken.append(
            {**entry[["id", "label", "caption", "modality", "group"]], "split": split, "image": name, "pixels": pixels}
        )

    def _drop(self, row: int, reason: str) -> None:
        self.dropped[reason] += 1
        if len(self.examples[reason]) < 3:
            self.examples[reason].append(self.rows.at[row, "id"])


def _before(first: int, rest: Iterator[int]) -> Iterator[int]:
    yield first
    yield from rest


# ---- what is kept


def content_hash(manifest: pd.DataFrame) -> str:
    """SHA-256 over every row's id, split, label, caption and pixels: what is in the sample, not how it is stored."""
    lines = manifest[["id", "split", "label", "caption", "pixels"]].sort_values("id").to_dict("records")
    return hashlib.sha256("\n".join(json.dumps(line, sort_keys=True) for line in lines).encode()).hexdigest()


def _write(folder: Path, config: SampleConfig, source: Source, cleaned: CleanTable, drawing: _Drawing) -> None:
    manifest = pd.DataFrame(drawing.taken, columns=list(MANIFEST_COLUMNS))
    if manifest.empty:
        raise SampleError(f"no picture of {config.source!r} could be read")
    order = manifest["split"].map({split: i for i, split in enumerate(SPLITS)})
    manifest = manifest.iloc[np.lexsort([manifest["id"], order])].reset_index(drop=True)
    counts = {split: manifest.loc[manifest["split"] == split, "label"].value_counts().sort_index() for split in SPLITS}
    share = int(config.samples * config.train) // len(cleaned.classes)
    late = [DroppedRows(reason=r, count=n, examples=drawing.examples[r]) for r, n in drawing.dropped.most_common()]
    dropped = [*cleaned.dropped, *late]
    report = CleaningReport(
        rows=cleaned.total,
        dropped=dropped,
        sampled=len(manifest),
        not_drawn=cleaned.total - sum(d.count for d in dropped) - len(manifest),
        relabelled=cleaned.relabelled,
        source_classes=cleaned.classes,
        split_classes={split: {label: int(n) for label, n in counts[split].items()} for split in SPLITS},
        shortfall={
            c: share - int(counts["train"].get(c, 0)) for c in cleaned.classes if counts["train"].get(c, 0) < share
        },
        long_captions=int((manifest["caption"].str.split().str.len() > LONG_CAPTION_WORDS).sum()),
    )
    manifest.to_parquet(folder / "manifest.parquet")
    meta = {
        "config": config.model_dump(mode="json"),
        "content_hash": content_hash(manifest),
        "classes": sorted(cleaned.classes),
        "synthetic": source.synthetic,
        "report": report.model_dump(mode="json"),
    }
    write_json(folder / "sample.json", meta)
