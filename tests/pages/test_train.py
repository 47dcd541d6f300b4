import pytest

from clipdemo.jobs import load_job
from clipdemo.presets import enough_epochs
from clipdemo.queues import default_device, enqueue, waiting
from clipdemo.records import MODES, RunConfig, Step, paper_learning_rate
from clipdemo.training import estimate
from clipdemo.training.runs import load_run
from clipdemo.ui import state
from tests import workspace_factory as factory
from tests.pages.reading import text_of


@pytest.fixture
def full(workspace):
    """A sample with a finished run of each kind."""
    sample = factory.make_sample(workspace)
    for mode in MODES:
        factory.make_run(workspace, sample, RunConfig(mode=mode))
    return sample


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
    assert arguments == ["--mode", "labels", "--sample", full.id, "--seed", "0", "--epochs", "2"]
    assert settings["sample_id"] == full.id
    assert RunConfig(**settings["runs"][0]) == RunConfig(mode="labels", epochs=2)


def test_the_papers_rate_follows_the_batch_size(open_page, full):
    app = open_page("train")
    field(app, "Batch size").set_value(128).run()
    assert "128 / 32,768" in text_of(app)
    next(b for b in app.button if b.label == "Use the paper’s rate").click().run()
    assert app.session_state[state.LEARNING_RATE] == pytest.approx(paper_learning_rate(128))
    assert field(app, "Learning rate").value == pytest.approx(paper_learning_rate(128))


def more_settings(app, shown=True):
    app.session_state[state.MORE] = shown
    return app.run()


def test_settings_that_cannot_work_are_one_line_and_nothing_starts(open_page, full, launched):
    app = more_settings(open_page("train"))
    next(t for t in app.text_input if t.label == "Sentence made of a label").set_value("no place for it").run()
    assert "template" in app.error[0].value
    assert start(app).disabled
    assert launched == []


def test_settings_that_were_opened_and_changed_still_count_when_they_are_closed(open_page, full, launched):
    app = more_settings(open_page("train"))
    field(app, "Weight decay").set_value(0.7).run()
    app = more_settings(app, shown=False)
    assert not [number for number in app.number_input if number.label == "Weight decay"]
    start(app).click().run()
    assert RunConfig(**launched[0][2]["runs"][0]).weight_decay == 0.7


def test_past_runs_show_best_epoch_and_validation(open_page, full):
    app = open_page("train")
    table = app.dataframe[0].value
    assert dict(zip(table["Pairs"], table["Validation top-1"], strict=True)) == {"captions": 50.0, "labels": 75.0}
    assert table["Best epoch"].tolist() == [4, 4]
    assert "n = 12 validation pictures" in text_of(app)
    assert len(app.get("echarts_chart")) == 2


def test_a_running_job_is_found_again(open_page, full, workspace):
    config = RunConfig(mode="labels")
    settings = {"sample_id": full.id, "runs": [config.model_dump(mode="json")]}
    lock = factory.keep_alive(factory.make_job(workspace, "train", settings, {"labels": (15, 60)}))
    app = open_page("train")
    lock.release()
    assert "Fine-tuning is running" in text_of(app)
    assert "left" in app.get("progress")[0].proto.text


def press(app, label):
    return next(b for b in app.button if b.label == label).click().run()


def test_both_kinds_of_pairs_start_as_two_jobs_one_after_another(open_page, full, launched, workspace):
    app = open_page("train")
    app.segmented_control[0].set_value("both").run()
    start(app).click().run()
    assert [arguments[:2] for _, arguments, _ in launched] == [["--mode", "captions"], ["--mode", "labels"]]
    assert [ticket.job for ticket in waiting(workspace)] == sorted(ticket.job for ticket in waiting(workspace))
    assert "Waiting: 2" in [e.label for e in app.expander]


def test_a_waiting_job_can_be_moved_and_cancelled(open_page, full, launched, workspace):
    app = open_page("train")
    app.segmented_control[0].set_value("both").run()
    app = start(app).click().run()
    first, second = [ticket.job for ticket in waiting(workspace)]
    app = press(app, "down")
    assert [ticket.job for ticket in waiting(workspace)] == [second, first]
    press(app, "cancel")
    assert load_job(workspace, second).asked_to_stop == "pause"


@pytest.mark.parametrize(("recipe", "epochs", "patience"), [("quick", 2, 0), ("thorough", 16, 3)])
def test_a_recipe_sets_epochs_and_patience(open_page, full, recipe, epochs, patience):
    app = open_page("train")
    next(s for s in app.selectbox if s.label == "Recipe").set_value(recipe).run()
    assert (field(app, "Epochs").value, field(app, "Patience").value) == (epochs, patience)


def test_a_setting_that_ruins_runs_is_warned_about_but_not_forbidden(open_page, full, launched):
    app = open_page("train")
    field(app, "Learning rate").set_value(0.01).run()
    assert "usually destroys" in app.warning[0].value
    start(app).click().run()
    assert len(launched) == 1


def select(app, row):
    app.session_state["runs"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return app.run()


def test_a_selected_run_can_be_renamed_continued_and_deleted(open_page, full, launched, workspace):
    app = select(open_page("train"), 0)
    chosen = app.dataframe[0].value["Run"][0]
    next(t for t in app.text_input if t.label == "Name").set_value("the *good* one").run()
    assert load_run(workspace, chosen).name == "the *good* one"
    assert "the *good* one" in app.dataframe[0].value["Run"].tolist()
    press(select(app, 0), "A bit longer")
    ((command, arguments, settings),) = launched
    assert (command, arguments) == ("extend", [chosen, "--epochs", "2"])
    assert settings["runs"][0]["continues"] == chosen
    press(select(open_page("train"), 0), "Delete the run for good")
    assert chosen not in workspace.names("runs")


def test_the_settings_of_a_run_can_be_copied_into_the_form(open_page, full, launched, workspace):
    factory.make_run(workspace, full, RunConfig(mode="labels", epochs=7, batch_size=24, patience=2, averaging=0.5))
    app = open_page("train")
    row = app.dataframe[0].value["Epochs"].tolist().index(7)
    app = more_settings(press(select(app, row), "Copy its settings"))
    assert [field(app, name).value for name in ("Epochs", "Batch size", "Patience", "Averaging")] == [7, 24, 2, 0.5]
    start(app).click().run()
    assert RunConfig(**launched[0][2]["runs"][0]).epochs == 7


def test_a_run_that_failed_says_why(open_page, full, workspace):
    settings = {"sample_id": full.id, "runs": []}
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


# ---- what a run will take


MEASURED = estimate.Estimate(
    device="cpu", device_name="made-up", precision="float32", chunk_size=64, epochs=1, interpolation=False,
    epoch_steps=10, opening_seconds=4.0, step_seconds=0.5, validation_seconds=1.0, saving_seconds=0.5,
    memory_bytes=1_500_000_000, device_bytes=8_000_000_000, steps_measured=4,
)  # fmt: skip


def remember(workspace, sample, config, found=MEASURED):
    path = estimate._path(config, sample, workspace)
    path.parent.mkdir(exist_ok=True)
    path.write_text(found.model_dump_json())


def measure(app):
    return next((b for b in app.button if b.label == "Measure on this device"), None)


def test_time_is_that_of_an_earlier_run_and_memory_can_be_measured(open_page, full, launched):
    app = open_page("train")
    assert "About 2 min 00 s, as long as the last run like it took an epoch" in text_of(app)
    measure(app).click().run()
    ((command, arguments, settings),) = launched
    assert command == "estimate"
    assert arguments[:4] == ["--mode", "captions", "--sample", full.id]
    assert settings["sample_id"] == full.id


def test_a_measurement_tells_time_and_memory_of_the_settings_in_the_form(open_page, full, workspace):
    remember(workspace, full, RunConfig(mode="captions", batch_size=16))
    app = open_page("train")
    field(app, "Batch size").set_value(16)
    field(app, "Epochs").set_value(3).run()
    # 4 s to open, 1 s of validation, 3 x (10 steps of 0.5 s, 1 s of validation, 0.5 s of saving)
    assert "About 24 s, as a few of its steps took" in text_of(app)
    assert "At most 1.5 of 8 GB of memory, measured on cpu (made\\-up)" in text_of(app)
    assert measure(app) is None
    field(app, "Batch size").set_value(17).run()
    assert "as a few of its steps took" not in text_of(app)
    assert not measure(app).disabled


def test_nothing_is_measured_while_a_job_wants_the_device(open_page, full, workspace):
    job = factory.make_job(workspace, "train", {"sample_id": full.id, "runs": []})
    enqueue(workspace, job, default_device())
    with factory.keep_alive(job):
        assert measure(open_page("train")).disabled


def test_a_measurement_that_is_going_says_where_it_is(open_page, full, workspace):
    settings = {"sample_id": full.id, "runs": [RunConfig(mode="captions").model_dump(mode="json")]}
    job = factory.make_job(workspace, "estimate", settings, {"estimate": (2, 5)})
    with factory.keep_alive(job):
        app = open_page("train")
    assert "Measuring: made\\-up note" in text_of(app)
    assert measure(app) is None and not start(app).disabled


def test_a_measurement_that_failed_says_why_and_can_be_tried_again(open_page, full, workspace):
    config = RunConfig(mode="captions", epochs=enough_epochs(full.sizes["train"]))
    settings = {"sample_id": full.id, "runs": [config.model_dump(mode="json")]}
    factory.make_job(workspace, "estimate", settings, result={"state": "failed", "message": "memory ran out"})
    app = open_page("train")
    assert "It could not be measured: memory ran out" in text_of(app)
    assert not measure(app).disabled


# ---- curves that follow a run


def test_curves_stay_as_they_are_while_one_does_not_follow(open_page, full, workspace):
    config = RunConfig(mode="labels", seed=5)
    run = factory.make_run(workspace, full, config, finished=False)
    settings = {"sample_id": full.id, "runs": [config.model_dump(mode="json")]}
    with factory.keep_alive(factory.make_job(workspace, "train", settings, {"labels": (15, 60)})):
        app = open_page("train")
        toggle = next(t for t in app.toggle if t.label == "Follow live")
        assert toggle.value
        toggle.set_value(False).run()
        before = charts(app)
        line = Step(step=44, epoch=4.4, seconds=22, training_loss=0.5, learning_rate=1e-4)
        with (run.folder / "metrics.jsonl").open("a") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")
        app.run()
        assert charts(app) == before
        assert "labels: drawn to step 40, now at step 44 (epoch 4.4)" in text_of(app)
        next(t for t in app.toggle if t.label == "Follow live").set_value(True).run()
        assert charts(app) != before
        assert "drawn to step" not in text_of(app)


def charts(app):
    return [chart.proto.SerializeToString() for chart in app.get("echarts_chart")]
