import io
import zipfile

import pytest

from clipdemo.records import RunConfig
from tests import workspace_factory as factory
from tests.pages.reading import text_of


@pytest.fixture
def run(workspace):
    return factory.make_real_run(workspace, factory.make_sample(workspace), RunConfig(mode="labels"))


def button(app, label):
    return next(b for b in app.button if b.label == label)


def test_on_a_laptop_everybody_may_do_everything(open_page):
    app = open_page("share")
    assert not app.exception and "It is your own" in text_of(app)
    assert "There is no finished run yet" in text_of(app)


def test_a_run_is_prepared_as_a_folder_that_open_clip_loads(open_page, run):
    app = open_page("share")
    button(app, "Prepare the download").click().run()
    assert not app.exception and not app.error
    name, kind, packed = app.session_state["export"]
    assert (name, kind) == (run.id, "model")
    members = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert f"model-{run.id}/open_clip_config.json" in members
    assert any(member.endswith("README.md") for member in members)


def test_hosted_a_visitor_sees_who_may_and_exports_nothing(open_page, run, monkeypatch):
    monkeypatch.setenv("CLIPDEMO_HOSTED", "1")
    app = open_page("share")
    assert not app.exception and "You are a visitor" in text_of(app)
    assert "Prepare the download" not in [b.label for b in app.button]
    assert "Nobody can sign in" in text_of(app)


def test_the_right_code_makes_this_session_the_teacher(open_page, run, monkeypatch):
    monkeypatch.setenv("CLIPDEMO_HOSTED", "1")
    monkeypatch.setenv("CLIPDEMO_TEACHER_CODE", "correct horse")
    app = open_page("share")
    app.text_input[0].set_value("wrong")
    button(app, "Enter").click().run()
    assert "This is not the code" in app.error[0].value
    app.text_input[0].set_value("correct horse")
    button(app, "Enter").click().run()
    assert not app.exception and "You are the teacher" in text_of(app)
    assert "Prepare the download" in [b.label for b in app.button]
    button(app, "Be a visitor again").click().run()
    assert "You are a visitor" in text_of(app)


def test_the_projector_switch_rides_in_the_address(open_page):
    app = open_page("share", projector="1")
    assert app.toggle[0].value
    app.toggle[0].set_value(False).run()
    assert app.query_params["projector"] == "0" and not app.exception


def test_a_server_without_a_provider_says_so(open_page, monkeypatch):
    monkeypatch.setenv("CLIPDEMO_HOSTED", "1")
    monkeypatch.setenv("CLIPDEMO_TEACHERS", "ada")
    app = open_page("share")
    button(app, "Sign in").click().run()
    assert not app.exception and "not set up for signing in" in app.error[0].value
