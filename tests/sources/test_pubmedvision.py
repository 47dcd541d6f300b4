import hashlib
import io
import json
import random
import zipfile
from pathlib import Path

import pytest

from clipdemo.errors import PictureError, SourceError
from clipdemo.progress import finish
from clipdemo.sources import COLUMNS, remote_zip
from clipdemo.sources.base import MISSING_PICTURE
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.sources.pubmedvision import (
    CONFIGS,
    DAMAGED_ROW,
    NO_PICTURE,
    ORIGINAL_CAPTIONS,
    SEVERAL_PICTURES,
    PubMedVisionSource,
)
from clipdemo.sources.remote_zip import DAMAGED
from clipdemo.sources.settings import PubMedVisionOptions
from tests.hub_standin import TOKEN, HubStandIn, point_at

REPOSITORY = "FreedomIntelligence/PubMedVision"
REAL = Path(__file__).resolve().parents[2] / "../shared/data/pubmedvision-mini"
SAMPLE = random.Random(5).sample(range(2626), 512)

needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="shared/data/pubmedvision-mini is not here")

# The loader as it is: only HF_ENDPOINT says where the Hub is.
READ_SAMPLE = """
import hashlib, json, sys
from pathlib import Path
from clipdemo.progress import finish
from clipdemo.sources.pubmedvision import PubMedVisionSource
from clipdemo.sources.settings import PubMedVisionOptions

source = PubMedVisionSource(PubMedVisionOptions(), Path(sys.argv[1]))
finish(source.prepare())
rows = json.loads(sys.argv[2])
before = source.bytes_to_fetch(rows)
digest, size = hashlib.sha256(), 0
for picture in source.pictures(rows):
    digest.update(picture)
    size += len(picture)
table = hashlib.sha256(source.table().to_csv().encode()).hexdigest()
answer = {"digest": digest.hexdigest(), "size": size, "before": before, "after": source.bytes_to_fetch(rows)}
print(json.dumps(answer | {"table": table}))
"""


def jpeg(number):
    return b"\xff\xd8" + random.Random(number).randbytes(3000 + number)


def archive(names, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in names.items():
            file.writestr(name, content)
    return buffer.getvalue()


def original(number, **changes):
    row = {"id": f"c_{number}", "image": [f"images/pmc_{number}_0.jpg"], "modality": "CT", "body_part": "Chest"}
    return row | {"Original_Caption": f"caption {number}"} | changes


def conversation(number, *turns, **changes):
    row = original(number, conversations=[{"from": who, "value": said} for who, said in turns])
    del row["Original_Caption"]
    return row | changes


def layout(rows, pictures=range(6), name=ORIGINAL_CAPTIONS):
    """A repository: the rows and two archives whose folders differ, as they may."""
    first = {f"images/pmc_{n}_0.jpg": jpeg(n) for n in pictures if n % 2 == 0}
    second = {f"a/b/pmc_{n}_0.jpg": jpeg(n) for n in pictures if n % 2}
    return {
        name: json.dumps(rows, ensure_ascii=False).encode(),
        "images_0.zip": archive(first),
        "images_12.zip": archive(second, zipfile.ZIP_DEFLATED),
    }


@pytest.fixture
def folder(tmp_path):
    """Writes a repository's files and opens the source over them."""

    def write(files, **options):
        root = tmp_path / "folder"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(content)
        return prepared(tmp_path, path=str(root), **options)

    return write


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serves a repository's files as the Hub of this process."""
    monkeypatch.setattr(remote_zip, "WAITS", (0, 0, 0))
    monkeypatch.setattr(remote_zip, "OPENING_WAITS", (0, 0))
    monkeypatch.setattr("clipdemo.sources.pubmedvision.OPENING_WAITS", (0, 0))
    running = []

    def start(files, **options):
        running.append(HubStandIn({REPOSITORY: files}, **{"large": 5000} | options).__enter__())
        running[-1].be_the_hub(monkeypatch, tmp_path / "home")
        return running[-1]

    yield start
    for hub in running:
        hub.__exit__()


def prepared(tmp_path, **options):
    source = PubMedVisionSource(PubMedVisionOptions(**options), tmp_path / "cache")
    finish(source.prepare())
    return source


def directory_bytes(path):
    with zipfile.ZipFile(path) as file:
        return path.stat().st_size - file.start_dir


@pytest.fixture(scope="module")
def from_folder(tmp_path_factory):
    """What the sample is when it is read from the folder."""
    source = PubMedVisionSource(PubMedVisionOptions(path=str(REAL)), tmp_path_factory.mktemp("cache"))
    finish(source.prepare())
    digest = hashlib.sha256()
    for picture in source.pictures(SAMPLE):
        digest.update(picture)
    table = hashlib.sha256(source.table().to_csv().encode()).hexdigest()
    return {"digest": digest.hexdigest(), "table": table}


@needs_real_data
def test_a_sample_of_the_hub_moves_little_more_than_its_pictures_and_equals_the_folder(from_folder, tmp_path):
    files = {path.name: path for path in REAL.iterdir()}
    with HubStandIn({REPOSITORY: files}) as hub:
        first = hub.run(READ_SAMPLE, tmp_path, str(tmp_path / "cache"), json.dumps(SAMPLE))
        sent = sum(hub.sent.values())
        directories = sum(directory_bytes(REAL / name) for name in ("images_0.zip", "images_1.zip"))
        assert sent <= 1.3 * first["size"] + directories + (REAL / ORIGINAL_CAPTIONS).stat().st_size
        assert first["size"] <= first["before"] <= 1.01 * first["size"]
        assert hub.tokens_at_cdn == 0

        again = hub.run(READ_SAMPLE, tmp_path, str(tmp_path / "cache"), json.dumps(SAMPLE))
        assert sum(hub.sent.values()) - sent < 2000  # the repository's listing
    assert (first["digest"], first["table"]) == (from_folder["digest"], from_folder["table"])
    assert first["after"] == again["before"] == 0
    assert again["digest"] == first["digest"]


@needs_real_data
def test_failing_requests_change_nothing(from_folder, tmp_path):
    files = {path.name: path for path in REAL.iterdir()}
    with HubStandIn({REPOSITORY: files}, failing=0.05, seed=3) as hub:
        got = hub.run(READ_SAMPLE, tmp_path, str(tmp_path / "cache"), json.dumps(SAMPLE))
        assert hub.failed > 10
    assert (got["digest"], got["table"]) == (from_folder["digest"], from_folder["table"])


@needs_real_data
def test_a_download_broken_off_goes_on_and_fetches_no_picture_twice(serve, tmp_path):
    files = {path.name: path for path in REAL.iterdir()}
    rows = SAMPLE[:200]
    dying = serve(files, die_after=2_800_000)
    source = prepared(tmp_path)
    wanted = source.bytes_to_fetch(rows)
    with pytest.raises(SourceError, match=r"cannot reach .*of 200 pictures are kept; drawing again goes on") as caught:
        list(source.pictures(rows))
    assert dying.dead
    healthy = serve(files)
    source = prepared(tmp_path)
    left = source.bytes_to_fetch(rows)
    assert 0 < left < 0.8 * wanted
    pictures = list(source.pictures(rows))
    assert list(prepared(tmp_path, path=str(REAL)).pictures(rows)) == pictures
    fetched = dying.ranges + healthy.ranges
    ranges = {key: count for key, count in fetched.items() if key[0].endswith(".zip") and count > 1}
    assert len(ranges) == 0
    kept = int(str(caught.value).split(" of 200")[0].split()[-1])
    assert sum(name.endswith(".zip") for name, _ in healthy.ranges) == 200 - kept


def test_folder_and_hub_give_the_same(folder, serve, tmp_path):
    files = layout([original(n) for n in range(6)])
    local = folder(files)
    serve(files)
    remote = prepared(tmp_path)
    assert local.table().equals(remote.table())
    rows = [5, 0, 3, 3, 1]
    assert list(local.pictures(rows)) == list(remote.pictures(rows)) == [jpeg(n) for n in rows]


def test_the_table_has_the_columns_of_every_source_all_text(folder):
    source = folder(layout([original(n) for n in range(6)]))
    table = source.table()
    assert tuple(table.columns) == COLUMNS
    assert all(table[column].map(type).eq(str).all() for column in COLUMNS)
    assert list(table.index) == list(range(6))
    assert table.loc[3].to_dict() == {
        "id": "c_3",
        "caption": "caption 3",
        "label": "Chest",
        "modality": "CT",
        "group": "pmc_3",
        "problem": "",
    }


def test_others_is_a_class_when_it_is_wanted(tmp_path):
    assert PubMedVisionSource(PubMedVisionOptions(), tmp_path).classes == BODY_PARTS
    assert PubMedVisionSource(PubMedVisionOptions(others=True), tmp_path).classes == (*BODY_PARTS, "Others")


def test_an_image_is_a_text_or_a_list(folder):
    rows = [original(0, image="images/pmc_2_0.jpg"), original(1, image=["elsewhere\\pmc_3_0.jpg"])]
    assert list(folder(layout(rows)).pictures([0, 1])) == [jpeg(2), jpeg(3)]


@pytest.mark.parametrize(("several", "problem"), [("first", ""), ("drop", SEVERAL_PICTURES)])
def test_of_several_pictures_the_first_is_taken_or_none(folder, several, problem):
    rows = [original(0), original(1, image=["pmc_4_0.jpg", "pmc_5_0.jpg"])]
    source = folder(layout(rows), several=several)
    assert source.table()["problem"].tolist() == ["", problem]
    assert next(source.pictures([1])) == jpeg(4)


def test_rows_that_cannot_be_used_say_why(folder):
    rows = [original(0), "text", None, original(3, image=7), original(4, body_part=["Chest"])]
    rows += [original(5, Original_Caption=None), original(6, image=[]), original(7, image=""), original(8, image=None)]
    rows += [original(9, image=[3]), original(10, body_part=None)]
    table = folder(layout(rows)).table()
    assert table["problem"].tolist() == ["", *[DAMAGED_ROW] * 5, *[NO_PICTURE] * 3, DAMAGED_ROW, ""]
    assert table["id"].tolist()[:4] == ["c_0", "row 2", "row 3", "c_3"]
    assert table["label"].tolist()[-1] == ""


def test_ids_are_made_unique_and_rows_of_one_picture_stay(folder):
    rows = [original(0), original(0), original(0, id="c_0-2"), original(0), original(1, id=7), original(1, id="")]
    table = folder(layout(rows)).table()
    assert table["id"].is_unique
    assert table["id"].tolist() == ["c_0", "c_0-2", "c_0-2-2", "c_0-3", "7", "row 6"]


def test_pictures_of_one_article_are_one_group(folder):
    names = ["pmc_12_0.jpg", "images/pmc_12_11.png", "pmc_13_0.jpg", "figure.jpg", "pmc_12.jpg"]
    table = folder(layout([original(n, image=[name]) for n, name in enumerate(names)])).table()
    assert table["group"].tolist() == ["pmc_12", "pmc_12", "pmc_13", "", ""]


def test_captions_arrive_untouched(folder):
    captions = ["胸部 X 线片显示右肺 “阴影” 。", "a\nb\t“c” é", "", "\U0001f9e0 brain"]
    rows = [original(n, Original_Caption=caption) for n, caption in enumerate(captions)]
    assert folder(layout(rows)).table()["caption"].tolist() == captions


def test_half_a_surrogate_pair_does_not_stop_the_reading(folder):
    files = layout([original(0)])
    files[ORIGINAL_CAPTIONS] = json.dumps([original(0, Original_Caption="a \ud83d b")]).encode()
    assert folder(files).table()["caption"].tolist()[0].startswith("a ")


def test_json_lines_are_the_same_as_an_array(folder, tmp_path):
    rows = [original(n, Original_Caption=f"胸 {n}") for n in range(6)]
    files = layout(rows)
    expected = folder(files).table()
    files[ORIGINAL_CAPTIONS] = b"\xef\xbb\xbf" + "\n\n".join(json.dumps(row) for row in rows).encode()
    assert folder(files).table().equals(expected)


def test_a_broken_json_line_is_a_damaged_row(folder):
    files = layout([])
    files[ORIGINAL_CAPTIONS] = f"{json.dumps(original(0))}\n{{broken\n{json.dumps(original(2))}".encode()
    assert folder(files).table()["problem"].tolist() == ["", DAMAGED_ROW, ""]


def test_the_first_answer_is_the_caption_of_gpt4v(folder):
    rows = [
        conversation(0, ("human", "What?"), ("gpt", "first answer"), ("human", "And?"), ("gpt", "second")),
        conversation(1, ("human", "What?")),
        conversation(2, conversations=None),
        conversation(3, ("gpt", 5)),
    ]
    source = folder(layout(rows, name=CONFIGS["alignment"]), caption="gpt4v")
    assert source.table()["caption"].tolist()[0] == "first answer"
    assert source.table()["problem"].tolist() == ["", DAMAGED_ROW, DAMAGED_ROW, DAMAGED_ROW]


def test_the_config_chooses_the_conversations(folder):
    files = layout([conversation(0, ("gpt", "alignment"))], name=CONFIGS["alignment"])
    files |= layout([conversation(0, ("gpt", "instruction"))], name=CONFIGS["instruction"])
    for config in CONFIGS:
        assert folder(files, caption="gpt4v", config=config).table()["caption"].tolist() == [config]


def test_original_captions_need_their_own_file_only(folder):
    files = layout([original(0)])
    for config in CONFIGS:
        assert len(folder(files, config=config).table()) == 1
    with pytest.raises(SourceError, match=r"PubMedVision_InstructionTuning_VQA\.json is missing"):
        folder(files, caption="gpt4v", config="instruction")


def test_a_changed_schema_is_named(folder):
    rows = [{"picture": "a.jpg", "text": "b"}] * 1200
    with pytest.raises(
        SourceError, match="expected .*image, body_part, Original_Caption, found picture, text in 1,000"
    ):
        folder(layout(rows))


def test_one_good_row_of_a_thousand_is_enough(folder):
    rows = [{"text": "b"}] * 999 + [original(0)]
    assert len(folder(layout(rows)).table()) == 1000


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[[1, 2]]", b"nothing"])
def test_a_file_without_rows_is_named(folder, content):
    with pytest.raises(SourceError, match=ORIGINAL_CAPTIONS):
        folder(layout([]) | {ORIGINAL_CAPTIONS: content})


def test_a_file_cut_short_is_named_and_leaves_no_cache(folder, tmp_path):
    files = layout([original(n) for n in range(6)])
    with pytest.raises(SourceError, match="is not whole"):
        folder(files | {ORIGINAL_CAPTIONS: files[ORIGINAL_CAPTIONS][:-40]})
    assert not list((tmp_path / "cache").glob("*rows-*"))
    assert len(folder(files).table()) == 6


def test_the_rows_are_parsed_once_and_a_damaged_cache_is_made_anew(folder, tmp_path):
    files = layout([original(n) for n in range(6)])
    expected = folder(files).table()
    (kept,) = (tmp_path / "cache").glob("rows-*")
    whole, written = kept.read_bytes(), kept.stat().st_mtime_ns
    root = tmp_path / "folder"
    assert prepared(tmp_path, path=str(root)).table().equals(expected)
    assert kept.stat().st_mtime_ns == written
    for damaged in (whole[:100], b"", whole[:60] + b"????" + whole[64:]):
        kept.write_bytes(damaged)
        assert prepared(tmp_path, path=str(root)).table().equals(expected)


def test_a_changed_file_is_read_again(folder):
    assert len(folder(layout([original(0)])).table()) == 1
    assert len(folder(layout([original(0), original(1)])).table()) == 2


def test_unpacked_pictures_come_first_and_archives_are_not_needed(folder):
    files = layout([original(0), original(1)])
    files["images/pmc_0_0.jpg"] = b"unpacked"
    source = folder(files)
    assert list(source.pictures([0, 1])) == [b"unpacked", jpeg(1)]


def test_a_folder_of_unpacked_pictures_alone_will_do(folder):
    files = {ORIGINAL_CAPTIONS: layout([original(0), original(1)])[ORIGINAL_CAPTIONS]}
    first, second = folder(files | {"images/pmc_0_0.jpg": b"unpacked"}).pictures([0, 1])
    assert first == b"unpacked"
    assert second.reason == MISSING_PICTURE


def test_a_folder_without_pictures_is_named(folder):
    with pytest.raises(SourceError, match=r"neither images_\*\.zip nor a folder images/"):
        folder({ORIGINAL_CAPTIONS: b"[]"})


@pytest.mark.parametrize("remote", [False, True])
def test_missing_and_damaged_members_are_errors_of_their_own_pictures(folder, serve, tmp_path, remote):
    files = layout([original(0), original(2), original(4), original(77)])
    at = files["images_0.zip"].index(jpeg(2)) + 1000
    spoiled = files["images_0.zip"]
    files["images_0.zip"] = spoiled[:at] + bytes([spoiled[at] ^ 1]) + spoiled[at + 1 :]
    source = (serve(files) and prepared(tmp_path)) if remote else folder(files)
    good, damaged, other, missing = source.pictures([0, 1, 2, 3])
    assert (good, other) == (jpeg(0), jpeg(4))
    assert isinstance(damaged, PictureError) and damaged.reason == DAMAGED
    assert "pmc_2_0.jpg in images_0.zip" in str(damaged)
    assert isinstance(missing, PictureError) and missing.reason == MISSING_PICTURE
    assert "pmc_77_0.jpg" in str(missing)


@pytest.mark.parametrize("remote", [False, True])
def test_an_archive_cut_short_is_named(folder, serve, tmp_path, remote):
    files = layout([original(0)])
    files["images_12.zip"] = files["images_12.zip"][:-30]
    with pytest.raises(SourceError, match=r"images_12\.zip is not a whole zip archive"):
        (serve(files) and prepared(tmp_path)) if remote else folder(files)


def test_a_spoiled_picture_of_the_cache_is_fetched_again(serve, tmp_path):
    serve(layout([original(0)]))
    assert list(prepared(tmp_path).pictures([0])) == [jpeg(0)]
    (kept,) = [path for path in (tmp_path / "cache/pictures").rglob("*") if path.is_file()]
    kept.write_bytes(b"spoiled")
    assert list(prepared(tmp_path).pictures([0])) == [jpeg(0)]


def test_a_gated_repository_opens_with_a_token_only(serve, monkeypatch, tmp_path):
    hub = serve(layout([original(0)]), gated=[REPOSITORY])
    for token in ("", "hf_wrong"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(SourceError, match="accept its terms at .*set HF_TOKEN or run `hf auth login`") as caught:
            prepared(tmp_path)
        assert f"{hub.url}/datasets/{REPOSITORY}" in str(caught.value)
        assert not token or token not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert list(prepared(tmp_path).pictures([0])) == [jpeg(0)]
    assert hub.tokens_at_cdn == 0


def test_a_rate_limit_has_its_own_line(serve, tmp_path):
    hub = serve(layout([original(0)]))
    source = prepared(tmp_path)
    hub.status = 429
    with pytest.raises(SourceError, match=r"answers 429, too many requests.*0 of 1 pictures are kept"):
        list(source.pictures([0]))
    with pytest.raises(SourceError, match="answers 429, too many requests"):
        prepared(tmp_path, revision="other")


def test_a_server_in_trouble_is_named_with_its_answer(serve, tmp_path):
    serve({}, status=502)
    with pytest.raises(SourceError, match="answers with HTTP status 502"):
        prepared(tmp_path)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_no_server_at_all_names_the_endpoint_and_the_way_out(serve, monkeypatch, tmp_path, url):
    point_at(url, monkeypatch, tmp_path)
    with pytest.raises(SourceError, match=f"cannot reach {url}.*--path"):
        prepared(tmp_path)


def test_what_was_fetched_needs_no_server(serve, monkeypatch, tmp_path):
    serve(layout([original(0), original(1)]))
    assert list(prepared(tmp_path).pictures([0])) == [jpeg(0)]
    point_at("http://127.0.0.1:9", monkeypatch, tmp_path)
    source = prepared(tmp_path)
    assert list(source.pictures([0])) == [jpeg(0)]
    with pytest.raises(SourceError, match="1 of 2 pictures are kept"):
        list(source.pictures([0, 1]))


def test_unknown_repositories_revisions_and_layouts_are_named(serve, tmp_path):
    serve({ORIGINAL_CAPTIONS: b"[]"})
    with pytest.raises(SourceError, match="no/such: .* has no such dataset, or a private one"):
        prepared(tmp_path, repository="no/such")
    with pytest.raises(SourceError, match="revision = 'dev'"):
        prepared(tmp_path, revision="dev")
    with pytest.raises(SourceError, match="write OWNER/NAME"):
        prepared(tmp_path, repository="a/b c/d")
    with pytest.raises(SourceError, match=r"has no images_\*\.zip"):
        prepared(tmp_path)


def test_origin_names_commit_and_licence_or_the_folder(serve, folder, tmp_path):
    files = layout([original(0)])
    hub = serve(files)
    expected = {"repository": REPOSITORY, "commit": hub.commit(REPOSITORY), "licence": "apache-2.0"}
    assert prepared(tmp_path).origin() == expected
    assert folder(files).origin() == {"path": str(tmp_path / "folder")}


def test_preparing_tells_what_is_read_and_may_be_left(folder, serve, tmp_path):
    serve(layout([original(n) for n in range(6)]))
    source = PubMedVisionSource(PubMedVisionOptions(), tmp_path / "cache")
    steps = source.prepare()
    seen = [next(steps)]
    steps.close()
    seen += list(source.prepare())
    assert {step.stage for step in seen} == {"source"}
    assert any(ORIGINAL_CAPTIONS in step.note for step in seen)
    assert len(source.table()) == 6


def test_a_source_that_is_not_prepared_says_so(tmp_path):
    with pytest.raises(SourceError, match="prepared"):
        PubMedVisionSource(PubMedVisionOptions(), tmp_path).table()
