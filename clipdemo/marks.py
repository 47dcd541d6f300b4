"""Test pictures that somebody has marked as wrongly labelled, kept beside a comparison for all who look at it."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from clipdemo.errors import WorkspaceError
from clipdemo.records import Comparison
from clipdemo.workspace import Workspace, read_json, write_json

logger = logging.getLogger(__name__)


def marked(workspace: Workspace, comparison: Comparison) -> frozenset[str]:
    """Ids of the marked pictures. A damaged file counts as none, and is said in the log."""
    path = _path(workspace, comparison)
    if not path.exists():
        return frozenset()
    try:
        return frozenset(str(name) for name in read_json(path)["wrong_labels"])
    except (WorkspaceError, KeyError, TypeError) as error:
        logger.warning("marks of comparison %s cannot be read (%s): it is shown without any", comparison.id, error)
        return frozenset()


def set_mark(workspace: Workspace, comparison: Comparison, picture: str, wrong: bool) -> None:
    """Marks a picture, or takes its mark back. Two who mark at the same moment both keep theirs."""
    with workspace.lock(f"marks-{comparison.id}"):
        names = set(marked(workspace, comparison))
        with suppress(KeyError):
            names.add(picture) if wrong else names.remove(picture)
        write_json(_path(workspace, comparison), {"wrong_labels": sorted(names)})


def _path(workspace: Workspace, comparison: Comparison) -> Path:
    return workspace.folder("comparisons", comparison.id) / "marks.json"
