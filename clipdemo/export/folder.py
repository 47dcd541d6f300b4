"""A folder that was exported: written whole or not at all, and known again by the list of its files."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipdemo import __version__
from clipdemo.errors import WorkspaceError
from clipdemo.workspace import disk_errors, read_json, write_json

Kind = Literal["model", "space"]
SIGN = "clipdemo.json"  # by which an export is known: of which run it is, and SHA-256 of its files


@dataclass(frozen=True)
class Export:
    """An exported folder. `files` are relative paths with forward slashes, the sign among them."""

    folder: Path
    kind: Kind
    run: str
    files: tuple[str, ...]


def read_export(folder: Path) -> Export:
    """An export by its folder. Raises `WorkspaceError` where there is none, or where a file of it is missing."""
    folder = folder.expanduser().absolute()
    if not (folder / SIGN).is_file():
        raise WorkspaceError(f"{folder} holds no {SIGN}, so it is no export: make one with `export`")
    sign = read_json(folder / SIGN)
    try:
        found = Export(folder, sign["kind"], sign["run"], (*sorted(sign["files"]), SIGN))
    except (KeyError, TypeError):
        raise WorkspaceError(f"{folder / SIGN} was not written by `export`: export into another folder") from None
    if missing := [name for name in found.files if not (folder / name).is_file()]:
        raise WorkspaceError(f"{folder} lacks {missing[0]!r}: delete the folder and export the run again")
    return found


@contextmanager
def new_export(folder: Path, kind: Kind, run: str) -> Iterator[Path]:
    """A folder to fill; when the block ends well it stands at `folder`, in place of an earlier export.

    Raises `WorkspaceError` for a folder that holds anything else.
    """
    folder = folder.expanduser().absolute()
    _check_free(folder)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as partial:
            new, old = Path(partial) / "new", Path(partial) / "old"
            new.mkdir()
            yield new
            files = {path.relative_to(new).as_posix(): _sha256(path) for path in _files(new)}
            write_json(new / SIGN, {"kind": kind, "run": run, "version": __version__, "files": files})
            if folder.exists():
                folder.rename(old)
            try:
                new.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise


def _check_free(folder: Path) -> None:
    """Raises `WorkspaceError` unless the folder is missing, empty, or an earlier export that nobody added to."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WorkspaceError(f"{folder} is a file: name a folder with --to")
    there = {path.relative_to(folder).as_posix() for path in _files(folder)}
    if not there and not any(folder.iterdir()):
        return
    if SIGN not in there:
        raise WorkspaceError(f"{folder} holds other files and no export: name another folder with --to")
    if strange := sorted(there - set(read_export(folder).files)):
        raise WorkspaceError(
            f"{folder} holds an earlier export and {strange[0]!r}, which is no part of it: move it, or name another "
            "folder with --to"
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
