"""Tables of any common kind, read as columns of text: CSV and its relatives, JSON, JSON lines, Parquet.

Every row of the file counts: one that cannot be read keeps its place and is listed in `Rows.broken`.
Numbers and booleans become text, null becomes "", what is nested becomes JSON. Only the columns asked for are kept.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from clipdemo.errors import ClipDemoError, SourceError
from clipdemo.sources.archives import one_line
from clipdemo.sources.columns import listed

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 20_000_000
MAX_COLUMNS = 10_000
MAX_LINE_BYTES = 16 * 2**20
MAX_JSON_BYTES = 256 * 2**20  # of a file that has to be read in one piece; JSON lines may be as long as they like
MAX_TEXT_BYTES = 4 * 2**30  # of the columns that are kept

BROKEN_ROW = "row cannot be read"
NO_PICTURE = "row has no picture"
SEVERAL = "row has several pictures"
URL = "picture is a URL, and is not fetched"

_SAMPLE_BYTES = 2**20
_ROWS_AT_ONCE = 4096
_SPOOL_BYTES = 64 * 2**20  # pictures held in memory; more of them wait on disk
_PICTURES_AT_ONCE = 1024  # that a row group is read once for
_BOMS = {  # the longer first: UTF-32's begins as UTF-16's does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Rows:
    """Columns of a table: `count` texts each, as pyarrow's large_string without nulls.

    `broken` are the positions, int64 and ascending, of the rows that cannot be read; their texts are "".
    """

    count: int
    texts: dict[str, pa.ChunkedArray]
    broken: np.ndarray


class TableFile:
    """An open table. `names` are its columns, each once; `picture_columns` those of them that hold encoded pictures."""

    def __init__(self, name: str, names: Sequence[str], picture_columns: Sequence[str] = ()) -> None:
        if not names:
            raise SourceError(f"{name} has no columns: write a first line that names them")
        if len(names) > MAX_COLUMNS:
            raise SourceError(f"{name} has {len(names):,} columns: at most {MAX_COLUMNS:,} are read")
        self.name = name
        self.names = list(names)
        self.picture_columns = tuple(picture_columns)

    def read(self, columns: Sequence[str]) -> Rows:
        """All rows of these columns; of a picture column, the paths beside the pictures. Raises `SourceError`."""
        with table_errors(self.name):
            rows = self._read(list(dict.fromkeys(columns)))
        if not rows.count:
            raise SourceError(f"{self.name} has columns ({listed(self.names)}) but no rows")
        return rows

    def _read(self, columns: list[str]) -> Rows:
        raise NotImplementedError

    def pictures(self, column: str, rows: Sequence[int], scratch: Path) -> Iterator[bytes | None]:
        """The bytes in a picture column at these rows, in order; None where there are none.

        What does not fit into memory waits in a nameless file in `scratch`. Raises `SourceError`.
        """
        raise NotImplementedError


@contextmanager
def table_errors(name: str) -> Iterator[None]:
    """Turns whatever the readers of tables raise into one `SourceError` of one line."""
    try:
        yield
    except ClipDemoError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{name} is not there: check the path") from None
    except RecursionError:
        raise SourceError(f"{name} is nested too deeply to be a table") from None
    except Exception as error:
        what = one_line(error)
        if "straddl" in what:
            what = f"a row is longer than {MAX_LINE_BYTES // 2**20} MiB; is a quotation mark never closed?"
        raise SourceError(f"{name} cannot be read ({what})") from None


def open_table(name: str, open_file: Opener) -> TableFile:
    """The table that `open_file` opens, its kind told by its content and, where that says little, by its `name`.

    Raises `SourceError` for what is no table, an empty one, or one that is damaged.
    """
    with table_errors(name):
        with open_file() as file:
            head = file.read(_SAMPLE_BYTES)
        if not head.strip(b"\0 \t\r\n"):
            raise SourceError(f"{name} is empty: it should hold a line that names the columns, and rows")
        if head.startswith(b"PAR1"):
            return ParquetTable(name, open_file)
        if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\xd0\xcf\x11\xe0")):
            raise SourceError(f"{name} is an archive or a workbook: save it as CSV, or unpack it")
        encoding = _encoding(head, open_file)
        sample = codecs.getincrementaldecoder(encoding)("replace").decode(head)
        kind = _text_kind(name, sample)
        if kind == "csv":
            return CsvTable(name, open_file, encoding, sample, whole=len(head) < _SAMPLE_BYTES)
        return JsonTable(name, open_file, encoding, lines=kind == "lines")


def named_picture(cell: str) -> tuple[str, str]:
    """(path, "") that a cell of a column of pictures names, or ("", the problem with it). A list of one is that one."""
    cell = cell.strip()
    if cell.startswith("["):
        with suppress(ValueError, RecursionError):
            names = json.loads(cell)
            if len(names) > 1:
                return "", SEVERAL
            cell = as_text(names[0]).strip() if names else ""
    if not cell:
        return "", NO_PICTURE
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:", cell):
        return "", URL
    return cell, ""


def _text_kind(name: str, sample: str) -> str:
    """ "csv", "json" (one value) or "lines" (a value a line)."""
    suffix = Path(name).suffix.lower()
    start = sample.lstrip()
    if suffix in (".jsonl", ".ndjson"):
        return "lines"
    if suffix in (".csv", ".tsv") or start[:1] not in ("{", "["):
        return "csv"
    if start[0] == "[":
        return "json"
    try:
        first = json.loads(start.splitlines()[0])
    except (ValueError, RecursionError):
        return "json"
    return "json" if _only_array(first) is not None else "lines"


def _encoding(head: bytes, open_file: Opener) -> str:
    """By the mark at the start, else UTF-16 where every other byte is 0, UTF-8 where the bytes are that, or cp1252."""
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    start = head[:4096]
    if start[1::2].count(0) > len(start) // 6:
        return "utf-16-le"
    if start[0::2].count(0) > len(start) // 6:
        return "utf-16-be"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_file() as file:
        chunk = b"?"
        while chunk:
            chunk = file.read(_SAMPLE_BYTES)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                return _utf8_or_cp1252(chunk)
    return "utf-8"


def _utf8_or_cp1252(chunk: bytes) -> str:
    """UTF-8 for a text with a few bad bytes among many good ones, else what spreadsheets on Windows write."""
    text = chunk.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(not character.isascii() for character in text) - bad
    return "utf-8" if good > bad else "cp1252"


class _Utf8(io.RawIOBase):
    """A file of any encoding as UTF-8, which counts the quotation marks that went through."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._ready = memoryview(b"")
        self.quotes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        ended = False
        while not self._ready and not ended:
            data = self._file.read(_SAMPLE_BYTES)
            ended = not data
            text = self._decoder.decode(data, final=ended)
            self.quotes += text.count('"')
            self._ready = memoryview(text.encode("utf-8", "replace"))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def as_text(value: object) -> str:
    """A value as the text of a cell: null "", 3.0 "3", true "true", what is nested as JSON."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, default=str)


def _whole(parts: list[pa.Array]) -> pa.ChunkedArray:
    import pyarrow as pa

    return pa.chunked_array(parts, pa.large_string())


class _Limit:
    """Counts rows and bytes of text, and raises `SourceError` when there are too many."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self.bytes = 0

    def add(self, rows: int, text_bytes: int) -> None:
        self.rows += rows
        self.bytes += text_bytes
        if self.rows > MAX_ROWS:
            raise SourceError(f"{self.name} has more than {MAX_ROWS:,} rows: divide it")
        if self.bytes > MAX_TEXT_BYTES:
            raise SourceError(f"{self.name} holds more than {MAX_TEXT_BYTES // 2**30} GiB of text: divide it")


class CsvTable(TableFile):
    """Values divided by commas, semicolons, tabs or bars, read by pyarrow a block at a time."""

    def __init__(self, name: str, open_file: Opener, encoding: str, sample: str, whole: bool) -> None:
        sample = sample.removeprefix("\ufeff")
        self._open = open_file
        self._encoding = encoding
        self._delimiter = _delimiter(sample, whole)
        super().__init__(name, _unique(_records(sample, self._delimiter, 1)[0]))

    def _read(self, columns: list[str]) -> Rows:
        rows, odd_quotes, _ = self._parse(columns)
        if odd_quotes:  # did one swallow the lines after it? That shows in the last row, if one looks at all columns
            everything, _, swallowed = self._parse(self.names)
            last = (text[-1].as_py() for text in everything.texts.values() if len(text))
            if swallowed or any("\n" in text for text in last):
                raise SourceError(f"{self.name}: a quotation mark in row {rows.count:,} opens and is never closed")
        return rows

    def _parse(self, columns: list[str]) -> tuple[Rows, bool, bool]:
        """The rows, whether the file has an odd number of quotation marks, and whether its last row is broken lines."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        keys = [f"c{i}" for i in range(len(self.names))]
        wanted = [keys[self.names.index(name)] for name in columns] or keys[:1]
        skipped: list[int] = []
        last_skipped = ""

        def skip(row: arrow.InvalidRow) -> str:
            nonlocal last_skipped
            skipped.append(row.number)  # counts from 1, and the header is one
            last_skipped = row.text
            return "skip"

        parts: list[pa.RecordBatch] = []
        limit = _Limit(self.name)
        with _Utf8(self._open(), self._encoding) as text:
            reader = arrow.open_csv(
                text,
                arrow.ReadOptions(use_threads=False, block_size=MAX_LINE_BYTES, column_names=keys),
                arrow.ParseOptions(delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=skip),
                arrow.ConvertOptions(
                    column_types=dict.fromkeys(keys, pa.large_string()),
                    include_columns=wanted,
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
            for batch in reader:
                limit.add(batch.num_rows + len(skipped), batch.nbytes)
                limit.rows -= len(skipped)  # of all batches so far: they stay in `skipped`
                parts.append(batch)
            odd = text.quotes % 2 == 1
        table = pa.Table.from_batches(parts, reader.schema)
        header_read = skipped[:1] != [1]
        table = table.slice(int(header_read))
        broken = np.array(skipped if header_read else skipped[1:], np.int64) - 2
        rows = _with_gaps(dict(zip(columns, map(table.column, wanted), strict=False)), table.num_rows, broken)
        swallowed = rows.broken.size > 0 and rows.broken[-1] == rows.count - 1 and "\n" in last_skipped.strip()
        return rows, odd, bool(swallowed)


def _with_gaps(texts: dict[str, pa.ChunkedArray], good: int, broken: np.ndarray) -> Rows:
    """The rows with an empty one at each of the positions `broken` of the result."""
    import pyarrow as pa

    count = good + len(broken)
    if len(broken):
        source = np.full(count, -1)
        source[np.setdiff1d(np.arange(count), broken)] = np.arange(good)
        indices = pa.array(source, mask=source < 0)
        texts = {name: text.take(indices).fill_null("") for name, text in texts.items()}
    return Rows(count, texts, broken)


def _records(sample: str, delimiter: str, most: int) -> list[list[str]]:
    """The first records that are not empty."""
    found = []
    for record in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
        if record:
            found.append(record)
        if len(found) == most:
            break
    return found or [[]]


def _delimiter(sample: str, whole: bool) -> str:
    """Which of , ; tab | divides the first records into most often as many fields as the header, and at least two."""

    def score(delimiter: str) -> tuple[float, int]:
        try:
            records = _records(sample, delimiter, 50)
        except csv.Error:
            return 0, 0
        if not whole and len(records) > 1:  # the last may have been cut off
            records.pop()
        fields = len(records[0])
        return (sum(len(record) == fields for record in records) / len(records), fields) if fields > 1 else (0, 0)

    return max(",;\t|", key=score)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, each once: a repeated one gets a number, an empty one its place."""
    seen: set[str] = set()
    result = []
    for place, name in enumerate(names, 1):
        name = base = name.strip() or f"column {place}"
        number = 2
        while name in seen:
            name, number = f"{base} ({number})", number + 1
        seen.add(name)
        result.append(name)
    return result


class JsonTable(TableFile):
    """An array of objects, an object that holds one such array, or an object a line; kept as text once read."""

    def __init__(self, name: str, open_file: Opener, encoding: str, lines: bool) -> None:
        broken: list[int] = []
        with io.BufferedReader(_Utf8(open_file(), encoding), _SAMPLE_BYTES) as file:
            values = _json_lines(name, file) if lines else _json_array(name, file)
            self._chunks, self._count = _columns_of(name, values, broken)
        self._broken = np.array(broken, np.int64)
        names = list(dict.fromkeys(key for _, chunk in self._chunks for key in chunk))
        if broken and not names:
            raise SourceError(f"{name} holds {len(broken):,} rows and none is a JSON object")
        super().__init__(name, names)

    def _read(self, columns: list[str]) -> Rows:
        import pyarrow as pa

        def part(size: int, chunk: dict[str, pa.Array], name: str) -> pa.Array:
            return chunk[name] if name in chunk else pa.repeat(pa.scalar("", pa.large_string()), size)

        texts = {name: _whole([part(size, chunk, name) for size, chunk in self._chunks]) for name in columns}
        return Rows(self._count, texts, self._broken)


def _json_lines(name: str, file: BinaryIO) -> Iterator[object]:
    """The value of each line that is not blank; None for a line that is no JSON."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES:
            raise SourceError(f"{name}: line {number:,} is longer than {MAX_LINE_BYTES // 2**20} MiB")
        if line.strip(b" \t\r\n\0"):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield None


def _json_array(name: str, file: BinaryIO) -> list:
    text = file.read(MAX_JSON_BYTES + 1)
    if len(text) > MAX_JSON_BYTES:
        raise SourceError(f"{name} is larger than {MAX_JSON_BYTES // 2**20} MiB: write it as JSON lines, or as Parquet")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{name} is not whole JSON ({error}): save it again, or as JSON lines") from None
    rows = _only_array(value) if isinstance(value, dict) else value
    if rows is None:
        raise SourceError(f"{name} should be an array of objects, or an object that holds one array of them")
    return rows


def _only_array(value: object) -> list | None:
    """The one array of objects among an object's values; None where there is none, or several."""
    if not isinstance(value, dict):
        return None
    arrays = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    return arrays[0] if len(arrays) == 1 else None


def _columns_of(
    name: str, values: Iterable[object], broken: list[int]
) -> tuple[list[tuple[int, dict[str, pa.Array]]], int]:
    """(size, column -> texts) a chunk of rows, and how many rows there are; what is no object goes to `broken`."""

    chunks: list[tuple[int, dict[str, pa.Array]]] = []
    limit = _Limit(name)
    known: set[str] = set()
    cells: dict[str, list[str]] = {}
    size = 0

    def flush() -> None:
        chunk = {key: _text_array(texts + [""] * (size - len(texts))) for key, texts in cells.items()}
        limit.add(size, sum(array.nbytes for array in chunk.values()))
        chunks.append((size, chunk))

    for position, value in enumerate(values):
        if isinstance(value, dict):
            for key, cell in value.items():
                column = cells.setdefault(key, [])
                column.extend([""] * (size - len(column)))
                column.append(as_text(cell))
        else:
            broken.append(position)
        size += 1
        if size == _ROWS_AT_ONCE:
            flush()
            known.update(cells)
            cells, size = {}, 0
        if len(known) + len(cells) > 2 * MAX_COLUMNS:
            raise SourceError(f"{name} has more than {MAX_COLUMNS:,} columns: is it a table?")
    flush()
    return [(n, {_clean(k): v for k, v in chunk.items()}) for n, chunk in chunks], limit.rows


def _text_array(texts: list[str]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # JSON may hold half a surrogate pair
        return pa.array([_clean(text) for text in texts], pa.large_string())


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class ParquetTable(TableFile):
    """A Parquet file. A column of bytes, or of a struct with `bytes` in it, is a picture column and stays unread."""

    def __init__(self, name: str, open_file: Opener) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(open_file(), thrift_string_size_limit=2**28, thrift_container_size_limit=2**24)
        self._schema = self._file.schema_arrow
        names = self._schema.names
        if len(set(names)) < len(names):
            raise SourceError(f"{name} has two columns of the same name: rename one of them")
        super().__init__(name, names, [field.name for field in self._schema if _holds_bytes(field.type)])
        groups = self._file.metadata
        self._ends = np.cumsum([groups.row_group(i).num_rows for i in range(groups.num_row_groups)], dtype=np.int64)

    def _read(self, columns: list[str]) -> Rows:
        import pyarrow as pa

        count = self._file.metadata.num_rows
        limit = _Limit(self.name)
        limit.add(max(count, int(self._ends[-1]) if len(self._ends) else 0), 0)
        parts: dict[str, list[pa.Array]] = {name: [] for name in columns}
        read = [leaf for name in columns if (leaf := self._text_leaf(name))]
        if read and count:
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=read, use_threads=False):
                for name in columns:
                    if self._text_leaf(name):
                        array = _arrow_texts(self._text_in(name, batch))
                        limit.add(0, array.nbytes)
                        parts[name].append(array)
        blank = pa.repeat(pa.scalar("", pa.large_string()), count)
        texts = {name: _whole(parts[name]) if self._text_leaf(name) else _whole([blank]) for name in columns}
        if any(len(text) != count for text in texts.values()):
            raise SourceError(f"{self.name} is damaged: it has fewer or more rows than the {count:,} that it claims")
        return Rows(count, texts, np.empty(0, np.int64))

    def _text_leaf(self, name: str) -> str:
        """What to read for the text of a column: itself, the path beside the pictures, or "" where there is none."""
        if name not in self.picture_columns:
            return name
        return f"{name}.path" if self._has(name, "path") else ""

    def _has(self, name: str, field: str) -> bool:
        import pyarrow as pa

        kind = self._schema.field(name).type
        return pa.types.is_struct(kind) and kind.get_field_index(field) >= 0

    def _text_in(self, name: str, batch: pa.RecordBatch) -> pa.Array:
        import pyarrow.compute as pc

        column = batch.column(name)
        return pc.struct_field(column, "path") if name in self.picture_columns else column

    def pictures(self, column: str, rows: Sequence[int], scratch: Path) -> Iterator[bytes | None]:
        """See `TableFile`. Each row group is read once for `_PICTURES_AT_ONCE` of the rows, in the file's order."""
        rows = np.asarray(rows, np.int64)
        for start in range(0, len(rows), _PICTURES_AT_ONCE):
            wanted = rows[start : start + _PICTURES_AT_ONCE]
            with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=scratch) as spool:
                places: dict[int, tuple[int, int] | None] = {}
                with table_errors(self.name):
                    for row, data in self._in_file_order(column, np.unique(wanted)):
                        places[row] = None if data is None else (spool.tell(), len(data))
                        spool.write(data or b"")
                for row in wanted.tolist():
                    place = places.get(row)
                    if place:
                        spool.seek(place[0])
                    yield spool.read(place[1]) if place else None

    def _in_file_order(self, column: str, rows: np.ndarray) -> Iterator[tuple[int, bytes | None]]:
        leaf = f"{column}.bytes" if self._has(column, "bytes") else column
        groups = np.searchsorted(self._ends, rows, side="right")
        for group in np.unique(groups).tolist():
            inside = rows[groups == group]
            row = int(self._ends[group - 1]) if group else 0  # the first of the batch
            for batch in self._file.iter_batches(16, row_groups=[group], columns=[leaf], use_threads=False):
                here = inside[(inside >= row) & (inside < row + batch.num_rows)]
                for wanted in here.tolist():
                    value = batch.column(column)[wanted - row].as_py()
                    yield wanted, value.get("bytes") if isinstance(value, dict) else value
                row += batch.num_rows
                if row > inside[-1]:
                    break


def _holds_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    types = pa.types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _arrow_texts(array: pa.Array) -> pa.Array:
    """The texts of values of any type, without nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        valid = array.cast(pa.large_binary()).cast(pa.large_string())  # checks that it is UTF-8
        return valid.fill_null("")
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind):
        return pc.cast(array, pa.large_string()).fill_null("")
    return _text_array([as_text(value) for value in array.to_pylist()])
