import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.errors import SourceError
from clipdemo.sources import table_files
from clipdemo.sources.table_files import named_picture, open_table


def opened(data: bytes, name: str = "t.csv"):
    return open_table(name, lambda: io.BytesIO(data))


def read(data: bytes, name: str = "t.csv") -> tuple[dict[str, list[str]], list[int]]:
    """(column -> texts, positions of broken rows)."""
    table = opened(data, name)
    rows = table.read(table.names)
    texts = {column: text.to_pylist() for column, text in rows.texts.items()}
    assert all(len(text) == rows.count for text in texts.values())
    return texts, rows.broken.tolist()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter):
    text = 'image|caption\na.png|"x, y; z"\nb.png|w\n'.replace("|", delimiter)
    assert read(text.encode())[0] == {"image": ["a.png", "b.png"], "caption": ["x, y; z", "w"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_the_encoding_is_found(encoding):
    text = "image,caption\n" + "a.png,Schädel – “é”\n" * 3
    assert read(text.encode(encoding))[0]["caption"] == ["Schädel – “é”"] * 3


def test_a_few_bad_bytes_do_not_make_a_utf8_file_another():
    data = "image,caption\na.png,頭蓋骨の写真\nb.png,?\n".encode().replace(b"?", b"\xff")
    assert read(data)[0]["caption"] == ["頭蓋骨の写真", "\ufffd"]


def test_quoted_newlines_and_quotes_belong_to_the_value():
    assert read(b'a,b\n1,"x\ny ""z"""\n2,5" long\n')[0] == {"a": ["1", "2"], "b": ['x\ny "z"', '5" long']}


def test_rows_with_the_wrong_number_of_fields_keep_their_place():
    texts, broken = read(b"a,b\n1,2\n3\n\n4,5\n6,7,8\n9,0\nx")
    assert texts == {"a": ["1", "", "4", "", "9", ""], "b": ["2", "", "5", "", "0", ""]} and broken == [1, 3, 5]


def test_places_of_broken_rows_are_right_in_a_file_of_many_blocks(monkeypatch):
    monkeypatch.setattr(table_files, "MAX_LINE_BYTES", 1000)
    lines = [f"{i}.png,{'x' * (i % 50)}" for i in range(5000)]
    bad = [0, 17, 2500, 4999]
    for i in bad:
        lines[i] = "bad"
    texts, broken = read(("image,caption\n" + "\n".join(lines)).encode())
    assert broken == bad
    assert texts["image"] == ["" if i in bad else f"{i}.png" for i in range(5000)]


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"", "t.csv", "is empty"),
        (b"\n \r\n", "t.csv", "is empty"),
        (b"a,b\n", "t.csv", r"has columns \(a, b\) but no rows"),
        (b'a,b\n1,"x\n2,y\n3,z\n', "t.csv", "a quotation mark in row 1 opens and is never closed"),
        (b'a,b\n1,x\n"2,y\n3,z\n', "t.csv", "a quotation mark in row 2 opens and is never closed"),
        (b"a,b\n1," + b"x" * 20_000_000, "t.csv", "longer than 16 MiB"),
        (b",".join(b"%d" % i for i in range(10_001)) + b"\n", "t.csv", "has 10,001 columns"),
        (b"PK\x03\x04....", "t.csv", "is an archive or a workbook"),
        (b"[" * 100_000, "t.json", "nested too deeply"),
        (b'[{"a": 1}, {"a"', "t.json", "is not whole JSON"),
        (b'{"a": 1}', "t.json", None),
        (b'{"a": [{"x": 1}],\n"b": [{"x": 1}]}', "t.json", "holds one array"),
        (b"[1, 2]", "t.json", "2 rows and none is a JSON object"),
        (b"[]", "t.json", "has no columns"),
        (b"PAR1xxxxPAR1", "t.parquet", "cannot be read"),
    ],
)
def test_what_is_no_table_is_one_clear_line(data, name, message):
    if message is None:
        assert read(data, name) == ({"a": ["1"]}, [])
        return
    with pytest.raises(SourceError, match=message) as caught:
        read(data, name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_columns_of_the_same_name_or_of_none_are_told_apart():
    assert list(read(b"a,a,,a\n1,2,3,4\n")[0]) == ["a", "a (2)", "column 3", "a (3)"]


ROWS = [{"a": 1, "b": "x"}, {"a": 2.0, "c": [1, {"d": None}]}, {"a": None, "b": True}]
TEXTS = {"a": ["1", "2", ""], "b": ["x", "", "true"], "c": ["", '[1, {"d": null}]', ""]}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (json.dumps(ROWS), "t.json"),
        (json.dumps({"info": {"n": 3}, "rows": ROWS, "none": []}, indent=1), "t.json"),
        (json.dumps({"rows": ROWS}), "t.json"),
        ("\n".join(map(json.dumps, ROWS)), "t.jsonl"),
        ("\n\n".join(map(json.dumps, ROWS)) + "\n", "t.json"),
        ("\ufeff" + "\n".join(map(json.dumps, ROWS)), "t"),
    ],
)
def test_the_forms_of_json_say_the_same(data, name):
    assert read(data.encode(), name) == (TEXTS, [])


def test_broken_lines_of_json_keep_their_place(monkeypatch):
    monkeypatch.setattr(table_files, "_ROWS_AT_ONCE", 2)
    texts, broken = read(b'{"a": 1}\n{"a":\n[1]\n{"b": "\\ud800"}\nnull\n', "t.jsonl")
    assert texts == {"a": ["1", "", "", "", ""], "b": ["", "", "", "?", ""]} and broken == [1, 2, 4]


def parquet(groups: int = 7) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "image": [{"bytes": b"p%d" % i, "path": f"{i}.png"} if i % 5 else None for i in range(100)],
            "raw": [b"r%d" % i for i in range(100)],
            "n": [1.0, None, 2.5, float("nan")] * 25,
            "kind": pa.array(["u", "v"] * 50).dictionary_encode(),
            "list": [["a"], None] * 50,
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=groups)
    return buffer.getvalue()


def test_parquet_becomes_text_and_its_pictures_stay_unread():
    table = opened(parquet(), "t.parquet")
    assert table.picture_columns == ("image", "raw")
    rows = table.read(["image", "raw", "n", "kind", "list"])
    first = {name: text.to_pylist()[:4] for name, text in rows.texts.items()}
    assert first == {
        "image": ["", "1.png", "2.png", "3.png"],
        "raw": [""] * 4,
        "n": ["1", "", "2.5", ""],
        "kind": ["u", "v", "u", "v"],
        "list": ['["a"]', "", '["a"]', ""],
    }


@pytest.mark.parametrize("spool", [0, 1, 2**20])
def test_pictures_come_in_the_order_asked_for(tmp_path, monkeypatch, spool):
    monkeypatch.setattr(table_files, "_SPOOL_BYTES", spool)
    monkeypatch.setattr(table_files, "_PICTURES_AT_ONCE", 30)
    rows = np.random.default_rng(0).integers(0, 100, 150).tolist()
    table = opened(parquet(), "t.parquet")
    assert list(table.pictures("image", rows, tmp_path)) == [b"p%d" % i if i % 5 else None for i in rows]
    assert list(table.pictures("raw", rows, tmp_path)) == [b"r%d" % i for i in rows]
    assert list(tmp_path.iterdir()) == []


def test_a_row_group_is_read_once_for_all_pictures_of_a_chunk(tmp_path, monkeypatch):
    table = opened(parquet(), "t.parquet")
    asked = []
    whole = table._file.iter_batches

    class Watched:
        def iter_batches(self, *args, row_groups, **options):
            asked.extend(row_groups)
            return whole(*args, row_groups=row_groups, **options)

    monkeypatch.setattr(table, "_file", Watched())
    rows = np.random.default_rng(0).permutation(100).tolist()
    assert len(list(table.pictures("raw", rows, tmp_path))) == 100
    assert asked == list(range(15))


def test_cells_that_should_name_a_picture():
    assert named_picture(" a.png ") == ("a.png", "")
    assert named_picture('["a.png"]') == ("a.png", "")
    assert named_picture("[a].png") == ("[a].png", "")
    assert named_picture('["a.png", "b.png"]') == ("", "row has several pictures")
    for empty in ("", "  ", "[]", '[""]', "[null]"):
        assert named_picture(empty) == ("", "row has no picture")
    for url in ("https://a/b.png", "s3://a/b.png", "data:image/png;base64,AA"):
        assert named_picture(url) == ("", "picture is a URL, and is not fetched")
    assert named_picture("C:\\a.png") == ("C:\\a.png", "")


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=20), st.sampled_from(",;\t|"))
def test_what_a_csv_writer_writes_comes_back(rows, delimiter):
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("image", "caption", "label"), *rows])
    texts, broken = read(buffer.getvalue().encode())
    assert list(zip(*texts.values(), strict=True)) == rows and broken == []
