"""Files that came through a page, put where a source can read them: one folder for equal files, however often sent."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from clipdemo.errors import SourceError
from clipdemo.workspace import Workspace

MOST_FILES = 20_000
_BLOCK = 1 << 20
_UNSAFE = re.compile(r"[^\w.\- ()+,@=]")


def keep_upload(files: Sequence[tuple[str, BinaryIO]], workspace: Workspace) -> Path:
    """Writes (name, content) pairs into the workspace; the path of the one file, or of the folder of several.

    Names come from somebody's browser: what could leave the folder or trouble a disk is replaced, and folders inside
    a name stay folders, so that class folders survive. Raises `SourceError` for no file, or too many.
    """
    if not 0 < len(files) <= MOST_FILES:
        raise SourceError(f"{len(files):,} files were sent: 1 to {MOST_FILES:,} are taken; put more into an archive")
    names = _unique([safe_name(name) for name, _ in files])
    digest = hashlib.sha256()
    for name, (_, content) in sorted(zip(names, files, strict=True), key=lambda pair: pair[0].as_posix()):
        digest.update(f"{name} {_digest(content)}\n".encode())
    key = f"upload-{digest.hexdigest()[:12]}"
    if not workspace.folder("uploads", key).is_dir():
        with workspace.new_folder("uploads", key) as folder:
            for name, (_, content) in zip(names, files, strict=True):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                content.seek(0)
                with target.open("xb") as out:
                    shutil.copyfileobj(content, out, _BLOCK)
    folder = workspace.folder("uploads", key)
    return folder / names[0] if len(names) == 1 else folder


def safe_name(name: str) -> PurePosixPath:
    """A relative path of at most 5 plain parts made of whatever a browser calls a file."""
    parts = [_UNSAFE.sub("_", part).strip(" .")[-100:] for part in name.replace("\\", "/").split("/")]
    return PurePosixPath(*[part for part in parts if part][-5:] or ["file"])


def _unique(names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """The same names, with a number before the ending of those that are there already, as file or as folder."""
    files: set[str] = set()
    folders: set[str] = set()
    unique = []
    for name in names:
        if any(_key(parent) in files for parent in name.parents):
            name = PurePosixPath("_".join(name.parts))
        candidate, number = name, 1
        while _key(candidate) in files | folders:
            number += 1
            candidate = name.with_name(f"{name.stem}-{number}{name.suffix}")
        files.add(_key(candidate))
        folders |= {_key(parent) for parent in candidate.parents}
        unique.append(candidate)
    return unique


def _key(path: PurePosixPath) -> str:
    """Equal for paths that some file systems take for one."""
    return path.as_posix().casefold()


def _digest(content: BinaryIO) -> str:
    content.seek(0)
    return hashlib.file_digest(content, "sha256").hexdigest()
