import json
import re

import pandas as pd
import pytest
import streamlit as st

from clipdemo.comparison import compare, measure
from clipdemo.marks import marked, set_mark
from clipdemo.models import Clip
from clipdemo.progress import finish
from clipdemo.records import MODES, RunConfig, SampleConfig
from clipdemo.sampling import draw_sample
from clipdemo.sources.bodyparts import BODY_PARTS
from clipdemo.sweep import Point, SweepConfig, SweepResult
from clipdemo.ui import cached
from clipdemo.ui.compare.cards import CARDS_A_PAGE
from clipdemo.workspace import write_json
from tests import workspace_factory as factory
from tests.pages.reading import text_of
from tests.training.test_loop import small_base

SECTIONS = ("board", "classes", "confusion", "pictures", "calibration", "prompts", "worth", "weights", "report")
WITHOUT_LABELS = ("board", "weights", "report")
LINK, FORMULA, SCRIPT = "[x](http://example.invalid)", "$x^2$ :red[x]", "<script>alert(1)</script>"


def test_empty_workspace_sends_one_home(open_page):
    app = open_page("compare")
    assert not app.exception and not app.error
    assert "There is no comparison yet" in text_of(app)
    assert len(app.get("page_link")) == 1


def test_the_table_of_the_paper_with_ones_own_numbers_and_intervals(open_page, full):
    own, paper, captions = (table.value for table in open_page("compare").table)
    says = own.map(lambda text: text.replace("\xa0", " "))
    assert says["Top-1"].tolist() == [
        "25.0 % :gray[8.9 to 53.2]",
        "50.0 % :gray[25.4 to 74.6]",
        "75.0 % :gray[46.8 to 91.1]",
    ]
    assert [text[:7] for text in says["Top-3"]] == ["50.0 % ", "100.0 %", "100.0 %"]
    assert [text.partition(" ")[0] for text in says["Over base"]] == ["–", "+25.0", "+50.0"]
    assert own["n"].tolist() == ["12", "12", "12"]
    assert paper["Top-1"].str.replace("\xa0", " ").tolist() == ["49.4 %", "64.3 %", "76.9 %"]
    assert len(captions) == 3


def test_differences_are_said_in_words_and_chance_is_not_sold_as_a_result(open_page, full):
    text = text_of(open_page("compare"))
    assert "too close to call on 12 pictures" in text
    assert "adjusted for 2 comparisons" in text


def test_a_model_below_the_base_points_down(open_page, full, workspace):
    path = workspace.folder("comparisons", full.id) / "comparison.json"
    values = json.loads(path.read_text())
    values["models"][1]["top1"] = 0.05  # the base has 25 %
    path.write_text(json.dumps(values))
    _, captions, labels = open_page("compare").metric
    assert captions.delta == "-20.0 points against base"
    assert captions.proto.direction == captions.proto.DOWN
    assert labels.proto.direction == labels.proto.UP


def test_the_papers_numbers_are_marked_as_quoted(open_page, full):
    text = text_of(open_page("compare"))
    assert "Quoted from Table 1" in text
    assert "PubMedVision" in text and "ViT-B/32" in text


def test_the_command_and_the_files_are_there(open_page, full):
    app = open_page("compare", section="report")
    assert app.code[0].value.startswith(
        "python -m clipdemo experiment --source phantom --samples 60 --seed 0 --train 0.6 --validation 0.2 --test 0.2 "
        "--epochs 4"
    )
    assert len(app.get("download_button")) == 3
    assert app.query_params["comparison"] == full.id


@pytest.mark.parametrize("name", ["../../etc", "unknown-id", "![x](http://example.org/x.png)"])
def test_an_unknown_comparison_in_the_address_is_one_line(open_page, full, name):
    app = open_page("compare", comparison=name)
    assert len(app.error) == 1 and not app.exception
    assert "![" not in app.error[0].value
    assert not app.table


def test_a_damaged_comparison_is_one_line(open_page, full, workspace):
    path = workspace.folder("comparisons", full.id) / "comparison.json"
    values = json.loads(path.read_text())
    del values["models"]
    path.write_text(json.dumps(values))
    app = open_page("compare")
    assert len(app.error) == 1 and not app.exception


# ---- sections


@pytest.fixture
def rewording(monkeypatch):
    """Numbers for other sentences without models: what was asked for is kept, and every third letter counts."""
    asked = []

    def reworded(workspace, of, on, template, wordings, split, without):
        asked.append((of.name, template, wordings, split))
        share = (len(template) + sum(len(name) for names in wordings.values() for name in names)) % 100 / 100
        return {"Top-1": share, "Top-3": share, "Macro top-1": share}

    monkeypatch.setattr(cached, "reworded", reworded)
    return asked


def titles(app):
    """What the row of sections offers."""
    return list(app.segmented_control(key="compare_section").options)


def section_of(app):
    return app.segmented_control(key="compare_section").value


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_has_its_address_and_no_trouble(open_page, full, rewording, section):
    app = open_page("compare", section=section)
    assert not app.exception and not app.error
    assert section_of(app) == section
    assert app.query_params.get("section") == (None if section == "board" else section)
    assert len(titles(app)) == len(SECTIONS)
    assert "These pictures are synthetic" in text_of(app)


@pytest.mark.parametrize("asked", ["nothing", "", "../board", LINK, "Board"])
def test_an_unknown_section_is_who_wins(open_page, full, asked):
    app = open_page("compare", section=asked)
    assert not app.exception and not app.error
    assert section_of(app) == "board" and "section" not in app.query_params
    assert "All numbers" in text_of(app)


def test_a_section_is_changed_by_its_button(open_page, full):
    app = open_page("compare")
    app.segmented_control(key="compare_section").set_value("calibration").run()
    assert app.query_params["section"] == "calibration"
    assert "Calibration error" in text_of(app)


# ---- samples that lack something


@pytest.fixture
def made(workspace):
    """Makes a comparison of a sample as asked for."""
    return lambda **asked: factory.make_comparison(workspace, factory.make_sample(workspace, **asked))


@pytest.mark.parametrize("section", SECTIONS)
def test_without_labels_sections_that_need_them_are_not_offered(open_page, made, section):
    made(texts=("captions",))
    app = open_page("compare", section=section)
    assert not app.exception and not app.error
    assert len(titles(app)) == len(WITHOUT_LABELS)
    assert section_of(app) == (section if section in WITHOUT_LABELS else "board")
    if section == "board":
        text = text_of(app)
        assert "Pictures and their captions" in text and "All numbers" not in text


@pytest.mark.parametrize("section", SECTIONS)
def test_without_captions_there_is_no_retrieval_and_no_trouble(open_page, made, rewording, section):
    comparison = made(texts=("labels",))
    assert [model.name for model in comparison.models] == ["base", "labels"]
    app = open_page("compare", section=section)
    assert not app.exception
    assert ["has no captions" in error.value for error in app.error] == [True] * (section == "worth")  # nor a sweep
    assert "Pictures and their captions" not in text_of(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_deleted_sample_leaves_the_numbers(open_page, full, workspace, rewording, section):
    workspace.delete("samples", full.sample)
    app = open_page("compare", section=section)
    assert not app.exception and not app.error
    text = text_of(app)
    says = {
        "board": "All numbers",
        "pictures": "its sample was deleted",
        "prompts": "The sample was deleted",
        "weights": "was deleted",
        "calibration": "Calibration error",
    }
    assert says.get(section, "") in text
    assert not app.text_area or section != "prompts"


@pytest.mark.parametrize("section", SECTIONS)
def test_deleted_runs_leave_the_numbers(open_page, full, workspace, section):
    for name in full.runs:
        workspace.delete("runs", name)
    app = open_page("compare", section=section)
    assert not app.exception
    if section == "prompts":  # its models cannot be opened any more
        assert len(app.error) == 1 and "there is no run" in app.error[0].value
    else:
        assert not app.error
    if section == "weights":
        assert "was deleted" in text_of(app)


def test_a_deleted_picture_is_said_on_its_card(open_page, full, workspace):
    folder = workspace.folder("samples", full.sample) / "images"
    (folder / "00000051.png").unlink()
    (folder / "00000052.png").write_bytes(b"not a picture")
    st.cache_data.clear()  # another test may have shown these very pictures
    app = open_page("compare", section="pictures")
    assert not app.exception and not app.error
    assert text_of(app).count("cannot be read") == 2
    assert re.search(r"00000051\\?\.png cannot be read", text_of(app))


# ---- files that are damaged


PREDICTIONS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "gone": lambda path: path.unlink(),
    "nonsense": lambda path: path.write_bytes(b"# [x](http://example.invalid)"),
    "other columns": lambda path: pd.DataFrame({"colour": ["red"]}).to_parquet(path),
    "no rows": lambda path: pd.read_parquet(path)[:0].to_parquet(path),
    "fewer rows": lambda path: pd.read_parquet(path)[:5].to_parquet(path),
}


@pytest.mark.parametrize("section", ["board", "classes", "confusion", "pictures", "calibration"])
@pytest.mark.parametrize("damage", list(PREDICTIONS))
def test_damaged_predictions_are_one_clear_line(open_page, full, workspace, section, damage):
    name = full.models[1].predictions
    PREDICTIONS[damage](workspace.folder("evaluations", name) / "predictions.parquet")
    app = open_page("compare", section=section)
    assert not app.exception
    assert len(app.error) == 1 and re.search(r"again|same pictures", app.error[0].value)
    assert app.error[0].value.count("\n") == 0


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"wrong_labels": 3}', '{"wrong_labels": "made_up_059"}'])
def test_damaged_marks_count_as_none(open_page, full, workspace, text):
    (workspace.folder("comparisons", full.id) / "marks.json").write_text(text)
    app = open_page("compare", section="pictures")
    assert not app.exception and not app.error
    assert "Leave out" not in " ".join(toggle.label for toggle in app.toggle)


def test_marks_of_pictures_that_are_not_there_change_nothing(open_page, full, workspace):
    set_mark(workspace, full, LINK, True)
    app = open_page("compare")
    app.toggle(key="without_marked").set_value(True).run()
    assert not app.exception and app.table[0].value["n"].tolist() == ["12"] * 3


def test_a_damaged_sweep_is_left_out(open_page, full, workspace):
    folder = workspace.folder("sweeps", "broken")
    folder.mkdir()
    (folder / "sweep.json").write_text("{")
    app = open_page("compare", section="worth")
    assert not app.exception and not app.error


# ---- names from outside


@pytest.fixture
def hostile(workspace):
    """Class names, captions and sentences that would be code, were they not shown as they are."""
    classes = (LINK, FORMULA, SCRIPT, "![x](http://example.invalid/x.png)", *BODY_PARTS[4:])
    sample = factory.make_sample(workspace, classes=classes, caption=f"{{}} {LINK} {SCRIPT} {FORMULA}")
    runs = {mode: factory.make_run(workspace, sample, RunConfig(mode=mode)) for mode in MODES}
    runs["captions"].rename(LINK)
    made = [factory.make_evaluation(workspace, sample, name, runs.get(name)) for name in ("base", *MODES)]
    template = f"{LINK} {FORMULA} {{label}}"
    return compare(
        [*made, factory.make_evaluation(workspace, sample, "base", None, key="b", template=template)], workspace
    )


def markdown_of(app):
    """Everything that Streamlit reads as Markdown."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.error, app.warning, app.success, app.info)
    texts = [element.value for kind in kinds for element in kind]
    texts += [table.value.to_string() for table in app.table] + [f"{m.label} {m.delta}" for m in app.metric]
    widgets = [*app.toggle, *app.selectbox, *app.button, *app.text_input]
    options = [option for control in app.segmented_control for option in control.options]
    helps = [str(element.proto.help) for kind in (app.caption, app.markdown) for element in kind]
    return "\n".join([*texts, *(widget.label for widget in widgets), *options, *helps])


@pytest.mark.parametrize("section", SECTIONS)
def test_names_that_are_code_are_shown_letter_by_letter(open_page, hostile, rewording, section):
    app = open_page("compare", section=section)
    assert not app.exception and not app.error
    says = markdown_of(app)
    assert not re.search(r"(?<!\\)\]\(http", says)
    assert not re.search(r"(?<!\\)<script", says)
    assert not re.search(r"(?<!\\)\$x", says)


def test_names_that_are_code_are_clicked_like_any_other(open_page, hostile):
    app = open_page("compare", section="classes")
    for label in hostile.models[0].per_class:
        app.session_state[chart_key(hostile)] = clicked(label, "base", 1, 1)
        app.run()
        assert not app.exception and not app.error
        assert len(app.image) == 1
        assert not re.search(r"(?<!\\)\]\(http", markdown_of(app))


def test_a_cell_of_a_model_named_like_a_link_has_no_link(open_page, hostile):
    app = open_page("compare", section="confusion")
    for model in hostile.models:
        app.session_state[f"confusion {model.predictions}"] = clicked(LINK, LINK, 1)
        app.run()
        assert not app.exception and not app.error
        assert len([h for h in app.subheader if "called right" in h.value]) == 1
        assert not re.search(r"(?<!\\)\]\(http", markdown_of(app))


@pytest.mark.parametrize("section", ["classes", "confusion", "calibration"])
def test_names_in_charts_are_no_links(open_page, hostile, section, workspace):
    label = "<a href='http://example.invalid'>x</a>"
    sample = factory.make_sample(workspace, seed=1, classes=(label, *BODY_PARTS[1:]))
    base = factory.make_evaluation(workspace, sample, "base", None)
    other = factory.make_evaluation(workspace, sample, "base", None, key="b", template=f"{label} {{label}}")
    shown = compare([base, other], workspace)
    app = open_page("compare", section=section, comparison=shown.id)
    charts = [json.dumps(json.loads(chart.proto.spec)) for chart in app.get("plotly_chart")]
    assert charts and not any("<a href" in chart for chart in charts)


# ---- clicks


def clicked(*customdata):
    return {"selection": {"points": [{"customdata": list(customdata)}], "point_indices": [0]}}


def nothing_clicked():
    return {"selection": {"points": [], "point_indices": []}}


def chart_key(comparison, order="frequency"):
    return f"classes {comparison.id} {order} {comparison.models[-1].predictions}"


def test_a_click_on_a_bar_shows_its_classs_pictures(open_page, full):
    app = open_page("compare", section="classes")
    assert not app.image
    app.session_state[chart_key(full)] = clicked("Chest", full.models[0].predictions, 1, 1)
    app.run()
    assert not app.exception
    assert "Chest: its test pictures" in text_of(app) and len(app.image) == 1
    assert "Made\\-up caption" in text_of(app)
    for sign in ("●", "▲", "■"):  # what every model said to it
        assert any(sign in element.value and "material/c" in element.value for element in app.markdown)
    app.session_state[chart_key(full)] = nothing_clicked()
    app.run()
    assert not app.image


@pytest.mark.parametrize("order", ["frequency", "gain", "difficulty", "name"])
def test_classes_stand_in_any_order(open_page, full, order):
    app = open_page("compare", section="classes")
    app.segmented_control[1].set_value(order).run()
    assert not app.exception and not app.error
    first = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]["y"][0].split("<br>")[0]
    assert first == {"name": "Abdomen"}.get(order, first)
    assert len(app.selectbox) == (2 + (order in ("gain", "difficulty")))  # comparison, sample of a new one, "of"


def test_a_class_that_is_not_there_shows_nothing(open_page, full):
    app = open_page("compare", section="classes")
    app.session_state[chart_key(full)] = clicked("Unicorn", "base", 1, 1)
    app.run()
    assert not app.exception and not app.image


def test_a_click_on_a_cell_shows_its_pictures_and_a_newer_click_takes_over(open_page, full, workspace):
    base, captions, labels = (model.predictions for model in full.models)
    sample = cached.sample(workspace, full.sample)
    test = sample.rows("test")["label"].tolist()
    label, wrong = test[11], sample.classes[(sample.classes.index(test[11]) + 1) % 12]
    app = open_page("compare", section="confusion")
    app.session_state[f"confusion {base}"] = clicked(label, wrong, 1)
    app.run()
    assert not app.exception and len(app.image) == 1
    assert any("called" in h.value and "[●] Base (1)" in h.value.replace("\xa0", " ") for h in app.subheader)
    app.session_state[f"confusion {labels}"] = clicked(test[0], test[0], 1)
    app.run()
    assert any("called right by :orange[■] Labels (1)" in h.value.replace("\xa0", " ") for h in app.subheader)
    app.session_state[f"confusion {captions}"] = clicked(test[0], "Unicorn", 0)
    app.run()
    assert not app.exception and not app.image
    empty = next(name for name in sample.classes if name not in (label, wrong))
    app.session_state[f"confusion {captions}"] = clicked(label, empty, 0)
    app.run()
    assert "There is no such picture" in text_of(app)


@pytest.mark.parametrize(
    ("kind", "n"),
    [("fixed", 6), ("broken", 0), ("neither", 3), ("nobody", 3)],  # base has the first 3 of 12 right, labels 9
)
def test_pictures_by_what_two_models_make_of_them(open_page, full, kind, n):
    app = open_page("compare", section="pictures")
    app.segmented_control[1].set_value(kind).run()
    assert f"**{n} of 12** test pictures" in text_of(app)
    assert len(app.image) == n


def test_pictures_of_two_models_chosen_the_other_way_round(open_page, full):
    app = open_page("compare", section="pictures")
    before, after = (next(box for box in app.selectbox if box.label == name) for name in ("Before", "After"))
    before.set_value(full.models[2].predictions)
    after.set_value(full.models[0].predictions)
    app.run()
    assert "**0 of 12**" in text_of(app)
    app.segmented_control[1].set_value("broken").run()
    assert "**6 of 12**" in text_of(app)


@pytest.fixture
def many(workspace):
    """60 test pictures, so that cards have pages."""
    sample = factory.make_sample(workspace, sizes={"train": 36, "validation": 12, "test": 60})
    return factory.make_comparison(workspace, sample)


def test_many_pictures_have_pages_and_a_page_that_is_gone_is_the_last(open_page, many):
    app = open_page("compare", section="pictures")
    assert "**30 of 60**" in text_of(app)
    assert len(app.image) == CARDS_A_PAGE
    app.session_state[f"cards {many.id} fixed"] = 4
    app.run()
    assert len(app.image) == 30 - 3 * CARDS_A_PAGE
    next(box for box in app.selectbox if box.label == "After").set_value(many.models[1].predictions).run()
    assert "**15 of 60**" in text_of(app)  # two pages, and somebody stood on the fourth
    assert not app.exception and len(app.image) > 0


# ---- marks


def test_a_picture_is_marked_and_left_out(open_page, full, workspace):
    app = open_page("compare", section="pictures")
    app.segmented_control[1].set_value("court").run()
    assert "for 3 pictures" in text_of(app)
    mark = next(toggle for toggle in app.toggle if toggle.label == "The label is wrong")
    name = mark.key.rpartition(" ")[2]
    mark.set_value(True).run()
    assert marked(workspace, full) == {name}
    assert "**1 marked.**" in text_of(app)
    app.toggle(key="without_marked").set_value(True).run()
    app.segmented_control(key="compare_section").set_value("board").run()
    assert not app.exception and app.table[0].value["n"].tolist() == ["11"] * 3
    assert app.table[0].value["Top-1"][2].replace("\xa0", " ").startswith("81.8 %")  # 9 of 11
    app.segmented_control(key="compare_section").set_value("calibration").run()
    assert "n = 11 test" in text_of(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_with_all_pictures_left_out_nothing_breaks(open_page, full, workspace, rewording, section):
    for name in cached.sample(workspace, full.sample).rows("test")["id"]:
        set_mark(workspace, full, name, True)
    app = open_page("compare", section=section)
    app.toggle(key="without_marked").set_value(True).run()
    assert not app.exception and not app.error
    if section == "board":
        assert "All test pictures are left out" in text_of(app)


def test_numbers_of_every_section_leave_marked_pictures_out(open_page, full, workspace):
    """The page says that the switch leaves them out of all numbers; a matrix is numbers."""
    test = cached.sample(workspace, full.sample).rows("test")
    set_mark(workspace, full, test["id"].iloc[0], True)
    app = open_page("compare", section="confusion")
    app.toggle(key="without_marked").set_value(True).run()
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    written = [int(text) for trace in spec["data"] if trace.get("mode") == "text" for text in trace["text"]]
    assert sum(written) == 11


# ---- calibration


def test_the_temperature_can_be_the_fitted_one(open_page, full):
    app = open_page("compare", section="calibration")
    before = app.get("plotly_chart")[0].proto.spec
    table = app.table[0].value
    assert table["Temperature, learned"].tolist() == ["0.2500"] * 3
    assert table["Temperature, fitted"].tolist() == ["0.5000"] * 3
    app.segmented_control(key="view_temperature").set_value("fitted").run()
    assert app.get("plotly_chart")[0].proto.spec != before


# ---- the prompt lab


def test_sentences_are_edited_and_numbers_follow(open_page, full, rewording):
    app = open_page("compare", section="prompts")
    assert "Validation pictures" in text_of(app) and "Test pictures" not in text_of(app)
    assert {split for *_, split in rewording} == {"validation"}
    rewording.clear()
    app.text_area(key="sentences").set_value("A {label}\n\n  the {label} ").run()
    assert ("labels", "A {label}|the {label}", {}, "validation") in rewording
    assert "21.0 % (" in app.table[0].value["Top-1"][0].replace("\xa0", " ")
    next(toggle for toggle in app.toggle if "test pictures" in toggle.label).set_value(True).run()
    assert "Test pictures" in text_of(app) and len(app.table) == 2


@pytest.mark.parametrize(
    "text", ["", "   ", "no label", "{label} {label}", "{", "{label} {x}", "{label}\nno label", "|", "{label}|", LINK]
)
def test_sentences_that_cannot_work_are_one_line(open_page, full, rewording, text):
    app = open_page("compare", section="prompts")
    rewording.clear()
    app.text_area(key="sentences").set_value(text).run()
    assert not app.exception
    assert len(app.error) == 1 and "label" in app.error[0].value
    assert not app.table and not rewording


@pytest.mark.parametrize("text", ["{label} " + LINK, "{label} " + SCRIPT, "$ {label} $", "{label}" * 1 + " long" * 900])
def test_sentences_that_are_code_are_sentences(open_page, full, rewording, text):
    app = open_page("compare", section="prompts")
    app.text_area(key="sentences").set_value(text).run()
    assert not app.exception and not app.error and len(app.table) == 1


def test_a_real_models_numbers_move_and_no_picture_is_encoded_again(
    open_page, workspace, tiny_source, tmp_path, monkeypatch
):
    tiny_source([("Cat" if i % 2 else "Dog", f"caption {i}", "", i) for i in range(120)], classes=("Cat", "Dog"))
    config = SampleConfig(source="tiny", samples=120, train=0.2, validation=0.4, test=0.4)
    sample = finish(draw_sample(config, workspace))
    finish(measure(sample, workspace, bases=[small_base(tmp_path)]))
    images = []
    monkeypatch.setattr(Clip, "encode_images", lambda clip, pixels: images.append(len(pixels)))
    app = open_page("compare", section="prompts")
    first = app.table[0].value
    assert "(+0.0)" in first["Top-1"][0].replace("\xa0", " ")
    found = set()
    for text in ("{label}", "zebra {label} of\nan {label}", "xx {label} yy zz", "{label} {nothing}"):
        app.text_area(key="sentences").set_value(text).run()
        found |= {app.table[0].value["Top-1"][0]} if app.table else set()
    assert not app.exception and images == []
    assert found - {first["Top-1"][0]}


# ---- sweeps and weights


def sweep_of(comparison, workspace, points=()):
    config = SweepConfig(sample=comparison.sample, sizes=(12, 36), seeds=(0,))
    base = Point(kind="base", pictures=0, seed=None, run=None, evaluation="e", n=12, right=0, bits="0000")
    result = SweepResult(
        id="made-up", sample=comparison.sample, sample_hash=comparison.sample_hash, synthetic=True, config=config,
        total=4, base=base, points=points,
    )  # fmt: skip
    folder = workspace.folder("sweeps", result.id)
    folder.mkdir(exist_ok=True)
    write_json(folder / "sweep.json", result.model_dump(mode="json"))


def point(kind, pictures, right, bits):
    return Point(kind=kind, pictures=pictures, seed=0, run="r", evaluation="e", n=12, right=right, bits=bits)


def test_a_sweep_says_what_captions_are_worth(open_page, full, workspace):
    sweep_of(full, workspace)
    assert "Nothing has been measured yet" in text_of(open_page("compare", section="worth"))
    points = [point("captions", 12, 2, "c000"), point("labels", 12, 1, "8000")]
    sweep_of(full, workspace, points)
    app = open_page("compare", section="worth")
    assert "2 of 4 runs are measured" in text_of(app) and not app.exception
    sweep_of(full, workspace, [*points, point("captions", 36, 4, "f000"), point("labels", 36, 8, "ff00")])
    app = open_page("compare", section="worth")
    assert not app.exception and len(app.get("plotly_chart")) == 1
    assert len(app.success) == 1 and "labels" in app.success[0].value


def test_a_sweep_is_started_with_what_was_asked(open_page, full, launched):
    app = open_page("compare", section="worth")
    next(field for field in app.text_input if field.label == "Sizes").set_value("12, 36").run()
    next(button for button in app.button if button.label == "Start the sweep").click().run()
    ((command, arguments, settings),) = launched
    assert command == "sweep" and settings["sweep"]["sizes"] == [12, 36]
    assert full.sample in arguments


@pytest.mark.parametrize("text", ["twelve", "12, -3", "1000000", "0"])
def test_sizes_that_cannot_be_are_one_line(open_page, full, launched, text):
    app = open_page("compare", section="worth")
    next(field for field in app.text_input if field.label == "Sizes").set_value(text).run()
    assert not app.exception and len(app.error) == 1
    assert next(button for button in app.button if button.label == "Start the sweep").disabled


def test_mixing_is_started_for_the_run_that_was_chosen(open_page, full, launched):
    app = open_page("compare", section="weights")
    app.segmented_control[1].set_value(full.models[2].predictions).run()
    next(button for button in app.button if button.label.startswith("Measure the way")).click().run()
    ((command, arguments, settings),) = launched
    assert command == "interpolate" and arguments == ["--run", full.models[2].run]
    assert settings["run"] == full.models[2].run


# ---- a new comparison, and work that is going


def test_a_new_comparison_is_launched_with_the_models_chosen(open_page, full, launched):
    app = open_page("compare")
    next(field for field in app.text_input if field.label == "Base models").set_value("builtin ViT-B-32:openai").run()
    next(button for button in app.button if button.label == "Compare").click().run()
    ((command, arguments, settings),) = launched
    assert command == "compare" and settings["bases"] == ["builtin", "ViT-B-32:openai"]
    assert {arguments[i + 1] for i, part in enumerate(arguments) if part == "--run"} == set(full.runs)


def test_a_damaged_sample_is_one_line_and_the_comparison_stays(open_page, full, workspace):
    (workspace.folder("samples", full.sample) / "sample.json").write_text("{}")
    app = open_page("compare")
    assert not app.exception and len(app.error) == 1
    assert len(app.table) == 3


def test_a_run_with_a_damaged_result_does_not_take_the_page_away(open_page, full, workspace):
    name = full.models[1].run
    (workspace.folder("runs", name) / "result.json").write_text("{")
    app = open_page("compare")
    assert not app.exception and len(app.table) == 3


@pytest.mark.parametrize(
    ("command", "stage"), [("compare", "evaluate base"), ("sweep", "sweep"), ("interpolate", "interpolate")]
)
def test_work_that_is_going_is_shown_above(open_page, full, workspace, command, stage):
    job = factory.make_job(workspace, command, {"sample_id": full.sample}, {stage: (1, 4)})
    lock = factory.keep_alive(job)
    try:
        app = open_page("compare")
        assert not app.exception and "is running" in text_of(app)
        assert app.query_params["job"] == job.id
    finally:
        lock.release()


def test_a_finished_comparison_is_the_one_shown(open_page, full, workspace):
    other = factory.make_comparison(workspace, factory.make_sample(workspace, seed=1))
    result = {"state": "finished", "made": {"comparison": full.id}}
    job = factory.make_job(workspace, "compare", {"sample_id": full.sample}, {"evaluate base": (2, 2)}, result)
    app = open_page("compare", comparison=other.id, job=job.id)
    assert "The comparison took 2 min 31 s" in text_of(app)
    assert app.query_params["comparison"] == full.id and "job" not in app.query_params


def test_work_that_failed_says_why(open_page, full, workspace):
    result = {"state": "failed", "message": f"it went wrong {LINK}"}
    job = factory.make_job(workspace, "interpolate", {"sample_id": full.sample}, {}, result)
    app = open_page("compare", job=job.id)
    assert not app.exception and "it went wrong" in text_of(app)
    assert not re.search(r"(?<!\\)\]\(http", text_of(app))
