"""Where records come from: the list of sources, how one is opened, and how its settings become part of a sample's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clipdemo.errors import BadSettings, SourceError
from clipdemo.records import Record, SampleConfig
from clipdemo.sources.base import COLUMNS, Source
from clipdemo.sources.settings import (
    FolderOptions,
    HubOptions,
    PhantomOptions,
    PubMedVisionOptions,
    TableOptions,
)

__all__ = ["COLUMNS", "SOURCES", "Kind", "Source", "open_source", "resolved"]


@dataclass(frozen=True)
class Kind:
    """One kind of source: what a reader should know, what it can be told, and how it is opened.

    `open(options, seed, cache)` gets a folder in which it may keep what it has fetched.
    """

    about: str
    options: type[Record]
    open: Callable[[Record, int, Path], Source]


def _phantom(options: PhantomOptions, seed: int, cache: Path) -> Source:
    from clipdemo.sources.phantom import PhantomSettings, PhantomSource

    return PhantomSource(PhantomSettings(seed=seed, **options.model_dump()))


def _pubmedvision(options: PubMedVisionOptions, seed: int, cache: Path) -> Source:
    from clipdemo.sources.pubmedvision import PubMedVisionSource

    return PubMedVisionSource(options, cache)


def _folder(options: FolderOptions, seed: int, cache: Path) -> Source:
    from clipdemo.sources.folder import FolderSource

    return FolderSource(options, cache)


def _table(options: TableOptions, seed: int, cache: Path) -> Source:
    from clipdemo.sources.table import TableSource

    return TableSource(options, cache)


def _hub(options: HubOptions, seed: int, cache: Path) -> Source:
    from clipdemo.sources.hub import HubSource

    return HubSource(options, seed, cache)


SOURCES: dict[str, Kind] = {
    "phantom": Kind("Built in: synthetic pictures, drawn by this program. No network.", PhantomOptions, _phantom),
    "pubmedvision": Kind(
        "Figures of PubMed articles with captions and body parts, the paper’s own data. From the Hub, which needs a "
        "network, or from a folder in the same layout.",
        PubMedVisionOptions,
        _pubmedvision,
    ),
    "folder": Kind(
        "A folder, ZIP or tar archive: one folder a class, or pictures beside a metadata.csv or metadata.jsonl.",
        FolderOptions,
        _folder,
    ),
    "table": Kind(
        "A CSV, TSV, JSON, JSON lines or Parquet file with a column of pictures, and columns of captions or labels.",
        TableOptions,
        _table,
    ),
    "hub": Kind("Any image dataset on the Hugging Face Hub, by its id. Needs a network.", HubOptions, _hub),
}


def open_source(config: SampleConfig, cache: Path) -> Source:
    """The source that a sample is drawn from. Raises `SourceError` for an unknown one, `BadSettings` for options."""
    kind = _kind(config.source)
    return kind.open(kind.options(**config.options), config.seed, cache)


def resolved(config: SampleConfig) -> SampleConfig:
    """The same settings in one form: options that differ from the defaults, an absolute path, the state of its files.

    Raises `SourceError` or `BadSettings` for what cannot be: an unknown source, an option that it has not, no file.
    """
    kind = _kind(config.source)
    for name in config.options:
        if name not in kind.options.model_fields:
            has = ", ".join(kind.options.model_fields)
            raise BadSettings(f"{name} is no setting of source {config.source!r}: it has {has}")
    options = kind.options(**config.options).model_dump()
    for name in ("path", "images"):
        if options.get(name):
            options[name] = str(_existing(options[name]))
    default = kind.options().model_dump()
    changed = {name: value for name, value in options.items() if value != default[name]}
    files = [Path(options[name]) for name in ("path", "images") if options.get(name)]
    state = fingerprint(files) if files else ""
    return SampleConfig(**config.model_dump() | {"options": changed, "fingerprint": state})


def _kind(name: str) -> Kind:
    if name not in SOURCES:
        raise SourceError(f"source {name!r} is not known: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def _existing(path: str) -> Path:
    try:
        found = Path(path).expanduser().resolve()
        there = found.exists()
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, no such user
        raise BadSettings(f"path = {path[:200]!r}: this cannot be a path") from None
    if not there:
        raise SourceError(f"path = {path!r}: there is no such file or folder")
    return found


def fingerprint(paths: list[Path]) -> str:
    """8 hexadecimal digits that change when a file at these paths, or in these folders, is another or newer one."""
    import hashlib
    import os

    digest = hashlib.sha256()
    for root in paths:
        files = [root] if root.is_file() else sorted(Path(d, f) for d, _, names in os.walk(root) for f in names)
        for file in files:
            try:
                stat = file.stat()
            except OSError:  # a broken link, or gone by now
                continue
            digest.update(f"{file.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()[:8]
