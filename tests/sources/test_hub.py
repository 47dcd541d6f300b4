import hashlib
import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipdemo.errors import BadSettings, SourceError
from clipdemo.progress import finish
from clipdemo.sources import COLUMNS
from clipdemo.sources.base import MISSING_PICTURE
from clipdemo.sources.hub import NO_PICTURE, SHARD_ROWS, HubSource
from clipdemo.sources.settings import HubOptions
from tests.hub_standin import HubStandIn

ROWS = 600

# The loader as it is: only HF_ENDPOINT says where the Hub is. The libraries' waiting alone is cut short.
READ = """
import hashlib, json, sys
from pathlib import Path
from types import SimpleNamespace
import datasets, huggingface_hub
from clipdemo.errors import ClipDemoError
from clipdemo.progress import finish
from clipdemo.sources import hub, remote_zip
from clipdemo.sources.hub import HubSource
from clipdemo.sources.settings import HubOptions

for name in dir(datasets.config):
    if name.startswith("STREAMING") and name.endswith("INTERVAL") or name.startswith("SLEEP"):
        setattr(datasets.config, name, 0)
huggingface_hub.utils._http.time = SimpleNamespace(sleep=lambda seconds: None)
remote_zip.WAITS = hub.OPENING_WAITS = (0, 0, 0, 0)

def read(options, seed=3):
    source = HubSource(HubOptions(**options), seed, Path(sys.argv[1]))
    try:
        notes = {step.note for step in source.prepare()}
    except ClipDemoError as error:
        return {"error": type(error).__name__, "message": str(error)}
    table = source.table()
    backwards = range(len(table) - 1, -1, -1)
    pictures = [
        hashlib.sha256(picture).hexdigest() if isinstance(picture, bytes) else picture.reason
        for picture in source.pictures(backwards)
    ]
    answer = {"rows": table.to_dict("records"), "pictures": pictures[::-1], "notes": sorted(notes)}
    return answer | {"columns": source.columns(), "available": source.available_columns(), "origin": source.origin()}

print(json.dumps({name: read(options) for name, options in json.loads(sys.argv[2]).items()}))
"""


def picture(number, size=4000):
    return b"\xff\xd8" + random.Random(number).randbytes(size)


def parquet(columns, group=50, card=None):
    table = pa.table(columns)
    if card:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": card}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=group, compression="none")
    return buffer.getvalue()


IMAGE = {"_type": "Image"}
TEXT = {"dtype": "string", "_type": "Value"}
PARTS = ["Chest", "Brain", "脚"]


def flat():
    """A flat export with a picture a row, such as there are of PubMedVision."""
    numbers = range(ROWS)
    columns = {
        "image": [{"bytes": picture(n), "path": f"pmc_{n}_0.jpg"} for n in numbers],
        "caption": [f"caption {n} 胸部" for n in numbers],
        "modality": ["CT"] * ROWS,
        "body_part": [n % 3 for n in numbers],
        "patient_id": [n // 2 for n in numbers],
    }
    card = {"image": IMAGE, "caption": TEXT, "modality": TEXT, "body_part": {"names": PARTS, "_type": "ClassLabel"}}
    return parquet(columns, card=card | {"patient_id": {"dtype": "int64", "_type": "Value"}})


def odd():
    """Pictures as plain objects and texts in lists; some pictures are not there, or on somebody's disk."""
    pictures = [{"bytes": picture(n, 100), "path": None} for n in range(3)]
    pictures += [None, {"bytes": None, "path": None}, {"bytes": None, "path": "/etc/hostname"}]
    pictures += [{"bytes": None, "path": "hf://datasets/owner/odd/not/there.jpg"}]
    return parquet(
        {
            "photo": pictures,
            "notes": [[f"first {n}", "second"] for n in range(7)],
            "grade": [n / 2 for n in range(7)],
        }
    )


def plain(number):
    return parquet({"image": [{"bytes": picture(number, 100), "path": None}], "text": [f"text {number}"]})


REPOSITORIES = {
    "owner/flat": {"README.md": b"---\nlicense: cc-by-4.0\n---\n", "data/train-00000-of-00001.parquet": flat()},
    "owner/folder": {f"train/{'Cat' if n % 2 else 'Dog'}/{n}.jpg": picture(n) for n in range(20)},
    "owner/many": {f"train/{n}.jpg": picture(n) for n in range(300)}
    | {"train/metadata.csv": "\n".join(["file_name,text", *(f"{n}.jpg,text {n}" for n in range(300))]).encode()},
    "owner/odd": {"train.parquet": odd()},
    "owner/texts": {"train.parquet": parquet({"text": ["a", "b"]})},
    "owner/configs": {
        "README.md": b"---\nconfigs:\n- config_name: one\n  data_files: one.parquet\n"
        b"- config_name: two\n  data_files: two.parquet\n---\n",
        "one.parquet": plain(1),
        "two.parquet": plain(2),
    },
    "owner/gated": {"train.parquet": plain(3)},
    "owner/script": {"script.py": b"raise SystemExit('never run')"},
}
CASES = {
    "flat": {"dataset": "owner/flat", "rows": 550, "buffer": 100},
    "folder": {"dataset": "owner/folder"},
    "many": {"dataset": "owner/many"},
    "odd": {"dataset": "owner/odd", "image_column": "photo", "caption_column": "notes", "label_column": "grade"},
    "odd guessed": {"dataset": "owner/odd", "rows": 1},
    "none": {"dataset": "owner/flat", "label_column": "none", "group_column": "none", "rows": 8, "buffer": 8},
    "texts": {"dataset": "owner/texts"},
    "two": {"dataset": "owner/configs", "config": "two"},
    "no config": {"dataset": "owner/configs"},
    "wrong config": {"dataset": "owner/configs", "config": "three"},
    "wrong split": {"dataset": "owner/flat", "split": "validation"},
    "wrong column": {"dataset": "owner/flat", "caption_column": "nope"},
    "wrong revision": {"dataset": "owner/flat", "revision": "nope"},
    "unknown": {"dataset": "owner/unknown"},
    "gated": {"dataset": "owner/gated"},
    "no id": {"dataset": "a/b c/d"},
    "script": {"dataset": "owner/script"},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What all cases give, from a Hub where nothing goes wrong."""
    home = tmp_path_factory.mktemp("home")
    with HubStandIn(REPOSITORIES, gated=["owner/gated"]) as hub:
        return hub.run(READ, home, str(home / "cache"), json.dumps(CASES))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_a_flat_export_is_read_whole_in_a_shuffled_order(answers):
    answer = answers["flat"]
    rows = answer["rows"]
    numbers = [int(row["caption"].split()[1]) for row in rows]
    assert len(set(numbers)) == 550
    assert numbers != sorted(numbers)
    assert answer["pictures"] == [digest(picture(n)) for n in numbers]
    assert [row["caption"] for row in rows] == [f"caption {n} 胸部" for n in numbers]
    assert [row["label"] for row in rows] == [PARTS[n % 3] for n in numbers]
    assert [row["group"] for row in rows] == [str(n // 2) for n in numbers]
    assert [row["id"] for row in rows] == [f"train {at} pmc_{n}_0.jpg" for at, n in enumerate(numbers)]
    assert tuple(rows[0]) == COLUMNS
    assert {row["problem"] for row in rows} == {""}


def test_columns_and_origin_say_what_was_read(answers):
    answer = answers["flat"]
    assert answer["columns"] == {"image": "image", "caption": "caption", "label": "body_part", "group": "patient_id"}
    assert answer["available"] == ["image", "caption", "modality", "body_part", "patient_id"]
    commit = HubStandIn(REPOSITORIES).commit("owner/flat")
    assert answer["origin"]["repository"] == "owner/flat"
    assert answer["origin"]["commit"] == commit
    assert "reading owner/flat" in answer["notes"]


def test_a_folder_of_classes_is_read_with_its_pictures(answers):
    answer = answers["folder"]
    numbers = [int(row["id"].split()[-1].split(".")[0]) for row in answer["rows"]]
    assert sorted(numbers) == list(range(20))
    assert answer["pictures"] == [digest(picture(n)) for n in numbers]
    assert [row["label"] for row in answer["rows"]] == ["Cat" if n % 2 else "Dog" for n in numbers]


def test_rows_without_a_picture_say_so_and_no_path_of_this_machine_is_followed(answers):
    answer = answers["odd"]
    by_caption = {
        row["caption"]: (row["problem"], got) for row, got in zip(answer["rows"], answer["pictures"], strict=True)
    }
    assert [by_caption[f"first {n}"] for n in range(3)] == [("", digest(picture(n, 100))) for n in range(3)]
    assert [by_caption[f"first {n}"] for n in range(3, 6)] == [(NO_PICTURE, NO_PICTURE)] * 3
    assert by_caption["first 6"] == (MISSING_PICTURE, MISSING_PICTURE)


def test_labels_that_are_no_text_become_text(answers):
    labels = {row["caption"]: row["label"] for row in answers["odd"]["rows"]}
    assert labels["first 0"] == "0.0" and labels["first 3"] == "1.5"


def test_a_column_of_picture_bytes_is_found_without_a_card(answers):
    assert answers["odd guessed"]["columns"]["image"] == "photo"


def test_a_column_that_is_not_wanted_is_not_used(answers):
    assert set(answers["none"]["columns"]) == {"image", "caption"}
    assert {(row["label"], row["group"]) for row in answers["none"]["rows"]} == {("", "")}


def test_the_configuration_is_the_chosen_one(answers):
    assert [row["caption"] for row in answers["two"]["rows"]] == ["text 2"]


@pytest.mark.parametrize(
    ("case", "error", "said"),
    [
        ("no config", "BadSettings", "config = '': owner/configs has one, two"),
        ("wrong config", "BadSettings", "config = 'three': owner/configs has one, two"),
        ("wrong split", "BadSettings", "split = 'validation': owner/flat has train"),
        ("wrong column", "BadSettings", "caption_column = 'nope'"),
        ("wrong revision", "SourceError", "revision = 'nope'"),
        ("unknown", "SourceError", "no such dataset, or a private one"),
        ("gated", "SourceError", "owner/gated is gated: accept its terms"),
        ("no id", "SourceError", "write OWNER/NAME"),
        ("texts", "SourceError", "no column of pictures, only text"),
        ("script", "SourceError", "owner/script cannot be read as a stream: Dataset scripts"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(answers, case, error, said):
    assert answers[case]["error"] == error
    assert said in answers[case]["message"]
    assert "\n" not in answers[case]["message"]


def test_a_folder_with_metadata_has_captions(answers):
    answer = answers["many"]
    numbers = [int(row["caption"].split()[-1]) for row in answer["rows"]]
    assert sorted(numbers) == list(range(300))
    assert answer["pictures"] == [digest(picture(n)) for n in numbers]


@pytest.mark.parametrize(("name", "die_after", "shards"), [("many", 1_110_000, 1), ("flat", 2_000_000, 0)])
def test_a_stream_broken_off_goes_on_at_the_next_shard(answers, tmp_path, name, die_after, shards):
    case = {name: CASES[name]}
    cache = tmp_path / "cache"
    with HubStandIn(REPOSITORIES, die_after=die_after) as hub:
        broken = hub.run(READ, tmp_path, str(cache), json.dumps(case))[name]
        assert hub.dead
    assert broken["error"] == "SourceError"
    assert f"{shards * SHARD_ROWS} of " in broken["message"]
    assert "rows are kept; the next start goes on from there" in broken["message"]
    whole = {path: path.stat().st_mtime_ns for path in cache.glob("hub-*/shard-*.parquet")}
    assert len(whole) == shards
    with HubStandIn(REPOSITORIES) as hub:
        got = hub.run(READ, tmp_path, str(cache), json.dumps(case))[name]
        pictures = sum(path.endswith(".jpg") for path, _ in hub.ranges)
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert (got["rows"], got["pictures"]) == (answers[name]["rows"], answers[name]["pictures"])
    if name == "many":  # the pictures of the shard that was there have not been fetched again
        assert pictures == 300 - SHARD_ROWS


def test_failing_requests_change_nothing_and_what_is_kept_needs_no_server(answers, tmp_path):
    cases = {name: CASES[name] for name in ("flat", "folder")}
    with HubStandIn(REPOSITORIES, failing=0.1, seed=1) as hub:
        got = hub.run(READ, tmp_path, str(tmp_path / "cache"), json.dumps(cases))
        assert hub.failed > 2
        dead = HubStandIn(REPOSITORIES)
        dead.url = "http://127.0.0.1:9"
        kept = dead.run(READ, tmp_path, str(tmp_path / "cache"), json.dumps(cases | {"odd": CASES["odd"]}))
    for answer in (got, kept):
        for name in cases:
            for part in ("rows", "pictures", "columns"):
                assert answer[name][part] == answers[name][part]
    assert "cannot reach http://127.0.0.1:9" in kept["odd"]["message"]


def test_a_dataset_must_be_named(tmp_path):
    with pytest.raises(BadSettings, match="dataset = '': write --dataset OWNER/NAME"):
        HubSource(HubOptions(), 0, tmp_path)


def test_opening_needs_no_network_and_reading_needs_preparing(tmp_path):
    source = HubSource(HubOptions(dataset="owner/name"), 0, tmp_path / "cache")
    assert source.columns() == {} and source.available_columns() == []
    assert not (tmp_path / "cache").exists()
    with pytest.raises(SourceError, match="prepared"):
        source.table()


def test_offline_mode_is_named(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        finish(HubSource(HubOptions(dataset="owner/name"), 0, tmp_path).prepare())
