"""Test pictures that somebody has marked as wrongly labelled, kept beside a comparison for all who look at it."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from clipdemo.errors import ComparisonError, WorkspaceError
from clipdemo.records import Comparison
from clipdemo.workspace import Workspace, read_json, write_json

logger = logging.getLogger(__name__)


def marked(workspace: Workspace, comparison: Comparison) -> frozenset[str]:
    """Ids of the marked pictures. A damaged file counts as none, and is said in the log."""
    path = _path(workspace, comparison)
    if not path.exists():
        return frozenset()
    try:
        names = read_json(path)["wrong_labels"]
        if not isinstance(names, list):  # a text's letters and an object's keys could be taken for names
            raise TypeError(f"wrong_labels = {names!r} is no list")
        return frozenset(str(name) for name in names)
    except (WorkspaceError, KeyError, TypeError) as error:
        logger.warning("marks of comparison %s cannot be read (%s): it is shown without any", comparison.id, error)
        return frozenset()


def set_mark(workspace: Workspace, comparison: Comparison, picture: str, wrong: bool) -> None:
    """Marks a picture, or takes its mark back. Two who mark at the same moment both keep theirs.

    Raises `ComparisonError` where the comparison has been deleted.
    """
    if not _path(workspace, comparison).parent.is_dir():
        raise ComparisonError(f"comparison {comparison.id} was deleted, and its marks with it: choose another one")
    with workspace.lock(f"marks-{comparison.id}"):
        names = set(marked(workspace, comparison))
        with suppress(KeyError):
            names.add(picture) if wrong else names.remove(picture)
        write_json(_path(workspace, comparison), {"wrong_labels": sorted(names)})


def _path(workspace: Workspace, comparison: Comparison) -> Path:
    return workspace.folder("comparisons", comparison.id) / "marks.json"
