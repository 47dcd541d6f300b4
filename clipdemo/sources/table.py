"""Anybody's table with a row a picture: paths to files, or the pictures themselves in a Parquet file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from clipdemo.errors import BadSettings, PictureError, SourceError
from clipdemo.images import EMPTY
from clipdemo.progress import Activity, Progress, finish
from clipdemo.sources.archives import MAX_FILE_BYTES, NOT_A_FILE, TOO_LARGE, printable
from clipdemo.sources.base import COLUMNS, MISSING_PICTURE, Source
from clipdemo.sources.columns import guess_columns, listed
from clipdemo.sources.folder import LEAVES, chosen_columns
from clipdemo.sources.settings import TableOptions
from clipdemo.sources.table_files import BROKEN_ROW, NO_PICTURE, TableFile, named_picture, open_table

_ROWS_A_STEP = 50_000


class TableSource(Source):
    """See `clipdemo.sources.Source`. Paths start from `options.images`, or else from where the table lies."""

    name = "table"

    def __init__(self, options: TableOptions, cache: Path) -> None:
        if not options.path:
            raise BadSettings("path = '': write --path FILE")
        self.options = options
        self.path = Path(options.path).expanduser()
        self._cache = cache
        self._file: TableFile | None = None
        self._columns: dict[str, str] = {}
        self._files: list[str] = []  # a real path a row, "" where the picture is not in a file
        self._table: pd.DataFrame | None = None

    def prepare(self) -> Activity[None]:
        """See `Source`. Looks once for each file that a row names."""
        if self._table is not None:
            return
        yield Progress(stage="source", done=0, total=1, note=f"Reading {self.path.name}")
        file = self._opened()
        rows = file.read(list(self._columns.values()))
        finder = self._finder()
        cells = rows.texts[self._columns["image"]]
        broken = set(rows.broken.tolist())
        files: list[str] = []
        problems: list[str] = []
        ids: list[str] = []
        for start in range(0, rows.count, _ROWS_A_STEP):
            for row, cell in enumerate(cells.slice(start, _ROWS_A_STEP).to_pylist(), start):
                found, problem = ("", BROKEN_ROW) if row in broken else self._find(finder, cell)
                files.append(found)
                problems.append(problem)
                ids.append(f"{self.path.name}:{row + 1} {printable(cell)[:300]}".strip())
            yield Progress(stage="source", done=len(files), total=rows.count, note="Looking for the pictures")
        told = {key: rows.texts[name].to_pandas() for key, name in self._columns.items() if key != "image"}
        filled = {"id": ids, "problem": problems} | told
        table = {name: filled.get(name, "") for name in COLUMNS}
        self._table, self._files = pd.DataFrame(table, columns=list(COLUMNS), dtype="str"), files

    def table(self) -> pd.DataFrame:
        """See `Source`. An id is the table's name, the number of the row (from 1), and the path in it."""
        finish(self.prepare())
        assert self._table is not None
        return self._table

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """See `Source`. Files one at a time; pictures in a Parquet file as `TableFile.pictures` has them."""
        table = self.table()
        ids, problems = table["id"], table["problem"]
        inside = self._bytes_inside(rows)
        for row in map(int, rows):
            if problems.iat[row]:
                yield PictureError(f"{ids.iat[row]}: {problems.iat[row]}", problems.iat[row])
                continue
            data = next(inside) if inside is not None else None
            try:
                yield _checked(data) if data is not None else self._read_file(row)
            except PictureError as error:
                yield PictureError(f"{ids.iat[row]}: {error}", error.reason)

    def columns(self) -> dict[str, str]:
        """See `Source`. Reads the first lines of the table where `prepare` has not yet."""
        self._opened()
        return self._columns

    def available_columns(self) -> list[str]:
        """See `Source`. Reads the first lines of the table where `prepare` has not yet."""
        return self._open_file().names

    def origin(self) -> dict[str, str]:
        """The path, and the folder of the pictures where it is another."""
        return {"path": str(self.path)} | ({"images": self.options.images} if self.options.images else {})

    def _open_file(self) -> TableFile:
        if self._file is None:
            if self.path.is_dir():
                raise SourceError(f"{self.path} is a folder: use the source folder, or name a table in it")
            self._file = open_table(str(self.path), partial(self.path.open, "rb"))
        return self._file

    def _opened(self) -> TableFile:
        file = self._open_file()
        if not self._columns:
            held = file.picture_columns[0] if len(file.picture_columns) == 1 else None
            columns = guess_columns(file.names, held, chosen_columns(self.options))
            if "image" not in columns:
                raise BadSettings(
                    f"image_column = {self.options.image_column!r}: no column of {self.path.name} looks like pictures; "
                    f"choose one of {listed(file.names)}"
                )
            self._columns = columns
        return file

    def _finder(self) -> Finder:
        folder = Path(self.options.images).expanduser() if self.options.images else self.path.parent
        if not folder.is_dir():
            raise BadSettings(f"images = {self.options.images!r}: there is no such folder")
        return Finder(folder)

    def _holds_pictures(self) -> bool:
        return self._columns["image"] in self._opened().picture_columns

    def _find(self, finder: Finder, cell: str) -> tuple[str, str]:
        """(real path, "") of the file that a cell names, or ("", its problem)."""
        name, problem = named_picture(cell)
        if self._holds_pictures():  # whether the bytes are there shows when they are read
            return (finder.find(name)[0] if name else ""), ""
        return ("", problem) if problem else finder.find(name)

    def _bytes_inside(self, rows: Sequence[int]) -> Iterator[bytes | None] | None:
        if not self._holds_pictures():
            return None
        self._cache.mkdir(parents=True, exist_ok=True)
        usable = np.asarray(rows, np.int64)
        usable = usable[(self.table()["problem"] == "").to_numpy()[usable]]
        return self._opened().pictures(self._columns["image"], usable, self._cache)

    def _read_file(self, row: int) -> bytes:
        if not self._files[row]:
            raise PictureError(NO_PICTURE, NO_PICTURE)
        try:
            with open(self._files[row], "rb") as file:
                return _checked(file.read(MAX_FILE_BYTES + 1))
        except FileNotFoundError:
            raise PictureError(MISSING_PICTURE, MISSING_PICTURE) from None
        except OSError as error:
            raise PictureError(f"file cannot be read ({error.strerror})", "file cannot be read") from None


def _checked(data: bytes) -> bytes:
    if not data:
        raise PictureError(EMPTY, EMPTY)
    if len(data) > MAX_FILE_BYTES:
        raise PictureError(TOO_LARGE, TOO_LARGE)
    return data


class Finder:
    """Finds files in a folder by what a table calls them. Each folder on the way is resolved once."""

    def __init__(self, folder: Path) -> None:
        self.folder = os.path.realpath(folder)
        self._inside = self.folder.rstrip(os.sep) + os.sep
        self._real = lru_cache(10_000)(os.path.realpath)

    def find(self, name: str) -> tuple[str, str]:
        """(real path, "") of a file in the folder, or ("", why not). Links count as where they lead."""
        try:
            return self._find(name)
        except (OSError, ValueError):  # ValueError: a zero byte, half a surrogate pair
            if "\\" in name:  # a path written on Windows
                return self.find(name.replace("\\", "/"))
            return "", MISSING_PICTURE

    def _find(self, name: str) -> tuple[str, str]:
        head, tail = os.path.split(os.path.join(self.folder, name))
        real = os.path.join(self._real(head), tail)
        if tail in ("", ".", ".."):
            real = os.path.realpath(real)
        if not real.startswith(self._inside):
            return "", LEAVES
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(real)
            if not real.startswith(self._inside):
                return "", LEAVES
            status = os.stat(real)
        if not stat.S_ISREG(status.st_mode):
            return "", NOT_A_FILE
        if status.st_size == 0:
            return "", EMPTY
        return (real, "") if status.st_size <= MAX_FILE_BYTES else ("", TOO_LARGE)
