import json
from pathlib import Path

import pytest

from clipdemo.errors import BadSettings, PictureError, SourceError
from clipdemo.sources.base import COLUMNS
from clipdemo.sources.settings import TableOptions
from clipdemo.sources.table import TableSource
from tests.fuzz import png


def source_of(tmp_path: Path, table: bytes | str, name: str = "labels.csv", **options) -> TableSource:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(table.encode() if isinstance(table, str) else table)
    return TableSource(TableOptions(path=str(folder / name), **options), tmp_path / "cache")


def reasons(source: TableSource) -> list[str]:
    """A row each: the picture's bytes as text, or why there is none. Checked to agree with the table."""
    table = source.table()
    assert list(table.columns) == list(COLUMNS) and table["id"].is_unique
    found = [p.reason if isinstance(p, PictureError) else p.decode() for p in source.pictures(range(len(table)))]
    assert all(problem in ("", reason) for problem, reason in zip(table["problem"], found, strict=True))
    return found


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a.png").write_text("A")
    (tmp_path / "data" / "sub" / "b.png").write_text("B")
    (tmp_path / "data" / "empty.png").touch()
    (tmp_path / "secret.png").write_text("secret")
    return tmp_path / "data"


def test_rows_have_captions_labels_and_groups_as_they_are_written(tmp_path, files):
    lists = "image,text,labels,patient_id\na.png,one,\"['a','b']\",7\nsub/b.png,two,x,8\n"
    source = source_of(tmp_path, lists)
    assert source.table().to_dict("records") == [
        {"id": "labels.csv:1 a.png", "caption": "one", "label": "['a','b']", "modality": "", "group": "7", "problem": ""},
        {"id": "labels.csv:2 sub/b.png", "caption": "two", "label": "x", "modality": "", "group": "8", "problem": ""},
    ]  # fmt: skip
    assert [*source.pictures([1, 0, 1])] == [b"B", b"A", b"B"]
    assert source.columns() == {"image": "image", "caption": "text", "label": "labels", "group": "patient_id"}


def test_each_row_without_a_picture_says_why(tmp_path, files):
    (files / "link.png").symlink_to(tmp_path / "secret.png")
    (files / "inner.png").symlink_to(files / "a.png")
    (files / "out").symlink_to(tmp_path, target_is_directory=True)
    expected = {
        "a.png": "A",
        "./sub/../a.png": "A",
        "sub\\b.png": "B",
        str(files / "a.png"): "A",
        "inner.png": "A",
        '"[""a.png""]"': "A",
        "gone.png": "picture is missing",
        "nofolder/a.png": "picture is missing",
        "../secret.png": "path leaves the folder",
        str(tmp_path / "secret.png"): "path leaves the folder",
        "link.png": "path leaves the folder",
        "out/secret.png": "path leaves the folder",
        "out/data/a.png": "A",
        "http://127.0.0.1/a.png": "picture is a URL, and is not fetched",
        '""': "row has no picture",
        "sub": "entry is not a file",
        ".": "path leaves the folder",
        "empty.png": "picture has no bytes",
        "a\0.png": "picture is missing",
        "n" * 5000: "picture is missing",
    }
    source = source_of(tmp_path, "image,caption\n" + "".join(f"{name},x\n" for name in expected) + "broken\n")
    assert reasons(source) == [*expected.values(), "row cannot be read"]


def test_paths_start_from_the_folder_of_pictures_where_one_is_given(tmp_path, files):
    source = source_of(tmp_path, "image\nb.png\n../a.png\n", images=str(files / "sub"))
    assert reasons(source) == ["B", "path leaves the folder"]
    with pytest.raises(BadSettings, match="there is no such folder"):
        source_of(tmp_path, "image\nb.png\n", images=str(files / "nowhere")).table()


def test_a_picture_removed_after_the_look_is_missing(tmp_path, files):
    source = source_of(tmp_path, "image\na.png\n")
    source.table()
    (files / "a.png").unlink()
    assert next(iter(source.pictures([0]))).reason == "picture is missing"


@pytest.mark.parametrize(("name", "line"), [("t.tsv", "image\tlabel\na.png\tx\n"), ("t.jsonl", '{"image": "a.png", "label": "x"}\n'), ("t.json", '[{"image": "a.png", "label": "x"}]')])  # fmt: skip
def test_other_kinds_of_tables(tmp_path, files, name, line):
    source = source_of(tmp_path, line, name)
    assert reasons(source) == ["A"] and source.table()["label"].tolist() == ["x"]


def test_pictures_inside_a_parquet_file(tmp_path, files):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": f"p{i}".encode(), "path": f"{i}.png"} for i in range(50)]
    images[3] = None
    images[4] = {"bytes": None, "path": "a.png"}
    images[5] = {"bytes": None, "path": "../secret.png"}
    images[6] = {"bytes": b"", "path": None}
    table = pa.table({"scan": images, "file_name": ["?"] * 50, "label": list(range(50))})
    pq.write_table(table, files / "t.parquet", row_group_size=7)
    source = TableSource(TableOptions(path=str(files / "t.parquet")), tmp_path / "cache")
    expected = [f"p{i}" for i in range(50)]
    expected[3:7] = ["row has no picture", "A", "row has no picture", "picture has no bytes"]
    assert reasons(source) == expected
    assert [p for p in source.pictures([40, 7, 40, 49])] == [b"p40", b"p7", b"p40", b"p49"]
    assert source.columns() == {"image": "scan", "label": "label"}
    assert source.table()["id"][1] == "t.parquet:2 1.png"


def test_chosen_columns_count(tmp_path, files):
    source = source_of(tmp_path, "x,y,z\na.png,1,2\n", image_column="x", label_column="z", caption_column="y")
    assert source.table().iloc[0][["caption", "label"]].tolist() == ["1", "2"] and reasons(source) == ["A"]
    with pytest.raises(BadSettings, match="label_column = 'w'.*x, y, z"):
        source_of(tmp_path, "x,y,z\na.png,1,2\n", image_column="x", label_column="w").table()


def test_columns_can_be_asked_for_before_the_rows_are_read(tmp_path):
    source = source_of(tmp_path, "image,label\na.png,x\n")
    assert source.available_columns() == ["image", "label"] and source.columns()["label"] == "label"


def test_wrong_paths_and_tables_are_clear(tmp_path):
    with pytest.raises(BadSettings, match=r"path = '': write --path FILE"):
        TableSource(TableOptions(), tmp_path)
    with pytest.raises(SourceError, match="use the source folder"):
        TableSource(TableOptions(path=str(tmp_path)), tmp_path).table()
    with pytest.raises(SourceError, match="is not there"):
        TableSource(TableOptions(path=str(tmp_path / "gone.csv")), tmp_path).table()
    with pytest.raises(BadSettings, match="no column of labels.csv looks like pictures; choose one of foo, bar"):
        source_of(tmp_path, "foo,bar\n1,2\n").table()


MINI = Path(__file__).resolve().parents[2] / "../shared/data/pubmedvision-mini/PubMedVision_Original_Caption.json"


@pytest.mark.skipif(not MINI.exists(), reason="needs ../shared/data/pubmedvision-mini")
def test_real_captions_are_read_whole(tmp_path):
    source = TableSource(TableOptions(path=str(MINI)), tmp_path)
    rows = json.loads(MINI.read_bytes())
    assert source.table()["caption"].tolist() == [row["Original_Caption"] for row in rows]
    assert source.table()["label"].tolist() == [row["body_part"] for row in rows]
    assert set(source.table()["problem"]) == {"picture is missing"}


def test_real_bytes_decode(tmp_path, files):
    from clipdemo.images import decode

    (files / "a.png").write_bytes(png(side=9))
    assert decode(next(iter(source_of(tmp_path, "image\na.png\n").pictures([0])))).size == (9, 9)
