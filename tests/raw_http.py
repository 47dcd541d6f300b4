"""Requests as no browser sends them, and a server that notes who comes."""

from __future__ import annotations

import http.client
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

BOUNDARY = "xxxxxxxx"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


def ask(address: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, method="") -> tuple:
    """The status and the answer's bytes; the path goes out as it is, dots and all."""
    connection = _connection(address)
    try:
        connection.putrequest(method or ("GET" if body is None else "POST"), _prefix(address) + path)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except http.client.IncompleteRead as cut:  # a stream of events that an error ended
            return answer.status, cut.partial
    finally:
        connection.close()


def ask_json(address: str, path: str, value: object) -> tuple[int, bytes]:
    """POST of a value as JSON."""
    return ask(address, path, json.dumps(value).encode(), JSON)


def announced(address: str, path: str, size_bytes: int, headers: dict[str, str]) -> int:
    """The status of a POST that says how long it is, and sends nothing."""
    connection = _connection(address)
    try:
        connection.putrequest("POST", _prefix(address) + path)
        for name, value in {**headers, "Content-Length": str(size_bytes)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def unending(address: str, path: str, parts: Iterable[bytes], headers: dict[str, str]) -> Iterator:
    """The connection of a POST in chunks that has not said that it is at its end."""
    connection = _connection(address)
    try:
        connection.putrequest("POST", _prefix(address) + path)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for part in parts:
            connection.send(b"%x\r\n%b\r\n" % (len(part), part))
        yield connection
    finally:
        connection.close()


def form_head(name: str, field: str = "files") -> bytes:
    """What comes before a file's bytes in a form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode("utf-8", "replace")


def form(name: str, data: bytes, field: str = "files") -> bytes:
    """A form with one file in it."""
    return form_head(name, field) + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on 127.0.0.1 and the paths that it was asked for. It gives everybody a picture's head."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\x89PNG\r\n\x1a\n")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def _connection(address: str) -> http.client.HTTPConnection:
    where = urllib.parse.urlsplit(address)
    return http.client.HTTPConnection(where.hostname, where.port, timeout=120)


def _prefix(address: str) -> str:
    return urllib.parse.urlsplit(address).path
