"""A stand-in for the half of the Hub that is written to: repositories made, files pushed, and read again by `hf-hub:`.

    with PushStandIn(token="hf_...") as hub:
        ...                      # huggingface_hub with this endpoint
        hub.repositories         # what was pushed: {("model", "owner/name"): Repository}
        hub.requests             # all that was asked: method, path, and whether the token came along

Large files go by the LFS protocol to another address, as on the real one, where the token has no business.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from urllib.parse import unquote

from tests.hub_standin import OneAnswer

LARGE = 100_000  # bytes from which a file goes by LFS
_KINDS = {"models": "model", "spaces": "space"}


@dataclass
class Repository:
    private: bool
    sdk: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        parts = [f"{name} {hashlib.sha1(data).hexdigest()}" for name, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    authorized: bool


class PushStandIn:
    def __init__(self, token: str, refuse: int | None = None) -> None:
        self.token = token
        self.refuse = refuse  # the status that every request gets, with its own Authorization in the message
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []

    def __enter__(self) -> PushStandIn:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(OneAnswer):
    hub: PushStandIn

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        said = self.headers.get("Authorization", "")
        self.may_write = said == f"Bearer {self.hub.token}"
        self.hub.requests.append(Request(self.command, self.path, bool(said)))
        routes = (
            (r"POST /api/validate-yaml", self._validate),
            (r"POST /api/repos/create", self._create),
            (r"POST /api/(models|spaces)/([^/]+/[^/]+)/preupload/main", self._preupload),
            (r"POST /api/(models|spaces)/([^/]+/[^/]+)/commit/main", self._commit),
            (r"POST /(?:spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /lfs/([0-9a-f]{64})", self._upload),
            (r"GET /api/(models|spaces)/([^/]+/[^/]+)", self._info),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        )
        if self.hub.refuse:
            self._json({"error": f"no: {said}"}, self.hub.refuse)
            return
        for pattern, answer in routes:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                if self.command == "POST" and not self.may_write:
                    self._json({"error": "Invalid credentials"}, 401)
                else:
                    answer(body, *match.groups())
                return
        self._json({"error": "unknown"}, 404)

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        found = re.match(r"---\n.*?\n---\n", content, re.DOTALL)
        self._json({"errors": [] if found else [{"message": "no metadata"}], "warnings": []}, 200 if found else 400)

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        key = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        address = {"url": f"{self.hub.url}/{'spaces/' if key[0] == 'space' else ''}{key[1]}"}
        if key in self.hub.repositories:
            self._json({"error": "You already created this repo", **address}, 409)
            return
        self.hub.repositories[key] = Repository(private, asked.get("sdk"))
        self._json(address)

    def _preupload(self, body: bytes, kinds: str, name: str) -> None:
        files = json.loads(body)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LARGE else "regular", "shouldIgnore": False}
            for f in files
        ]
        self._json({"files": modes})

    def _batch(self, body: bytes, name: str) -> None:
        place = f"http://localhost:{self.hub.port}/lfs/"  # another host, as far as a client can tell
        objects = [
            {"oid": o["oid"], "size": o["size"]}
            | ({} if o["oid"] in self.hub.objects else {"actions": {"upload": {"href": place + o["oid"]}}})
            for o in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.objects[oid] = body
        self._json({}, 200 if right else 400)

    def _commit(self, body: bytes, kinds: str, name: str) -> None:
        repository = self.hub.repositories[_KINDS[kinds], name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.messages.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.objects[value["oid"]]
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{repository.commit}", "commitOid": repository.commit})

    def _info(self, body: bytes, kinds: str, name: str) -> None:
        repository = self.hub.repositories.get((_KINDS[kinds], name))
        if repository is None:
            self._json({"error": "Repository not found"}, 404)
            return
        siblings = [{"rfilename": name} for name in sorted(repository.files)]
        self._json(
            {"id": name, "_id": "0", "sha": repository.commit, "private": repository.private, "siblings": siblings}
            | {"tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False}
        )

    def _resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
        repository = self.hub.repositories.get(("model", name))
        if repository is None or file not in repository.files or (repository.private and not self.may_write):
            self._json({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        data = repository.files[file]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": repository.commit}
        self._send(data, 200, headers)

    def _json(self, value: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
