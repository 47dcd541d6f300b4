import io
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.errors import SourceError
from clipdemo.uploads import keep_upload, safe_name


def files(**contents):
    return [(name.replace("__", "/"), io.BytesIO(data)) for name, data in contents.items()]


def test_one_file_is_a_path_and_several_are_a_folder(workspace):
    one = keep_upload([("pictures.zip", io.BytesIO(b"PK"))], workspace)
    assert one.name == "pictures.zip" and one.read_bytes() == b"PK"
    folder = keep_upload(files(photos__cat__a=b"1", photos__dog__a=b"2"), workspace)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "photos/cat/a", "photos/dog/a"
    ]  # fmt: skip


def test_equal_files_are_kept_once_and_others_apart(workspace):
    first, again, other = (keep_upload([("a.csv", io.BytesIO(data))], workspace) for data in (b"x", b"x", b"y"))
    assert first == again != other
    assert len(workspace.names("uploads")) == 2


def test_the_same_name_twice_loses_nothing(workspace):
    folder = keep_upload(
        [("a.png", io.BytesIO(b"1")), ("A.png", io.BytesIO(b"2")), ("a.png", io.BytesIO(b"3"))], workspace
    )
    assert sorted(p.read_bytes() for p in folder.iterdir()) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("names", [("a/b.png", "a"), ("a", "a/b.png")])
def test_a_file_named_like_a_folder_loses_nothing(workspace, names):
    folder = keep_upload([(name, io.BytesIO(data)) for name, data in zip(names, (b"1", b"2"), strict=True)], workspace)
    assert sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file()) == [b"1", b"2"]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\windows\\x.png", "a/../../b", "..", "", "\x00"]
)
def test_names_stay_inside(name):
    safe = safe_name(name)
    assert not safe.is_absolute() and ".." not in safe.parts and safe.parts


@given(st.lists(st.text(max_size=300), min_size=1, max_size=6))
def test_any_names_make_a_folder_that_holds_all_files(tmp_path_factory, names):
    from clipdemo.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("w"))
    path = keep_upload([(name, io.BytesIO(str(i).encode())) for i, name in enumerate(names)], workspace)
    assert workspace.root in path.resolve().parents
    found = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    assert sorted(p.read_text() for p in found) == sorted(str(i) for i in range(len(names)))
    assert all(isinstance(safe_name(name), PurePosixPath) for name in names)


def test_no_file_is_said(workspace):
    with pytest.raises(SourceError, match="0 files were sent"):
        keep_upload([], workspace)
