"""What every source offers. Each knows one kind of data and nothing of what is done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from clipdemo.errors import PictureError
from clipdemo.progress import Activity

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("id", "caption", "label", "modality", "group", "problem")
MISSING_PICTURE = "picture is missing"  # reason of a `PictureError`


class Source:
    """Rows with pictures. Opening one is cheap and needs neither disk nor network; `prepare` does what takes long."""

    name: str
    synthetic: bool = False  # True when nobody was imaged
    classes: tuple[str, ...] | None = None  # the labels that count; None: whatever labels there are
    synonyms: Mapping[str, str] = {}  # other wordings of the classes

    def prepare(self) -> Activity[None]:
        """Fetches and reads what `table` needs, once; what was fetched is kept. Raises `SourceError`.

        Progress has the stage "source".
        """
        yield from ()

    def table(self) -> pd.DataFrame:
        """One row a picture, the columns `COLUMNS`, all of them text; the index counts from 0. After `prepare`.

        `label` and `caption` are whatever the source says, "" where it says nothing. Rows of one `group` (patient,
        case, article) belong together, "" means alone. `problem` is a short reason why a row cannot be used ("" where
        it can): the cleaning report counts rows by it. `id` is unique and tells a reader which row or file it was.
        """
        raise NotImplementedError

    def pictures(self, rows: Sequence[int]) -> Iterator[bytes | PictureError]:
        """The encoded pictures at these positions of the table, in order; an error for one that cannot be had.

        Raises `SourceError` only when it makes no sense to go on, such as no network after many tries. What was
        fetched until then is kept, and the next call goes on from there.
        """
        raise NotImplementedError

    def columns(self) -> dict[str, str]:
        """Which column was taken for what ("image", "caption", "label", "group"); {} where there are none to choose."""
        return {}

    def available_columns(self) -> list[str]:
        """The columns that one can choose from, where there are any."""
        return []

    def bytes_to_fetch(self, rows: Sequence[int]) -> int:
        """Bytes that these rows' pictures would move over the network now; 0 for what is on this machine."""
        return 0

    def origin(self) -> dict[str, str]:
        """What a reader needs to find the data again: repository and commit, or path; and its licence where known."""
        return {}
