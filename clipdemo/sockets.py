"""Answers go out at once: TCP's Nagle algorithm off, which Streamlit's server leaves on by accident.

Streamlit binds its socket without naming TCP, and asyncio turns Nagle's algorithm off only for sockets that do (the
same as https://github.com/Kludex/uvicorn/issues/3149). Left on, the second part of every answer but a connection's
first waits for the browser's delayed acknowledgement, 40 ms on Linux, and a page is about 120 files.
"""

from __future__ import annotations

import gc
import socket


def answer_at_once() -> int:
    """Turns it off for every TCP socket of this process that is open, and returns for how many.

    A socket that is accepted later inherits it from the one that listens.
    """
    found = [one for one in gc.get_objects() if type(one) is socket.socket and _is_tcp(one)]
    for one in found:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return len(found)


def _is_tcp(one: socket.socket) -> bool:
    internet = one.family in (socket.AF_INET, socket.AF_INET6)
    return internet and one.type == socket.SOCK_STREAM and one.fileno() >= 0
