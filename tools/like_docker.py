"""Follows the Dockerfile without Docker, and checks what a container would do: `python -m tools.like_docker`.

What it does as Docker would: parses every instruction and refuses those that it does not know; copies what COPY copies,
.dockerignore respected, into a fresh folder; runs the RUN lines that concern the code; goes on as USER, with the
environment of ENV and nothing of its own; starts CMD, waits for HEALTHCHECK's own command, and ends it by SIGTERM.

What it does not: build the base image, install anything (this Python and its packages stand in for `pip install`),
shut the process off from the rest of the machine. Paths of the image lie below the fresh folder, the port is a free one
of 127.0.0.1. Only root can go on as another user, and only with an interpreter that this user can reach; else the
checks of who may write what are left out, and the output says so.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.session import Session

ROOT = Path(__file__).resolve().parent.parent
CODE = "a code for this check"
START_SECONDS, STOP_SECONDS, DRAW_SECONDS = 120, 10, 120
PAGES = ("", "data", "train", "compare", "explore", "share")
_PACKAGES = sysconfig.get_path("purelib")
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_NOT_RUN = ("pip ", "useradd ")  # what this machine's Python and user stand in for


class Unknown(ValueError):
    """An instruction, or a form of one, that this program would have to guess at."""


@dataclass
class Image:
    """What a Dockerfile says. Paths are those of the image."""

    base: str = ""
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    copies: list[tuple[list[str], str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    port: int = 0
    user: str = "root"
    health: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def parse(text: str) -> Image:
    """The image that a Dockerfile describes. Raises `Unknown`, with the line, for all but the plain forms used here."""
    image = Image()
    for line in _instructions(text):
        word, _, rest = line.partition(" ")
        try:
            _apply(image, word, rest.strip())
        except (ValueError, IndexError) as error:
            raise Unknown(f"{line!r}: {error}") from None
    return image


def _instructions(text: str) -> Iterator[str]:
    """Instructions in one line each, without comments."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    whole = ""
    for line in lines:
        whole += line.strip()
        if whole.endswith("\\"):
            whole = whole[:-1].rstrip() + " "
            continue
        yield whole
        whole = ""
    if whole:
        raise Unknown(f"{whole!r} goes on after the last line")


def _apply(image: Image, word: str, rest: str) -> None:
    if word not in ("RUN", "HEALTHCHECK", "CMD") and "$" in rest:
        raise ValueError("variables are not looked up here")
    if word == "FROM" and not image.base and " " not in rest:
        image.base = rest
    elif word == "ARG":
        name, _, image.arguments[name] = rest.partition("=")[0], "", rest.partition("=")[2]
    elif word == "RUN" and not rest.startswith(("[", "-", "<<")):
        image.runs.append(rest)
    elif word == "WORKDIR" and rest.startswith("/"):
        image.workdir = rest
    elif word == "COPY" and not rest.startswith(("[", "-")):
        *sources, target = rest.split()
        image.copies.append((sources, target))
    elif word == "ENV":
        image.environment |= dict(_pair(pair) for pair in shlex.split(rest))
    elif word == "EXPOSE":
        image.port = int(rest)
    elif word == "USER":
        image.user = rest
    elif word == "HEALTHCHECK" and (options := re.fullmatch(r"((?:--[a-z-]+=\S+ )*)CMD (\[.*\])", rest)):
        image.health = _strings(options[2])
    elif word == "CMD":
        image.command = _strings(rest)
    else:
        raise ValueError("not known here")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text!r} has no =")
    return name, value


def _strings(text: str) -> list[str]:
    """A command in its form as a list."""
    found = json.loads(text)
    if not (isinstance(found, list) and found and all(isinstance(word, str) for word in found)):
        raise ValueError("write the command as a list of strings")
    return found


# ---- what COPY copies


def ignored(path: str, rules: list[str]) -> bool:
    """Whether .dockerignore leaves out a file, by its path from the root: its last rule for it or a folder above it."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    out = False
    for rule in rules:
        pattern = _pattern(rule.removeprefix("!"))
        if any(pattern.fullmatch(name) for name in above):
            out = not rule.startswith("!")
    return out


def _pattern(rule: str) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", rule.strip("/"))
    return re.compile("".join(words.get(p) or (p if p.startswith("[") else re.escape(p)) for p in pieces))


def rules_of(text: str) -> list[str]:
    """The rules of a .dockerignore."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def copy(image: Image, source: Path, root: Path) -> int:
    """Does all COPY instructions below `root`; returns the bytes. Raises `Unknown` for a source that is not there."""
    rules = rules_of((source / ".dockerignore").read_text(encoding="utf-8"))
    total = 0
    for names, target in image.copies:
        folder = root / image.workdir.lstrip("/") / target
        if len(names) > 1 and not target.endswith("/"):
            raise Unknown(f"COPY of several to {target!r}: a folder's name ends with /")
        for name in names:
            whole = source / name
            if not whole.exists() or ignored(name, rules):
                raise Unknown(f"COPY {name}: not in the build's context")
            files = [whole] if whole.is_file() else [p for p in whole.rglob("*") if p.is_file()]
            for file in files:
                if ignored(file.relative_to(source).as_posix(), rules):
                    continue
                to = folder / (file.name if whole.is_file() else file.relative_to(whole))
                to = folder if whole.is_file() and not target.endswith("/") else to
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, to)
                total += to.stat().st_size
    return total


# ---- a container, or what comes near


class Container:
    """The image's files in a fresh folder, and its processes as the image's user."""

    def __init__(self, image: Image, root: Path, port: int, **given: str) -> None:
        self.image, self.root = image, root
        self.app = self.inside(image.workdir)
        self.home, self.tmp = self.inside(image.environment["HOME"]), self.inside("/tmp")
        self.user = int(image.user) if os.getuid() == 0 and image.user.isdigit() else None
        if self.user is not None and not _python(self.user):
            self.user = None
        programs = _programs(self.inside("/python"), _python(self.user))
        self.environment = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        self.environment |= {"TMPDIR": str(self.tmp), "OMP_NUM_THREADS": "1"}
        self.environment |= {k: str(self.inside(v)) if v.startswith("/") else v for k, v in image.environment.items()}
        self.environment |= {"STREAMLIT_SERVER_PORT": str(port), "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"} | given

    def inside(self, path: str) -> Path:
        """Where a path of the image lies here."""
        return self.root / path.lstrip("/")

    def build(self) -> Iterator[str]:
        """Makes the files; says what was done and what was not."""
        size = copy(self.image, ROOT, self.root)
        yield f"copied {size / 1e6:.1f} MB"
        for line in self.image.runs:
            if any(word in line for word in _NOT_RUN):
                yield f"not run, this machine's Python and users stand in: RUN {line[:60]}"
            else:
                subprocess.run(["sh", "-c", line], cwd=self.app, check=True, env=self.environment)
                yield f"RUN {line}"
        for folder in (self.home, self.tmp):
            folder.mkdir(parents=True, exist_ok=True)
            self.own(folder)

    def own(self, folder: Path) -> None:
        """Gives a folder to the image's user."""
        if self.user is not None:
            os.chown(folder, self.user, self.user)

    def run(self, command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        """What `docker exec` would say."""
        return subprocess.run(command, capture_output=True, text=True, check=False, **self._as_user(), **more)

    def start(self, log: Path) -> subprocess.Popen:
        """The container's main process."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.image.command, stdout=out, stderr=out, start_new_session=True, **self._as_user()
            )

    def _as_user(self) -> dict[str, object]:
        return {"cwd": self.app, "env": self.environment} | _as(self.user)


def _as(user: int | None) -> dict[str, object]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


def _python(user: int | None) -> str:
    """An interpreter of this version that the user can start, and that finds this one's packages; "" where none is."""
    for program in (os.path.realpath(sys.executable), shutil.which(_VERSION, path="/usr/local/bin:/usr/bin")):
        try:
            command = [program or "", "-c", "import streamlit"]
            subprocess.run(
                command, check=True, capture_output=True, cwd="/", env={"PYTHONPATH": _PACKAGES}, **_as(user)
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return program
    return ""


def _programs(folder: Path, python: str) -> Path:
    """A folder for PATH with a `python` that has this one's packages, as a virtual environment finds its own."""
    packages = folder / "lib" / _VERSION / "site-packages"
    packages.mkdir(parents=True)
    (packages / "these.pth").write_text(_PACKAGES + "\n")
    (folder / "pyvenv.cfg").write_text(f"home = {Path(python).parent}\n")
    (programs := folder / "bin").mkdir()
    (programs / "python").symlink_to(python)
    return programs


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


def _strays(user: int, since: float) -> list[str]:
    """Files that the user made since then in the places where everybody may."""
    places = (Path(p) for p in ("/tmp", "/var/tmp", "/dev/shm"))
    found = (path for place in places if place.is_dir() for path in place.iterdir())
    return [str(p) for p in found if (s := p.lstat()).st_uid == user and s.st_mtime >= since]


@dataclass(frozen=True)
class Check:
    """Something that ought to be true; `held` is None where it could not be tried."""

    claim: str
    held: bool | None
    found: str = ""


def check(log: Path) -> Iterator[Check]:
    """Builds, starts and stops it; yields what was found. The server's output goes to `log`."""
    image = parse((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    root, began = Path(tempfile.mkdtemp(prefix="like-docker-")), time.time()
    try:
        root.chmod(0o755)
        port = _free_port()
        box = Container(image, root, port, CLIPDEMO_TEACHER_CODE=CODE, CLIPDEMO_MAX_UPLOAD_MEGABYTES="1")
        box.environment["CLIPDEMO_DATA"] = str(root / "data")  # not there at first
        yield Check("the image is built", True, "; ".join(box.build()))
        before = _listing(box.app)
        yield _unwritable(box)
        yield Check("the health check fails before the start", box.run(image.health).returncode != 0)
        with _running(box, log) as (server, took):
            yield Check("the health check passes", took is not None, f"after {took or START_SECONDS:.1f} s")
            if took is None:
                return
            address = f"http://127.0.0.1:{port}"
            yield from _pages(address)
            yield from _workspace(box, address, server.pid)
            yield from _uploads(address)
            with Session(address):
                yield _ends(server)
        with _data(box), _running(box, log) as (server, took):
            place = root / "data" / "clipdemo"
            with Session(f"http://127.0.0.1:{port}", "data"):
                told = _environment(server.pid)
                held = (place / "samples").is_dir() and told["CLIPDEMO_WORKSPACE"] == str(place)
            yield Check("a disk that is there holds the workspace", held, str(place))
            yield Check("then nothing is called temporary", "CLIPDEMO_TEMPORARY" not in told)
        yield Check("the code is as it was", _listing(box.app) == before, f"{len(before)} files and folders")
        strays = None if box.user is None else _strays(box.user, began)
        yield Check("nothing is written elsewhere", None if strays is None else not strays, ", ".join(strays or []))
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _running(box: Container, log: Path) -> Iterator[tuple[subprocess.Popen, float | None]]:
    """The server, and the seconds until its health check passed; None where it never did. Nothing of it is left."""
    start = time.monotonic()
    server = box.start(log)
    try:
        took = None
        while took is None and server.poll() is None and time.monotonic() - start < START_SECONDS:
            if box.run(box.image.health).returncode == 0:
                took = time.monotonic() - start
        yield server, took
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


@contextmanager
def _data(box: Container) -> Iterator[None]:
    """While a disk is mounted."""
    disk = Path(box.environment["CLIPDEMO_DATA"])
    disk.mkdir()
    box.own(disk)
    yield


def _unwritable(box: Container) -> Check:
    claim = "the user can write none of the code"
    if box.user is None:
        return Check(claim, None, "only root can, with a Python that another user reaches")
    found = box.run(["find", ".", "-writable"])
    owners = {path.stat().st_uid for path in box.app.rglob("*")}
    return Check(claim, found.returncode == 0 and not found.stdout and owners == {0}, found.stdout[:200])


def _pages(address: str) -> Iterator[Check]:
    status, body = _get(address)
    yield Check("the first page is served", status == 200 and b"<title>" in body, f"{status}, {len(body)} bytes")
    for page in PAGES:
        with Session(address, page) as visitor:
            yield Check(f"page {page or 'home'!r} draws", bool(visitor.texts) and not visitor.exceptions)
    with Session(address, "share") as visitor:
        yield Check("visitors only look", any("You are a visitor" in text for text in visitor.texts))


def _workspace(box: Container, address: str, pid: int) -> Iterator[Check]:
    told = _environment(pid)
    place = box.tmp / "clipdemo"
    yield Check("without a disk the workspace is temporary", told["CLIPDEMO_WORKSPACE"] == str(place), str(place))
    yield Check("and the server is told so", told.get("CLIPDEMO_TEMPORARY") == "1")
    with Session(address, "share") as teacher:
        teacher.set(teacher.named("The teacher’s code").id, string_value=CODE)
        teacher.set(teacher.named("Enter").id, trigger_value=True)
        teacher.open("data")
        pictures = teacher.named("Pictures")
        teacher.set(pictures.id, double_value=24)
        teacher.set(teacher.named("Draw the sample").id, trigger_value=True)
    end = time.monotonic() + DRAW_SECONDS
    while not (samples := list((place / "samples").glob("*"))) and time.monotonic() < end:
        time.sleep(0.2)
    said = "" if samples else "".join(p.read_text()[-300:] for p in (place / "jobs").glob("*/log.txt"))
    yield Check("the teacher draws a sample", len(samples) == 1, ", ".join(p.name for p in samples) or said)
    owners = {path.stat().st_uid for path in place.rglob("*")}
    yield Check("all of the workspace is the user's", None if box.user is None else owners == {box.user})


def _uploads(address: str) -> Iterator[Check]:
    with Session(address) as visitor:
        sent = [_put(address, visitor.id, size) for size in (1000, 3_000_000)]
    yield Check("an upload needs no cookie, as in a Space's frame", sent[0] in (200, 204), str(sent[0]))
    yield Check("one past the limit is refused by the server", sent[1] == 413, str(sent[1]))


def _ends(server: subprocess.Popen) -> Check:
    """That SIGTERM ends it although somebody is connected."""
    start = time.monotonic()
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return Check("SIGTERM ends it", False, f"not within {STOP_SECONDS} s")
    return Check("SIGTERM ends it", True, f"after {time.monotonic() - start:.1f} s")


def _environment(pid: int) -> Mapping[str, str]:
    """What a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def _get(address: str) -> tuple[int, bytes]:
    where = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, answer.read()


def _put(address: str, session: str, size: int) -> int:
    """Sends a file of so many bytes as a browser would that keeps no cookie; the status."""
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    body = head.encode() + b"a" * size + b"\r\n--x--\r\n"
    where = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Origin": address}
    connection.request("PUT", f"/_stcore/upload_file/{session}/{uuid.uuid4().hex}", body, headers)
    return connection.getresponse().status


def main() -> int:
    """Prints every check; 1 where one did not hold."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        for result in check(log):
            sign = {True: "ok     ", False: "FAILED ", None: "not tried"}[result.held]
            print(f"{sign} {result.claim}{': ' * bool(result.found)}{result.found}", flush=True)
            bad += result.held is False
        if bad:
            print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
