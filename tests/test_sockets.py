"""Answers that do not wait for the other side, on sockets that are bound as Streamlit binds its own."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clipdemo.sockets import answer_at_once


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_a_listening_socket_accepts_sends_at_once(family):
    with socket.socket(family) as listening:  # proto is 0, so asyncio would leave Nagle's algorithm on
        try:
            listening.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listening.listen()
        assert answer_at_once() >= 1
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_other_sockets_are_left_alone_and_a_closed_one_does_no_harm():
    closed = socket.socket()
    closed.close()
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as open_one:
        answer_at_once()
        assert open_one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) and datagrams.fileno() >= 0


def test_the_app_does_it_when_its_server_starts(tmp_path):
    code = (
        "import asyncio, socket, app\n"
        "async def main():\n"
        "    with socket.socket() as bound:\n"
        "        bound.bind(('127.0.0.1', 0))\n"
        "        async with app.lifespan(app.app):\n"
        "            assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)\n"
        "asyncio.run(main())\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    environment = {"CLIPDEMO_WORKSPACE": str(tmp_path), "PATH": "", "HOME": str(tmp_path), "PYTHONPATH": root}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
