import errno
import os
import subprocess
import sys
import time

import pytest

from clipdemo.errors import WorkspaceError
from clipdemo.workspace import Workspace, atomic_write, disk_errors, read_json, write_json


def test_a_folder_appears_whole_or_not_at_all(workspace):
    with workspace.new_folder("samples", "whole") as folder:
        (folder / "a").write_text("1")
        assert workspace.names("samples") == []
    with pytest.raises(ZeroDivisionError), workspace.new_folder("samples", "broken") as folder:
        (folder / "a").write_text("1")
        raise ZeroDivisionError
    assert workspace.names("samples") == ["whole"]
    assert not [p for p in (workspace.root / ".partial").iterdir() if p.is_dir()]


def test_the_first_of_two_makers_wins(workspace):
    with workspace.new_folder("samples", "same") as late:
        (late / "who").write_text("late")
        with workspace.new_folder("samples", "same") as early:
            (early / "who").write_text("early")
    assert (workspace.folder("samples", "same") / "who").read_text() == "early"


@pytest.mark.parametrize("name", ["../../etc", "", ".hidden", "a/b", "A", "x" * 101, "a\0b", "a b"])
def test_a_name_from_outside_never_leaves_the_workspace(workspace, name):
    with pytest.raises(WorkspaceError, match="not the name of anything"):
        workspace.folder("samples", name)


def test_a_failed_write_keeps_the_old_content(workspace, monkeypatch):
    path = workspace.root / "value.json"
    write_json(path, {"a": 1})

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match="no space left"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert sorted(p.name for p in workspace.root.iterdir() if p.is_file()) == ["value.json"]


def test_a_disk_that_is_really_full_is_named(tmp_path):
    """The kernel's own refusal: a file-size limit of 4 kB stands in for a full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from clipdemo.workspace import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "atomic_write(Path(sys.argv[1]), bytes(100_000))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "big")], capture_output=True, text=True)
    assert "WorkspaceError: no space left on the disk" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="cannot write to .*file"):
        Workspace(tmp_path / "file" / "workspace")


def test_other_errors_are_not_disguised(tmp_path):
    with pytest.raises(OSError, match="other"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "other")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_atomic_write_gives_the_usual_permissions(tmp_path):
    atomic_write(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_sweep_removes_only_what_is_old(workspace):
    partial = workspace.root / ".partial"
    for name, age in (("old", 2 * 86400), ("new", 0)):
        (partial / name).mkdir()
        os.utime(partial / name, (time.time() - age,) * 2)
    workspace.sweep()
    assert [p.name for p in partial.iterdir() if p.is_dir()] == ["new"]


def test_names_are_newest_first(workspace):
    for age, name in ((30, "b"), (10, "c"), (20, "a")):
        with workspace.new_folder("runs", name):
            pass
        os.utime(workspace.folder("runs", name), (time.time() - age,) * 2)
    assert workspace.names("runs") == ["c", "a", "b"]
