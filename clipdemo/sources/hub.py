"""Any image dataset on the Hugging Face Hub: the first rows of its shuffled stream, kept as Parquet shards.

Nothing of a dataset is run, only its files are read. The order of a stream is made of the seed and the commit, so a
stream that broke off is read again and goes on with the first shard that is not there yet.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from clipdemo.errors import BadSettings, ClipDemoError, PictureError, SourceError, WorkspaceError
from clipdemo.progress import Activity, Progress
from clipdemo.sources.base import COLUMNS, MISSING_PICTURE, Source
from clipdemo.sources.columns import guess_columns
from clipdemo.sources.remote_zip import OPENING_WAITS, again, beneath, file_name, hub_failure, in_order, watched
from clipdemo.sources.settings import NO_COLUMN, HubOptions
from clipdemo.workspace import disk_errors, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SHARD_ROWS = 256
NO_PICTURE = "row has no picture"
READ_TRIES = 3  # of the stream, each with some tries of its own

_FORMAT = 1  # of the shards; another number leaves the old ones alone
_GROUP_ROWS = 8  # rows of a shard that are read and written together: what is in memory at once
_ON_THE_HUB = "hf://datasets/"  # a dataset may name paths; only those on the Hub are followed
_INSTEAD = "use a source on this machine"


class HubSource(Source):
    """The rows that one reads first when the dataset's stream is shuffled with `seed` among `options.buffer` rows."""

    name = "hub"

    def __init__(self, options: HubOptions, seed: int, cache: Path) -> None:
        if not options.dataset:
            raise BadSettings("dataset = '': write --dataset OWNER/NAME")
        self._options, self._seed, self._cache = options, seed, Path(cache)
        self._commit = options.revision
        self._folder: Path | None = None
        self._about: dict[str, Any] = {}

    def prepare(self) -> Activity[None]:
        """Reads the stream into shards, unless they are there. Raises `SourceError` and `BadSettings`."""
        with disk_errors(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
        yield Progress(stage="source", done=0, total=self._options.rows, note=f"looking for {self._options.dataset}")
        self._commit = self._find_commit()
        folder = self._cache / f"hub-{self._key(self._commit, str(self._seed), self._options.model_dump_json())}"
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
        about = _finished(folder)
        if about is None:
            about = yield from self._read(folder)
        self._folder, self._about = folder, about

    def table(self) -> pd.DataFrame:
        """The rows in the stream's order. After `prepare`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        shards = [pq.read_table(shard, columns=list(COLUMNS)) for shard in self._shards()]
        return pa.concat_tables(shards).to_pandas()

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """The pictures of these rows as they came from the Hub."""
        shards = _Shards(self._shards())
        for row in rows:
            record = shards.record(int(row))
            if record["image"]:
                yield record["image"]
            else:
                yield PictureError(f"{record['id']} has no picture", record["problem"])

    def columns(self) -> dict[str, str]:
        """Which column was taken for what. After `prepare`."""
        return dict(self._about.get("columns", {}))

    def available_columns(self) -> list[str]:
        """All columns of the dataset. After `prepare`."""
        return list(self._about.get("available", []))

    def origin(self) -> dict[str, str]:
        """Repository, commit (after `prepare`), and licence where the dataset's card names one."""
        found = {"repository": self._options.dataset, "commit": self._commit}
        licence = self._about.get("licence")
        return found | ({"licence": licence} if licence else {})

    def _shards(self) -> list[Path]:
        if self._folder is None:
            raise SourceError("hub: the source has to be prepared before its rows can be read")
        return [_shard(self._folder, number) for number in range(-(-self._about["rows"] // SHARD_ROWS))]

    def _key(self, *parts: str) -> str:
        text = "\n".join([str(_FORMAT), self._options.dataset, self._options.revision, *parts])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _find_commit(self) -> str:
        """The revision's commit; the one of last time when the Hub cannot be reached now."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        options, kept = self._options, self._cache / f"hub-commit-{self._key()}.json"

        def ask() -> str:
            found = HfApi().dataset_info(options.dataset, revision=options.revision, timeout=30)
            if found.gated:  # whoever may not read it is told so only by this, not by the files' own errors
                HfApi().auth_check(options.dataset, repo_type="dataset")
            return found.sha

        try:
            commit = again(ask, waits=OPENING_WAITS)
        except Exception as error:
            if not isinstance(error, (HfHubHTTPError, HFValidationError)) and kept.exists():
                return read_json(kept)["commit"]
            raise self._failure(error) from error
        write_json(kept, {"commit": commit})
        return commit

    def _failure(self, error: BaseException) -> SourceError:
        from huggingface_hub.errors import HFValidationError, HTTPError

        if all(beneath(error, kind) is None for kind in (OSError, HTTPError, HFValidationError)):
            return _unreadable(self._options.dataset, error)
        return hub_failure(error, self._options.dataset, self._options.revision, _INSTEAD)

    def _read(self, folder: Path) -> Activity[dict[str, Any]]:
        """Streams the rows into shards in a thread of its own, and tells how many there are."""
        written = [0]

        def work(stop: Event) -> dict[str, Any]:
            with _calm():
                return self._write_shards(folder, written, stop)

        note = f"reading {self._options.dataset}"
        try:
            return (yield from watched(work, lambda: written[0], self._options.rows, note))
        except ClipDemoError:
            raise
        except Exception as error:
            complete = _complete(folder) * SHARD_ROWS
            raise SourceError(
                f"{self._failure(error)}. {complete:,} of {self._options.rows:,} rows are kept; the next start goes "
                "on from there"
            ) from error

    def _write_shards(self, folder: Path, written: list[int], stop: Event) -> dict[str, Any]:
        """Writes the shards that are not there yet; returns what `_finished` finds the next time."""
        stream = again(self._opened, stop)
        reader = _Reader(self._options, stream.features)
        stream = stream.shuffle(seed=self._seed, buffer_size=self._options.buffer)
        rows = itertools.islice(stream, self._options.rows)
        rows = itertools.takewhile(lambda _: not stop.is_set(), rows)
        skipped = _complete(folder)
        for _ in itertools.islice(rows, skipped * SHARD_ROWS):
            written[0] += 1
        records = in_order(lambda item, stop: reader.record(*item, stop), enumerate(rows, written[0]), workers=8)
        total = written[0]
        for number in itertools.count(skipped):
            count = _write_shard(_shard(folder, number), itertools.islice(records, SHARD_ROWS), written)
            total += count
            if count < SHARD_ROWS:
                break
        if not total:
            raise SourceError(f"{self._options.dataset} has no rows in split {self._options.split!r}")
        about = {"rows": total, "columns": reader.columns, "available": list(stream.features)}
        about |= {"licence": str(stream.info.license or "")}
        if not stop.is_set():
            write_json(folder / "done.json", about)
        return about

    def _opened(self) -> Any:
        """The stream; trouble with the network as huggingface_hub raises it, whatever `datasets` makes of it."""
        from huggingface_hub.errors import HTTPError

        try:
            return self._open()
        except ClipDemoError:
            raise
        except Exception as error:
            trouble = beneath(error, HTTPError)
            if trouble is None and isinstance(error, FileNotFoundError):
                raise SourceError(
                    f"{self._options.dataset} has no files that are read as a table of pictures"
                ) from error
            raise trouble or error from error

    def _open(self) -> Any:
        """The stream, its pictures undecoded."""
        import datasets

        options = self._options
        try:
            stream = datasets.load_dataset(
                options.dataset, options.config or None, split=options.split, revision=self._commit, streaming=True
            )
        except ValueError as error:
            raise self._refusal(error) from error
        if stream.features is None:  # CSV and JSON say what they hold only when they are read
            stream = stream._resolve_features()
        return stream.decode(False)

    def _refusal(self, error: Exception) -> ClipDemoError:
        """Why `datasets` does not want these options."""
        import datasets

        options = self._options
        configs = datasets.get_dataset_config_names(options.dataset, revision=self._commit)
        if options.config not in configs and (options.config or len(configs) > 1):
            return BadSettings(f"config = {options.config!r}: {options.dataset} has {', '.join(configs)}")
        splits = datasets.get_dataset_split_names(options.dataset, options.config or None, revision=self._commit)
        if options.split not in splits:
            return BadSettings(f"split = {options.split!r}: {options.dataset} has {', '.join(map(str, splits))}")
        return _unreadable(options.dataset, error)


def _unreadable(dataset: str, error: BaseException) -> SourceError:
    said = (str(error).splitlines() or [""])[0][:300]
    return SourceError(f"{dataset} cannot be read as a stream: {said or type(error).__name__}")


class _Reader:
    """Turns rows of the stream into rows of the table."""

    def __init__(self, options: HubOptions, features: Mapping[str, Any]) -> None:
        chosen = {key: getattr(options, f"{key}_column") for key in ("image", "caption", "label", "group")}
        image = chosen["image"] if chosen["image"] != NO_COLUMN else ""
        image = image or _image_column(features)
        self.columns = guess_columns(list(features), image=image or None, chosen=chosen)
        if not image or "image" not in self.columns:
            raise SourceError(f"{options.dataset} has no column of pictures, only {', '.join(features)[:500]}")
        self._split, self._features = options.split, features

    def record(self, position: int, row: Mapping[str, Any], stop: Event) -> dict[str, Any]:
        """One row, its picture read. `position` is the row's place in the shuffled stream."""
        value = row.get(self.columns["image"])
        value = value[0] if isinstance(value, list) and value else value
        picture, problem = _picture(value, stop)
        path = value.get("path") if isinstance(value, dict) else None
        name = f" {file_name(path)}" if isinstance(path, str) and path else ""
        caption, label, group = (self._text(row, key) for key in ("caption", "label", "group"))
        record = {"id": f"{self._split} {position}{name}", "caption": caption, "label": label, "modality": ""}
        return record | {"group": group, "problem": problem, "image": picture}

    def _text(self, row: Mapping[str, Any], key: str) -> str:
        column = self.columns.get(key)
        if column is None or row.get(column) is None:
            return ""
        text = _as_text(_named(row[column], self._features[column]))
        return text.encode("utf-8", "replace").decode()


def _image_column(features: Mapping[str, Any]) -> str:
    """The first column of pictures; else the first that may hold a picture's bytes; "" for none."""
    from datasets import Image, Value

    def pictures(feature: Any) -> bool:
        return isinstance(feature, Image) or (hasattr(feature, "feature") and pictures(feature.feature))

    def raw(feature: Any) -> bool:
        binary = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
        return binary or (isinstance(feature, dict) and "bytes" in feature)

    found = [name for name, feature in features.items() if pictures(feature)]
    return next(iter(found + [name for name, feature in features.items() if raw(feature)]), "")


def _picture(value: Any, stop: Event) -> tuple[bytes, str]:
    """(bytes of a picture, ""), or (b"", why there is none)."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, bytes) and data:
        return data, ""
    if not isinstance(path, str) or not path.rsplit("::", 1)[-1].startswith(_ON_THE_HUB):
        return b"", NO_PICTURE
    try:
        return again(lambda: _fetched(path), stop), ""
    except FileNotFoundError:
        return b"", MISSING_PICTURE


def _fetched(path: str) -> bytes:
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb") as file:
        return file.read()


def _named(value: Any, feature: Any) -> Any:
    """The value with a class's name instead of its number."""
    names = getattr(feature, "names", None)
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""
    if isinstance(value, list) and hasattr(feature, "feature"):
        return [_named(each, feature.feature) for each in value]
    return value


def _as_text(value: Any) -> str:
    """Text as it is, the first text inside of lists and objects, else JSON or whatever Python writes."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        first = next(_texts(value), None)
        return first if first is not None else json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return str(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([*((name, pa.string()) for name in COLUMNS), ("image", pa.binary())])


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.parquet"


def _write_shard(path: Path, records: Iterator[dict[str, Any]], written: list[int]) -> int:
    """Writes a shard that appears when it is whole; returns its rows, and writes none where there are none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, unfinished = 0, path.with_name(f".{path.name}-{time.time_ns()}")
    try:
        with pq.ParquetWriter(unfinished, _schema(), compression="none", write_page_checksum=True) as writer:
            while group := list(itertools.islice(records, _GROUP_ROWS)):
                with disk_errors(path):
                    writer.write_table(pa.Table.from_pylist(group, _schema()))
                count += len(group)
                written[0] += len(group)
        if count:
            unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _rows_of(path: Path) -> int:
    """Rows of a shard; 0 when it is not there or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException):
        return 0


def _complete(folder: Path) -> int:
    """How many shards there are, from the first on, that are full."""
    return next(number for number in itertools.count() if _rows_of(_shard(folder, number)) != SHARD_ROWS)


def _finished(folder: Path) -> dict[str, Any] | None:
    """What is known of a stream that was read to its end; None when it was not, or a shard is gone."""
    try:
        about = read_json(folder / "done.json")
    except WorkspaceError:
        return None
    rows = sum(_rows_of(_shard(folder, number)) for number in range(-(-about["rows"] // SHARD_ROWS)))
    return about if rows == about["rows"] else None


class _Shards:
    """Rows of shards by their position; the group of rows read last stays in memory."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._at: tuple[int, int] | None = None
        self._group: pa.Table | None = None

    def record(self, row: int) -> dict[str, Any]:
        """One row with its picture."""
        import pyarrow.parquet as pq

        number, position = divmod(row, SHARD_ROWS)
        at = (number, position // _GROUP_ROWS)
        if at != self._at:
            with pq.ParquetFile(self._paths[number], page_checksum_verification=True) as file:
                self._group, self._at = file.read_row_group(at[1]), at
        return self._group.slice(position % _GROUP_ROWS, 1).to_pylist()[0]


@contextmanager
def _calm() -> Iterator[None]:
    """Without the libraries' bars and warnings, and without their patience of ten minutes: errors come back to us."""
    import datasets
    import huggingface_hub.utils as hub

    levels = datasets.logging.get_verbosity(), hub.logging.get_verbosity()
    bars, tries = datasets.are_progress_bars_disabled(), datasets.config.STREAMING_READ_MAX_RETRIES
    datasets.logging.set_verbosity_error()
    hub.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    datasets.config.STREAMING_READ_MAX_RETRIES = READ_TRIES
    try:
        yield
    finally:
        datasets.logging.set_verbosity(levels[0])
        hub.logging.set_verbosity(levels[1])
        datasets.config.STREAMING_READ_MAX_RETRIES = tries
        if not bars:
            datasets.enable_progress_bars()
