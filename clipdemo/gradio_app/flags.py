"""Answers that somebody found worth noting; nothing of Gradio."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from clipdemo.errors import WorkspaceError
from clipdemo.images import storable
from clipdemo.spreadsheets import harmless
from clipdemo.workspace import Workspace, atomic_write, disk_errors

MOST_FLAGS = 10_000
_COLUMNS = ("time", "comparison", "picture", "said", "should be", "comment", "file")


class Flags:
    """A table of flags, in `flagged/flags.csv` of the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self.folder = workspace, workspace.root / "flagged"

    def add(self, result: dict[str, Any], comparison: str, label: str, comment: str, picture: bytes | None) -> int:
        """Appends a row and returns how many there are. `picture` is kept, less all that is not pixels, if given."""
        file = ""
        with disk_errors(self.folder), self._workspace.lock("flags"):
            self.folder.mkdir(exist_ok=True)
            path = self.folder / "flags.csv"
            before = path.read_text(encoding="utf-8") if path.exists() else _line(_COLUMNS)
            count = sum(1 for _ in csv.reader(io.StringIO(before)))  # with the header: as many as there will be rows
            if count > MOST_FLAGS:
                raise WorkspaceError(f"{path} has {MOST_FLAGS:,} rows: move it away to note more")
            if picture is not None:
                bare, suffix, _ = storable(picture, "the picture")
                file = sha256(bare).hexdigest()[:16] + suffix
                atomic_write(self.folder / file, bare)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            row = (now, comparison, result["name"], result["agreement"], label[:200], comment[:1000], file)
            atomic_write(path, (before + _line(row)).encode())
        return count


def _line(values: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([harmless(value) for value in values])
    return line.getvalue()
