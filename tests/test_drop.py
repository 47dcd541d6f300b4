"""What was dropped: every good picture read, every other file named, nothing written, memory bounded."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipdemo import drop
from clipdemo.drop import Dropped, dropped_picture, guessed_label, read_all, read_drop
from clipdemo.images import DAMAGED, EMPTY, NOT_A_PICTURE, decode, fit_square
from clipdemo.sources.archives import ENCRYPTED, LEAVES, NOT_A_FILE
from tests.fuzz import archives, flagged_zip, good_zip, hostile_folder, png, zip_of
from tests.picture_fuzz import mutated_pictures, whole_pictures

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("Chest", "Lower limb", "Gastrointestinal tract")


def names(found):
    return [picture.name for picture in found.pictures]


def reasons(found):
    return {refused.name: refused.reason for refused in found.refused}


@pytest.mark.parametrize("kind", list(whole_pictures()))
def test_every_format_is_read_to_the_pixels_that_a_model_gets(kind):
    data = whole_pictures()[kind]
    found = read_all([("a.bin", data)], [16, 24, 16])
    assert not found.refused and set(found.pictures[0].pixels) == {16, 24}
    for size, pixels in found.pictures[0].pixels.items():
        assert (pixels == fit_square(decode(data), size)).all() and pixels.base is None


def test_thumbnails_are_small_and_keep_their_shape():
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 500), "red").save(buffer, "PNG")
    shown = Image.open(io.BytesIO(dropped_picture(buffer.getvalue(), "wide", [8]).thumbnail))
    assert shown.size == (256, 64)


def test_pictures_folders_and_archives_at_once(tmp_path):
    (tmp_path / "mine" / "chest").mkdir(parents=True)
    (tmp_path / "mine" / "chest" / "a.png").write_bytes(png())
    (tmp_path / "mine" / "inner.zip").write_bytes(good_zip())
    (tmp_path / "one.png").write_bytes(png(1))
    given = [tmp_path / "mine", tmp_path / "one.png", ("sent.zip", good_zip()), ("dir\\two.png", io.BytesIO(png(2)))]
    found = read_all(given, [8])
    assert not found.refused
    inside = [f"{label}/{i}.png" for label in "AB" for i in range(4)]
    assert names(found) == [
        "mine/chest/a.png",
        *(f"mine/inner.zip/{name}" for name in inside),
        "one.png",
        *(f"sent.zip/{name}" for name in inside),
        "dir/two.png",
    ]


def test_junk_is_counted_and_an_archive_in_an_archive_refused_by_name(tmp_path):
    junk = {"__MACOSX/._a.png": b"x", "A/.DS_Store": b"x", "Thumbs.db": b"x"}
    nested = zip_of({"A/a.png": png(), "A/b.zip": good_zip(), **junk})
    (tmp_path / "f" / "__MACOSX").mkdir(parents=True)
    (tmp_path / "f" / "__MACOSX" / "a.png").write_bytes(png())
    (tmp_path / "f" / ".DS_Store").write_bytes(b"x")
    found = read_all([("n.zip", nested), ("Thumbs.db", b"x"), tmp_path / "f"], [8])
    assert names(found) == ["n.zip/A/a.png"] and reasons(found) == {"n.zip/A/b.zip": drop.NESTED}
    assert found.junk == 3 + 1 + 2


def test_bad_files_have_their_name_and_a_reason(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    slip = zip_of({"../slip.png": png(), "A/a.png": png()})
    given = [
        ("empty.png", b""),
        ("text.png", b"hello, this is a text"),
        ("cut.png", png()[:60]),
        ("broken.zip", good_zip()[:100]),
        ("slip.zip", slip),
        ("locked.zip", flagged_zip(1)),
        tmp_path / "missing.png",
        tmp_path / "pipe",
    ]
    found = read_all(given, [8])
    assert names(found) == ["slip.zip/A/a.png"]
    told = reasons(found)
    expected = {"empty.png": EMPTY, "text.png": NOT_A_PICTURE, "cut.png": DAMAGED, "broken.zip": drop.BAD_ARCHIVE}
    expected |= {"slip.zip/../slip.png": LEAVES, "missing.png": drop.UNREADABLE, "pipe": NOT_A_FILE}
    assert expected.items() <= told.items()
    assert {reason for name, reason in told.items() if name.startswith("locked.zip")} == {ENCRYPTED}
    assert all(refused.name.split("/")[-1] in refused.message for refused in found.refused)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("x/CHEST/1.png", "Chest"),
        ("x.zip/lower_limb/1.png", "Lower limb"),
        ("lower-limb 012.png", "Lower limb"),
        ("gastrointestinal_tract (3).jpg", "Gastrointestinal tract"),
        ("chest7", "Chest"),
        ("mine/chest_2.png", "Chest"),
        ("lower limb/chest_2.png", "Lower limb"),
        ("chest/deeper/1.png", None),
        ("chestnut.png", None),
        ("1.png", None),
    ],
)
def test_labels_come_from_the_folder_or_else_the_name(name, label):
    assert guessed_label(name, CLASSES) == label


def test_limits_end_the_drop_with_one_clear_refusal(monkeypatch):
    monkeypatch.setattr(drop, "MOST_PICTURES", 3)
    found = read_all([("a.zip", good_zip()), ("b.png", png())], [8])
    assert len(found.pictures) == 3 and [r.reason for r in found.refused] == [drop.TOO_MANY]
    monkeypatch.setattr(drop, "MOST_PICTURES", 100)
    monkeypatch.setattr(drop, "MOST_BYTES", 2 * len(png()) + 9)
    found = read_all([(f"{i}.png", png()) for i in range(5)], [8])
    assert len(found.pictures) == 2 and [r.reason for r in found.refused] == [drop.TOO_MUCH]


def test_hostile_archives_and_folders_give_pictures_or_refusals_and_write_nothing(tmp_path, monkeypatch):
    outside, folder, cwd = (tmp_path / name for name in ("outside", "hostile", "cwd"))
    for path in (outside, folder, cwd):
        path.mkdir()
    (outside / "victim.txt").write_text("victim")
    hostile_folder(folder, outside)
    zips = [(name, make()) for name, make, _ in archives(outside) if name.endswith(".zip") and name != "many.zip"]
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("TMPDIR", str(cwd))
    before = sorted(path for path in tmp_path.rglob("*"))
    for given in [*zips, folder]:
        found = read_all([given], [8])
        assert found.pictures or found.refused or given[0] == "empty.zip", given
        assert all(r.message and "\n" not in r.message for r in found.refused)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    found = read_all([folder], [8])
    assert len(found.pictures) == 3 and len(found.refused) == 6 and found.junk == 3


def hostile_drop():
    """500 files: good pictures among broken ones, each with whether it must be read (None: either)."""
    good = list(whole_pictures().items())
    for i, (name, data) in enumerate(mutated_pictures(250)):
        yield f"{i}-{good[i % len(good)][0]}", good[i % len(good)][1], True
        yield f"bad {name}", data, None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
def test_memory_does_not_grow_with_the_pictures():
    program = """
import io, tracemalloc
from PIL import Image
from benchmarks.machine import peak_bytes
from clipdemo.drop import read_drop
def big():
    buffer = io.BytesIO(); Image.new("RGB", (2000, 2000), "red").save(buffer, "PNG"); return buffer.getvalue()
data = big()
next(read_drop([("first.png", data)], [64]))
before = peak_bytes()
tracemalloc.start()
count = sum(1 for _ in read_drop(((f"{i}.png", data) for i in range(40)), [64]))
print(count, tracemalloc.get_traced_memory()[1], peak_bytes() - before)
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    count, peak, more = map(int, run.stdout.split())
    assert count == 40 and peak < 5_000_000
    assert more < 60_000_000  # 40 decoded pictures of 12 MB would be 480 MB


def test_five_hundred_mixed_files_every_good_one_read_and_each_bad_one_named():
    files = list(hostile_drop())
    seen = {one.name: one for one in read_drop([(name, data) for name, data, _ in files], [16])}
    assert len(files) == 500 and len(seen) == 500
    assert all(isinstance(seen[name], Dropped) for name, _, good in files if good)
    refused = [one for one in seen.values() if not isinstance(one, Dropped)]
    assert len(refused) > 50 and all(one.name in one.message and one.reason for one in refused)


def test_a_zip_that_lies_open_is_left_open():
    stream = io.BytesIO(good_zip())
    assert len(read_all([("a.zip", stream)], [8]).pictures) == 8
    assert not stream.closed and zipfile.is_zipfile(stream)
    assert np.asarray(read_all([("a.zip", stream)], [8]).pictures[0].pixels[8]).shape == (8, 8, 3)
