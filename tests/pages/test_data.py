import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from clipdemo.images import encode_png
from clipdemo.progress import finish
from clipdemo.records import SampleConfig
from clipdemo.sampling import sample_id
from clipdemo.survey import survey_source
from clipdemo.ui.data import matching
from tests import workspace_factory as factory
from tests.pages.reading import text_of
from tests.tiny_source import blotches


def field(app, label):
    return next(n for n in app.number_input if n.label == label)


def draw(app):
    return next(b for b in app.button if b.label == "Draw the sample").click().run()


def test_empty_workspace_says_what_to_do(open_page):
    app = open_page("data")
    assert not app.exception and not app.error
    assert "There is no sample yet" in text_of(app)


def test_drawing_launches_a_job_with_the_settings(open_page, launched):
    app = open_page("data")
    field(app, "Pictures").set_value(256)
    field(app, "Rows of the source").set_value(5000)
    next(s for s in app.slider if s.label == "Wrong labels").set_value(0.1)
    draw(app)
    ((command, arguments, settings),) = launched
    assert command == "sample"
    assert arguments == [
        *("--source", "phantom", "--samples", "256", "--seed", "0"),
        *("--rows", "5000", "--wrong-labels", "0.1"),
    ]
    assert settings["sample"]["options"] == {"rows": 5000, "wrong_labels": 0.1}


def test_settings_that_cannot_work_are_said_before_anything_starts(open_page, launched):
    app = open_page("data")
    field(app, "Train fraction").set_value(0.9)
    draw(app)
    assert "must add up to 1" in app.error[0].value
    assert launched == []


def test_a_sample_that_exists_is_shown_instead_of_drawn(open_page, launched, workspace):
    sample = factory.make_sample(workspace)
    assert sample.id == sample_id(SampleConfig(samples=60, train=0.6, validation=0.2, test=0.2))
    factory.make_sample(workspace, seed=5)
    app = open_page("data")
    field(app, "Pictures").set_value(60)
    for name, value in (("Train", 0.6), ("Validation", 0.2), ("Test", 0.2)):
        field(app, f"{name} fraction").set_value(value)
    draw(app)
    assert launched == []
    assert app.query_params["sample"] == sample.id


def choose_source(app, source):
    next(s for s in app.segmented_control if s.label == "Source").set_value(source).run()
    return app


def press(app, label):
    return next(b for b in app.button if b.label == label).click().run()


def send(app, *files):
    app.get("file_uploader")[0].set_value(list(files))
    return app.run()


def archive(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for i, name in enumerate(names):
            out.writestr(name, encode_png(blotches(i)))
    return buffer.getvalue()


ANIMALS = archive(*[f"animals/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(12)])


def test_an_archive_that_was_sent_becomes_a_source_of_this_machine(open_page, launched, workspace):
    app = send(choose_source(open_page("data"), "folder"), ("animals.zip", ANIMALS, "application/zip"))
    press(app, "Draw the sample")
    ((command, arguments, settings),) = launched
    path = Path(settings["sample"]["options"]["path"])
    assert command == "sample" and arguments[:2] == ["--source", "folder"]
    assert path.read_bytes() == ANIMALS and workspace.root in path.parents
    assert settings["sample"]["fingerprint"]


def test_a_source_without_its_files_says_what_to_do(open_page, launched):
    app = choose_source(open_page("data"), "folder")
    assert all(b.disabled for b in app.button if b.label in ("Draw the sample", "Look first"))
    app = press(choose_source(open_page("data"), "hub"), "Look first")
    assert launched == [] and "dataset = ''" in app.error[0].value.replace("\\", "")


def test_a_path_that_is_not_there_is_named(open_page, launched):
    app = choose_source(open_page("data"), "pubmedvision")
    next(s for s in app.segmented_control if s.label == "Where it is").set_value("On this machine").run()
    next(t for t in app.text_input if t.label == "Path").set_value("/no/such/folder").run()
    app = press(app, "Draw the sample")
    assert launched == [] and "there is no such file or folder" in app.error[0].value


def test_a_table_needs_exactly_one_table_among_what_was_sent(open_page):
    app = choose_source(open_page("data"), "table")
    app = send(app, ("a.csv", b"x", "text/csv"), ("b.csv", b"y", "text/csv"))
    assert "2 tables" in app.warning[0].value


def test_a_look_is_shown_with_its_cost_and_columns(open_page, launched, workspace, tmp_path):
    table = tmp_path / "pictures.csv"
    rows = [f"{i}.png,caption {i},{('cat', 'dog')[i % 2]},p{i // 2},{i}" for i in range(24)]
    table.write_text("\n".join(["image,caption,label,patient,age", *rows]))
    for i in range(24):
        (tmp_path / f"{i}.png").write_bytes(encode_png(blotches(i)))
    app = choose_source(open_page("data"), "table")
    next(s for s in app.segmented_control if s.label == "Where it is").set_value("On this machine").run()
    next(t for t in app.text_input if t.label == "Path").set_value(str(table)).run()
    app = press(app, "Look first")
    ((command, _, settings),) = launched
    assert command == "look"
    finish(survey_source(SampleConfig(**settings["sample"]), workspace))
    app.run()
    said = text_of(app)
    assert "What is in it" in said and "Time for 24" in said
    assert "label: **label**" in said and "not used: age" in said
    column = next(s for s in app.selectbox if s.label == "Label column")
    assert column.options[1:] == ["image", "caption", "label", "patient", "age", "none"]


def test_a_sample_is_deleted_for_good_after_a_second_click(open_page, full, workspace):
    app = open_page("data", sample=full.sample)
    assert "2 runs and 1 comparisons were made with it" in text_of(app)
    press(app, "Delete it for good")
    assert workspace.names("samples") == [] and len(workspace.names("runs")) == 2


def test_the_whole_experiment_starts_from_a_sample(open_page, full, launched):
    press(open_page("data", sample=full.sample), "Run the whole experiment on it")
    ((command, arguments, settings),) = launched
    assert command == "experiment" and "--samples" in arguments
    assert [run["mode"] for run in settings["runs"]] == ["captions", "labels"]


def test_full_workspace_shows_sizes_report_and_pictures(open_page, full):
    app = open_page("data")
    assert not app.exception and not app.error
    assert {m.label: m.value for m in app.metric} == {
        "Classes": "12", "Train pictures": "36", "Validation pictures": "12", "Test pictures": "12"
    }  # fmt: skip
    assert "60 of 60 pictures" in text_of(app)
    assert "synthetic" in text_of(app)
    assert "Foot (2)" in app.warning[0].value.replace("\\", "")


def test_the_cleaning_report_adds_up_on_the_page(open_page, full):
    table = open_page("data").dataframe[0].value
    rows = table["Rows"].tolist()
    assert rows[0] == rows[-1] == sum(rows[1:-1]) == 1000


def test_captions_are_shown_as_they_are(open_page, full):
    captions = [c.value for c in open_page("data").caption]
    assert any(r"\*disc\*" in c and r"\[nothing\]" in c for c in captions)


def test_filters_narrow_the_gallery_and_pages_turn(open_page, full):
    app = open_page("data")
    first = [m.value for m in app.markdown]
    app.get("pagination")[0]  # 60 pictures are three pages
    next(s for s in app.selectbox if s.label == "Class").set_value("Brain")
    next(s for s in app.segmented_control if s.label == "Split").set_value("test").run()
    assert "1 of 60 pictures" in text_of(app)
    assert [m.value for m in app.markdown] != first
    app.text_input[0].set_value("no such words").run()
    assert "No picture fits" in text_of(app)


def test_a_class_and_words_match_in_any_case_and_order():
    manifest = pd.DataFrame(
        {"label": ["A", "A", "B"], "split": ["train", "test", "test"], "caption": ["Big (cat)", "small cat", "cat big"]}
    )
    assert matching(manifest, "BIG cat").index.tolist() == [0, 2]
    assert matching(manifest, "(", label="A", split=None).index.tolist() == [0]
    assert matching(manifest, "cat", split="test").index.tolist() == [1, 2]


@pytest.mark.parametrize("sample", ["../../etc", "no-such-sample", "<script>", "A B"])
def test_an_unknown_sample_in_the_address_is_one_line_and_can_be_mended(open_page, full, sample):
    app = open_page("data", sample=sample)
    assert len(app.error) == 1 and not app.exception
    assert "choose one of those below" in app.error[0].value
    chooser = next(s for s in app.selectbox if s.label == "Sample")
    chooser.set_value(full.sample).run()
    assert not app.error
    assert "60 of 60 pictures" in text_of(app)


def test_a_damaged_sample_is_one_line(open_page, full, workspace):
    (workspace.folder("samples", full.sample) / "sample.json").write_text('{"config": {}}')
    app = open_page("data")
    assert len(app.error) == 1 and not app.exception
    assert "draw the sample again" in app.error[0].value


def test_a_failed_drawing_says_why(open_page, workspace):
    config = SampleConfig(samples=100_000)
    settings = {"sample": config.model_dump(mode="json")}
    result = {"state": "failed", "message": "100,000 pictures were asked for"}
    factory.make_job(workspace, "sample", settings, result=result)
    assert "100,000 pictures were asked for" in text_of(open_page("data"))
