import io
import struct
import threading
import zipfile

import pytest

from clipdemo.errors import PictureError, SourceError
from clipdemo.sources import remote_zip
from clipdemo.sources.remote_zip import (
    DAMAGED,
    UNUSABLE,
    LocalBytes,
    Member,
    RemoteBytes,
    again,
    directory,
    hub_failure,
    in_order,
    read_member,
)
from tests.hub_standin import TOKEN, HubStandIn

REPOSITORY = "owner/archives"
TEXTS = {"a/one.jpg": b"one" * 500, "b/two.jpg": bytes(range(256)) * 9, "three.jpg": b"", "c\\four.jpg": b"4"}


class Memory:
    """An archive in memory that counts what is read, and may spoil the first reads."""

    name = "images_0.zip"

    def __init__(self, data, spoiled=0):
        self.data, self.size, self.spoiled, self.reads = data, len(data), spoiled, []

    def read(self, start, end, stop=None):
        self.reads.append((start, end))
        piece = self.data[start:end]
        if self.spoiled:
            self.spoiled -= 1
            return piece[:45] + bytes([piece[45] ^ 255]) + piece[46:]
        return piece


def archive(texts=TEXTS, method=zipfile.ZIP_STORED, comment=b"", before=b"", zip64=False):
    buffer = io.BytesIO()
    buffer.write(before)
    with zipfile.ZipFile(buffer, "a" if before else "w", method) as file:
        file.comment = comment
        for name, text in texts.items():
            with file.open(
                zipfile.ZipInfo(name) if method == zipfile.ZIP_STORED else name, "w", force_zip64=zip64
            ) as f:
                f.write(text)
    return buffer.getvalue()


def members(data):
    return [Member(**row) for row in directory(data).to_pylist()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": zipfile.ZIP_DEFLATED},
        {"comment": b"comment " * 8_000},
        {"before": b"something else" * 99},
        {"zip64": True},
    ],
    ids=["stored", "deflated", "comment", "prefix", "zip64"],
)
def test_members_are_what_zipfile_reads(options):
    data = Memory(archive(**options))
    found = {m.name: read_member(data, m) for m in members(data)}
    assert found == {"one.jpg": TEXTS["a/one.jpg"], "two.jpg": TEXTS["b/two.jpg"], "three.jpg": b"", "four.jpg": b"4"}


def test_the_directory_of_many_members_takes_two_reads_and_none_of_their_bytes():
    data = Memory(archive({f"images/{n}.jpg": b"x" * 100 for n in range(3000)}))
    assert len(directory(data)) == 3000
    assert len(data.reads) == 2
    assert sum(end - start for start, end in data.reads) < data.size / 2


def test_an_archive_without_members_has_an_empty_directory():
    assert members(Memory(archive({}))) == []


def test_folders_are_no_members():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.mkdir("images")
        file.writestr("images/a.jpg", b"a")
    assert [m.name for m in members(Memory(buffer.getvalue()))] == ["a.jpg"]


@pytest.mark.parametrize("keep", [0, 10, 500, -1])
def test_an_archive_cut_short_is_named(keep):
    with pytest.raises(SourceError, match="images_0.zip is not a whole zip archive"):
        directory(Memory(archive()[:keep]))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_spoiled_on_the_way_is_read_again_and_a_member_spoiled_for_good_is_refused(method):
    data = Memory(archive(method=method))
    first = members(data)[0]
    data.reads.clear()
    data.spoiled = 1
    assert read_member(data, first) == TEXTS["a/one.jpg"]
    assert len(data.reads) == 2
    data.spoiled = 99
    with pytest.raises(PictureError, match="one.jpg in images_0.zip") as caught:
        read_member(data, first)
    assert caught.value.reason == DAMAGED


def test_a_member_that_lies_elsewhere_than_the_directory_says_is_damaged():
    data = Memory(archive())
    first = members(data)[0]
    for wrong in (first._replace(start=first.start + 1), first._replace(end=first.start + 20)):
        with pytest.raises(PictureError) as caught:
            read_member(data, wrong)
        assert caught.value.reason == DAMAGED


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked():
    data = Memory(archive({"a.jpg": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED))
    bomb = members(data)[0]._replace(size=10)
    with pytest.raises(PictureError) as caught:
        read_member(data, bomb)
    assert caught.value.reason == DAMAGED


def test_encrypted_and_huge_members_are_refused_unread():
    data = bytearray(archive())
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    data = Memory(bytes(data))
    encrypted, huge = members(data)[0], members(data)[1]._replace(size=1 << 31)
    data.reads.clear()
    for member in (encrypted, huge):
        with pytest.raises(PictureError) as caught:
            read_member(data, member)
        assert caught.value.reason == UNUSABLE
    assert data.reads == []


def test_a_packing_that_is_not_known_is_refused():
    data = bytearray(archive())
    central = data.index(b"PK\x01\x02")
    data[central + 10 : central + 12] = struct.pack("<H", 99)
    data = Memory(bytes(data))
    with pytest.raises(PictureError, match="method 99"):
        read_member(data, members(data)[0])


def test_a_file_on_this_disk_is_read_like_any_other(tmp_path):
    path = tmp_path / "images_0.zip"
    path.write_bytes(archive())
    local = LocalBytes(path)
    assert local.size == len(archive())
    assert [read_member(local, m) for m in members(local)] == list(TEXTS.values())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubStandIn({REPOSITORY: {"images_0.zip": archive()}}, large=100) as hub:
        hub.be_the_hub(monkeypatch, tmp_path)
        monkeypatch.setattr(remote_zip, "WAITS", (0, 0, 0))
        yield hub


def remote(hub):
    url = f"{hub.url}/datasets/{REPOSITORY}/resolve/main/images_0.zip"
    return RemoteBytes("images_0.zip", url, len(archive()))


def test_members_on_the_hub_are_those_on_the_disk(hub):
    data = remote(hub)
    assert [read_member(data, m) for m in members(data)] == list(TEXTS.values())


def test_the_hub_is_asked_once_and_its_token_stays_there(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.gated = [REPOSITORY]
    data = remote(hub)
    for start in range(20):
        data.read(start, start + 5)
    assert hub.requests["resolve GET"] == 1
    assert hub.requests["cdn"] == 20
    assert hub.tokens_at_cdn == 0


def test_an_address_that_has_run_out_is_asked_for_again(hub):
    data = remote(hub)
    data._elsewhere = f"http://localhost:{hub.port}/cdn/{REPOSITORY}/gone"  # answers 404
    assert data.read(0, 4) == b"PK\x03\x04"


def test_failing_requests_are_tried_again(hub, monkeypatch):
    monkeypatch.setattr(remote_zip, "WAITS", (0,) * 40)
    hub.failing = 0.5
    data = remote(hub)
    assert [data.read(n, n + 9) for n in range(30)] == [archive()[n : n + 9] for n in range(30)]
    assert hub.failed > 10


def test_half_an_answer_is_no_answer(hub):
    hub.short_answers = 2
    assert remote(hub).read(0, 200) == archive()[:200]
    hub.short_answers = 99
    with pytest.raises(ConnectionError, match=r"100 of 200 bytes of images_0\.zip came"):
        remote(hub).read(0, 200)


def test_what_cannot_change_is_asked_once(hub):
    from huggingface_hub.errors import RemoteEntryNotFoundError

    data = RemoteBytes("x.zip", f"{hub.url}/datasets/{REPOSITORY}/resolve/main/x.zip", 10)
    with pytest.raises(RemoteEntryNotFoundError):
        data.read(0, 5)
    assert hub.requests["resolve GET"] == 1


def test_a_server_without_ranges_does_not_send_whole_archives(hub):
    hub.serves_ranges = False
    with pytest.raises(SourceError, match=r"does not serve parts of images_0\.zip.*--path"):
        remote(hub).read(0, 5)


def test_whoever_does_not_want_more_need_not_wait(hub, monkeypatch):
    monkeypatch.setattr(remote_zip, "WAITS", (1000.0,))
    hub.failing = 1.0
    hub._random.choice = lambda kinds: "cut"  # without advice how long to wait
    stop = threading.Event()
    stop.set()
    with pytest.raises(Exception, match="503|closed|disconnected|peer"):
        remote(hub).read(0, 5, stop)


def test_trying_again_ends():
    from huggingface_hub.errors import HTTPError

    tries = []

    def work():
        tries.append(1)
        raise HTTPError("no")

    with pytest.raises(HTTPError):
        again(work, waits=(0, 0))
    assert len(tries) == 3


def test_results_come_in_order_from_several_threads_and_not_far_ahead():
    started = []

    def work(item, stop):
        started.append(item)
        return item * item

    results = in_order(work, iter(range(100)), workers=3)
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert max(started) < 5 + 4 * 3
    assert list(results) == [n * n for n in range(5, 100)]


def test_leaving_early_stops_the_work():
    stops = []

    def work(item, stop):
        stops.append(stop)
        if item:
            assert stop.wait(60)
        return item

    results = in_order(work, range(3), workers=3)
    assert next(results) == 0
    results.close()
    assert stops[0].is_set()


def test_an_error_comes_at_its_place():
    def work(item, stop):
        if item == 2:
            raise SourceError("two")
        return item

    results = in_order(work, range(4), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(SourceError, match="two"):
        next(results)


def test_no_message_holds_a_token(monkeypatch, hub):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.gated = [REPOSITORY]
    with pytest.raises(Exception, match="gated") as caught:
        remote(hub).read(0, 5)
    failure = hub_failure(caught.value, REPOSITORY, "main")
    assert "accept its terms" in str(failure) and f"{hub.url}/datasets/{REPOSITORY}" in str(failure)
    assert "hf_secret" not in str(failure)
    assert "\n" not in str(failure)
