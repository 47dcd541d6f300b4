import pytest

from clipdemo.classify import classify, open_classifier
from clipdemo.comparison import measure
from clipdemo.drop import dropped_picture
from clipdemo.examples import drawn_examples
from clipdemo.progress import finish
from clipdemo.records import MODES, RunConfig, percent
from tests import workspace_factory as factory
from tests.fuzz import zip_of
from tests.pages.reading import text_of


@pytest.fixture
def real(workspace):
    """Three models that open, the tuned ones never trained."""
    sample = factory.make_sample(workspace)
    runs = [factory.make_real_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES]
    return finish(measure(sample, workspace, runs))


def picture(sample_or_workspace, comparison):
    return next(iter(drawn_examples(sample_or_workspace, comparison.id, 1).items()))


def drop(app, *files):
    app.file_uploader[0].set_value([(name, data, "image/png") for name, data in files]).run()
    return app


def test_an_empty_workspace_lets_the_built_in_base_answer(open_page, workspace):
    app = open_page("classify")
    assert not app.exception and not app.error
    text = text_of(app)
    assert "not for diagnosis" in text and "the built-in base model answers alone" in text
    name, data = next(iter(drawn_examples(workspace, None, 1).items()))
    drop(app, (name, data))
    assert not app.exception and not app.error
    assert any("says" in heading.value for heading in app.subheader)


def test_the_page_shows_the_numbers_of_the_library(open_page, workspace, real):
    name, data = picture(workspace, real)
    app = drop(open_page("classify"), (name, data))
    assert not app.exception and not app.error
    classifier = finish(open_classifier(workspace, real))
    [result] = classify(classifier, [dropped_picture(data, name, classifier.sizes)])
    assert result.agreement.split(" (")[0] in " ".join(h.value.replace("\\", "") for h in app.subheader)
    bars = [bar.text if hasattr(bar, "text") else bar.proto.text for bar in app.get("progress")]
    wanted = [percent(ranked.probability, 0) for answer in result.answers for ranked in answer.labels]
    assert len(bars) == len(wanted) == 9
    for bar, share in zip(bars, wanted, strict=True):
        assert share.replace(" ", "") in bar.replace("\u00a0", "").replace("\u202f", "").replace(" ", "")


def test_a_picture_that_is_none_is_named_with_its_reason(open_page, real):
    app = drop(open_page("classify"), ("x.png", b"not a picture"))
    assert not app.exception and len(app.error) == 1 and "x.png" in app.error[0].value.replace("\\", "")


def test_a_zip_of_labelled_pictures_becomes_a_table_with_accuracy(open_page, workspace, real):
    examples = drawn_examples(workspace, real.id, 4)
    packed = zip_of(
        {f"{name.removesuffix('.png')}/1.png": data for name, data in examples.items()} | {"broken.png": b"nothing"}
    )
    app = drop(open_page("classify"), ("class.zip", packed))
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) == 4 and table["picture"].str.startswith("data:image/jpeg").all()
    assert any("of 4 as their names say" in caption.value for caption in app.caption)
    assert "broken.png" in app.error[0].value.replace("\\", "")


def test_a_row_of_the_table_opens_its_answers(open_page, workspace, real):
    files = list(drawn_examples(workspace, real.id, 3).items())
    app = drop(open_page("classify"), *files)
    assert not any("say" in heading.value for heading in app.subheader)
    app.session_state["answers all []"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    app.run()
    assert not app.exception
    assert any(files[1][0] in caption.value.replace("\\", "") for caption in app.caption)
    assert any("say" in heading.value for heading in app.subheader)


def test_own_labels_ride_in_the_address_and_answer_at_once(open_page, workspace, real):
    app = open_page("classify", labels="a cat, a dog")
    drop(app, picture(workspace, real))
    assert not app.exception and not app.error
    assert any("cat" in heading.value or "dog" in heading.value for heading in app.subheader)
    assert app.query_params["labels"] == "a cat, a dog"


@pytest.mark.parametrize(("labels", "says"), [("cat", "give 2 to"), ("cat, CAT", "there twice"), ("a,,b", "is empty")])
def test_labels_that_cannot_work_are_said(open_page, real, labels, says):
    app = open_page("classify", labels=labels)
    assert not app.exception and says in app.error[0].value.replace("\\", "")


def test_an_example_is_asked_by_a_click(open_page, workspace, real):
    app = open_page("classify")
    app.segmented_control[0].set_value("example").run()
    next(button for button in app.button if button.label == "Ask").click().run()
    assert not app.exception and any("say" in heading.value for heading in app.subheader)


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_the_page_shows_where_each_model_looked(open_page, workspace, real, method):
    app = drop(open_page("classify"), picture(workspace, real))
    next(toggle for toggle in app.toggle if toggle.label == "Where they looked").set_value(True).run()
    next(c for c in app.segmented_control if c.label == "Map").set_value(method).run()
    assert not app.exception and not app.error
    assert len(app.session_state["heat_maps"]) == (3 if method == "gradient" else 6)


def test_nothing_of_a_drop_is_written_into_the_workspace(open_page, workspace, real):
    app = open_page("classify")
    before = sorted(str(path) for path in workspace.root.rglob("*"))
    drop(app, picture(workspace, real))
    assert sorted(str(path) for path in workspace.root.rglob("*")) == before
