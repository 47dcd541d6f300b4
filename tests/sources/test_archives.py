import io
import os
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from clipdemo.errors import PictureError, SourceError
from clipdemo.progress import Progress, finish
from clipdemo.sources import archives
from clipdemo.sources.archives import open_archive
from tests.fuzz import flagged_zip, good_zip, lying_zip, member, png, tar_of, zip_of

FILES = {"w/A/1.png": png(1), "w/A/2.png": png(2), "w/B/ü.png": png(3), "w/B/readme.txt": b""}
SUFFIXES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "folder")


def packed(folder: Path, suffix: str, files=FILES) -> Path:
    path = folder / f"pictures.{suffix}"
    if suffix == "zip":
        path.write_bytes(zip_of(files))
    elif suffix == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}[suffix]
        with tarfile.open(path, mode) as archive:
            for name, data in files.items():
                archive.addfile(member(f"./{name}", data)[0], io.BytesIO(data))
    return path


def opened(path: Path, tmp_path: Path) -> archives.Archive:
    return finish(open_archive(path, tmp_path / "cache"))


def problems(archive) -> dict[str, str]:
    return {entry.path: entry.problem for entry in archive.entries}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_files_come_out_however_they_are_packed(tmp_path, suffix):
    archive = opened(packed(tmp_path, suffix), tmp_path)
    assert [(e.path, e.size, e.problem) for e in archive.entries] == [(n, len(d), "") for n, d in sorted(FILES.items())]
    assert [archive.read(i) for i in (3, 0, 2, 1)] == [FILES[sorted(FILES)[i]] for i in (3, 0, 2, 1)]


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_the_kind_is_told_by_the_content(tmp_path, suffix):
    path = packed(tmp_path, suffix).rename(tmp_path / "pictures.jpg")
    assert len(opened(path, tmp_path).entries) == len(FILES)


def test_a_compressed_tar_is_unpacked_once_until_it_changes(tmp_path):
    path = packed(tmp_path, "tar.gz")
    notes = [p.note for p in open_archive(path, tmp_path / "cache") if isinstance(p, Progress)]
    assert any("Unpacking" in note for note in notes)
    assert not any("Unpacking" in p.note for p in open_archive(path, tmp_path / "cache"))
    packed(tmp_path, "tar.gz", {"A/new.png": png(9)})
    os.utime(path, ns=(1, 1))
    assert [entry.path for entry in opened(path, tmp_path).entries] == ["A/new.png"]
    assert not list((tmp_path / "cache").glob("partial-*"))


def test_a_broken_off_unpacking_leaves_nothing(tmp_path):
    work = open_archive(packed(tmp_path, "tar.gz"), tmp_path / "cache")
    while "Unpacking" not in next(work).note:
        pass
    work.close()
    assert list((tmp_path / "cache").iterdir()) == []


def test_names_that_lead_elsewhere_are_listed_with_their_problem_and_not_read(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(
        zip_of({"../x.png": b"1", "/y.png": b"1", "C:\\z.png": b"1", "a/../../b.png": b"1", "ok.png": b"1"})
    )
    archive = opened(path, tmp_path)
    assert sorted(problems(archive).values()) == ["", *["path leaves the archive"] * 4]
    with pytest.raises(PictureError) as caught:
        archive.read(next(i for i, e in enumerate(archive.entries) if e.problem))
    assert caught.value.reason == "path leaves the archive"


def test_a_tars_links_and_devices_are_listed_with_their_problem(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar_of(
            [
                member("s", b"", tarfile.SYMTYPE, "/etc/passwd"),
                member("h", b"", tarfile.LNKTYPE, "s"),
                member("p", b"", tarfile.FIFOTYPE),
                member("c", b"", tarfile.CHRTYPE),
                member("ok.png", b"1"),
            ]
        )
    )
    link, device = "entry is a link", "entry is not a file"
    assert problems(opened(path, tmp_path)) == {"s": link, "h": link, "p": device, "c": device, "ok.png": ""}


def test_encrypted_entries_are_listed_with_their_problem(tmp_path):
    (tmp_path / "a.zip").write_bytes(flagged_zip(1))
    assert set(problems(opened(tmp_path / "a.zip", tmp_path)).values()) == {"entry is encrypted"}


def test_links_in_a_folder_are_followed_only_inside_it(tmp_path):
    root = packed(tmp_path, "folder")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "in.png").symlink_to(root / "w" / "A" / "1.png")
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    (root / "again").symlink_to(root / "w", target_is_directory=True)
    (root / "gone.png").symlink_to("nowhere")
    os.mkfifo(root / "pipe.png")
    archive = opened(root, tmp_path)
    assert {path: problem for path, problem in problems(archive).items() if not path.startswith("w/")} == {
        "out.png": "link leaves the folder",
        "up": "link leaves the folder",
        "in.png": "",
        "gone.png": "link leads nowhere",
        "pipe.png": "entry is not a file",
    }
    assert archive.read([e.path for e in archive.entries].index("in.png")) == FILES["w/A/1.png"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_systems_leave_behind_is_ignored(tmp_path, suffix):
    junk = dict.fromkeys(("__MACOSX/A/._1.png", "A/.DS_Store", "A/Thumbs.db", ".git/x.png", "desktop.ini"), b"x")
    assert list(problems(opened(packed(tmp_path, suffix, junk | {"A/1.png": b"x"}), tmp_path))) == ["A/1.png"]


def test_limits_hold_whatever_the_headers_say(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    for suffix in SUFFIXES:
        archive = opened(
            packed(tmp_path / suffix if suffix == "folder" else tmp_path, suffix, {"a": b"x" * 1000, "b": b"x" * 1001}),
            tmp_path,
        )
        assert problems(archive) == {"a": "", "b": "file is too large"}
    (tmp_path / "lying.zip").write_bytes(lying_zip(10))
    archive = opened(tmp_path / "lying.zip", tmp_path)
    with pytest.raises(PictureError) as caught:
        archive.read(0)
    assert caught.value.reason == "entry is damaged"


def test_a_file_that_has_grown_since_is_read_only_to_the_limit(tmp_path, monkeypatch):
    root = packed(tmp_path, "folder", {"a.png": b"x"})
    archive = opened(root, tmp_path)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    (root / "a.png").write_bytes(b"x" * 5000)
    with pytest.raises(PictureError) as caught:
        archive.read(0)
    assert caught.value.reason == "file is too large"
    (root / "a.png").unlink()
    with pytest.raises(PictureError) as caught:
        archive.read(0)
    assert caught.value.reason == "picture is missing"


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_ENTRIES", 3, "holds more than 3 files"),
        ("MAX_TOTAL_BYTES", 100, "unpacks to more than"),
    ],
)
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "folder"])
def test_too_many_files_or_bytes_are_refused(tmp_path, monkeypatch, suffix, limit, value, message):
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(SourceError, match=message):
        opened(packed(tmp_path, suffix), tmp_path)


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_bombs_are_refused_and_small_files_of_zeros_are_not(tmp_path, monkeypatch, suffix):
    path = packed(tmp_path, suffix, {"zeros": bytes(3_000_000)})
    assert opened(path, tmp_path).read(0) == bytes(3_000_000)
    monkeypatch.setattr(archives, "RATIO_FLOOR_BYTES", 1000)
    monkeypatch.setattr(archives, "MAX_RATIO", 100)
    with pytest.raises(SourceError, match="times its size"):
        finish(open_archive(path, tmp_path / "another cache"))


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_truncated_archive_is_one_clear_line(tmp_path, suffix):
    path = packed(tmp_path, suffix, {f"{i}.png": png(i, 40) for i in range(20)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="copy or download it again|cannot be there") as caught:
        opened(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_broken_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    path = packed(tmp_path, "tar")
    data = bytearray(path.read_bytes())
    data[data.index(b"./w/A/2") + 150] ^= 1  # a digit of the checksum
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged at byte"):
        opened(path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"image,label\n", b"\x89PNG\r\n", bytes(2000)])
def test_what_is_no_archive_is_said_so(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match="neither a folder, nor a ZIP or tar"):
        opened(tmp_path / "a.zip", tmp_path)
    with pytest.raises(SourceError, match="is not there"):
        opened(tmp_path / "b.zip", tmp_path)


def test_names_in_utf8_without_the_mark_for_it_are_read_as_utf8(tmp_path):
    data = zip_of({"Schädel/1.png": b"1"})
    assert data.count(b"\x00\x08") >= 2  # the mark
    marked = bytearray(data)
    marked[7] = 0  # of the local header
    marked[marked.index(b"PK\x01\x02") + 9] = 0
    (tmp_path / "a.zip").write_bytes(marked)
    archive = opened(tmp_path / "a.zip", tmp_path)
    assert [entry.path for entry in archive.entries] == ["Schädel/1.png"] and archive.read(0) == b"1"


@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_threads_may_share_an_archive(tmp_path, suffix):
    files = {f"{i:03d}": bytes([i]) * 50_000 for i in range(40)}
    archive = opened(packed(tmp_path, suffix, files), tmp_path)
    wrong = []

    def read(start):
        wrong.extend(i for k in range(40) if archive.read(i := (k * 7 + start) % 40) != bytes([i]) * 50_000)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_zip_with_a_program_in_front_is_a_zip(tmp_path):
    (tmp_path / "a.exe").write_bytes(b"MZ" + bytes(1000) + good_zip())
    assert zipfile.is_zipfile(tmp_path / "a.exe")
    assert len(opened(tmp_path / "a.exe", tmp_path).entries) == 8
