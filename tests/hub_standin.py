"""A stand-in for the Hugging Face Hub: dataset repositories on 127.0.0.1, as huggingface_hub and datasets ask for them.

    with HubStandIn({"owner/name": {"README.md": b"...", "images_0.zip": Path(...)}}) as hub:
        ...                                # a process with hub.environment(home) talks with it, and only with it
        hub.sent["images_0.zip"]           # bytes of that file which have left the server

It answers what the real one answers: repository and tree listings, HEAD and GET of files with their ETags and commit,
a redirect to another host (the "CDN") for large files, byte ranges, and the Hub's error codes. It can also go wrong:
a seeded share of requests fails, all requests get one status, or it dies for good after so many bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    import pytest

TOKEN = "hf_standin"  # opens gated repositories
CHUNK = 1 << 14
REVISION = "main"

Files = Mapping[str, "bytes | Path"]


def point_at(url: str, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Makes `url` the Hub of this process."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


class HubStandIn:
    """Serves repositories while the `with` block runs. `sent` counts bytes of files, `requests` the requests by kind."""

    def __init__(
        self,
        repositories: Mapping[str, Files],
        *,
        gated: Collection[str] = (),
        failing: float = 0.0,
        seed: int = 0,
        status: int | None = None,
        die_after: int | None = None,
        large: int = 100_000,
        ranges: bool = True,
    ) -> None:
        self.repositories = repositories
        self.gated = gated
        self.failing = failing  # share of requests that fail
        self.status = status  # what every request gets instead of an answer
        self.die_after = die_after  # bytes of files
        self.large = large  # files from this size on lie on the CDN
        self.serves_ranges = ranges
        self.sent: Counter[str] = Counter()
        self.ranges: Counter[tuple[str, str]] = Counter()  # (file, range) that was answered in full
        self.requests: Counter[str] = Counter()
        self.failed = 0
        self.tokens_at_cdn = 0  # must stay 0: a token is the Hub's business alone
        self.dead = False
        self.short_answers = 0  # so many ranges are answered with their first half, as if that were all
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __enter__(self) -> HubStandIn:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self._thread.join()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a process whose Hub this is, and which keeps what it fetches in `home`."""
        return os.environ | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def run(self, script: str, home: Path, *arguments: str) -> dict:
        """What a script writes as JSON on its last line; it runs in a process of its own that knows this Hub only."""
        command = [sys.executable, "-c", script, *arguments]
        root = Path(__file__).resolve().parents[1]
        ended = subprocess.run(command, env=self.environment(home), cwd=root, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-4000:]
        return json.loads(ended.stdout.splitlines()[-1])

    def be_the_hub(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """The same for this process, which may have imported huggingface_hub before: what `HF_ENDPOINT` sets there."""
        point_at(self.url, monkeypatch, home)

    def commit(self, repository: str) -> str:
        """The same files have the same commit, on whatever server they lie."""
        names = [f"{name} {_size(data)}" for name, data in sorted(self.repositories[repository].items())]
        return hashlib.sha1("\n".join(names).encode()).hexdigest()

    def count(self, name: str, sent: int) -> bool:
        """Counts bytes before they leave; False when the server has just died."""
        with self._lock:
            of_files = sum(self.sent.values()) - self.sent[""] + sent
            if self.die_after is not None and of_files > self.die_after:
                if not self.dead:
                    self.dead = True
                    threading.Thread(target=self._close, daemon=True).start()
                return False
            self.sent[name] += sent
            return True

    def trouble(self) -> str:
        """What goes wrong with the request that has just come in; "" for nothing."""
        with self._lock:
            if self._random.random() >= self.failing:
                return ""
            self.failed += 1
            return self._random.choice(["503", "429", "cut"])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class OneAnswer(BaseHTTPRequestHandler):
    """Whatever the method, `_answer` answers; nothing is printed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 10

    def log_message(self, *message: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD


class _Handler(OneAnswer):
    hub: HubStandIn

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.cut = False
        if self.hub.dead:
            self.close_connection = True
            return
        if self.hub.status:
            self._error(self.hub.status, headers={"Retry-After": "0"})
            return
        trouble = self.hub.trouble()
        if trouble == "cut" and self.command != "HEAD":
            self.cut = True
        elif trouble:
            self._error(503 if trouble == "cut" else int(trouble), headers={"Retry-After": "0"})
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query) | parse_qs(body)
        path = unquote(url.path)
        if match := re.fullmatch(
            r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree|paths-info|auth-check)(?:/([^/]+)(?:/(.*))?)?)?", path
        ):
            self._api(match[1], match[2] or "revision", match[3] or REVISION, match[4] or "", query)
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            self.hub.requests["cdn"] += 1
            self.hub.tokens_at_cdn += "Authorization" in self.headers
            self._send_file(match[1], match[3])
        else:
            self.hub.requests["unknown"] += 1
            self._error(404)

    def _known(self, repository: str, revision: str) -> bool:
        if repository not in self.hub.repositories:
            self._error(401, "RepoNotFound")
        elif revision not in (REVISION, self.hub.commit(repository)):
            self._error(404, "RevisionNotFound")
        else:
            return True
        return False

    def _api(self, repository: str, kind: str, revision: str, path: str, query: dict[str, list[str]]) -> None:
        self.hub.requests[kind] += 1
        if not self._known(repository, revision):
            return
        files = self.hub.repositories[repository]
        if kind == "revision":
            siblings = [{"rfilename": name, "size": _size(data)} for name, data in sorted(files.items())]
            answer = {"_id": "0", "id": repository, "sha": self.hub.commit(repository), "private": False}
            answer |= {"gated": repository in self.hub.gated, "disabled": False, "tags": [], "downloads": 0, "likes": 0}
            answer |= {"lastModified": "2026-01-01T00:00:00.000Z", "siblings": siblings}
            self._json(answer)
        elif kind == "auth-check":
            self._json({}) if self._may_read(repository) else self._gated()
        elif kind == "paths-info":
            entries = {entry["path"]: entry for entry in _entries(files)}
            self._json([entries[name] for name in query.get("paths", []) if name in entries])
        else:
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            inside = [e for e in _entries(files) if not path or e["path"].startswith(path.rstrip("/") + "/")]
            if not inside and path:
                self._error(404, "EntryNotFound")
                return
            depth = len(Path(path).parts)
            self._json([e for e in inside if recursive or len(Path(e["path"]).parts) == depth + 1])

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        self.hub.requests[f"resolve {self.command}"] += 1
        if not self._known(repository, revision):
            return
        if not self._may_read(repository):
            self._gated()
        elif name not in self.hub.repositories[repository]:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": self.hub.commit(repository)})
        elif _size(self.hub.repositories[repository][name]) >= self.hub.large:
            self._redirect(repository, name)
        else:
            self._send_file(repository, name)

    def _may_read(self, repository: str) -> bool:
        return repository not in self.hub.gated or self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _gated(self) -> None:
        self._error(403 if "Authorization" in self.headers else 401, "GatedRepo")

    def _redirect(self, repository: str, name: str) -> None:
        commit = self.hub.commit(repository)
        data = self.hub.repositories[repository][name]
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.hub.port}/cdn/{repository}/{commit}/{quote(name)}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Size", str(_size(data)))
        self.send_header("X-Linked-Etag", f'"{_etag(name, data)}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, repository: str, name: str) -> None:
        data = self.hub.repositories[repository][name]
        size = _size(data)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").replace(" ", ""))
        asked = asked if self.hub.serves_ranges else None
        start, end = 0, size
        if asked and not asked[1]:
            start = max(0, size - int(asked[2]))
        elif asked:
            start, end = int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size
        if asked and start >= min(end, size):
            self._error(416, headers={"Content-Range": f"bytes */{size}"})
            return
        if asked and self.hub.short_answers:
            self.hub.short_answers -= 1
            end -= (end - start) // 2
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{_etag(name, data)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(repository))
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET" and self._send(name, _read(data, start, end)):
            self.hub.ranges[name, f"{start}-{end}"] += 1

    def _send(self, name: str, body: bytes) -> bool:
        """Sends a body in small pieces; half of it where the connection is to be cut. Whether all of it went out."""
        wanted = len(body) // 2 if self.cut else len(body)
        for at in range(0, wanted, CHUNK):
            piece = body[at : min(at + CHUNK, wanted)]
            if self.hub.dead or not self.hub.count(name, len(piece)):
                self.close_connection = True
                return False
            self.wfile.write(piece)
        if self.cut:
            self.close_connection = True
        return not self.cut

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send("", body)

    def _error(self, status: int, code: str = "", headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _read(data: bytes | Path, start: int, end: int) -> bytes:
    if isinstance(data, bytes):
        return data[start:end]
    with data.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _etag(name: str, data: bytes | Path) -> str:
    return hashlib.sha1(f"{name} {_size(data)}".encode()).hexdigest()


def _entries(files: Files) -> list[dict]:
    """Files and folders as the tree listing names them."""
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    listed = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    listed += [{"type": "file", "path": n, "oid": _etag(n, d), "size": _size(d)} for n, d in files.items()]
    return sorted(listed, key=lambda entry: entry["path"])
