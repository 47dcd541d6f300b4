"""What somebody without the code tries on a hosted server: by page, address, websocket and upload. Nothing happens.

The attacker knows every widget of the teacher's pages by id, as ids are made of the program's text, which is public.
"""

import json
import urllib.parse
import uuid
from pathlib import Path

import pytest
from streamlit.proto.Common_pb2 import FileUploaderState, UploadedFileInfo

from clipdemo import jobs, quota
from clipdemo.gradio_app.disk import MAX_UPLOAD_BYTES
from clipdemo.gradio_app.guard import MAX_BODY_BYTES
from clipdemo.records import MODES, RunConfig
from clipdemo.training.runs import load_run
from tests import workspace_factory as factory
from tests.raw_http import JSON, MULTIPART, announced, ask, ask_json, form, form_head, trap, unending
from tools.serving import served
from tools.session import Session

CODE = "correct horse"
PAGES = ("", "data", "train", "compare?section=pictures", "compare?section=worth", "compare?section=weights",
         "explore", "explore?section=map", "classify", "share")  # fmt: skip
HOSTED = {"CLIPDEMO_HOSTED": "1", "CLIPDEMO_TEACHER_CODE": CODE, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with all there is to start from, stop, delete, export or mark."""
    from clipdemo.comparison import measure
    from clipdemo.progress import finish
    from clipdemo.workspace import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("hosted") / "workspace")
    sample = factory.make_sample(workspace)
    runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES]
    finish(measure(sample, workspace, runs))
    return workspace


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """The folder that the server takes for the system's temporary one."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(place, temporary, tmp_path_factory):
    with served(place.root, tmp_path_factory.mktemp("log") / "server.log", TMPDIR=str(temporary), **HOSTED) as found:
        yield found


@pytest.fixture(scope="module")
def gradio(address):
    assert ask(f"{address}/gradio", "/")[0] == 200
    return f"{address}/gradio"


@pytest.fixture(scope="module")
def widgets(address):
    """Every widget that the teacher's pages have, by page."""
    found = {}
    for page in PAGES:
        with Session(address, "share") as teacher:
            teacher.set(teacher.named("The teacher’s code").id, string_value=CODE)
            teacher.set(teacher.named("Enter").id, trigger_value=True)
            assert any("You are the teacher" in text for text in teacher.texts)
            name, _, query = page.partition("?")
            teacher.open(name, query)
            assert not teacher.exceptions
            found[page] = list(teacher.widgets)
    labels = {widget.label for page in found.values() for widget in page}
    assert {"Run the whole experiment", "Draw the sample", "Delete it for good", "Compare", "Start the sweep",
            "Let them look"} <= labels  # fmt: skip
    return found


def contents(workspace):
    """Every file that an act would change, with its state. Caches may grow: looking is allowed."""
    kept = ("samples", "runs", "comparisons", "evaluations", "jobs", "uploads", "sweeps", "interpolations", "queue",
            "flagged")  # fmt: skip
    files = (path for kind in kept for path in (workspace.root / kind).rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_no_widget_of_the_teachers_does_anything_in_a_visitors_hand(address, place, widgets):
    before = contents(place)
    pressed = 0
    with Session(address) as visitor:
        for page, known in widgets.items():
            name, _, query = page.partition("?")
            visitor.open(name, query)
            for widget in known:
                if widget.kind == "button":
                    visitor.set(widget.id, trigger_value=True)
                elif widget.kind == "checkbox":
                    visitor.set(widget.id, bool_value=True)
                elif widget.kind == "text_input":
                    visitor.set(widget.id, string_value="hostile")
                else:
                    continue
                pressed += 1
                visitor.states.clear()
                assert contents(place) == before, (page, widget.label)
    assert pressed > 20 and place.names("jobs") == []


def test_no_address_does_anything(address, place):
    before = contents(place)
    sample, run = place.names("samples")[0], place.names("runs")[0]
    with Session(address) as visitor:
        for page in ("", "data", "train", "compare", "explore", "share"):
            for query in (f"sample={sample}&delete=1", f"job={run}&stop=discard", "teacher=1&projector=1", "job=../../x",
                          "sample=%00", f"run={run}&export=model", "section=%3Cscript%3E"):  # fmt: skip
                visitor.open(page, query)
                assert not visitor.exceptions
                assert not any("You are the teacher" in text for text in visitor.texts)
    assert contents(place) == before


def test_a_job_that_goes_on_is_not_stopped(address, place, widgets):
    job = factory.make_job(place, "experiment", factory.experiment_settings(factory.make_sample(place)), {}, None)
    try:
        with factory.keep_alive(job), Session(address, "", f"job={job.id}") as visitor:
            assert any("is running" in text for text in visitor.texts)
            assert not {"Stop", "stop_job", "Discard"} & {widget.label for widget in visitor.widgets}
        assert not (job.folder / "stop").exists()
    finally:
        place.delete("jobs", job.id)


@pytest.mark.parametrize("name", ["x.csv", "../../../etc/cron.d/x", "..\\..\\x.zip", "a" * 300 + ".png", "\x00.png"])
def test_an_upload_reaches_no_disk(address, place, widgets, name):
    before = contents(place)
    uploader = next((w for w in widgets["data"] if w.kind == "file_uploader"), None)
    with Session(address, "data") as visitor:
        file_id = uuid.uuid4().hex
        path, body = f"/_stcore/upload_file/{visitor.id}/{file_id}", form(name, b"image,label\nx.png,chest\n", "file")
        sent, _ = ask(address, path, body, {**MULTIPART, "Origin": address}, "PUT")
        assert sent in (200, 204, 400, 403, 404)
        state = FileUploaderState()
        state.uploaded_file_info.append(UploadedFileInfo(file_id=file_id, name=name.replace("\x00", ""), size=24))
        if uploader:
            visitor.set(uploader.id, file_uploader_state_value=state)
        for widget in widgets["data"]:
            if widget.label in ("Draw the sample", "Look first"):
                visitor.set(widget.id, trigger_value=True)
    assert contents(place) == before


def test_guessing_the_code_ends_after_a_few_tries(workspace, tmp_path):
    def says(visitor, code):
        visitor.set(visitor.named("The teacher’s code").id, string_value=code)
        visitor.set(visitor.named("Enter").id, trigger_value=True)
        return " ".join(visitor.texts)

    # a server of its own: its door stays shut afterwards
    with served(workspace.root, tmp_path / "server.log", **HOSTED) as address:
        for attempt in range(5):  # a new session each time does not help
            with Session(address, "share") as visitor:
                assert "This is not the code" in says(visitor, f"guess {attempt}")
        with Session(address, "share") as visitor:
            said = says(visitor, CODE)
            assert "too many wrong codes" in said and "You are the teacher" not in said


def test_one_visitors_code_makes_nobody_else_the_teacher(address):
    with Session(address, "share") as visitor:
        assert any("You are a visitor" in text for text in visitor.texts)


def test_the_code_is_in_no_file_and_no_message(address, place):
    with Session(address, "share") as visitor:
        assert CODE not in json.dumps(visitor.texts)
    for path in place.root.rglob("*"):
        if path.is_file() and path.stat().st_size < 10_000_000:
            assert CODE.encode() not in path.read_bytes(), path
    assert jobs.list_jobs(place) == []
    assert not any(quota.is_pinned(load_run(place, name)) for name in place.names("runs"))


# ---- the Gradio app at /gradio


META = {"meta": {"_type": "gradio.FileData"}}
ENDPOINTS = {"classify": ["", "", ""], "embed_image": [""], "nearest_texts": [3, ""]}


def called(gradio, endpoint, data):
    """How a call by name ends: "complete" or "error", with what came, or the status that refused it."""
    status, said = ask_json(gradio, f"/gradio_api/call/{endpoint}", {"data": data})
    if status != 200:
        return str(status), said.decode()
    _, said = ask(gradio, f"/gradio_api/call/{endpoint}/{json.loads(said)['event_id']}")
    kind, _, data = said.decode().strip().split("\n\n")[-1].partition("\n")
    return kind.removeprefix("event: "), data


def test_no_gradio_function_called_by_its_number_changes_anything(gradio, place):
    before = contents(place)
    config = json.loads(ask(gradio, "/config")[1])
    assert "Flag" not in [part["props"].get("value") for part in config["components"]]
    known = {function["id"]: len(function["inputs"]) for function in config["dependencies"]}
    assert len(known) > 8  # those of the page too, not the four endpoints alone
    picture = {"path": str(next((place.root / "samples").rglob("*.png"), "/etc/passwd")), **META}
    session = uuid.uuid4().hex
    waiting = 0
    for number in (*known, max(known) + 1, 10**9, -1, "0", None):
        for value in (None, "../../x", picture, {"name": "a", "agreement": "b"}):
            body = {"fn_index": number, "data": [value] * known.get(number, 6), "session_hash": session}
            for path in ("queue/join", "run/predict", "run/flag", "api/predict"):
                status, said = ask_json(gradio, f"/gradio_api/{path}", body)
                assert b"Traceback" not in said and str(place.root).encode() not in said, (number, value, path)
                waiting += path == "queue/join" and status == 200
    assert waiting > 0
    ended = ask(gradio, f"/gradio_api/queue/data?session_hash={session}")[1].decode()
    assert ended.count("process_completed") > 0
    assert "Traceback" not in ended and str(place.root) not in ended
    assert contents(place) == before


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_gradio_opens_no_file_of_the_server_and_no_address(gradio, place, temporary, endpoint):
    before = contents(place)
    images = [path for path in (place.root / "samples").rglob("*") if path.suffix in (".png", ".jpg", ".webp")]
    inside = Path(sent(gradio, "mine.png", b"mine")).parents[2]
    with trap() as (elsewhere, asked):
        paths = [*map(str, images[:1]), "/etc/passwd", "/proc/self/environ", "../../../../etc/passwd", "\0", "a" * 9000,
                 str(inside / "alive"), str(inside / "uploads"), f"{inside}/uploads/../../../etc/passwd"]  # fmt: skip
        urls = [f"{elsewhere}/path.png", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd",
                "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "https://example.org/x.png"]  # fmt: skip
        given = [{"path": name} for name in (*paths, *urls)] + [{"url": url} for url in urls]
        given += [{"path": "/etc/passwd", "url": url} for url in urls]
        for one in given:
            kind, said = called(gradio, endpoint, [{**one, **META}, *ENDPOINTS[endpoint]])
            assert kind not in ("complete", "500"), one
            assert "root:" not in said and "Traceback" not in said and CODE not in said
        assert asked == []
    assert images and contents(place) == before


def test_gradio_gives_out_no_file_but_pictures_of_its_page(gradio, place):
    mine = sent(gradio, "mine.png", b"my own picture")
    assert ask(gradio, f"/gradio_api/file={mine}") == (200, b"my own picture")
    folder = Path(mine).parents[1]
    secret = place.root / "cache" / "secret.png"
    secret.write_bytes(b"SECRET WORDS")
    names = ["/etc/passwd", str(secret), str(folder), str(folder.parent), str(folder.parent / "alive"), "", ".",
             f"{folder}/../../../{secret}", f"{folder}/..%2f..%2f..%2f..%2fetc/passwd", "%00", f"{mine}%00", "a" * 5000,
             "file:///etc/passwd", "pyproject.toml", "clipdemo/gradio_app/guard.py", "C:/windows/win.ini"]  # fmt: skip
    ways = ["/gradio_api/file={}", "/gradio_api/file/{}", "/file={}", "/gradio_api//file={}", "/gradio_api/file%3D{}",
            "/static/{}", "/static/../../../../../../../..{}", "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..{}",
            "/assets/../../../../../../../..{}", "/gradio_api/custom_component/x/client/component/{}"]  # fmt: skip
    for way in ways:
        for name in names:
            status, said = ask(gradio, way.format(name))
            assert status in (400, 403, 404, 405, 414, 431), (way, name)
            assert b"root:" not in said and b"SECRET" not in said and b"Traceback" not in said


def sent(gradio, name, data, field="files"):
    """The path on the server of an upload."""
    status, said = ask(gradio, "/gradio_api/upload", form(name, data, field), MULTIPART)
    assert status == 200, said
    return json.loads(said)[0]


@pytest.mark.parametrize("name", ["../../x", "/etc/cron.d/x", "..\\..\\x.zip", "a" * 300 + ".png", "\x00.png", "..", ".",
                                  "con", "%2e%2e%2fx", "~root"])  # fmt: skip
def test_a_gradio_upload_lies_in_its_own_folder_and_nowhere_else(gradio, place, temporary, name):
    folder = Path(sent(gradio, "plain.png", b"plain")).parents[1]
    before, beside = contents(place), {path for path in temporary.rglob("*") if not path.is_relative_to(folder)}
    for field in ("files", "other", "../x"):
        status, said = ask(gradio, "/gradio_api/upload", form(name, b"x", field), MULTIPART)
        assert status in (200, 400) and b"Traceback" not in said
        for path in json.loads(said) if status == 200 else []:
            assert Path(path).resolve().parents[1] == folder.resolve()
    assert {path for path in temporary.rglob("*") if not path.is_relative_to(folder)} == beside
    assert contents(place) == before


def test_two_uploads_of_one_picture_lie_apart(gradio):
    first, second = (sent(gradio, "same.png", b"the same") for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    "path",
    ["gradio_api/proxy={}", "gradio_api/file={}", "gradio_api/file%3D{}", "gradio_api/file/{}",
     "gradio_api/deep_link?session_hash=x", "gradio_api/component_server", "gradio_api/component_server/",
     "gradio_api/process_recording", "monitoring", "monitoring/summary", "monitoring/x", "gradio_api/vibe-edit",
     "gradio_api/vibe-code/", "gradio_api/vibe-starter-queries", "gradio_api/undo-vibe-edit", "gradio_api/dev/reload",
     "gradio_api/runs", "gradio_api/run-history/connect", "gradio_api/stream/x", "gradio_api/stream/x/y/1/playlist-file",
     "gradio_api/mcp/", "gradio_api/profiling/traces", "gradio_api/custom_component/x/client/component/style.css",
     "docs", "openapi.json", "login", "gradio_api/token"],
)  # fmt: skip
def test_gradio_has_no_door_that_nobody_needs(gradio, place, temporary, path):
    before = contents(place)
    sent(gradio, "plain.png", b"plain")
    lies = sorted(temporary.rglob("*"))
    with trap() as (elsewhere, asked):
        path = "/" + path.format(f"{elsewhere}/x.png")
        body = json.dumps(
            {"data": "x", "component_id": 1, "fn_name": "x", "session_hash": "x", "prompt": "x", "code": "x"}
        )
        answers = [
            ask(gradio, path),
            ask(gradio, path, body.encode(), JSON),
            ask(gradio, path, form("x", b"x"), MULTIPART),
        ]
        assert all(status in (403, 404) and b"Traceback" not in said for status, said in answers)
        assert asked == []
    assert sorted(temporary.rglob("*")) == lies and contents(place) == before


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "\0", "..", "a" * 10_000, "comparisons/../x", ["x"], {"a": 1}, 7]
)
def test_a_comparison_is_a_name_and_no_path(gradio, place, name):
    before = contents(place)
    kind, said = called(gradio, "embed_text", ["words", name])
    assert kind != "complete"
    assert "Traceback" not in said and str(place.root) not in said
    address = f"/?comparison={urllib.parse.quote(str(name))}&__theme=x&deep_link=../../x"
    status, said = ask(gradio, address)
    assert status in (200, 404) and b"Traceback" not in said and b"root:" not in said
    assert contents(place) == before


def test_a_stranger_sees_no_answer_of_another_session(gradio):
    mine = uuid.uuid4().hex
    numbers = {one["api_name"]: one["id"] for one in json.loads(ask(gradio, "/config")[1])["dependencies"]}
    call = {"fn_index": numbers["embed_text"], "data": ["words", ""], "session_hash": mine}
    event = json.loads(ask_json(gradio, "/gradio_api/queue/join", call)[1])["event_id"]
    for other in ("", "*", "%00", "../", "null", uuid.uuid4().hex):
        assert event.encode() not in ask(gradio, f"/gradio_api/queue/data?session_hash={other}")[1]
        assert ask_json(gradio, "/gradio_api/cancel", {"session_hash": other, "fn_index": 0, "event_id": "x"})[0] == 200
    assert event.encode() in ask(gradio, f"/gradio_api/queue/data?session_hash={mine}")[1]


@pytest.mark.parametrize("path", ["call/classify", "queue/join", "run/predict", "upload", "cancel", "call/v2/classify"])
def test_a_body_without_end_is_refused_before_it_is_kept(gradio, temporary, path):
    sent(gradio, "plain.png", b"plain")
    lies = sorted(temporary.rglob("*"))
    path, headers = f"/gradio_api/{path}", MULTIPART if path == "upload" else JSON
    assert announced(gradio, path, MAX_BODY_BYTES + 1, headers) == 413
    start = form_head("big.png") if headers is MULTIPART else b'{"data": ["'
    with unending(gradio, path, [start, *[b"a" * 2**20] * (MAX_BODY_BYTES // 2**20 + 1)], headers) as connection:
        assert connection.getresponse().status == 413
    assert sorted(temporary.rglob("*")) == lies


def test_a_picture_that_is_too_large_is_refused_however_it_is_sent(gradio, temporary):
    sent(gradio, "plain.png", b"plain")
    lies = sorted(temporary.rglob("*"))
    parts = [form_head("big.png"), *[b"a" * 2**20] * (MAX_UPLOAD_BYTES // 2**20 + 1)]
    with unending(gradio, "/gradio_api/upload", parts, MULTIPART) as connection:
        assert connection.getresponse().status == 413
    assert ask(gradio, "/gradio_api/upload", b"".join(parts), MULTIPART)[0] == 413
    assert sorted(temporary.rglob("*")) == lies
