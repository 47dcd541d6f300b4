"""Reads what was dropped: pictures, folders and ZIP archives, in any mixture. Nothing of it is ever written to disk.

One picture is decoded at a time, and only what a model looks at and a thumbnail stay of it. What cannot be used comes
back too, with its name and a reason, so that nothing vanishes. Limits on archives are those of `sources.archives`.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from clipdemo.errors import ClipDemoError, PictureError
from clipdemo.images import MAX_BYTES, TOO_LARGE, decode, fit_square
from clipdemo.sources import archives
from clipdemo.sources.archives import Archive, FolderArchive, ZipArchive, archive_errors, is_junk, printable

MOST_PICTURES = 2_000  # files of one drop
MOST_BYTES = 4 * 2**30  # of all files of one drop, unpacked
MOST_ARCHIVE_BYTES = 2 * 2**30  # of one ZIP, packed
THUMBNAIL_PIXELS = 256  # longer side

# What `Refused.reason` says, besides the reasons of `images` and `sources.archives`
TOO_MANY = "too many files at once"
TOO_MUCH = "too many bytes at once"
NESTED = "archive inside an archive"
UNREADABLE = "file cannot be read"
BAD_ARCHIVE = "archive cannot be read"

Given = Path | tuple[str, bytes] | tuple[str, BinaryIO]  # a file or folder, or a name and its content
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Dropped:
    """A picture that was read. Names have folders and archives before them: "drop.zip/chest/1.png"."""

    name: str
    pixels: dict[int, np.ndarray]  # side asked for -> uint8 (side, side, 3), as `images.fit_square` cuts it
    thumbnail: bytes  # a JPEG file


@dataclass(frozen=True)
class Refused:
    """A file that cannot be used. `reason` is the same for all with this trouble; `message` says it of this one."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True)
class Drop:
    """All of a drop at once."""

    pictures: list[Dropped] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    junk: int = 0  # files that operating systems leave behind, such as .DS_Store


def read_drop(given: Iterable[Given], sizes: Sequence[int]) -> Generator[Dropped | Refused, None, int]:
    """Each picture as soon as it is read, or why there is none. Returns how many files were skipped as junk.

    `sizes` are the picture sizes of the models that will look.
    """
    reader = _Reader(tuple(dict.fromkeys(sizes)))
    for one in given:
        yield from reader.read(one)
        if reader.full:
            yield reader.full
            break
    return reader.junk


def read_all(given: Iterable[Given], sizes: Sequence[int]) -> Drop:
    """All of a drop in memory: about 3 x size x size bytes and a thumbnail a picture."""
    pictures, refused, reading = [], [], read_drop(given, sizes)
    while True:
        try:
            one = next(reading)
        except StopIteration as end:
            return Drop(pictures, refused, end.value)
        (pictures if isinstance(one, Dropped) else refused).append(one)


def dropped_picture(data: bytes, name: str, sizes: Sequence[int]) -> Dropped:
    """One picture from the bytes of its file. Raises `PictureError`."""
    return from_image(decode(data, name), name, sizes)


def from_image(image: Image.Image, name: str, sizes: Sequence[int]) -> Dropped:
    """A decoded RGB picture, less all that no model looks at."""
    pixels = {size: fit_square(image, size).copy() for size in sizes}
    return Dropped(name, pixels, _thumbnail(image))


def _thumbnail(image: Image.Image) -> bytes:
    """Made of pixels alone: what else a file says (comments, profiles) is nobody's business and may be broken."""
    share = min(1, THUMBNAIL_PIXELS / max(image.size))
    small = image.resize([max(1, round(side * share)) for side in image.size], Image.Resampling.BICUBIC)
    packed = io.BytesIO()
    Image.fromarray(np.asarray(small)).save(packed, "JPEG", quality=85)
    return packed.getvalue()


def guessed_label(name: str, classes: Sequence[str]) -> str | None:
    """The class that a picture's folder, or else its file's name, is called after; None where there is none.

    Capitals do not matter, nor _ and - for spaces, nor a number at the end: "lower_limb-012.png" is Lower limb.
    """
    known = {_folded(label): label for label in classes}
    *folders, file = name.split("/")
    words = [*folders[-1:], file.rpartition(".")[0] or file]
    return next((known[_folded(word)] for word in words if _folded(word) in known), None)


def _folded(word: str) -> str:
    return re.sub(r"[\s\d().]+$", "", " ".join(re.sub("[_-]", " ", word).split())).casefold()


class _Reader:
    """Goes through what was given and counts what it has taken."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes
        self.files = self.bytes = self.junk = 0
        self.full: Refused | None = None  # the limit that was reached

    def read(self, given: Given) -> Iterator[Dropped | Refused]:
        """A file, folder or archive."""
        if isinstance(given, Path):
            yield from self._path(given)
            return
        name, content = given
        name = printable(name.replace("\\", "/"))
        if is_junk(name):
            self.junk += 1
            return
        stream = io.BytesIO(content) if isinstance(content, bytes) else content
        yield from self._file(name, stream)

    def _path(self, path: Path) -> Iterator[Dropped | Refused]:
        name = printable(path.name or str(path))
        try:
            if path.is_dir():
                yield from self._folder(name, path)
            elif is_junk(name):
                self.junk += 1
            elif path.exists() and not path.is_file():  # reading a pipe would wait for ever
                yield Refused(name, archives.NOT_A_FILE, f"{path} is neither a file nor a folder: name one")
            else:
                with path.open("rb") as file:
                    yield from self._file(name, file)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            yield Refused(name, UNREADABLE, f"{printable(str(path))} cannot be read ({said}): check the path")

    def _folder(self, name: str, path: Path) -> Iterator[Dropped | Refused]:
        walked = (os.path.relpath(os.path.join(at, file), path) for at, _, files in os.walk(path) for file in files)
        self.junk += sum(is_junk(file.replace(os.sep, "/")) for file in walked)
        with _opened(name, lambda: FolderArchive(path)) as archive:
            yield from self._entries(name, archive, zips=True)

    def _file(self, name: str, file: BinaryIO) -> Iterator[Dropped | Refused]:
        """A picture or a ZIP, whose first bytes tell which it is."""
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(0)
        if file.read(4) in _ZIP:
            yield from self._zip(name, file, size)
            return
        file.seek(0)
        if self._takes(size):
            yield self._picture(name, size, lambda: file.read(MAX_BYTES + 1))

    def _zip(self, name: str, file: BinaryIO, size: int) -> Iterator[Dropped | Refused]:
        if size > MOST_ARCHIVE_BYTES:
            limit = MOST_ARCHIVE_BYTES // 2**30
            yield Refused(name, TOO_LARGE, f"{name} has {size:,} bytes: at most {limit} GiB are read; divide it")
            return
        with _opened(name, lambda: _OpenZip(name, file, size)) as archive:
            self.junk += getattr(archive, "junk", 0)
            yield from self._entries(name, archive, zips=False)

    def _entries(self, name: str, archive: Archive | Refused, zips: bool) -> Iterator[Dropped | Refused]:
        if isinstance(archive, Refused):
            yield archive
            return
        for position, entry in enumerate(archive.entries):
            if not self._takes(entry.size if not entry.problem else 0):
                return
            full = f"{name}/{entry.path}"
            if entry.size > MAX_BYTES and not entry.problem:
                yield _too_large(full, entry.size)
                continue
            try:
                data = archive.read(position)
            except PictureError as error:
                yield Refused(full, error.reason, str(error))
                continue
            if data[:4] not in _ZIP:
                yield self._picture(full, len(data), lambda data=data: data)
            elif zips:
                self.files -= 1  # its files count, not itself
                yield from self._zip(full, io.BytesIO(data), len(data))
                if self.full:
                    return
            else:
                yield Refused(full, NESTED, f"{full} is an archive inside an archive: unpack it and drop it by itself")

    def _picture(self, name: str, size: int, read: Callable[[], bytes]) -> Dropped | Refused:
        if size > MAX_BYTES:
            return _too_large(name, size)
        try:
            return dropped_picture(read(), name, self.sizes)
        except PictureError as error:
            return Refused(name, error.reason, str(error))

    def _takes(self, size: int) -> bool:
        """Counts one more file; False, with `full` saying why, where it is one too many."""
        if self.files >= MOST_PICTURES:
            self.full = Refused(
                "all further files", TOO_MANY, f"more than {MOST_PICTURES:,} files at once: drop the others afterwards"
            )
        elif self.bytes + size > MOST_BYTES:
            limit = MOST_BYTES // 2**30
            self.full = Refused("all further files", TOO_MUCH, f"more than {limit} GiB at once: drop fewer files")
        else:
            self.files, self.bytes = self.files + 1, self.bytes + max(0, size)
        return self.full is None


class _OpenZip(ZipArchive):
    """A ZIP that is open already: an upload that lies in memory, or a file."""

    def __init__(self, name: str, file: BinaryIO, size: int) -> None:
        self._zip = zipfile.ZipFile(file)
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        archives.refuse_bomb(Path(name), sum(i.file_size for i in infos if i.file_size <= MAX_BYTES), size)
        self.junk = sum(is_junk(info.filename.replace("\\", "/")) for info in infos)
        Archive.__init__(self, Path(name), ((archives.zip_entry(info), info) for info in infos))


@contextmanager
def _opened(name: str, opening: Callable[[], Archive]) -> Iterator[Archive | Refused]:
    """An archive, put away afterwards, or why it cannot be opened."""
    found: Archive | Refused
    try:
        with archive_errors(Path(name)):
            found = opening()
    except ClipDemoError as error:
        found = Refused(name, BAD_ARCHIVE, str(error))
    try:
        yield found
    finally:
        if isinstance(found, Archive):
            found.close()


def _too_large(name: str, size: int) -> Refused:
    return Refused(name, TOO_LARGE, f"{name} has {size:,} bytes: at most {MAX_BYTES:,} are read")
