"""The Gradio app in front of real servers on 127.0.0.1: answers, refusals, and what is left on disk."""

import base64
import csv
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from clipdemo import classify as library
from clipdemo import opened
from clipdemo.drop import dropped_picture
from clipdemo.errors import BadSettings, PictureError, WorkspaceError
from clipdemo.gradio_app import MAX_WAITING, asgi, disk
from clipdemo.gradio_app.flags import Flags
from clipdemo.gradio_app.guard import MAX_BODY_BYTES
from clipdemo.gradio_app.service import Service
from clipdemo.gradio_app.serving import build
from clipdemo.images import encode_png
from clipdemo.spreadsheets import harmless
from clipdemo.workspace import Workspace
from tests import workspace_factory as factory
from tests.raw_http import JSON, MULTIPART, announced, ask, form, form_head, trap, unending
from tools.serving import served

ROOT = Path(__file__).resolve().parent.parent
PICTURE = encode_png(factory.disc(5))


@contextmanager
def running(workspace, comparison=None):
    """The app alone under uvicorn in a thread of this process, so that a test sees inside."""
    import uvicorn

    up = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            up.set()

    app = asgi(workspace, comparison)
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", timeout_graceful_shutdown=1)
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert up.wait(60)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("gradio") / "workspace")


@pytest.fixture(scope="module")
def address(place):
    with running(place) as found:
        yield found


@pytest.fixture
def client(address):
    return Client(address, verbose=False)


@pytest.fixture
def page():
    """The module, which imports Gradio: in seconds, so not while tests are collected."""
    from clipdemo.gradio_app import page

    return page


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "picture.png").write_bytes(PICTURE)
    return tmp_path / "picture.png"


def post(address, endpoint, data):
    """The event and the data that a plain call ends with."""
    call = f"{address}/gradio_api/call/{endpoint}"
    body = json.dumps({"data": data}).encode()
    event = json.load(urllib.request.urlopen(urllib.request.Request(call, body, {"Content-Type": "application/json"})))
    with urllib.request.urlopen(f"{call}/{event['event_id']}", timeout=60) as stream:
        kind, said = stream.read().decode().strip().split("\n\n")[-1].splitlines()
    return kind.removeprefix("event: "), json.loads(said.removeprefix("data: "))


def left_over():
    return [path for path in disk.uploads_folder().rglob("*") if path.is_file()]


def uploaded(address, name="a.png", data=PICTURE):
    """The path on the server of an upload."""
    status, said = ask(address, "/gradio_api/upload", form(name, data), MULTIPART)
    assert status == 200, said
    return json.loads(said)[0]


def until(condition):
    """Waits for it, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- the same numbers


def test_the_api_answers_what_the_library_and_the_command_line_say(client, place, picture):
    got = client.predict(handle_file(picture), api_name="/classify")
    found = opened.classifier(place)
    expected = library.classify(found, [dropped_picture(PICTURE, "picture.png", found.sizes)])[0]
    assert got == json.loads(json.dumps(expected.plain()))
    command = [sys.executable, "-m", "clipdemo", "classify", str(picture), "--json", "--workspace", str(place.root)]
    said = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
    assert said["agreement"] == got["agreement"]
    for mine, other in zip(got["answers"], said["answers"], strict=True):
        assert [one["label"] for one in mine["labels"]] == [one["label"] for one in other["labels"]]
        chances = [one["probability"] for one in other["labels"]]
        assert [one["probability"] for one in mine["labels"]] == pytest.approx(chances, abs=1e-6)


def test_a_picture_of_the_page_gets_the_same_answer_as_a_sent_one(place, page):
    result = Service(place).classify("a.png", PICTURE)
    chances = page.shown(result, opened.classifier(place))[4]["value"]
    assert chances == {one.label: one.probability for one in result.answers[0].labels}


def test_the_page_doubts_its_answer_where_the_dataset_has_no_picture_like_it(place, page):
    result, found = Service(place).classify("a.png", PICTURE), opened.classifier(place)
    for familiar, doubted in ((True, False), (False, True), (None, False)):
        doubt = page.shown(replace(result, familiar=familiar), found)[2]
        assert doubt["visible"] is doubted and ("further from all of" in doubt["value"]) is doubted


def test_vectors_have_unit_length_and_their_product_is_the_cosine_of_the_caption(workspace, tmp_path):
    sample = factory.make_sample(workspace)
    run = factory.make_real_run(workspace, sample, factory.RunConfig(mode="captions"))
    made = [factory.make_evaluation(workspace, sample, name, of) for name, of in (("base", None), ("captions", run))]
    comparison = factory.compare(made, workspace)
    service = Service(workspace)
    near = service.nearest_texts("a.png", PICTURE, 2)
    vectors = service.embed_image("a.png", PICTURE)
    assert [one["title"] for one in near] == ["Base", "Captions"]
    for model, (texts, image) in enumerate(zip(near, vectors, strict=True)):
        assert sum(x * x for x in image["vector"]) == pytest.approx(1, abs=1e-3)
        text = service.embed_text(texts["texts"][0]["text"])[model]["vector"]
        cosine = sum(a * b for a, b in zip(image["vector"], text, strict=True))
        assert cosine == pytest.approx(texts["texts"][0]["score"], abs=2e-3)
    assert opened.newest(workspace) == comparison.id
    assert opened.classifier(workspace, comparison.id) is service.classifier()
    assert service.classifier("builtin").name == "builtin"


def test_equal_weights_are_opened_once(place):
    assert opened.model("builtin") is opened.model("builtin")
    assert opened.classifier(place).models[0].clip is opened.model("builtin")


# ---- refusals


def test_a_hostile_file_is_refused_with_its_message(client, tmp_path):
    (tmp_path / "bad.png").write_bytes(PICTURE[:200])
    with pytest.raises(AppError, match=r"bad\.png"):
        client.predict(handle_file(tmp_path / "bad.png"), api_name="/classify")
    assert left_over() == []


def test_twin_labels_and_an_unknown_comparison_are_refused(client, picture):
    with pytest.raises(AppError, match="there twice"):
        client.predict(handle_file(picture), labels="hand, Hand", api_name="/classify")
    with pytest.raises(AppError, match="not-there"):
        client.predict("words", comparison="not-there", api_name="/embed_text")


def test_the_server_opens_no_address_and_no_file_of_its_own(address, picture):
    meta = {"meta": {"_type": "gradio.FileData"}}
    for path in ("http://127.0.0.1:1/a.png", "https://example.org/a.png", "/etc/passwd", str(picture)):
        kind, said = post(address, "classify", [{"path": path, **meta}, "", "", ""])
        assert kind == "error", said
        assert "root:" not in str(said)
    for endpoint, data in (
        ("embed_text", ["a", {"path": "/etc/hostname", **meta}]),
        ("embed_text", [{"path": "/etc/hostname", **meta}, ""]),
    ):
        post(address, endpoint, data)
    assert left_over() == []
    kind, said = post(address, "classify", [{"url": "data:image/png;base64,?", **meta}, "", "", ""])
    assert kind == "error" and "base64" in said["error"]


def test_no_address_is_opened_for_whoever_asks_even_one_that_all_may_see(address, monkeypatch):
    import safehttpx

    async def public(name):
        return "127.0.0.1"

    monkeypatch.setattr(safehttpx, "async_validate_url", public)  # else Gradio refuses this one, but no other
    with trap() as (elsewhere, asked):
        for way in ("file=", "file/", "file%3D", "proxy="):
            assert ask(address, f"/gradio_api/{way}{elsewhere}/a.png")[0] in (403, 404)
        assert asked == []


def test_a_request_of_too_many_bytes_is_refused_as_soon_as_they_are_too_many(address):
    too_many = MAX_BODY_BYTES + 1
    parts = [b"a" * 2**20] * (too_many // 2**20 + 1)
    for path, headers, start in (("call/classify", JSON, b'{"data": ["'), ("upload", MULTIPART, form_head("a.png"))):
        assert announced(address, f"/gradio_api/{path}", too_many, headers) == 413
        with unending(address, f"/gradio_api/{path}", [start, *parts], headers) as connection:
            assert connection.getresponse().status == 413
    assert left_over() == []


def test_no_picture_and_a_k_of_zero_are_refused(address, place):
    assert post(address, "classify", [None, "", "", ""])[0] == "error"
    assert "empty" in post(address, "embed_text", [None, None])[1]["error"]
    url = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    nulls = [{"url": url, "meta": {"_type": "gradio.FileData"}}, None, None, None]
    assert post(address, "classify", nulls)[0] == "complete"
    with pytest.raises(BadSettings, match="k = 0"):
        Service(place).nearest_texts("a.png", PICTURE, 0)
    with pytest.raises(PictureError):
        Service(place).embed_image("a.png", b"")


def test_one_call_too_many_is_refused_with_503_and_the_others_are_answered(address, monkeypatch):
    begun, go, order = threading.Event(), threading.Event(), []

    def slow(self, text, comparison=""):
        begun.set()
        assert go.wait(60)
        order.append(int(text))
        return [int(text)]

    monkeypatch.setattr(Service, "embed_text", slow)
    call = f"{address}/gradio_api/call/embed_text"

    def join(number):
        body = json.dumps({"data": [str(number), ""]}).encode()
        request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["event_id"]

    events = [join(0)]
    assert begun.wait(60)  # it has left the queue
    events += [join(number) for number in range(1, MAX_WAITING + 1)]
    with pytest.raises(urllib.error.HTTPError) as refused:
        join(99)
    assert refused.value.code == 503
    assert "Queue is full" in refused.value.read().decode()
    with pytest.raises(Exception, match="Queue is full"):
        Client(address, verbose=False).predict("99", api_name="/embed_text")
    go.set()
    for number, event in enumerate(events):
        with urllib.request.urlopen(f"{call}/{event}", timeout=60) as stream:
            assert f"data: [[{number}]]" in stream.read().decode()
    assert order == list(range(MAX_WAITING + 1))


# ---- what stays on disk


def test_a_program_s_picture_is_gone_with_its_answer(client, address, picture):
    client.predict(handle_file(picture), api_name="/embed_image")
    assert left_over() == []
    url = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    kind, _ = post(address, "classify", [{"url": url, "meta": {"_type": "gradio.FileData"}}, "", "", ""])
    assert kind == "complete"
    assert left_over() == []


def test_two_who_send_the_same_picture_are_both_answered(address):
    first, second = uploaded(address), uploaded(address)
    for path in (first, second):
        given = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert post(address, "classify", [given, "", "", ""])[0] == "complete"
    assert left_over() == []


def test_pictures_of_the_page_are_deleted_when_their_time_is_over(place, monkeypatch):
    monkeypatch.setattr(disk, "SWEPT_SECONDS", 0.05)
    looks, sweep = [], disk.sweep

    def counted():
        sweep()
        looks.append(len(left_over()))

    monkeypatch.setattr(disk, "sweep", counted)
    with running(place) as address:
        kept = Path(uploaded(address))
        with unending(address, "/gradio_api/upload", [form_head("b.png"), PICTURE], MULTIPART):
            until(lambda: len(left_over()) == 2)
        seen = len(looks)
        until(lambda: len(looks) > seen + 3)
        assert kept.read_bytes() == PICTURE and looks[-1] == 2  # the one of somebody who hung up half way too
        monkeypatch.setattr(disk, "KEPT_SECONDS", 0)
        until(lambda: not disk.uploads_folder().exists() or not list(disk.uploads_folder().iterdir()))


def test_no_more_is_uploaded_than_the_disk_is_for(address, monkeypatch):
    kept = Path(uploaded(address))
    for name in ("MAX_FILES", "MAX_FILES_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(disk, name, 0)
            assert ask(address, "/gradio_api/upload", form("b.png", PICTURE), MULTIPART)[0] == 503
    assert left_over() == [kept]
    assert ask(address, f"/gradio_api/file={kept}") == (200, PICTURE)
    kept.unlink()


def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_has_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "clipdemo-gradio-dead"
    (dead / "uploads").mkdir(parents=True)
    make = disk.temporary.__wrapped__  # as another process does
    first = make()
    assert not dead.exists()
    second = make()
    assert first.exists() and second != first
    assert first.stat().st_mode & 0o077 == 0


def test_the_folder_has_the_name_that_paths_inside_resolve_to(tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")  # a Mac's temporary folder is a link
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    assert disk.temporary.__wrapped__().parent == tmp_path.resolve() / "disk"


# ---- flags


def test_flags_are_rows_that_no_spreadsheet_computes(workspace):
    flags = Flags(workspace)
    result = {"name": "=HYPERLINK(1).png", "agreement": "Base says Foot (51 %)."}
    assert flags.add(result, "builtin", "@SUM(A1)", "\n\t-1+1\nmore", None) == 1
    assert flags.add(result, "builtin", "Foot, or hand", '"quoted"', PICTURE) == 2
    rows = list(csv.DictReader((flags.folder / "flags.csv").open(encoding="utf-8", newline="")))
    assert rows[0]["picture"] == "'=HYPERLINK(1).png"
    assert (rows[0]["should be"], rows[0]["comment"], rows[0]["file"]) == ("'@SUM(A1)", "'-1+1 more", "")
    assert (rows[1]["should be"], rows[1]["comment"]) == ("Foot, or hand", '"quoted"')
    assert [path.name for path in flags.folder.glob("*.png")] == [rows[1]["file"]]


def test_flags_come_to_an_end(workspace, monkeypatch):
    monkeypatch.setattr("clipdemo.gradio_app.flags.MOST_FLAGS", 1)
    flags = Flags(workspace)
    flags.add({"name": "a", "agreement": "b"}, "", "", "", None)
    with pytest.raises(WorkspaceError, match="move it away"):
        flags.add({"name": "a", "agreement": "b"}, "", "", "", None)


@pytest.mark.parametrize(("text", "kept"), [("=1", "'=1"), ("  +1", "'+1"), ("a=1", "a=1"), ("\r@x", "'@x")])
def test_formulas_are_told_from_text(text, kept):
    assert harmless(text) == kept


def test_nothing_is_flagged_on_a_hosted_server(workspace, monkeypatch):
    def buttons():
        return [getattr(block, "value", None) for block in build(workspace).blocks.values()]

    assert "Flag" in buttons()
    monkeypatch.setenv("CLIPDEMO_HOSTED", "1")
    assert "Flag" not in buttons()


def test_markdown_in_captions_stays_text(page):
    assert page.plain("<b>*a*</b>") == "&#60;b&#62;&#42;a&#42;&#60;/b&#62;"
    assert page.plain("www.a http://b c@d") == "www&#46;a http&#58;//b c&#64;d"  # else these become links


# ---- mounted, and in the documentation


def test_gradio_is_imported_when_somebody_asks_for_it_and_not_before(tmp_path):
    code = (
        "import sys, asyncio, httpx, streamlit, app\n"
        "from clipdemo.ui import home\n"
        "assert 'gradio' not in sys.modules\n"
        "async def main():\n"
        "    async with app.gradio.lifespan(None):\n"
        "        transport = httpx.ASGITransport(app=app.gradio)\n"
        "        async with httpx.AsyncClient(transport=transport, base_url='http://127.0.0.1') as client:\n"
        "            assert 'gradio' not in sys.modules\n"
        "            assert (await client.get('/')).status_code == 200\n"
        "            assert 'gradio' in sys.modules\n"
        "asyncio.run(main())\n"
    )
    environment = {
        "CLIPDEMO_WORKSPACE": str(tmp_path / "w"),
        "PATH": "",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr


def test_the_examples_of_the_documentation_run_against_the_mounted_app(workspace, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"```(python|sh)\n(.*?)```", text, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "sh"]
    for said, limit in (
        ("{} may wait", MAX_WAITING),
        ("Files over {} MiB", disk.MAX_UPLOAD_BYTES // 2**20),
        ("requests over {} MiB", MAX_BODY_BYTES // 2**20),
    ):
        assert said.format(limit) in text
    assert f"while {disk.MAX_FILES:,} files or {disk.MAX_FILES_BYTES // 2**30} GiB lie" in text
    monkeypatch.chdir(tmp_path)
    Path("picture.png").write_bytes(PICTURE)
    before = set(Path(tempfile.gettempdir()).glob("clipdemo-gradio-*"))
    with served(workspace.root, tmp_path / "log", OMP_NUM_THREADS="1") as server:
        with urllib.request.urlopen(server) as page:
            assert page.status == 200
        answers = []
        for kind, block in blocks:
            if kind == "python":
                names = {"ADDRESS": f"{server}/gradio"}
                exec(block, names)
                answers.append(names["answer"]["agreement"])
            else:
                ended = subprocess.run(
                    ["bash", "-c", block], env={"ADDRESS": f"{server}/gradio", "PATH": "/usr/bin:/bin"},
                    capture_output=True, text=True,
                )  # fmt: skip
                assert "event: complete" in ended.stdout, ended.stdout + ended.stderr
        assert answers[0] == answers[1]
    assert set(Path(tempfile.gettempdir()).glob("clipdemo-gradio-*")) <= before
