"""Who may do what, and how much of it. On a laptop everybody may do everything; hosted, its owner decides.

All of it comes from the environment, where a Space's owner can set it without touching code:

    CLIPDEMO_HOSTED         1 or 0; left out, hosted is what runs where Hugging Face sets SPACE_ID
    CLIPDEMO_TEACHER_CODE   who knows it may do everything
    CLIPDEMO_TEACHERS       e-mail addresses or user names that may, signed in by OpenID Connect; divided by commas
    CLIPDEMO_VISITORS_MAY   what everybody may as well, such as "draw,train"; divided by commas
    CLIPDEMO_MAX_SAMPLES, CLIPDEMO_MAX_EPOCHS, CLIPDEMO_MAX_QUEUE, CLIPDEMO_MAX_UPLOAD_MEGABYTES,
    CLIPDEMO_QUOTA_GIGABYTES   what nobody gets past, the teacher neither
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, get_args

from pydantic import Field, SecretStr

from clipdemo.errors import BadSettings, Forbidden
from clipdemo.records import Record

Action = Literal["draw", "train", "measure", "stop", "mark", "delete", "upload", "export"]
ACTIONS: dict[Action, str] = {
    "draw": "draw samples",
    "train": "train",
    "measure": "start comparisons, indexes and maps",
    "stop": "stop or move what is going on",
    "mark": "mark labels as wrong or rename runs",
    "delete": "delete anything",
    "upload": "send data",
    "export": "export models",
}
SHORTEST_CODE = 8  # characters; with the attempts below, guessing one of 8 digits takes centuries


class Limits(Record):
    """What nobody gets past on a hosted server."""

    samples: int = Field(4096, ge=12)
    epochs: int = Field(20, ge=1)
    queue: int = Field(5, ge=1, description="jobs that wait or run")
    upload_megabytes: int = Field(200, ge=1)
    quota_gigabytes: float = Field(20.0, gt=0)


class Policy(Record):
    """What is allowed on this server."""

    hosted: bool = False
    code: SecretStr | None = None
    teachers: frozenset[str] = frozenset()
    visitors_may: frozenset[Action] = frozenset()
    limits: Limits = Limits()

    def allows(self, action: Action, teacher: bool) -> bool:
        """Whether somebody may do this."""
        return not self.hosted or teacher or action in self.visitors_may

    def check(self, action: Action, teacher: bool) -> None:
        """Raises `Forbidden` where `allows` says no."""
        if not self.allows(action, teacher):
            raise Forbidden(f"visitors of this server cannot {ACTIONS[action]}: the teacher signs in on the page Share")

    def check_size(self, settings: Mapping[str, object], waiting: int) -> None:
        """Raises `Forbidden` for a job that asks for more than the limits, or that finds the queue full.

        `settings` is what a job was asked for; whatever in it is called `samples` or `epochs` counts.
        """
        if not self.hosted:
            return
        for name in ("samples", "epochs"):
            most = getattr(self.limits, name)
            if (asked := max(_numbers(settings, name), default=0)) > most:
                raise Forbidden(f"{name} = {asked:,}: this server takes at most {most:,}; on your own computer, any")
        if waiting >= self.limits.queue:
            raise Forbidden(f"{waiting} jobs run or wait already, and this server takes {self.limits.queue}: try later")

    def check_upload(self, size_bytes: int) -> None:
        """Raises `Forbidden` for more bytes at once than this server takes."""
        most = self.limits.upload_megabytes
        if self.hosted and size_bytes > most * 1e6:
            raise Forbidden(f"{size_bytes / 1e6:,.0f} MB were sent: this server takes at most {most} MB at once")

    def is_teacher(self, names: Mapping[str, object]) -> bool:
        """Whether somebody signed in under one of the names that may; only a verified address counts as one.

        What looks like an address and is called a name counts as neither: some providers let people choose it.
        """
        called = (str(names.get(key) or "").casefold() for key in ("preferred_username", "sub"))
        known = {name for name in called if name and "@" not in name}
        if names.get("email") and names.get("email_verified") is True:
            known.add(str(names["email"]).casefold())
        return bool(self.teachers & known)


def _numbers(value: object, name: str) -> Iterator[int]:
    if isinstance(value, Mapping):
        found = value.get(name)
        if isinstance(found, int | float):
            yield int(found)
        for inner in value.values():
            yield from _numbers(inner, name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner, name)


def policy(environment: Mapping[str, str] = os.environ) -> Policy:
    """What the environment says. Raises `BadSettings` for what cannot work, naming the variable."""
    hosted = environment.get("CLIPDEMO_HOSTED", "1" if environment.get("SPACE_ID") else "0").strip().casefold()
    if hosted not in ("1", "0", "true", "false"):
        raise BadSettings(f"CLIPDEMO_HOSTED = {hosted!r}: write 1 or 0")
    code = environment.get("CLIPDEMO_TEACHER_CODE", "").strip()
    if code and len(code) < SHORTEST_CODE:
        raise BadSettings(f"CLIPDEMO_TEACHER_CODE has {len(code)} characters: take {SHORTEST_CODE} or more")
    open_to_all = _words(environment.get("CLIPDEMO_VISITORS_MAY", ""))
    if unknown := open_to_all - set(get_args(Action)):
        known = ", ".join(get_args(Action))
        raise BadSettings(f"CLIPDEMO_VISITORS_MAY = {', '.join(sorted(unknown))!r}: known are {known}")
    return Policy(
        hosted=hosted in ("1", "true"),
        code=code or None,
        teachers=_words(environment.get("CLIPDEMO_TEACHERS", "")),
        visitors_may=open_to_all,
        limits=Limits(**{name: _number(environment, of) for name, of in _LIMITS.items() if of in environment}),
    )


_LIMITS = {
    "samples": "CLIPDEMO_MAX_SAMPLES",
    "epochs": "CLIPDEMO_MAX_EPOCHS",
    "queue": "CLIPDEMO_MAX_QUEUE",
    "upload_megabytes": "CLIPDEMO_MAX_UPLOAD_MEGABYTES",
    "quota_gigabytes": "CLIPDEMO_QUOTA_GIGABYTES",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip().casefold() for word in text.split(",") if word.strip())


def _number(environment: Mapping[str, str], variable: str) -> float:
    try:
        return float(environment[variable])
    except ValueError:
        raise BadSettings(f"{variable} = {environment[variable]!r} is not a number") from None


def visitor(address: str | None, forwarded: str | None) -> str:
    """Who asks, for counting: the address of a connection, or where that is a proxy's, of whom the proxy speaks for.

    `forwarded` is the header X-Forwarded-For. It is believed only of a connection from a private address, and only its
    last public address, which the nearest proxy has written: what stands before may be made up by the visitor.
    """
    nearest = _ip(address)
    if nearest is None or not nearest.is_private:
        return address or "unknown"
    heard = [found for part in (forwarded or "").split(",") if (found := _ip(part.strip())) and not found.is_private]
    return str(heard[-1]) if heard else str(address)


def _ip(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text or "")
    except ValueError:
        return None


class Door:
    """Where the teacher's code is asked for. Wrong ones are counted for each visitor and for all together.

    A visitor is an address. The common count is for those who have many: it bounds all guessing to 29,000 a day.
    While it is used up the door stays shut for the teacher as well, who can still sign in by OpenID Connect.
    """

    MINE, ALL, SECONDS = 5, 200, 600.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()

    def opens(self, code: SecretStr | None, said: str, visitor: str) -> bool:
        """Whether this is the code; compared in a time that tells nothing. Raises `Forbidden` after too many."""
        with self._lock:
            while self._wrong and self._wrong[0][0] < self._clock() - self.SECONDS:
                self._wrong.popleft()
            mine = sum(who == visitor for _, who in self._wrong)
            if mine >= self.MINE or len(self._wrong) >= self.ALL:
                raise Forbidden(f"too many wrong codes: try again in {self.SECONDS / 60:.0f} minutes")
            right = code is not None and hmac.compare_digest(said.encode(), code.get_secret_value().encode())
            if not right:
                self._wrong.append((self._clock(), visitor))
            return right
