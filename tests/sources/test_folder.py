import shutil
import zipfile
from pathlib import Path

import pytest

from clipdemo.errors import BadSettings, PictureError, SourceError
from clipdemo.sources.base import COLUMNS
from clipdemo.sources.folder import FolderSource
from clipdemo.sources.settings import FolderOptions
from tests.fuzz import png

MEDNIST = Path(__file__).resolve().parents[2] / "../shared/data/mednist.zip"


def source_of(tmp_path: Path, files, **options) -> FolderSource:
    """A folder with these files; a name alone becomes a small picture."""
    root = tmp_path / "pictures"
    for name, data in files.items() if isinstance(files, dict) else dict.fromkeys(files, b"picture").items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return FolderSource(FolderOptions(path=str(root), **options), tmp_path / "cache")


def column(source: FolderSource, name: str) -> dict[str, str]:
    table = source.table()
    assert list(table.columns) == list(COLUMNS) and table["id"].is_unique
    return dict(zip(table["id"], table[name], strict=True))


def test_a_folder_names_the_class_of_its_pictures(tmp_path):
    source = source_of(tmp_path, ["A/1.png", "A/2.PNG", "B/c/3.jpg", "4.tif"])
    assert column(source, "label") == {"A/1.png": "A", "A/2.PNG": "A", "B/c/3.jpg": "c", "4.tif": ""}
    assert list(source.pictures([3, 0])) == [b"picture"] * 2 and source.columns() == {}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["w/A/1.png", "w/B/2.png"], ["A", "B"]),
        (["w/v/A/1.png", "w/v/B/2.png", "w/0.png"], ["", "A", "B"]),
        (["w/1.png", "w/2.png"], ["", ""]),
        (["w/A/1.png", "w/A/2.png"], ["", ""]),
        (["train/A/1.png", "train/B/1.png", "test/A/2.png"], ["A", "A", "B"]),
        (["train/1.png", "Validation/2.png", "test/3.png"], ["", "", ""]),
        (["A/test/1.png", "A/train/2.png"], ["", ""]),
        (["1.png", "A/2.png"], ["", ""]),
        (["w/A/1.png", "w/B/2.png", "LICENSE"], ["", "A", "B"]),
    ],
)
def test_labels_need_two_folders_that_say_something(tmp_path, names, labels):
    assert sorted(column(source_of(tmp_path, names), "label").values()) == sorted(labels)


def test_at_level_two_the_pictures_own_folder_is_the_group(tmp_path):
    source = source_of(tmp_path, ["w/A/p1/1.png", "w/A/p1/2.png", "w/B/p2/3.png", "w/4.png"], label_level=2)
    assert list(column(source, "label").values()) == ["", "A", "A", "B"]
    assert list(column(source, "group").values()) == ["", "p1", "p1", "p2"]


def test_at_level_zero_there_are_no_labels(tmp_path):
    assert set(column(source_of(tmp_path, ["A/1.png", "B/2.png"], label_level=0), "label").values()) == {""}


def test_what_is_no_picture_is_a_row_with_a_problem(tmp_path):
    files = {
        "A/1.png": png(),
        "B/2.png": b"",
        "B/notes.txt": b"x",
        "B/dicom": b"x",
        "B/1.2.840.5": b"x",
        "B/x.zip": b"PK",
    }
    source = source_of(tmp_path, files)
    assert column(source, "problem") == {
        "A/1.png": "",
        "B/1.2.840.5": "",
        "B/2.png": "picture has no bytes",
        "B/dicom": "",
        "B/notes.txt": "file is not a picture",
        "B/x.zip": "file is not a picture",
    }
    read = list(source.pictures(range(6)))
    assert [r.reason if isinstance(r, PictureError) else r for r in read] == [
        png(), b"x", "picture has no bytes", b"x", "file is not a picture", "file is not a picture",
    ]  # fmt: skip


METADATA = b"file_name,text,label,patient\na.png,one,x,p\nsub/b.png,two,y,p\ngone.png,three,x,q\n,four,x,q\n../../../c.png,five,x,q\nhttp://h/a.png,six,x,q\nbroken\n"


@pytest.mark.parametrize("where", ["", "w/", "w/v/"])
@pytest.mark.parametrize("name", ["metadata.csv", "labels.csv"])
def test_rows_are_those_of_the_metadata_and_the_pictures_that_it_forgot(tmp_path, where, name):
    pictures = {f"{where}{n}": b"picture" for n in ("a.png", "sub/b.png", "sub/forgotten.png")}
    source = source_of(tmp_path, {f"{where}{name}": METADATA} | pictures)
    assert column(source, "problem") == {
        f"{where}a.png": "",
        f"{where}sub/b.png": "",
        f"{where}gone.png": "picture is missing",
        f"{where}{name}:4": "row has no picture",
        f"{where}{name}:5": "path leaves the folder",
        f"{where}{name}:6": "picture is a URL, and is not fetched",
        f"{where}{name}:7": "row cannot be read",
        f"{where}sub/forgotten.png": "picture is not in the metadata",
    }
    row = source.table().iloc[1]
    assert (row["caption"], row["label"], row["group"]) == ("two", "y", "p")
    assert source.columns() == {"image": "file_name", "caption": "text", "label": "label", "group": "patient"}
    assert source.available_columns() == ["file_name", "text", "label", "patient"]


def test_metadata_in_each_split_and_labels_from_the_folders(tmp_path):
    line = b'{"file_name": "%s", "text": "t"}\n'
    source = source_of(
        tmp_path,
        {
            "train/metadata.jsonl": line % b"A/1.png" + line % b"B/2.png",
            "test/metadata.jsonl": line % b"A/3.png",
            "train/A/1.png": b"x",
            "train/B/2.png": b"x",
            "test/A/3.png": b"x",
        },
    )
    assert column(source, "label") == {"train/A/1.png": "A", "train/B/2.png": "B", "test/A/3.png": "A"}
    assert set(column(source, "caption").values()) == {"t"} and set(column(source, "problem").values()) == {""}


def test_parquet_metadata(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = source_of(tmp_path, ["a.png"])
    pq.write_table(pa.table({"file_name": ["a.png"], "label": [3]}), tmp_path / "pictures/metadata.parquet")
    assert column(source, "label") == {"a.png": "3"}


def test_chosen_columns_count(tmp_path):
    files = {"metadata.csv": METADATA, "a.png": b"x"}
    source = source_of(tmp_path, files, caption_column="label", label_column="text", group_column="none")
    assert source.table().iloc[0][["caption", "label", "group"]].tolist() == ["x", "one", ""]
    with pytest.raises(BadSettings, match="label_column = 'klass'.*file_name, text"):
        source_of(tmp_path, files, label_column="klass").table()
    with pytest.raises(BadSettings, match="has no metadata"):
        source_of(tmp_path / "b", ["a.png"], label_column="klass").table()


def test_metadata_without_a_column_of_names_says_which_columns_it_has(tmp_path):
    with pytest.raises(BadSettings, match="needs a column of file names.*foo, bar"):
        source_of(tmp_path, {"metadata.csv": b"foo,bar\n1,2\n", "a.png": b"x"}).table()


def test_a_table_about_something_else_is_no_metadata(tmp_path):
    source = source_of(tmp_path, {"notes.csv": b"file,who\nletter.doc,me\n", "A/1.png": b"x", "B/2.png": b"x"})
    assert column(source, "problem") == {"A/1.png": "", "B/2.png": "", "notes.csv": "file is not a picture"}
    assert column(source, "label")["A/1.png"] == "A"


def test_a_picture_named_twice_is_two_rows_with_two_ids(tmp_path):
    source = source_of(
        tmp_path, {"metadata.csv": b"file_name,text\na.png,1\na.png,2\n", "a.png": b"x", "a.png (2)": b"y"}
    )
    assert list(column(source, "caption").items())[:2] == [("a.png", "1"), ("a.png (3)", "2")]
    assert list(source.pictures([0, 1])) == [b"x", b"x"]


def test_no_path_and_no_files_are_clear(tmp_path):
    with pytest.raises(BadSettings, match=r"path = '': write --path FOLDER_OR_ARCHIVE"):
        FolderSource(FolderOptions(), tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(SourceError, match="holds no files"):
        source_of(tmp_path, []).table()


@pytest.mark.skipif(not MEDNIST.exists(), reason="needs ../shared/data/mednist.zip")
def test_mednist_is_the_same_zipped_as_tar_and_unpacked(tmp_path):
    with zipfile.ZipFile(MEDNIST) as archive:
        archive.extractall(tmp_path / "mednist")
    paths = [MEDNIST, tmp_path / "mednist"]
    paths += [Path(shutil.make_archive(str(tmp_path / "m"), kind, tmp_path / "mednist")) for kind in ("tar", "gztar")]
    sources = [FolderSource(FolderOptions(path=str(path)), tmp_path / "cache") for path in paths]
    first = sources[0].table()
    assert first["label"].value_counts().to_dict() == dict.fromkeys(
        ["AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT"], 400
    )
    assert set(first["problem"]) == {""} and set(first["caption"]) == {""} and set(first["group"]) == {""}
    pictures = list(sources[0].pictures(range(2400)))
    assert all(isinstance(picture, bytes) for picture in pictures)
    for source in sources[1:]:
        assert source.table().equals(first)
        assert list(source.pictures(range(0, 2400, 7))) == pictures[::7]
