"""Anybody's folder or archive of pictures: a folder a class, or pictures that a metadata file says something about.

The metadata file is `metadata.csv`, `.jsonl` or `.parquet`, at the root or deeper, as Hugging Face's imagefolder has
it, or else the only table at the root, whatever it is called. Its paths start from where it lies.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from clipdemo.errors import BadSettings, ClipDemoError, PictureError, SourceError
from clipdemo.images import EMPTY
from clipdemo.progress import Activity, Progress, finish
from clipdemo.sources.archives import Archive, Entry, open_archive, printable
from clipdemo.sources.base import COLUMNS, MISSING_PICTURE, Source
from clipdemo.sources.columns import guess_columns, listed
from clipdemo.sources.settings import NO_COLUMN, FolderOptions
from clipdemo.sources.table_files import BROKEN_ROW, Rows, named_picture, open_table

NOT_A_PICTURE = "file is not a picture"
NOT_IN_METADATA = "picture is not in the metadata"
LEAVES = "path leaves the folder"
PICTURE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jfif .webp .tif .tiff .bmp .gif .dcm .dicom .ima".split()  # noqa: SIM905
)
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})

_METADATA = {"metadata.csv", "metadata.jsonl", "metadata.parquet"}
_TABLE_SUFFIXES = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"}


@dataclass(slots=True)
class Row:
    """One row of the table, and the position of its picture in the archive (-1: it has none)."""

    id: str
    entry: int = -1
    caption: str = ""
    label: str | None = ""  # None: as the folders have it
    group: str | None = ""
    problem: str = ""


@dataclass
class Metadata:
    """A metadata file: where it lies, what its columns are taken for, and its rows."""

    path: str
    names: list[str]
    columns: dict[str, str]
    rows: Rows
    texts: dict[str, list[str]] = field(init=False)  # by what the column is taken for

    def __post_init__(self) -> None:
        self.texts = {key: self.rows.texts[name].to_pylist() for key, name in self.columns.items()}


class FolderSource(Source):
    """See `clipdemo.sources.Source`. Works on the folder as it was when `prepare` looked through it."""

    name = "folder"

    def __init__(self, options: FolderOptions, cache: Path) -> None:
        if not options.path:
            raise BadSettings("path = '': write --path FOLDER_OR_ARCHIVE")
        self.options = options
        self.path = Path(options.path).expanduser()
        self._cache = cache
        self._archive: Archive | None = None
        self._metadata: list[Metadata] = []
        self._rows: list[Row] = []

    def prepare(self) -> Activity[None]:
        """See `Source`. A compressed tar is unpacked into the cache once."""
        if self._archive is not None:
            return
        archive = yield from open_archive(self.path, self._cache)
        yield Progress(stage="source", done=0, total=1, note="Reading metadata and labels")
        self._metadata = _read_metadata(archive, self.options)
        self._rows = _rows(archive.entries, self._metadata, self.options.label_level)
        if not self._rows:
            raise SourceError(f"{self.path} holds no files: choose a folder or archive of pictures")
        self._archive = archive
        yield Progress(stage="source", done=1, total=1, note=f"{len(self._rows):,} rows")

    def table(self) -> pd.DataFrame:
        """See `Source`. An id is the path inside; a second row with the same one gets a number."""
        self._opened()
        columns = {name: [getattr(row, name, "") for row in self._rows] for name in COLUMNS}
        return pd.DataFrame(columns, columns=list(COLUMNS), dtype="str")

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """See `Source`. One file at a time."""
        archive = self._opened()
        for number in rows:
            row = self._rows[number]
            if row.problem or row.entry < 0:
                reason = row.problem or MISSING_PICTURE
                yield PictureError(f"{row.id}: {reason}", reason)
                continue
            try:
                yield archive.read(row.entry)
            except PictureError as error:
                yield error

    def columns(self) -> dict[str, str]:
        """See `Source`. Of several metadata files, what the first that has such a column calls it."""
        found: dict[str, str] = {}
        for metadata in self._metadata:
            found = metadata.columns | found
        return found

    def available_columns(self) -> list[str]:
        """See `Source`; [] before `prepare`."""
        return list(dict.fromkeys(name for metadata in self._metadata for name in metadata.names))

    def origin(self) -> dict[str, str]:
        """The path, and the metadata files that were used."""
        used = ", ".join(metadata.path for metadata in self._metadata)
        return {"path": str(self.path)} | ({"metadata": used[:1000]} if used else {})

    def _opened(self) -> Archive:
        finish(self.prepare())
        assert self._archive is not None
        return self._archive


def chosen_columns(options: FolderOptions) -> dict[str, str]:
    """The user's words for `guess_columns`."""
    return {key: getattr(options, f"{key}_column") for key in ("image", "caption", "label", "group")}


def _is_picture(path: str) -> bool:
    """By its name. DICOM files often have no extension, or what looks like one ends a number such as 1.2.840.5."""
    suffix = posixpath.splitext(path)[1].lower()
    return suffix in PICTURE_SUFFIXES or suffix in ("", ".") or suffix[1:].isdigit()


def _folders(path: str) -> list[str]:
    return path.split("/")[:-1]


def _rows(entries: Sequence[Entry], metadata: Sequence[Metadata], label_level: int) -> list[Row]:
    """A row for each row of the metadata and each file that is not named there, but not for the metadata itself."""
    usable = [e.path for e in entries if not e.problem and _is_picture(e.path)]
    labels, groups = _from_folders(usable, label_level)
    rows: list[Row] = []
    named: set[int] = set()
    if metadata:
        positions = {entry.path: i for i, entry in enumerate(entries)}
        for one in metadata:
            rows += _described(one, positions, entries, named)
    for row in rows:
        path = entries[row.entry].path if row.entry >= 0 else ""
        row.label = labels.get(path, "") if row.label is None else row.label
        row.group = groups.get(path, "") if row.group is None else row.group
    tables = {one.path for one in metadata}
    for i, entry in enumerate(entries):
        if i not in named and entry.path not in tables:
            problem = _problem(entry) or (NOT_IN_METADATA if metadata else "")
            path = entry.path
            rows.append(Row(path, i, label=labels.get(path, ""), group=groups.get(path, ""), problem=problem))
    _number_ids(rows)
    return rows


def _problem(entry: Entry) -> str:
    if entry.problem:
        return entry.problem
    if not _is_picture(entry.path):
        return NOT_A_PICTURE
    return "" if entry.size else EMPTY


def _number_ids(rows: Sequence[Row]) -> None:
    """Makes ids unique: "a.png" a second time becomes "a.png (2)"."""
    seen: dict[str, int] = {}
    taken = {row.id for row in rows}
    for row in rows:
        count = seen[row.id] = seen.get(row.id, 0) + 1
        if count == 1:
            continue
        base = row.id
        while (numbered := f"{base} ({count})") in taken:
            count += 1
        seen[base] = count
        row.id = numbered
        taken.add(numbered)


def _from_folders(paths: Sequence[str], level: int) -> tuple[dict[str, str], dict[str, str]]:
    """Path -> label and path -> group, by the names of folders.

    No labels where the folders at that level say nothing: fewer than two of them, or only splits. From level 2 on, the
    folder below the label's is a group: a patient in a class.
    """
    if not level:
        return {}, {}
    real = [path for path in paths if posixpath.splitext(path)[1].lower() in PICTURE_SUFFIXES] or paths
    top = _common_folders(real)
    labels: dict[str, str] = {}
    groups: dict[str, str] = {}
    for path in paths:
        folders = _folders(path)
        wrapped = len(top) if folders[: len(top)] == top else 0
        if level > 1 and len(folders) - wrapped >= level - 1:
            groups[path] = folders[1 - level]
        if len(folders) - wrapped >= level:
            labels[path] = folders[-level]
    distinct = set(labels.values())
    if len(distinct) < 2 or {label.lower() for label in distinct} <= SPLITS:
        labels = {}
    return labels, groups


def _common_folders(paths: Sequence[str]) -> list[str]:
    """The folders that all paths begin with: what wraps everything and so tells nothing apart."""
    if not paths:
        return []
    first, last = _folders(min(paths)), _folders(max(paths))
    size = 0
    while size < min(len(first), len(last)) and first[size] == last[size]:
        size += 1
    return first[:size]


def _read_metadata(archive: Archive, options: FolderOptions) -> list[Metadata]:
    usable = [i for i, entry in enumerate(archive.entries) if not entry.problem]
    name_of = {i: archive.entries[i].path for i in usable}
    named = [i for i in usable if posixpath.basename(name_of[i]).lower() in _METADATA]
    if named:
        return [_opened_metadata(archive, i, options) for i in named]
    depth = len(_common_folders(list(name_of.values())))
    tables = [
        i
        for i in usable
        if len(_folders(name_of[i])) == depth and posixpath.splitext(name_of[i])[1].lower() in _TABLE_SUFFIXES
    ]
    chosen = {key: word for key, word in chosen_columns(options).items() if word not in ("", NO_COLUMN)}
    if len(tables) == 1:
        found = _opened_if_about(archive, tables[0], options, must=bool(chosen))
        if found:
            return [found]
    if chosen:
        key, word = next(iter(chosen.items()))
        raise BadSettings(f"{key}_column = {word[:100]!r}: {archive.path} has no metadata.csv with columns")
    return []


def _opened_if_about(archive: Archive, position: int, options: FolderOptions, must: bool) -> Metadata | None:
    """The table if it names at least one of the pictures; a table about anything else is no metadata."""
    try:
        metadata = _opened_metadata(archive, position, options)
    except ClipDemoError:
        if must:
            raise
        return None
    positions = {entry.path: i for i, entry in enumerate(archive.entries)}
    named: set[int] = set()
    _described(metadata, positions, archive.entries, named)
    return metadata if named or must else None


def _opened_metadata(archive: Archive, position: int, options: FolderOptions) -> Metadata:
    path = archive.entries[position].path
    try:
        data = archive.read(position)
    except PictureError as error:
        raise SourceError(f"{path} in {archive.path.name} cannot be read: {error.reason}") from None
    table = open_table(path, lambda: io.BytesIO(data))
    columns = guess_columns(table.names, chosen=chosen_columns(options))
    if "image" not in columns or columns["image"] in table.picture_columns:
        raise BadSettings(
            f"image_column = {options.image_column!r}: {path} needs a column of file names, such as file_name; "
            f"it has {listed(table.names)}"
        )
    return Metadata(path, table.names, columns, table.read(list(columns.values())))


def _described(
    metadata: Metadata, positions: Mapping[str, int], entries: Sequence[Entry], named: set[int]
) -> list[Row]:
    """The rows of a metadata file; positions of the files that they name go into `named`."""
    broken = set(metadata.rows.broken.tolist())
    count = metadata.rows.count
    texts = metadata.texts
    captions = texts.get("caption", [""] * count)
    labels, groups = (texts.get(key, [None] * count) for key in ("label", "group"))
    rows = []
    for i, written in enumerate(texts["image"]):
        row = Row(f"{metadata.path}:{i + 1}", -1, captions[i], labels[i], groups[i])
        if i in broken:
            row.problem = BROKEN_ROW
        else:
            path, row.problem = _inside_path(written, posixpath.dirname(metadata.path))
            if path:
                row.id = path
                row.entry = positions.get(path, -1)
                row.problem = _problem(entries[row.entry]) if row.entry >= 0 else MISSING_PICTURE
        if row.entry >= 0:
            named.add(row.entry)
        rows.append(row)
    return rows


def _inside_path(cell: str, folder: str) -> tuple[str, str]:
    """(path from the root, "") of the picture that a table in `folder` names, or ("", its problem)."""
    name, problem = named_picture(cell)
    if problem:
        return "", problem
    path = posixpath.normpath(posixpath.join(folder, printable(name.replace("\\", "/"))))
    if path.startswith(("/", "../")) or path == ".." or re.match("[A-Za-z]:", path):
        return "", LEAVES
    return path, ""
