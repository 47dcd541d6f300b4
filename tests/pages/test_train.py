import pytest

from clipdemo.records import RunConfig, paper_learning_rate
from clipdemo.ui import state
from tests import workspace_factory as factory
from tests.pages.reading import text_of


def field(app, label):
    return next(n for n in app.number_input if n.label == label)


def start(app):
    return next(b for b in app.button if b.label == "Start fine-tuning")


def test_empty_workspace_sends_one_to_data(open_page):
    app = open_page("train")
    assert not app.exception and not app.error
    assert "There is no sample to train on yet" in text_of(app)
    assert [link.proto.page for link in app.get("page_link")] == ["data"]


def test_launching_passes_the_settings_on(open_page, full, launched):
    app = open_page("train")
    app.segmented_control[0].set_value("labels")
    field(app, "Epochs").set_value(2).run()
    start(app).click().run()
    ((command, arguments, settings),) = launched
    assert command == "train"
    assert arguments == ["--mode", "labels", "--sample", full.sample, "--seed", "0", "--epochs", "2"]
    assert settings["sample_id"] == full.sample
    assert RunConfig(**settings["runs"][0]) == RunConfig(mode="labels", epochs=2)


def test_the_papers_rate_follows_the_batch_size(open_page, full):
    app = open_page("train")
    field(app, "Batch size").set_value(128).run()
    assert "128 / 32,768" in text_of(app)
    next(b for b in app.button if b.label == "Use the paper’s rate").click().run()
    assert app.session_state[state.LEARNING_RATE] == pytest.approx(paper_learning_rate(128))
    assert field(app, "Learning rate").value == pytest.approx(paper_learning_rate(128))


def test_settings_that_cannot_work_are_one_line_and_nothing_starts(open_page, full, launched):
    app = open_page("train")
    next(t for t in app.text_input if t.label == "Sentence made of a label").set_value("no place for it").run()
    assert "template" in app.error[0].value
    assert start(app).disabled
    assert launched == []


def test_past_runs_show_best_epoch_and_validation(open_page, full):
    app = open_page("train")
    table = app.dataframe[0].value
    assert dict(zip(table["Pairs"], table["Validation top-1"], strict=True)) == {"captions": 50.0, "labels": 75.0}
    assert table["Best epoch"].tolist() == [4, 4]
    assert "n = 12 validation pictures" in text_of(app)
    assert len(app.get("echarts_chart")) == 2


def test_a_running_job_is_found_again_and_only_one_may_run(open_page, full, workspace):
    config = RunConfig(mode="labels")
    settings = {"sample_id": full.sample, "runs": [config.model_dump(mode="json")]}
    lock = factory.keep_alive(factory.make_job(workspace, "train", settings, {"labels": (15, 60)}))
    app = open_page("train")
    lock.release()
    assert "Fine-tuning is running" in text_of(app)
    assert "left" in app.get("progress")[0].proto.text
    assert start(app).disabled


def test_a_run_that_failed_says_why(open_page, full, workspace):
    settings = {"sample_id": full.sample, "runs": []}
    factory.make_job(
        workspace, "train", settings, result={"state": "failed", "message": "the training loss became nan"}
    )
    assert "the training loss became nan" in text_of(open_page("train"))


def test_a_damaged_run_is_named_and_the_others_are_shown(open_page, full, workspace):
    broken = workspace.folder("runs", "broken-run")
    broken.mkdir()
    (broken / "config.json").write_text("{")
    app = open_page("train")
    assert not app.exception and not app.error
    assert len(app.dataframe[0].value) == 2
    assert "broken" in text_of(app)


@pytest.mark.parametrize("sample", ["../../etc", "no-such-sample"])
def test_an_unknown_sample_in_the_address_is_one_line(open_page, full, sample):
    app = open_page("train", sample=sample)
    assert len(app.error) == 1 and not app.exception
