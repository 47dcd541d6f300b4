import pytest

from clipdemo.embeddings import model_id
from clipdemo.models import open_model
from clipdemo.neighbours import neighbourhood
from clipdemo.progress import finish
from clipdemo.records import BUILT_IN_BASE, RunConfig
from tests import workspace_factory as factory
from tests.pages.reading import text_of


@pytest.fixture
def sample(workspace):
    return factory.make_sample(workspace)


@pytest.fixture
def indexed(workspace, sample):
    """A sample that the built-in base has looked at."""
    clip = open_model()
    finish(neighbourhood(clip, model_id(None, BUILT_IN_BASE), sample, workspace))
    return sample


def button(app, label):
    return next(b for b in app.button if b.label == label)


def test_empty_workspace_sends_one_to_the_data(open_page):
    app = open_page("explore")
    assert not app.exception and not app.error
    assert "There is no sample to explore yet" in text_of(app)


def test_models_that_have_not_looked_yet_are_sent_to_look(open_page, sample, launched, workspace):
    run = factory.make_real_run(workspace, sample, RunConfig(mode="labels"))
    app = open_page("explore")
    assert "2 of 2 models have not looked at this sample yet" in text_of(app)
    button(app, "Let them look").click().run()
    assert [arguments for _, arguments, _ in launched] == [
        ["build", "--sample", sample.id, "--base", "builtin"],
        ["build", "--sample", sample.id, "--run", run.id],
    ]


def test_a_picture_stands_beside_its_nearest_texts_with_its_own_rank(open_page, indexed):
    app = open_page("explore")
    assert not app.exception and not app.error
    text = text_of(app)
    assert "1 of 12 pictures" in text  # of the test split
    assert "of 60" in text and "Its own caption is number" in text
    assert "Nearest pictures" in text
    first = app.query_params["picture"]
    button(app, "Next").click().run()
    assert app.query_params["picture"] != first
    button(app, "Previous").click().run()
    assert app.query_params["picture"] == first


def test_the_address_brings_one_back_to_a_picture(open_page, indexed):
    name = indexed.rows("test")["id"].iloc[5]
    app = open_page("explore", picture=name)
    assert "6 of 12 pictures" in text_of(app)


@pytest.mark.parametrize("name", ["nothing", "![x](http://example.invalid)"])
def test_an_unknown_picture_in_the_address_shows_the_first(open_page, indexed, name):
    app = open_page("explore", picture=name)
    assert not app.exception and "1 of 12 pictures" in text_of(app)


def test_words_find_pictures(open_page, indexed):
    app = open_page("explore")
    app.segmented_control[0].set_value("words").run()
    next(t for t in app.text_input if t.label == "Words").set_value("a bright disc").run()
    assert not app.exception and not app.error
    scores = [float(caption.value.split()[0]) for caption in app.caption if caption.value[:2] in ("0.", "-0")]
    assert len(scores) == 8 and scores == sorted(scores, reverse=True)


def test_a_broken_picture_of_ones_own_is_one_line(open_page, indexed):
    app = open_page("explore")
    app.segmented_control[0].set_value("own").run()
    app.file_uploader[0].set_value([("x.png", b"not a picture", "image/png")]).run()
    assert not app.exception and len(app.error) == 1
