import json

import pytest

from tests import workspace_factory as factory
from tests.pages.reading import text_of


def metrics(app):
    return {metric.label: metric.value for metric in app.metric}


def button(app, label):
    return next((b for b in app.button if b.label == label), None)


def test_empty_workspace_offers_the_button_and_counts_nothing(open_page):
    app = open_page("home")
    assert not app.exception and not app.error
    assert button(app, "Run the whole experiment") is not None
    assert metrics(app) == {"Samples": "0", "Runs": "0", "Comparisons": "0"}
    assert "synthetic" in text_of(app)


def test_the_button_launches_the_experiment_with_size_and_seed(open_page, launched):
    app = open_page("home")
    next(n for n in app.number_input if n.label == "Seed").set_value(3)
    button(app, "Run the whole experiment").click().run()
    ((command, arguments, settings),) = launched
    assert command == "experiment"
    assert arguments == ["--source", "phantom", "--samples", "1024", "--seed", "3"]
    assert [run["mode"] for run in settings["runs"]] == ["captions", "labels"]
    assert {run["seed"] for run in settings["runs"]} == {3}
    assert "is starting" in text_of(app)
    assert app.query_params["job"]


def test_another_size_is_asked_for_in_pictures(open_page, launched):
    app = open_page("home")
    app.segmented_control[0].set_value("Another size").run()
    next(n for n in app.number_input if n.label == "Pictures").set_value(256).run()
    button(app, "Run the whole experiment").click().run()
    assert launched[0][1][3] == "256"


def test_a_finished_experiment_shows_three_numbers_with_their_n(open_page, full):
    app = open_page("home")
    text = text_of(app)
    assert "finished after 2 min 31 s" in text
    for number in ("25.0 %", "50.0 %", "75.0 %", "+50.0 points against base", "n = 12 test pictures"):
        assert number in text
    assert metrics(app)["Comparisons"] == "1"


@pytest.fixture
def running(workspace):
    sample = factory.make_sample(workspace)
    settings = factory.experiment_settings(sample)
    job = factory.make_job(workspace, "experiment", settings, {"sample": (60, 60), "captions": (15, 60)})
    lock = factory.keep_alive(job)
    yield job
    lock.release()


def test_a_second_visitor_finds_the_running_experiment_and_no_second_button(open_page, running):
    app = open_page("home")
    text = text_of(app)
    assert "The experiment is running" in text
    assert "Fine-tune on labels" in text
    assert button(app, "Run the whole experiment") is None


def test_stop_is_passed_on_to_the_job(open_page, running):
    app = open_page("home")
    button(app, "Stop").click().run()
    assert (running.folder / "stop").exists()
    assert "is stopping" in text_of(app.run())


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ({"state": "stopped", "message": "stopped as asked"}, "was stopped after 2 min 31 s"),
        ({"state": "failed", "message": "no space *left*"}, r"failed: no space \*left\*"),
        (None, "was interrupted"),
    ],
)
def test_every_other_end_is_said_in_plain_words_and_the_button_is_back(open_page, workspace, result, says):
    sample = factory.make_sample(workspace)
    factory.make_job(workspace, "experiment", factory.experiment_settings(sample), result=result)
    app = open_page("home")
    assert says in text_of(app)
    assert button(app, "Run the whole experiment") is not None
    if result is None or result["state"] == "failed":
        assert "last line of a made-up log" in app.code[0].value


@pytest.mark.parametrize(
    "written", ["", "{", "[]", "{}", '{"command": "experiment"}', '{"created": "x", "settings": 3}']
)
def test_a_half_written_job_breaks_nothing(open_page, workspace, written):
    folder = workspace.folder("jobs", "20990101-000000-000000000-experiment")
    folder.mkdir()
    (folder / "job.json").write_text(written)
    app = open_page("home")
    assert not app.exception and not app.error
    assert button(app, "Run the whole experiment") is not None


@pytest.mark.parametrize("name", ["progress.json", "result.json"])
@pytest.mark.parametrize("written", ["{", "[1]", '{"sample": {"done": "many"}}'])
def test_a_damaged_file_of_a_job_breaks_nothing(open_page, workspace, full, name, written):
    job = factory.make_job(workspace, "experiment", json.loads("{}"))
    (job.folder / name).write_text(written)
    app = open_page("home")
    assert not app.exception
    assert button(app, "Run the whole experiment") is not None


@pytest.mark.parametrize("job", ["nothing-of-that-name", "../../etc/passwd", "%00", "[x](http://x)"])
def test_an_unknown_job_in_the_address_is_one_line(open_page, full, job):
    app = open_page("home", job=job)
    assert len(app.error) == 1 and not app.exception
    assert "25.0 %" in text_of(app)  # the rest of the page goes on


def test_a_workspace_that_cannot_be_written_is_one_line(open_page, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CLIPDEMO_WORKSPACE", str(tmp_path / "file" / "workspace"))
    app = open_page("home")
    assert [("cannot write to" in e.value) for e in app.error] == [True]
    assert not app.exception
