"""An export as one ZIP file, for whoever has a browser and not the server's disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from clipdemo.export.hub import push
from clipdemo.export.model import export_model
from clipdemo.export.space import export_space
from clipdemo.progress import Activity
from clipdemo.training.runs import Run
from clipdemo.workspace import Workspace, disk_errors

Kind = Literal["model", "space"]
WRITES = {"model": export_model, "space": export_space}


def zipped(run: Run, workspace: Workspace, kind: Kind) -> Activity[bytes]:
    """What `export_model` or `export_space` writes, packed. Holds it in memory: twice the weights at worst."""
    with disk_errors(workspace.root), tempfile.TemporaryDirectory(dir=workspace.root / ".partial") as place:
        folder = yield from WRITES[kind](run, workspace, Path(place) / f"{kind}-{run.id}")
        packed = shutil.make_archive(str(Path(place) / "export"), "zip", folder.parent, folder.name)
        return Path(packed).read_bytes()


def pushed(run: Run, workspace: Workspace, kind: Kind, repository: str, token: str, private: bool) -> Activity[str]:
    """Exports and pushes to the Hub; the address there. The token is used for that and kept nowhere."""
    with disk_errors(workspace.root), tempfile.TemporaryDirectory(dir=workspace.root / ".partial") as place:
        folder = yield from WRITES[kind](run, workspace, Path(place) / f"{kind}-{run.id}")
        return push(folder, repository, token, private)
