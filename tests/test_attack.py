"""What somebody without the code tries on a hosted server: by page, address, websocket and upload. Nothing happens.

The attacker knows every widget of the teacher's pages by id, as ids are made of the program's text, which is public.
"""

import http.client
import json
import urllib.parse
import uuid

import pytest
from streamlit.proto.Common_pb2 import FileUploaderState, UploadedFileInfo

from clipdemo import jobs, quota
from clipdemo.records import MODES, RunConfig
from clipdemo.training.runs import load_run
from tests import workspace_factory as factory
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
def address(place, tmp_path_factory):
    with served(place.root, tmp_path_factory.mktemp("log") / "server.log", **HOSTED) as found:
        yield found


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
    kept = ("samples", "runs", "comparisons", "evaluations", "jobs", "uploads", "sweeps", "interpolations", "queue")
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
        sent = put(address, f"/_stcore/upload_file/{visitor.id}/{file_id}", name, b"image,label\nx.png,chest\n")
        assert sent in (200, 204, 400, 403, 404)
        state = FileUploaderState()
        state.uploaded_file_info.append(UploadedFileInfo(file_id=file_id, name=name.replace("\x00", ""), size=24))
        if uploader:
            visitor.set(uploader.id, file_uploader_state_value=state)
        for widget in widgets["data"]:
            if widget.label in ("Draw the sample", "Look first"):
                visitor.set(widget.id, trigger_value=True)
    assert contents(place) == before


def put(address, path, name, data):
    """Sends a file as the browser does; the status."""
    boundary = "xxxxxxxx"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode("utf-8", "replace") + data + f"\r\n--{boundary}--\r\n".encode()
    where = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.request(
        "PUT", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": address}
    )
    return connection.getresponse().status


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
