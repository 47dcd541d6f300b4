"""PubMedVision: figures of PubMed articles with captions and body parts, from the Hub or from a folder like it.

Its rows lie in JSON files of some 400 MB, its pictures in zip archives of some 60 GB together. The rows are read once,
as a stream, into a Parquet file; of the archives only the directories are fetched, and then one by one those pictures
that somebody asks for. All of it is kept in the cache folder, so whatever was broken off goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from clipdemo.errors import ClipDemoError, PictureError, SourceError, Stopped
from clipdemo.progress import Activity, Progress
from clipdemo.sources.base import COLUMNS, MISSING_PICTURE, Source
from clipdemo.sources.bodyparts import BODY_PARTS, SYNONYMS
from clipdemo.sources.remote_zip import (
    EVERY_SECONDS,
    OPENING_WAITS,
    Bytes,
    LocalBytes,
    Member,
    RemoteBytes,
    again,
    directory,
    file_name,
    hub_failure,
    in_order,
    read_member,
    watched,
)
from clipdemo.sources.settings import PubMedVisionOptions
from clipdemo.workspace import atomic_write, disk_errors, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ARCHIVES = "images_*.zip"
ORIGINAL_CAPTIONS = "PubMedVision_Original_Caption.json"
CONFIGS = {
    "alignment": "PubMedVision_Alignment_VQA.json",
    "instruction": "PubMedVision_InstructionTuning_VQA.json",
}
NO_PICTURE = "row has no picture"
SEVERAL_PICTURES = "row has several pictures"
DAMAGED_ROW = "row is damaged"

_FORMAT = 1  # of the files in the cache; another number leaves the old ones alone
_CHECKED_ROWS = 1000  # one of so many first rows must have the expected fields
_BATCH_ROWS = 4096
_ARTICLE = re.compile(r"(pmc_\d+)_\d+\.\w+", re.IGNORECASE)


class PubMedVisionSource(Source):
    """The rows of PubMedVision with the body parts as classes.

    `caption="original"` needs only the file of original captions, whose rows name body part and modality themselves;
    `config` then makes no difference. `caption="gpt4v"` takes the first answer of the chosen config's conversations.
    """

    name = "pubmedvision"
    synonyms = SYNONYMS

    def __init__(self, options: PubMedVisionOptions, cache: Path) -> None:
        self.classes = (*BODY_PARTS, "Others") if options.others else BODY_PARTS
        self._options = options
        self._cache = Path(cache)
        self._store: _Folder | _Repository | None = None
        self._kept: Path | None = None  # the rows
        self._names: pa.ChunkedArray | None = None  # of the rows' pictures
        self._directory: pa.Table | None = None

    def prepare(self) -> Activity[None]:
        """Fetches the rows and the archives' directories, or finds them in the cache. Raises `SourceError`."""
        if self._directory is not None:
            return
        options = self._options
        with disk_errors(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
        yield Progress(stage="source", done=0, total=1, note="looking for files")
        store = _Folder(options.path) if options.path else _Repository(options, self._cache)
        gpt4v = options.caption == "gpt4v"
        name = CONFIGS[options.config] if gpt4v else ORIGINAL_CAPTIONS
        kept = self._cache / f"rows-{_key(store.state(name), options.caption)}.parquet"
        pictures = _read_parquet(kept, ["picture"])
        if pictures is None:
            path = yield from store.fetch(name)
            yield from _parse(path, kept, gpt4v)
            pictures = _read_parquet(kept, ["picture"])
        self._kept, self._names = kept, pictures["picture"]
        self._directory = yield from self._directories(store)
        self._store = store

    def _directories(self, store: _Folder | _Repository) -> Activity[pa.Table]:
        """What lies where in all archives; the column `archive` is the position in `store.archives`."""
        import pyarrow as pa

        tables: list[pa.Table] = []

        def work(stop: Event) -> None:
            for table in in_order(lambda archive, _: self._directory_of(store, archive, stop), store.archives, 4):
                column = pa.array([len(tables)] * len(table), pa.int16())
                tables.append(table.append_column("archive", column))

        with store.failures():
            yield from watched(work, lambda: len(tables), len(store.archives), "reading the archives' directories")
        if not tables:  # a folder with unpacked pictures only
            fields = dict.fromkeys(Member._fields, pa.int64()) | {"name": pa.string(), "archive": pa.int16()}
            return pa.schema(fields.items()).empty_table()
        return pa.concat_tables(tables).combine_chunks()

    def _directory_of(self, store: _Folder | _Repository, archive: Bytes, stop: Event) -> pa.Table:
        kept = self._cache / f"directory-{_key(store.state(archive.name))}.parquet"
        table = _read_parquet(kept)
        if table is None:
            table = directory(archive, stop)
            _write_parquet(kept, table)
        return table

    def table(self) -> pd.DataFrame:
        """The rows in the file's order. A picture of several rows stays in all of them. After `prepare`."""
        self._must_be_prepared()
        rows = _read_parquet(self._kept, [*COLUMNS, "count"])
        if rows is None:
            raise SourceError(f"{self._kept} has vanished or changed meanwhile: start again, and it is made anew")
        frame = rows.to_pandas()
        frame["id"] = _unique(frame["id"])
        if self._options.several == "drop":
            several = (frame["problem"] == "") & (frame["count"] > 1)
            frame["problem"] = frame["problem"].mask(several, SEVERAL_PICTURES)
        return frame.drop(columns="count")

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """The pictures of these rows: up to 16 are fetched at a time, those that were fetched before are read."""
        store, wanted = self._store, self._wanted(rows)
        yielded = 0
        try:
            for picture in in_order(store.picture, wanted, store.workers):
                yield picture
                yielded += 1
        except ClipDemoError:
            raise
        except Exception as error:
            if not store.remote:
                raise
            failure = hub_failure(error, store.name, store.revision)
            kept = sum(want.member is not None and store.kept(want.member).exists() for want in wanted)
            raise SourceError(
                f"{failure}. {kept:,} of {len(wanted):,} pictures are kept; drawing again goes on from there"
            ) from error

    def bytes_to_fetch(self, rows: Sequence[int]) -> int:
        """Bytes of the ranges that these rows' pictures need and that are not in the cache. After `prepare`."""
        wanted = self._wanted(rows)
        if not self._store.remote:
            return 0
        members = {want.member for want in wanted if want.member is not None}
        return sum(found.end - found.start for found in members if not self._store.kept(found).exists())

    def origin(self) -> dict[str, str]:
        """Repository, commit (after `prepare`) and licence, or the folder."""
        if self._options.path:
            return {"path": str(Path(self._options.path).expanduser())}
        commit = self._store.commit if self._store is not None else self._options.revision
        return {"repository": self._options.repository, "commit": commit, "licence": "apache-2.0"}

    def _wanted(self, rows: Sequence[int]) -> list[_Wanted]:
        """Where the pictures of these rows lie."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self._must_be_prepared()
        names = self._names.take(pa.array(rows, pa.int64())).combine_chunks()
        found = pc.index_in(names, value_set=self._directory["name"].combine_chunks())
        members = self._directory.take(found.drop_null()).to_pylist()
        remaining = iter(members)
        wanted = []
        for name, position in zip(names.to_pylist(), found.to_pylist(), strict=True):
            where = next(remaining) if position is not None else None
            wanted.append(_Wanted(name, _Found(**where) if where is not None else None))
        return wanted

    def _must_be_prepared(self) -> None:
        if self._directory is None:
            raise SourceError("pubmedvision: the source has to be prepared before its rows can be read")


class _Found(NamedTuple):
    """A `Member` and the position of its archive."""

    name: str
    start: int
    end: int
    packed: int
    size: int
    method: int
    crc: int
    archive: int

    @property
    def member(self) -> Member:
        return Member(*self[:-1])


class _Wanted(NamedTuple):
    name: str  # of the picture's file
    member: _Found | None  # None: in no archive


class _Folder:
    """The files of PubMedVision in a folder on this machine."""

    remote = False
    workers = 2

    def __init__(self, path: str) -> None:
        self.root = Path(path).expanduser()
        if not self.root.is_dir():
            raise SourceError(f"path = {path!r}: this is no folder; it should hold {ORIGINAL_CAPTIONS} and {ARCHIVES}")
        with disk_errors(self.root):
            self.archives: list[Bytes] = [LocalBytes(p) for p in sorted(self.root.glob(ARCHIVES), key=_natural)]
        self._images = self.root / "images"
        if not self.archives and not self._images.is_dir():
            raise SourceError(f"{self.root} holds no pictures: neither {ARCHIVES} nor a folder images/")

    def state(self, name: str) -> str:
        """Changes when the file changes. Raises `SourceError` when it is not there."""
        try:
            stat = (self.root / name).stat()
        except FileNotFoundError:
            raise SourceError(
                f"{self.root / name} is missing: fetch it from the dataset's page, or choose another caption or config"
            ) from None
        return f"{(self.root / name).resolve()} {stat.st_size} {stat.st_mtime_ns}"

    def fetch(self, name: str) -> Activity[Path]:
        """The file's path."""
        yield from ()
        return self.root / name

    def failures(self) -> _Failures:
        return _Failures(None)

    def picture(self, wanted: _Wanted, stop: Event) -> bytes | PictureError:
        """The picture, of the unpacked folder where it is there, else of its archive."""
        try:
            if wanted.name and (unpacked := self._images / wanted.name).is_file():
                return unpacked.read_bytes()
        except (OSError, ValueError) as error:
            return PictureError(f"{wanted.name[:200]} cannot be read ({error})")
        if wanted.member is None:
            return _missing(wanted.name, str(self.root))
        try:
            return read_member(self.archives[wanted.member.archive], wanted.member.member, stop)
        except PictureError as error:
            return error
        except OSError as error:
            archive = self.archives[wanted.member.archive].name
            raise SourceError(f"{archive} cannot be read ({error.strerror}): is it still there?") from error


class _Repository:
    """The files of PubMedVision on the Hub, at one commit."""

    remote = True
    workers = 16

    def __init__(self, options: PubMedVisionOptions, cache: Path) -> None:
        from huggingface_hub import hf_hub_url

        self.name, self.revision, self._cache = options.repository, options.revision, cache
        self.commit, self._sizes = self._listing()
        names = [name for name in self._sizes if fnmatch(name.rsplit("/", 1)[-1], ARCHIVES)]
        if not names:
            raise SourceError(f"{self.name} has no {ARCHIVES} at {self.revision!r}: is this PubMedVision's layout?")
        self.archives: list[Bytes] = [
            RemoteBytes(name, hf_hub_url(self.name, name, repo_type="dataset", revision=self.commit), self._sizes[name])
            for name in sorted(names, key=_natural)
        ]

    def _listing(self) -> tuple[str, dict[str, int]]:
        """(commit, bytes of every file); as it was last time when the Hub cannot be reached now."""
        from huggingface_hub import HfApi

        kept = self._cache / f"listing-{_key(self.name, self.revision)}.json"
        try:
            with self.failures():
                api = HfApi()
                found = again(
                    lambda: api.dataset_info(self.name, revision=self.revision, files_metadata=True, timeout=30),
                    waits=OPENING_WAITS,
                )
        except _Unreachable:
            if not kept.exists():
                raise
            listing = read_json(kept)
            return listing["commit"], listing["sizes"]
        sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
        write_json(kept, {"commit": found.sha, "sizes": sizes})
        return found.sha, sizes

    def state(self, name: str) -> str:
        """The same for the same file of the same commit. Raises `SourceError` when the repository has it not."""
        if name not in self._sizes:
            raise SourceError(
                f"{self.name} has no {name} at {self.revision!r}: choose another caption, config or revision"
            )
        return f"{self.name} {self.commit} {name}"

    def fetch(self, name: str) -> Activity[Path]:
        """The file's path in the Hub's own cache, where it is fetched to unless it is there."""
        from huggingface_hub import hf_hub_download

        counted = [0]

        def work(stop: Event) -> str:
            bar = _counting_bar(counted, stop)
            fetch = partial(hf_hub_download, self.name, name, repo_type="dataset", revision=self.commit, tqdm_class=bar)
            return again(fetch, stop)

        with self.failures():
            path = yield from watched(work, lambda: counted[0], self._sizes[name], f"fetching {name}")
        return Path(path)

    def failures(self) -> _Failures:
        return _Failures(self)

    def kept(self, found: _Found) -> Path:
        """Where a fetched picture lies."""
        key = _key(self.name, self.commit, self.archives[found.archive].name, str(found.start), found.name)
        return self._cache / "pictures" / key[:2] / key

    def picture(self, wanted: _Wanted, stop: Event) -> bytes | PictureError:
        """The picture, of the cache where it is there and whole, else of the Hub."""
        found = wanted.member
        if found is None:
            return _missing(wanted.name, self.name)
        path = self.kept(found)
        try:
            data = path.read_bytes()
            if zlib.crc32(data) == found.crc and len(data) == found.size:
                return data
        except FileNotFoundError:
            pass
        try:
            data = read_member(self.archives[found.archive], found.member, stop)
        except PictureError as error:
            return error
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data)
        return data


class _Unreachable(SourceError):
    """The Hub does not answer at all."""


@dataclass
class _Failures:
    """Turns what huggingface_hub raises inside a `with` block into a `SourceError`."""

    repository: _Repository | None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if self.repository is None or not isinstance(error, Exception) or isinstance(error, ClipDemoError):
            return
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        failure = hub_failure(error, self.repository.name, self.repository.revision)
        if not isinstance(error, HfHubHTTPError) and isinstance(error, (HTTPError, OSError)):
            raise _Unreachable(str(failure)) from error
        raise failure from error


def _missing(name: str, where: str) -> PictureError:
    return PictureError(f"{name[:200] or 'no picture'}: in none of the archives of {where}", MISSING_PICTURE)


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join([str(_FORMAT), *parts]).encode(errors="surrogatepass")).hexdigest()[:24]


def _natural(path: Path | str) -> list[tuple[int, str]]:
    """images_2 before images_10."""
    return [(int(digits or 0), text) for text, digits in re.findall(r"(\D+)(\d*)", str(path))]


def _unique(ids: pd.Series) -> pd.Series:
    """The ids with -2, -3 behind those that were there before."""
    while (again := ids.duplicated()).any():
        numbers = ids.groupby(ids).cumcount() + 1
        ids = ids.mask(again, ids + "-" + numbers.astype(ids.dtype))
    return ids


def _counting_bar(counted: list[int], stop: Event) -> type:
    """A progress bar for huggingface_hub that shows nothing, counts bytes into `counted[0]`, and can stop the work."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            counted[0] = initial
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            if stop.is_set():
                raise Stopped(f"stopped after {counted[0]:,} bytes")
            counted[0] += int(n or 0)

    return Bar


def _read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A table of the cache, or these columns of it; None when it is not there, or damaged in any column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:  # a group at a time, because decoding the whole takes as much memory again
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            groups = (file.read_row_group(n, use_threads=False) for n in range(file.num_row_groups))
            kept = [group.select(columns or group.column_names) for group in groups]
            return pa.concat_tables(kept or [file.schema_arrow.empty_table()])
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError):
        path.unlink(missing_ok=True)
        return None


def _write_parquet(path: Path, table: pa.Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    atomic_write(path, buffer.getvalue().to_pybytes())


def _parse(path: Path, target: Path, gpt4v: bool) -> Activity[None]:
    """Reads a file of rows as a stream into a Parquet file that appears when it is whole."""
    import pyarrow.parquet as pq

    field = "conversations" if gpt4v else "Original_Caption"
    unfinished = target.with_name(f".{target.name}-{time.time_ns()}")
    size, last = max(1, path.stat().st_size), 0.0
    with disk_errors(target):
        try:
            with (
                path.open("rb") as file,
                pq.ParquetWriter(unfinished, _schema(), compression="zstd", write_page_checksum=True) as writer,
            ):
                for batch in _batches(_checked(_objects(file, path.name), path.name, field), field):
                    writer.write_batch(batch)
                    if time.monotonic() - last >= EVERY_SECONDS:
                        last = time.monotonic()
                        yield Progress(stage="source", done=file.tell(), total=size, note=f"reading {path.name}")
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([*((name, pa.string()) for name in (*COLUMNS, "picture")), ("count", pa.int32())])


def _objects(file: BinaryIO, name: str) -> Iterator[Any]:
    """The elements of a JSON array, or of JSON lines where a line that is no JSON is None."""
    import ijson

    first = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    file.seek(3 if file.seek(0) == 0 and file.read(3) == b"\xef\xbb\xbf" else 0)
    if first != b"[":
        for line in file:
            if line.strip():
                yield _line(line)
        return
    try:
        yield from ijson.items(file, "item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())[:100]
        raise SourceError(
            f"{name} is not whole ({said}, near byte {file.tell():,}): delete it and fetch it again"
        ) from None


def _line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _checked(rows: Iterable[Any], name: str, field: str) -> Iterator[Any]:
    """The same rows. Raises `SourceError` when none of the first thousand has the fields that are expected."""
    expected, seen, good = ("image", "body_part", field), {}, False
    number = 0
    for number, row in enumerate(rows, 1):
        yield row
        if good:
            continue
        good = isinstance(row, dict) and all(key in row for key in expected)
        seen |= dict.fromkeys(row if isinstance(row, dict) else [type(row).__name__])
        if number == _CHECKED_ROWS and not good:
            break
    if not good:
        fields = ", ".join(str(key)[:60] for key in list(seen)[:20]) or "nothing"
        raise SourceError(
            f"{name}: expected rows with the fields {', '.join(expected)}, found {fields} in {number:,} rows: "
            "has the dataset changed? Choose the revision of an earlier commit"
        )


def _batches(rows: Iterable[Any], field: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    batch: list[dict] = []
    for number, row in enumerate(rows, 1):
        batch.append(_row(row, number, field))
        if len(batch) == _BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(batch, _schema())
            batch = []
    yield pa.RecordBatch.from_pylist(batch, _schema())


def _row(row: Any, number: int, field: str) -> dict:
    """One row of the table, its picture's file name, and how many pictures it has."""
    result = dict.fromkeys((*COLUMNS, "picture"), "") | {"id": f"row {number}", "count": 0}
    if not isinstance(row, dict):
        return result | {"problem": DAMAGED_ROW}
    if isinstance(row.get("id"), (str, int)) and row["id"] != "":
        result["id"] = _text(str(row["id"]))
    images = row.get("image")
    images = [images] if isinstance(images, str) else images
    texts = [row.get("body_part"), row.get("modality"), _caption(row, field)]
    if not isinstance(images, (list, type(None))) or texts[2] is None:
        return result | {"problem": DAMAGED_ROW}
    if not all(isinstance(text, (str, type(None))) for text in [*texts, *(images or [])]):
        return result | {"problem": DAMAGED_ROW}
    label, modality, caption = (_text(text or "") for text in texts)
    names = [_text(file_name(image)) for image in images or [] if image and file_name(image)]
    result |= {"caption": caption, "label": label, "modality": modality}
    if not names:
        return result | {"problem": NO_PICTURE}
    article = _ARTICLE.fullmatch(names[0])
    return result | {"picture": names[0], "count": len(names), "group": article[1] if article else ""}


def _caption(row: dict, field: str) -> Any:
    """The caption; None where the row has none."""
    if field != "conversations":
        return row.get(field)
    turns = row.get(field)
    answers = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    return next((turn.get("value") for turn in answers if turn.get("from") == "gpt"), None)


def _text(text: str) -> str:
    """The text without halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode()
