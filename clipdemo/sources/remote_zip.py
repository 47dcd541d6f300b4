"""Members of zip archives by byte range, on this disk or on the Hub, without reading the rest of the archive.

A zip archive ends with a directory that says where every member lies. So one request fetches the directory, and one
request a member fetches what is wanted of an archive of any size. Nothing here knows what the members are for.
"""

from __future__ import annotations

import io
import itertools
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from clipdemo.errors import PictureError, SourceError
from clipdemo.progress import Activity, Progress

if TYPE_CHECKING:
    import pyarrow as pa

DAMAGED = "picture is damaged in the archive"  # reason of a `PictureError`
UNUSABLE = "picture is encrypted or too large"
MAX_MEMBER_BYTES = 200_000_000  # a picture is refused by what the directory says, before it is unpacked
WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before another try, where the server does not say how long
OPENING_WAITS = WAITS[:4]  # without a network, somebody is waiting to be told
EVERY_SECONDS = 0.2  # between two values of progress
MAX_WAIT = 310.0  # the Hub counts requests in windows of 300 s
_AGAIN = (408, 429, 500, 502, 503, 504)  # answers that another try may change
_EXPIRED = (400, 401, 403, 404, 410)  # what a CDN says of a signed address that has run out
_TAIL_BYTES = (1 << 16) + 200  # the longest comment and all end records of a zip archive
_LOCAL_HEADER = 30  # bytes, before the member's name

Item = TypeVar("Item")
Result = TypeVar("Result")


class Bytes(Protocol):
    """Something with a size of which any range can be read."""

    name: str
    size: int

    def read(self, start: int, end: int, stop: threading.Event | None = None) -> bytes:
        """The bytes [start, end). `stop` ends waiting and trying again."""
        ...


@dataclass(frozen=True)
class LocalBytes:
    """A file on this disk."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size

    def read(self, start: int, end: int, stop: threading.Event | None = None) -> bytes:
        """The bytes [start, end); fewer where the file is shorter."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


class RemoteBytes:
    """A file on the Hub, read through huggingface_hub's session. Threads may share one.

    The address of the CDN that the Hub sends us to is remembered, so that a thousand members are not a thousand
    requests to the Hub, which counts them; and the token is sent to the Hub only.
    """

    def __init__(self, name: str, url: str, size: int) -> None:
        from huggingface_hub.utils import build_hf_headers

        self.name, self.size = name, size
        self._url = url
        self._elsewhere: str | None = None
        self._headers = build_hf_headers()

    def read(self, start: int, end: int, stop: threading.Event | None = None) -> bytes:
        """The bytes [start, end), tried again while that may help. Raises huggingface_hub's `HTTPError`s."""
        return again(lambda: self._once(start, end), stop)

    def _once(self, start: int, end: int) -> bytes:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session, hf_raise_for_status

        elsewhere = self._elsewhere
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        if elsewhere is None:
            headers = self._headers | headers
        with get_session().stream(
            "GET", elsewhere or self._url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            if elsewhere is not None and response.status_code in _EXPIRED:
                self._elsewhere = None
                raise _Short(f"the address of {self.name} has run out")
            hf_raise_for_status(response)
            if response.status_code != 206:  # the whole archive would follow, gigabytes of it
                raise SourceError(
                    f"{response.url.host} does not serve parts of {self.name}: fetch the files, and use --path"
                )
            data = _limited(response.iter_raw(), end - start)
            if response.history and response.url.host != response.history[0].url.host:
                self._elsewhere = str(response.url)
        if len(data) != end - start:
            raise _Short(f"{len(data)} of {end - start} bytes of {self.name} came")
        return data


class _Short(ConnectionError):
    """An answer that is not all of what was asked for."""


def _limited(chunks: Iterable[bytes], most: int) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > most:
            break
    return bytes(data)


def again(
    work: Callable[[], Result], stop: threading.Event | None = None, waits: Sequence[float] | None = None
) -> Result:
    """What `work` returns, tried again after network trouble and answers such as 429 and 503.

    Waits as long as the server says, else longer every time. Raises the last error when no try helped, or `stop` is
    set meanwhile.
    """
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    stop = stop or threading.Event()
    for pause in (*(WAITS if waits is None else waits), None):
        try:
            return work()
        except (HTTPError, _Short, OfflineModeIsEnabled) as error:
            advised = _advised_wait(error)
            if pause is None or advised is None or stop.wait(advised if advised >= 0 else pause):
                raise
    raise AssertionError("unreachable")


def _advised_wait(error: Exception) -> float | None:
    """Seconds to wait before another try, as the server says; -1 where it does not say, None: do not try again."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import parse_ratelimit_headers

    if isinstance(error, OfflineModeIsEnabled):
        return None
    if not isinstance(error, HfHubHTTPError):
        return -1
    headers = error.response.headers
    if error.response.status_code not in _AGAIN:
        return None
    if (limit := parse_ratelimit_headers(headers)) is not None and limit.remaining == 0:
        return min(MAX_WAIT, limit.reset_in_seconds + 1)
    said = headers.get("Retry-After", "")
    return min(MAX_WAIT, float(said)) if said.isdigit() else -1


class Member(NamedTuple):
    """Where a member lies in its archive, and what it should be."""

    name: str  # without its folder
    start: int  # of its local header
    end: int  # of all that can belong to it: the next member, or the directory
    packed: int  # bytes
    size: int  # bytes, unpacked
    method: int
    crc: int


def directory(archive: Bytes, stop: threading.Event | None = None) -> pa.Table:
    """One row a member that is a file, with the fields of `Member` as columns, in the order of the directory.

    Raises `SourceError` when the archive is no whole zip archive, and what reading it raises.
    """
    import pyarrow as pa

    file = _Window(archive, stop)  # fetches the tail at once: zipfile would take network trouble for a bad file
    try:
        with zipfile.ZipFile(file) as opened:
            infos, limit = opened.infolist(), opened.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise SourceError(
            f"{archive.name} is not a whole zip archive ({str(error)[:200]}): delete it and fetch it again"
        ) from None
    ends = dict(itertools.pairwise([*sorted({info.header_offset for info in infos}), limit]))
    members = [_member(info, ends[info.header_offset]) for info in infos if not info.is_dir() and info.filename]
    columns = list(zip(*members, strict=True)) or [()] * len(Member._fields)
    types = [pa.string(), *[pa.int64()] * 6]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=list(Member._fields))


def _member(info: zipfile.ZipInfo, end: int) -> Member:
    size = -1 if info.flag_bits & 1 else info.file_size  # encrypted ones cannot be had
    name = file_name(info.filename).encode(errors="replace").decode()
    end = min(end, info.header_offset + _LOCAL_HEADER + 2 * 0xFFFF + info.compress_size)  # names and extras are short
    return Member(name, info.header_offset, end, info.compress_size, size, info.compress_type, info.CRC)


def file_name(path: str) -> str:
    """The last part of a path, whichever way its slashes lean."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def read_member(archive: Bytes, member: Member, stop: threading.Event | None = None) -> bytes:
    """A member, unpacked and checked; read again once when it does not fit its checksum. Raises `PictureError`."""
    if not 0 <= member.size <= MAX_MEMBER_BYTES or member.end - member.start > 2 * MAX_MEMBER_BYTES:
        raise PictureError(f"{member.name} in {archive.name} is encrypted or larger than 200 MB", UNUSABLE)
    for last in (False, True):
        try:
            return unpack(archive.read(member.start, member.end, stop), member)
        except PictureError as error:
            if last:
                raise PictureError(f"{member.name} in {archive.name}: {error}", error.reason) from None
    raise AssertionError("unreachable")


def unpack(span: bytes, member: Member) -> bytes:
    """The content of a member from the bytes [start, end) of its archive. Raises `PictureError` unless all fits."""
    if span[:4] != b"PK\x03\x04" or len(span) < _LOCAL_HEADER:
        raise PictureError("there is no member where the archive's directory says", DAMAGED)
    begin = _LOCAL_HEADER + int.from_bytes(span[26:28], "little") + int.from_bytes(span[28:30], "little")
    packed = span[begin : begin + member.packed]
    if member.method == zipfile.ZIP_STORED:
        data = packed
    elif member.method == zipfile.ZIP_DEFLATED:
        data = _inflated(packed, member.size)
    else:
        raise PictureError(f"packed by method {member.method}; stored and deflated are read", DAMAGED)
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise PictureError("its bytes do not fit its checksum", DAMAGED)
    return data


def _inflated(packed: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(-15).decompress(packed, size + 1)
    except zlib.error as error:
        raise PictureError(f"it cannot be unpacked ({error})", DAMAGED) from None


class _Window(io.RawIOBase):
    """A `Bytes` as a file for zipfile: its tail is read at once, anything before it when it is asked for."""

    def __init__(self, archive: Bytes, stop: threading.Event | None) -> None:
        self._archive, self._stop = archive, stop
        self._size = archive.size
        self._start = max(0, self._size - _TAIL_BYTES)
        self._tail = archive.read(self._start, self._size, stop) if self._size else b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise OSError("before the beginning of the file")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        head = b""
        if self._at < min(end, self._start):
            head = self._archive.read(self._at, min(end, self._start), self._stop)
        data = head + self._tail[max(self._at, self._start) - self._start : max(end, self._start) - self._start]
        self._at += len(data)
        return data


def in_order(
    work: Callable[[Item, threading.Event], Result], items: Iterable[Item], workers: int = 16
) -> Iterator[Result]:
    """`work(item, stop)` of all items in their order, `workers` at a time, at most four times as many results ahead.

    `stop` is set when nobody wants more results, so that work which waits for something need not wait.
    """
    stop = threading.Event()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item, stop))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


def watched(
    work: Callable[[threading.Event], Result], done: Callable[[], int], total: int, note: str
) -> Activity[Result]:
    """What `work` returns; it runs in a thread, so that its progress can be told, and ends early with its event."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future: Future[Result] = pool.submit(work, stop)
        try:
            while not future.done():
                yield Progress(stage="source", done=min(done(), total), total=total, note=note)
                wait([future], timeout=EVERY_SECONDS)
        finally:
            stop.set()
    return future.result()


def hub_failure(
    error: BaseException, what: str, revision: str, instead: str = "read a folder on this machine with --path"
) -> SourceError:
    """What an error of huggingface_hub means for the dataset repository `what`, in one line and without secrets.

    `instead` is what to do where the Hub cannot be reached.
    """
    from huggingface_hub import constants, errors

    def found(kind: type[Item]) -> Item | None:
        return beneath(error, kind)

    if (known := found(SourceError)) is not None:
        return known
    endpoint = constants.ENDPOINT
    page = f"{endpoint}/datasets/{what}"
    login = "set HF_TOKEN or run `hf auth login`"
    answered = found(errors.HfHubHTTPError)
    status = answered.response.status_code if answered is not None else 0
    if found(errors.GatedRepoError):
        return SourceError(f"{what} is gated: accept its terms at {page}, then {login}")
    if found(errors.RepositoryNotFoundError) or status in (401, 403):
        return SourceError(f"{what}: {endpoint} has no such dataset, or a private one: check the id, or {login}")
    if found(errors.RevisionNotFoundError):
        return SourceError(f"revision = {revision!r}: {page} has no such branch, tag or commit")
    if found(errors.HFValidationError):
        return SourceError(f"{what!r} is no id of a dataset: write OWNER/NAME")
    if status == 429:
        return SourceError(
            f"{endpoint} answers 429, too many requests: wait five minutes and start again, it goes on from here. "
            f"More are allowed with a token: {login}"
        )
    if found(errors.RemoteEntryNotFoundError):
        return SourceError(f"{page} has not the file that was asked for: check the revision ({revision!r})")
    if status:
        return SourceError(f"{endpoint} answers with HTTP status {status}: try again later")
    if found(errors.OfflineModeIsEnabled):
        return SourceError(f"HF_HUB_OFFLINE is set, so {endpoint} is not asked: unset it, or {instead}")
    return SourceError(
        f"cannot reach {endpoint} ({type(_chain(error)[-1]).__name__}): check the network and HF_ENDPOINT, or {instead}"
    )


def beneath(error: BaseException, kind: type[Item]) -> Item | None:
    """The first error of this kind among an error and those that it came of."""
    return next((cause for cause in _chain(error) if isinstance(cause, kind)), None)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain
