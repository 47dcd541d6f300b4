"""A look at a source before anything is drawn: what is in it, what cleaning would do, and what a sample would cost."""

from __future__ import annotations

import os
import time

import numpy as np

from clipdemo import images
from clipdemo.cleaning import clean
from clipdemo.errors import PictureError
from clipdemo.progress import Activity, Progress
from clipdemo.records import CleaningReport, Mode, Record, SampleConfig
from clipdemo.sources import Source, open_source, resolved
from clipdemo.workspace import Workspace, read_json, write_json

TRIED = 8  # pictures that are read to know what one costs


class Survey(Record):
    """What a source holds. `report` is as of a sample that draws nothing."""

    config: SampleConfig
    texts: tuple[Mode, ...]  # which of captions and labels its rows have
    columns: dict[str, str]  # what was taken for "image", "caption", "label" and "group"
    available_columns: tuple[str, ...]
    report: CleaningReport
    tried: int  # pictures that were read to know what one costs
    readable: int  # of them
    seconds_a_picture: float  # to read, decode and compare it, on this machine
    bytes_a_picture: int  # of its file
    bytes_to_fetch_a_picture: float  # over the network; 0 for what is on this machine
    origin: dict[str, str]

    def cost(self, samples: int) -> tuple[float, int]:
        """(seconds, bytes over the network) that a sample of this size takes, roughly."""
        n = min(samples, self.report.kept)
        return n * self.seconds_a_picture, round(n * self.bytes_to_fetch_a_picture)


def survey_source(config: SampleConfig, workspace: Workspace) -> Activity[Survey]:
    """Reads the source that a sample would be drawn from, or finds what was found before. Raises as a draw does."""
    config = resolved(config)
    if found := load_survey(config, workspace):
        return found
    source = open_source(config, workspace.source_cache)
    yield Progress(stage="source", done=0, total=1, note="reading the source")
    yield from source.prepare()
    cleaned = clean(source.table(), source.classes, source.synonyms, config.cleaning)
    yield Progress(stage="source", done=0, total=1, note=f"trying {TRIED} pictures")
    rng = np.random.default_rng(config.seed)
    rows = rng.permutation(cleaned.rows.index.to_numpy())[:TRIED].tolist()
    to_fetch = source.bytes_to_fetch(rows) / max(1, len(rows))
    readable, seconds, size = _try_pictures(source, rows)
    survey = Survey(
        config=_without_size(config),
        texts=cleaned.uses,
        columns=source.columns(),
        available_columns=tuple(source.available_columns()),
        report=CleaningReport(
            rows=cleaned.total,
            dropped=cleaned.dropped,
            sampled=0,
            not_drawn=len(cleaned.rows),
            relabelled=cleaned.relabelled,
            source_classes=cleaned.classes if "labels" in cleaned.uses else {},
            wordings=cleaned.wordings,
            no_labels=cleaned.no_labels,
        ),
        tried=len(rows),
        readable=readable,
        seconds_a_picture=seconds,
        bytes_a_picture=size,
        bytes_to_fetch_a_picture=to_fetch,
        origin=source.origin(),
    )
    folder = workspace.folder("cache", _name(config))
    folder.mkdir(exist_ok=True)
    write_json(folder / "survey.json", survey.model_dump(mode="json"))
    yield Progress(stage="source", done=1, total=1, note=f"{cleaned.total:,} rows, {len(cleaned.rows):,} clean")
    return survey


def load_survey(config: SampleConfig, workspace: Workspace) -> Survey | None:
    """What a look at this source found earlier, if there was one."""
    path = workspace.folder("cache", _name(config)) / "survey.json"
    return Survey(**read_json(path)) if path.exists() else None


def _try_pictures(source: Source, rows: list[int]) -> tuple[int, float, int]:
    """(readable pictures, seconds, bytes) of reading these rows; seconds and bytes are a picture's."""
    began, sizes = time.perf_counter(), []
    for data in source.pictures(rows):
        try:
            if isinstance(data, PictureError):
                raise data
            images.difference_hash(images.decode(data))
            sizes.append(len(data))
        except PictureError:
            continue
    seconds = (time.perf_counter() - began) / max(1, len(rows))
    if source.synthetic:  # drawn on all cores when there are many
        seconds /= os.cpu_count() or 1
    return len(sizes), round(seconds, 5), round(sum(sizes) / max(1, len(sizes)))


def _without_size(config: SampleConfig) -> SampleConfig:
    """The settings that decide what a look finds."""
    return SampleConfig(
        source=config.source,
        seed=config.seed,
        cleaning=config.cleaning,
        options=config.options,
        fingerprint=config.fingerprint,
    )


def _name(config: SampleConfig) -> str:
    return f"survey-{_without_size(config).digest()}"
