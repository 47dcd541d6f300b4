"""Where records come from. Each source knows one kind of data and nothing of what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import pandas as pd

from clipdemo.errors import BadSettings, SourceError
from clipdemo.records import Option

COLUMNS = ("id", "caption", "label", "modality", "group")


class Source(Protocol):
    """What every source offers.

    `table()` has one row a picture and the columns `COLUMNS`, as text: `label` is whatever the source says, clean or
    not; rows of one `group` (patient, case, article) belong together, "" means alone. `pictures(rows)` yields the
    encoded bytes of the pictures at these positions of the table, in order, and None for one that cannot be had.
    `classes` are the labels that count, `synonyms` other wordings of them; `synthetic` says that nobody was imaged.
    """

    name: str
    synthetic: bool
    classes: tuple[str, ...]
    synonyms: Mapping[str, str]

    def table(self) -> pd.DataFrame:
        """All rows, without their pictures."""
        ...

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | None]:
        """The encoded pictures of these rows, in order."""
        ...


def _phantom(seed: int, options: Mapping[str, Option]) -> Source:
    from clipdemo.sources.phantom import PhantomSettings, PhantomSource

    return PhantomSource(PhantomSettings(seed=seed, **options))


SOURCES: dict[str, Callable[[int, Mapping[str, Option]], Source]] = {"phantom": _phantom}


def open_source(name: str, seed: int = 0, options: Mapping[str, Option] | None = None) -> Source:
    """The source of that name. Raises `SourceError` for an unknown one, `BadSettings` for options it has not."""
    if name not in SOURCES:
        raise SourceError(f"source {name!r} is not known: choose one of {', '.join(sorted(SOURCES))}")
    if "seed" in (options or {}):
        raise BadSettings("seed is a setting of the sample, not an option of the source")
    return SOURCES[name](seed, options or {})
