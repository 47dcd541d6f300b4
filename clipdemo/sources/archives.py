"""Files in a folder, a ZIP or a tar archive that nobody vouches for: listed, and read one by one by their position.

Nothing is ever unpacked under a name that the archive chose, so no name can lead anywhere. What cannot be used is
listed too, with its `problem`, so that it can be counted. What an archive says about sizes is believed only to refuse
it: reading stops at the limits below whatever was said.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import threading
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from clipdemo.errors import ClipDemoError, PictureError, SourceError
from clipdemo.progress import Activity, Progress
from clipdemo.sources.base import MISSING_PICTURE
from clipdemo.workspace import disk_errors

MAX_ENTRIES = 1_000_000
MAX_FILE_BYTES = 512 * 2**20
MAX_TOTAL_BYTES = 200 * 2**30  # unpacked
MAX_RATIO = 1000  # unpacked bytes a packed byte, of the whole archive: deflate's own limit is 1,032
RATIO_FLOOR_BYTES = 100 * 2**20  # less than this is no bomb, however well it was packed
MAX_NAME = 1000  # characters

LEAVES = "path leaves the archive"
LINK = "entry is a link"
ENCRYPTED = "entry is encrypted"
TOO_LARGE = "file is too large"
LONG_NAME = "name is too long"
NOT_A_FILE = "entry is not a file"
DAMAGED = "entry is damaged"
UNKNOWN_PACKING = "entry is packed in an unknown way"

_CHUNK = 2**20
_MAX_HEADER_BYTES = 16 * 2**20  # a tar's long names and attributes; a header may claim any size
_UNPACKERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, halves of surrogate pairs
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an archive: its path inside (folders end with "/"), its size in bytes, and why it cannot be used."""

    path: str
    size: int
    problem: str = ""


class Archive:
    """Files that are read by their position in `entries`, which are sorted by path. Threads may share it."""

    def __init__(self, path: Path, members: Iterable[tuple[Entry, Any]]) -> None:
        self.path = path
        checked = ((_checked(entry), handle) for entry, handle in members)
        self._members = sorted(_limited(path, checked), key=lambda member: member[0].path)
        self.entries = [entry for entry, _ in self._members]

    def read(self, position: int) -> bytes:
        """The bytes of an entry. Raises `PictureError` with its `problem`, or with what else is wrong with it."""
        entry, handle = self._members[position]
        if entry.problem:
            raise PictureError(f"{entry.path} in {self.path.name}: {entry.problem}", entry.problem)
        try:
            data = self._read(handle)
        except FileNotFoundError:
            raise PictureError(f"{entry.path} is no longer in {self.path}", MISSING_PICTURE) from None
        except OSError as error:
            raise PictureError(f"{entry.path} in {self.path}: {one_line(error)}", "file cannot be read") from None
        except NotImplementedError as error:
            raise PictureError(f"{entry.path} in {self.path.name}: {error}", UNKNOWN_PACKING) from None
        except Exception as error:  # decoders raise whatever their format's code happens to
            raise PictureError(f"{entry.path} in {self.path.name}: {one_line(error)}", DAMAGED) from None
        if len(data) > MAX_FILE_BYTES:
            raise PictureError(f"{entry.path} in {self.path.name} unpacks to too many bytes", TOO_LARGE)
        return data

    def _read(self, handle: Any) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        """Puts the open file away; reading ends with it."""


def open_archive(path: Path, cache: Path) -> Activity[Archive]:
    """The folder or archive at `path`, whose kind is told by its content and not by its name.

    A compressed tar is unpacked once into one plain tar in `cache`, for it cannot be read in any order. Raises
    `SourceError` for what is no archive, a damaged one, or one that goes past the limits.
    """
    yield Progress(stage="source", done=0, total=1, note=f"Looking through {path.name}")
    with archive_errors(path):
        if path.is_dir():
            archive: Archive = FolderArchive(path)
        else:
            kind, unpack = _kind(path)
            plain = (yield from _unpacked(path, unpack, cache)) if unpack else path
            archive = ZipArchive(path) if kind == "zip" else TarArchive(path, plain)
    yield Progress(stage="source", done=1, total=1, note=f"{len(archive.entries):,} files in {path.name}")
    return archive


@contextmanager
def archive_errors(path: Path) -> Iterator[None]:
    """Turns whatever the readers of archives raise into one `SourceError` of one line."""
    try:
        yield
    except ClipDemoError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{path} is not there: check the path") from None
    except PermissionError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give yourself the right to") from None
    except Exception as error:
        raise SourceError(f"{path} is damaged or not whole ({one_line(error)}): copy or download it again") from None


def one_line(error: Exception) -> str:
    """What a library said, without line breaks and signs that cannot be shown."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()))[:200]


def _kind(path: Path) -> tuple[str, Any]:
    """("zip" or "tar", what unpacks the tar or None)."""
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip", None
    for magic, unpack in _UNPACKERS.items():
        if head.startswith(magic):
            return "tar", unpack
    if _is_tar(head):
        return "tar", None
    if zipfile.is_zipfile(path):  # one that begins with something else, such as a program that unpacks it
        return "zip", None
    raise SourceError(f"{path} is neither a folder, nor a ZIP or tar archive: for a table, use the source table")


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _checked(entry: Entry) -> Entry:
    """The entry with a path that can be printed, and with a problem where its path or size is one."""
    path = entry.path
    parts = path.split("/")
    problem = entry.problem
    if len(path) > MAX_NAME:
        problem, path = LONG_NAME, path[:MAX_NAME]
    elif path.startswith("/") or ".." in parts or re.match("[A-Za-z]:", path):
        problem = LEAVES
    else:
        path = "/".join(part for part in parts if part not in ("", "."))
    if not problem and not 0 <= entry.size <= MAX_FILE_BYTES:
        problem = TOO_LARGE
    return Entry(printable(path), entry.size, problem)


def printable(path: str) -> str:
    """The path in composed characters (NFC), as tables have them, with a sign for each that cannot be shown."""
    return unicodedata.normalize("NFC", _UNPRINTABLE.sub("\ufffd", path))


def is_junk(path: str) -> bool:
    """Whether the path is hidden or what operating systems leave behind."""
    parts = path.lower().split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part in _JUNK for part in parts)


def _limited(path: Path, members: Iterable[tuple[Entry, Any]]) -> Iterator[tuple[Entry, Any]]:
    """The members without junk. Raises `SourceError` once there are too many, or too many bytes in them."""
    total = 0
    for number, (entry, handle) in enumerate(members):
        total += entry.size if not entry.problem else 0
        if number >= MAX_ENTRIES:
            raise SourceError(f"{path} holds more than {MAX_ENTRIES:,} files: divide it")
        if total > MAX_TOTAL_BYTES:
            raise SourceError(f"{path} unpacks to more than {MAX_TOTAL_BYTES // 2**30} GiB: divide it")
        if not is_junk(entry.path):
            yield entry, handle


def refuse_bomb(path: Path, unpacked: int, packed: int) -> None:
    """Raises `SourceError` for an archive that unpacks to far more bytes than it has."""
    if unpacked > RATIO_FLOOR_BYTES and unpacked > MAX_RATIO * packed:
        raise SourceError(f"{path} unpacks to more than {MAX_RATIO:,} times its size: this is no archive of pictures")
    if unpacked > MAX_TOTAL_BYTES:
        raise SourceError(f"{path} unpacks to more than {MAX_TOTAL_BYTES // 2**30} GiB: divide it")


class FolderArchive(Archive):
    """A folder. Links to files inside it are files; those that leave it are listed, not followed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _walk(path.resolve()))

    def _read(self, handle: str) -> bytes:
        with open(handle, "rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def _walk(root: Path) -> Iterator[tuple[Entry, str]]:
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not is_junk(name))
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]  # os.walk enters no link
        for name in (*files, *linked):
            full = os.path.join(folder, name)
            entry = _file_entry(root, full)
            if entry:
                yield entry, full
    for error in unreadable:
        if os.path.samefile(error.filename, root):
            raise error
        yield Entry(os.path.relpath(error.filename, root), 0, "folder cannot be read"), error.filename


def _file_entry(root: Path, full: str) -> Entry | None:
    """None for a link to a folder that is inside anyway."""
    path = os.path.relpath(full, root).replace(os.sep, "/")
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            real = Path(os.path.realpath(full))
            if not real.is_relative_to(root):
                return Entry(path, 0, "link leaves the folder")
            status = real.stat()
            if stat.S_ISDIR(status.st_mode):
                return None
    except OSError:  # a link to nothing or in a circle, or gone by now
        return Entry(path, 0, "link leads nowhere")
    return Entry(path, status.st_size, "" if stat.S_ISREG(status.st_mode) else NOT_A_FILE)


class ZipArchive(Archive):
    """A ZIP. All threads share one open file, whose lock zipfile holds while it reads packed bytes."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        try:
            infos = self._zip.infolist()
            refuse_bomb(path, sum(i.file_size for i in infos if i.file_size <= MAX_FILE_BYTES), path.stat().st_size)
            super().__init__(path, ((zip_entry(info), info) for info in infos if not info.is_dir()))
        except BaseException:
            self._zip.close()
            raise

    def _read(self, handle: zipfile.ZipInfo) -> bytes:
        # zipfile unpacks all that it has read of the kinds without an own limit, so it gets to read little of them
        step = _CHUNK if handle.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else 4096
        with self._zip.open(handle) as file:
            return _read_limited(file, step)

    def close(self) -> None:
        """See `Archive`."""
        self._zip.close()


def _read_limited(file: Any, step: int) -> bytes:
    """All bytes, or a few more than `MAX_FILE_BYTES`."""
    data = bytearray()
    while len(data) <= MAX_FILE_BYTES and (chunk := file.read(step)):
        data += chunk
    return bytes(data)


def zip_entry(info: zipfile.ZipInfo) -> Entry:
    """A member as its archive lists it, with what is wrong with it."""
    name = info.filename
    if not info.flag_bits & 0x800:  # not marked as UTF-8, which many programs write nevertheless
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: Unix
    problem = ""
    if info.flag_bits & 0x2041:  # encrypted, strongly, or with its name
        problem = ENCRYPTED
    elif stat.S_ISLNK(kind):
        problem = LINK
    elif kind and not stat.S_ISREG(kind):
        problem = NOT_A_FILE
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        problem = UNKNOWN_PACKING
    return Entry(name.replace("\\", "/"), info.file_size, problem)


class TarArchive(Archive):
    """A plain tar at `plain`, read by offset. `path` is what the user calls it."""

    def __init__(self, path: Path, plain: Path) -> None:
        self._file = plain.open("rb")
        self._lock = threading.Lock()
        try:
            super().__init__(path, _tar_members(path, plain))
        except BaseException:
            self._file.close()
            raise

    def _read(self, handle: tuple[int, int]) -> bytes:
        offset, size = handle
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(size)
        if len(data) < size:
            raise EOFError("the archive ends before the entry does")
        return data

    def close(self) -> None:
        """See `Archive`."""
        self._file.close()


class _Careful(io.BufferedReader):
    """A file that refuses to read a header of any size that an archive may claim."""

    def __init__(self, plain: Path, path: Path) -> None:
        super().__init__(io.FileIO(plain))
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise SourceError(f"{self._path} is damaged: a header claims {size} bytes")
        return super().read(size)


def _tar_members(path: Path, plain: Path) -> Iterator[tuple[Entry, tuple[int, int]]]:
    with _Careful(plain, path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        end = plain.stat().st_size
        last = -1
        while member := tar.next():
            if not last < tar.offset <= end + tarfile.RECORDSIZE:  # sizes below zero lead back, too large ones out
                raise SourceError(f"{path} is damaged or not whole: {printable(member.name)[:100]!r} cannot be there")
            last = tar.offset
            tar.members = []  # else it keeps them all
            if not member.isdir():
                yield _tar_entry(member), (member.offset_data, member.size)
        file.seek(tar.offset if last >= 0 else 0)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a broken header for the end
            raise SourceError(f"{path} is damaged at byte {tar.offset:,}: copy or download it again")


def _tar_entry(member: tarfile.TarInfo) -> Entry:
    problem = ""
    if member.issym() or member.islnk():
        problem = LINK
    elif not member.isfile():
        problem = NOT_A_FILE
    elif member.issparse():
        problem = UNKNOWN_PACKING
    return Entry(member.name.replace("\\", "/"), member.size, problem)


def _unpacked(path: Path, unpack: Any, cache: Path) -> Activity[Path]:
    """A plain tar with what the compressed one holds, made once; another or a newer file at `path` is unpacked anew."""
    status = path.stat()
    state = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    folder = cache / f"tar-{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"
    if (folder / "0.tar").is_file():
        return folder / "0.tar"
    with disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=cache))
    try:
        with path.open("rb") as packed, unpack(packed) as stream:
            yield from _copy_tar(path, stream, packed, partial / "0.tar")
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "0.tar").is_file():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "0.tar"


def _copy_tar(path: Path, stream: BinaryIO, packed: BinaryIO, target: Path) -> Activity[None]:
    size = path.stat().st_size
    unpacked = 0
    with disk_errors(target), target.open("xb") as out:
        while chunk := stream.read(_CHUNK):
            if not unpacked and not _is_tar(chunk[: tarfile.BLOCKSIZE]):
                raise SourceError(f"{path} holds no tar: unpack it, or make a ZIP or tar archive of its folder")
            out.write(chunk)
            unpacked += len(chunk)
            refuse_bomb(path, unpacked, size)
            yield Progress(stage="source", done=min(packed.tell(), size), total=size, note=f"Unpacking {path.name}")
