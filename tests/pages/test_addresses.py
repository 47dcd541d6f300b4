"""What one looks at rides in the address of its page: set a widget, open the address anew, see the same."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from clipdemo.comparison import compare
from clipdemo.embeddings import model_id
from clipdemo.interpolation import SHARES, Hits, Interpolation, Point, interpolation_id
from clipdemo.marks import set_mark
from clipdemo.models import open_model
from clipdemo.neighbours import neighbourhood
from clipdemo.progress import finish
from clipdemo.records import BUILT_IN_BASE, MODES, RunConfig
from clipdemo.sweep import Point as SweepPoint
from clipdemo.sweep import SweepConfig, SweepResult
from clipdemo.ui import cached
from clipdemo.workspace import write_json
from tests import workspace_factory as factory
from tests.pages.reading import text_of

SIZES = {"train": 36, "validation": 12, "test": 60}  # so that the gallery and the cards have several pages


@dataclass
class World:
    """What the workspace of these tests holds."""

    sample: str
    other: str  # a sample of other classes
    runs: dict[str, str]
    older: str  # another run on labels
    comparison: str
    models: dict[str, str]  # evaluations by the models' names


@pytest.fixture(scope="module")
def world(place) -> World:
    """A sample with three runs that Explore knows, a marked comparison with two sweeps and a mix, another sample."""
    other = factory.make_sample(place, seed=1, classes=("Ant", "Bee"))
    sample = factory.make_sample(place, sizes=SIZES)
    older = factory.make_run(place, sample, RunConfig(mode="labels", seed=7))
    runs = {mode: factory.make_real_run(place, sample, RunConfig(mode=mode)) for mode in MODES}
    made = [factory.make_evaluation(place, sample, name, runs.get(name)) for name in ("base", *MODES)]
    comparison = compare(made, place)
    set_mark(place, comparison, sample.rows("test")["id"].iloc[-1], True)
    for run in (None, *runs.values()):
        clip = open_model(BUILT_IN_BASE, run.weights if run else None)
        finish(neighbourhood(clip, model_id(run, BUILT_IN_BASE), sample, place))
    for name, seeds in (("first", (0,)), ("second", (0, 1))):
        write_sweep(place, comparison, name, seeds)
    write_mix(place, sample, runs["captions"])
    return World(
        sample=sample.id, other=other.id, older=older.id, comparison=comparison.id,
        runs={mode: run.id for mode, run in runs.items()},
        models={model.name: model.predictions for model in comparison.models},
    )  # fmt: skip


def write_sweep(place, comparison, name, seeds):
    config = SweepConfig(sample=comparison.sample, sizes=(12, 36), seeds=seeds)
    base = SweepPoint(kind="base", pictures=0, seed=None, run=None, evaluation="e", n=12, right=0, bits="0000")
    result = SweepResult(
        id=name, sample=comparison.sample, sample_hash=comparison.sample_hash, synthetic=True, config=config,
        total=4 * len(seeds), base=base, points=(),
    )  # fmt: skip
    folder = place.folder("sweeps", name)
    folder.mkdir(parents=True)
    write_json(folder / "sweep.json", result.model_dump(mode="json"))


def write_mix(place, sample, run):
    points = tuple(
        Point(share=share, validation=Hits(right=6, n=12), test=Hits(right=i, n=12), general=Hits(right=1, n=2))
        for i, share in enumerate(SHARES)
    )
    found = Interpolation(
        id=interpolation_id(run, sample), run=run.id, base=BUILT_IN_BASE, sample=sample.id, template="{label}",
        sample_hash=sample.content_hash, choices="labels", general_set="made up", points=points,
    )  # fmt: skip
    folder = place.folder("interpolations", found.id)
    folder.mkdir(parents=True)
    write_json(folder / "interpolation.json", found.model_dump(mode="json"))


@pytest.fixture
def workspace(place, world):
    """The one workspace of all tests here, which only look."""
    return place


@pytest.fixture(autouse=True)
def rewording(monkeypatch):
    """Numbers for other sentences without models; any other sentence or wording gives others."""

    def reworded(workspace, of, on, template, wordings, split, without):
        share = len(f"{template}{sorted(wordings.items())}{split}") % 97 / 97
        return {"Top-1": share, "Top-3": share, "Macro top-1": share}

    monkeypatch.setattr(cached, "reworded", reworded)


# ---- what somebody does


def choose(kind: str, label: str, value: object) -> Callable:
    """Sets the widget of that kind and label; `value` may be made from the world."""

    def act(app, world):
        wanted = value(world) if callable(value) else value
        next(widget for widget in getattr(app, kind) if widget.label == label).set_value(wanted).run()

    return act


def press(label: str) -> Callable:
    def act(app, world):
        next(button for button in app.button if button.label == label).click().run()

    return act


def put(key: Callable, value: object) -> Callable:
    """Puts a value into the state of a widget that AppTest cannot move."""

    def act(app, world):
        app.session_state[key(world)] = value(world) if callable(value) else value
        app.run()

    return act


def clicked(*customdata):
    return {"selection": {"points": [{"customdata": list(customdata)}], "point_indices": [0]}}


def turn(key: Callable) -> Callable:
    return put(key, 2)


def on(name: str) -> Callable:
    return lambda world: world.models[name]


def bars(world):
    return f"classes {world.comparison} frequency {world.models['labels']}"


COMPARE = {
    name: {"section": name}
    for name in ("classes", "confusion", "pictures", "calibration", "prompts", "worth", "weights")
}
WORDS, MAP, EXAMPLE = {"section": "words", "words": "a disc"}, {"section": "map"}, {"section": "example"}
LOOKED = EXAMPLE | {"picture": "abdomen.png", "looked": "1"}
VIEWS = [
    ("data", {}, "class", choose("selectbox", "Class", "Brain")),
    ("data", {}, "modality", choose("selectbox", "Modality", "MR")),
    ("data", {}, "split", choose("segmented_control", "Split", "test")),
    ("data", {}, "words", choose("text_input", "Words in the caption", "DISC 10")),
    ("data", {}, "section", put(lambda w: "view_section", "Pictures")),
    ("data", {"split": "test"}, "page", turn(lambda w: f"gallery_page {w.sample} All classes All modalities test ")),
    ("train", {}, "captions_run", choose("selectbox", "▲ captions run", "none")),
    ("train", {}, "labels_run", choose("selectbox", "■ labels run", lambda w: w.older)),
    ("train", {}, "run", put(lambda w: "runs", {"selection": {"rows": [1], "columns": [], "cells": []}})),
    ("compare", {}, "section", choose("segmented_control", "Section", "calibration")),
    ("compare", {}, "without_marked", choose("toggle", "Leave out 1 pictures marked as wrongly labelled", True)),
    ("compare", COMPARE["classes"], "order", choose("segmented_control", "Sorted by", "gain")),
    ("compare", COMPARE["classes"] | {"order": "gain"}, "of", choose("selectbox", "of", on("captions"))),
    ("compare", COMPARE["classes"], "class", put(bars, clicked("Chest", "base", 1, 1))),
    ("compare", COMPARE["confusion"], "cell", put(lambda w: f"confusion {w.models['labels']}", clicked("Foot", "Foot"))),
    ("compare", COMPARE["pictures"], "shown", choose("segmented_control", "Which", "court")),
    ("compare", COMPARE["pictures"], "before", choose("selectbox", "Before", on("captions"))),
    ("compare", COMPARE["pictures"], "after", choose("selectbox", "After", on("captions"))),
    ("compare", COMPARE["pictures"], "page", turn(lambda w: f"cards {w.comparison} fixed")),
    ("compare", COMPARE["calibration"], "temperature", choose("segmented_control", "Temperature", "fitted")),
    ("compare", COMPARE["prompts"], "sentences", choose("text_area", "Sentences, one a line", "a {label}\nmy {label}")),
    ("compare", COMPARE["prompts"], "on_test", choose("toggle", "Show test pictures too", True)),
    ("compare", COMPARE["worth"], "sweep", choose("selectbox", "Sweep", "first")),
    ("compare", COMPARE["weights"], "mix", choose("segmented_control", "Run", on("labels"))),
    ("compare", COMPARE["weights"], "share", choose("select_slider", "Share of the tuned weights", 0.3)),
    ("explore", {}, "section", choose("segmented_control", "Start from", "map")),
    ("explore", {}, "models", choose("multiselect", "Models", lambda w: ["base", w.runs["labels"]])),
    ("explore", {}, "order", choose("selectbox", "Go by", lambda w: f"moved {w.runs['labels']}")),
    ("explore", {}, "class", choose("selectbox", "Class", "Foot")),
    ("explore", {}, "split", choose("segmented_control", "Split", "train")),
    ("explore", {}, "answers", choose("segmented_control", "First model is", "wrong")),
    ("explore", {}, "among", choose("segmented_control", "That the model gets", "right")),
    ("explore", {}, "mine", choose("text_input", "A sentence of yours", "a bright disc")),
    ("explore", {}, "classes", choose("multiselect", "Only classes", ["Foot"])),
    ("explore", {}, "picture", press("Next")),
    ("explore", {"section": "words"}, "words", choose("text_input", "Words", "a bright disc")),
    ("explore", WORDS, "classes", choose("multiselect", "Only classes", ["Foot", "Eye"])),
    ("explore", WORDS, "splits", choose("segmented_control", "Only splits", ["train", "test"])),
    ("explore", MAP, "map", choose("segmented_control", "Map by", "umap")),
    ("explore", MAP, "about", choose("segmented_control", "Pictures and sentences", "apart")),
    ("explore", MAP, "shown", choose("segmented_control", "Show", lambda w: w.runs["labels"])),
    ("explore", MAP, "colours", choose("segmented_control", "Colours", "answer")),
    ("explore", MAP | {"colours": "one"}, "class", choose("selectbox", "Class", "Foot")),
    ("classify", {}, "section", choose("segmented_control", "Pictures from", "example")),
    ("classify", EXAMPLE, "picture", press("Ask")),
    ("classify", EXAMPLE, "labels", choose("text_input", "Labels, divided by commas", "a cat, a dog")),
    ("classify", EXAMPLE, "sentence", choose("text_input", "Sentence of a label", "my {label}")),
    ("classify", EXAMPLE | {"picture": "abdomen.png"}, "looked", choose("toggle", "Where they looked", True)),
    ("classify", LOOKED, "of", choose("selectbox", "For", "Other words")),
    ("classify", LOOKED, "map", choose("segmented_control", "Map", "sanity")),
    ("classify", LOOKED | {"of": "Other words"}, "words", choose("text_input", "Words", "a bright spot")),
]  # fmt: skip


def view_of(app):
    """All that a page shows and what its widgets say."""
    kinds = ("selectbox", "segmented_control", "multiselect", "text_input", "text_area", "toggle", "select_slider")
    says = [(kind, widget.label, widget.value) for kind in kinds for widget in getattr(app, kind)]
    drawn = [
        element.proto.SerializeToString()
        for kind in ("plotly_chart", "echarts_chart", "imgs")
        for element in app.get(kind)
    ]
    return text_of(app), says, drawn, [tab.proto.tab_container.default_tab_index for tab in app.get("tab_container")]


@pytest.fixture
def open_at(open_page, world) -> Callable:
    """Opens a page with these parameters, on the sample of these tests where they name no other."""

    def open_(page, /, **asked):
        return open_page(page, **({} if page in ("compare", "classify") else {"sample": world.sample}) | asked)

    return open_


@pytest.mark.parametrize(
    ("page", "at", "name", "act"), VIEWS, ids=[f"{v[0]}-{v[1].get('section')}-{v[2]}" for v in VIEWS]
)
def test_a_link_opens_the_very_view(open_at, world, page, at, name, act):
    app = open_at(page, **at)
    assert name not in app.query_params or name == "picture"
    before = view_of(app)
    act(app, world)
    assert not app.exception and not app.error
    seen, address = view_of(app), dict(app.query_params)
    assert seen != before and name in address
    again = open_at(page, **address)
    assert not again.exception and view_of(again) == seen
    assert again.query_params == address


NAMES = {}  # of the views of a page as it is opened with some others
for page, at, name, _ in VIEWS:
    NAMES.setdefault((page, tuple(at.items())), []).append(name)
VALUES = {"name": "no such <b>thing</b>", "bytes": "\0\ufffd", "long": "x" * 10_000}


@pytest.fixture(scope="module")
def plain() -> dict:
    """What pages show and say in their addresses when nothing else is asked for."""
    return {}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("at", NAMES, ids=lambda at: "-".join([at[0], *dict(at[1]).values()]))
def test_an_address_that_names_nothing_shows_the_page_as_it_is(open_at, plain, at, value):
    page, asked = at[0], dict(at[1])
    if at not in plain:
        app = open_at(page, **asked)
        plain[at] = view_of(app), app.query_params
    any_words = {"words", "labels", "sentence", "mine"} if value == "name" else set()  # those are words
    asked |= {name: VALUES[value] for name in NAMES[at] if name not in any_words}
    app = open_at(page, **asked)
    assert not app.exception and not app.error
    assert (view_of(app), app.query_params) == plain[at]


@pytest.mark.parametrize("value", ["0", "-2", "6", "1.5", "²", "٣", "3" * 400, "page"])
def test_a_page_that_the_gallery_does_not_have_is_the_first(open_at, world, value):
    app = open_at("data", page=value)
    assert not app.exception and app.session_state[f"gallery_page {world.sample} All classes All modalities all "] == 1
    assert "page" not in app.query_params


@pytest.mark.parametrize("value", ["bytes", "long"])
@pytest.mark.parametrize(
    ("page", "name"), [("data", "sample"), ("compare", "comparison"), ("train", "job"), ("explore", "job")]
)
def test_an_id_that_is_none_is_one_short_line(open_at, page, name, value):
    app = open_at(page, **{name: VALUES[value]})
    assert not app.exception and len(app.error) == 1
    assert 20 < len(app.error[0].value) < 400


def test_views_of_a_section_leave_the_address_with_it(open_at):
    app = open_at("compare", section="classes", order="gain", **{"class": "Foot"})
    assert {"order", "class"} <= app.query_params.keys()
    app.segmented_control(key="compare_section").set_value("calibration").run()
    assert app.query_params.keys() == {"comparison", "section"}


def test_another_sample_drops_the_filters_that_it_has_nothing_for(open_at, world):
    asked = {"class": "Foot", "split": "test", "modality": "MR", "page": "1"}
    app = open_at("data", **asked)
    choose("selectbox", "Sample", world.other)(app, world)
    assert not app.exception and not app.error
    assert app.query_params == {"sample": world.other, "split": "test", "modality": "MR"}
    assert "4 of 60 pictures" in text_of(app)


def test_another_sample_has_runs_of_its_own(open_at, world):
    app = open_at("train", run=world.older, labels_run=world.older)
    assert f"{world.older} · finished" in text_of(app).replace("\\", "")
    choose("selectbox", "Sample", world.other)(app, world)
    assert not app.exception and app.query_params == {"sample": world.other}
    choose("selectbox", "Sample", world.sample)(app, world)
    assert app.query_params == {"sample": world.sample}


def test_a_new_run_above_it_leaves_the_selected_one_selected(open_page, world, place, tmp_path):
    copy = factory.make_sample(place, seed=2)
    first = factory.make_run(place, copy, RunConfig(mode="labels"))
    app = open_page("train", sample=copy.id, run=first.id)
    factory.make_run(place, copy, RunConfig(mode="labels", seed=3))
    app.run()
    assert not app.exception and app.query_params["run"] == first.id
    assert app.dataframe[0].value["Run"].tolist()[1] == first.id
    assert app.session_state["runs"]["selection"]["rows"] == [1]


def test_wordings_of_an_address_are_in_the_editor_and_stay_there(open_at):
    asked = ["Eye: an eye of somebody", "Foot: toes; a foot"]
    app = open_at("compare", section="prompts", wordings=[*asked, "Unicorn: horse", "Chest: chest", "Brain"])
    assert not app.exception and not app.error
    assert app.query_params["wordings"] == asked
    assert view_of(app) != view_of(open_at("compare", section="prompts"))
    assert view_of(open_at("compare", section="prompts", wordings=asked)) == view_of(app)


def test_a_class_opened_by_its_address_gives_way_to_a_click(open_at, world):
    app = open_at("compare", section="classes", **{"class": "Foot"})
    assert "Foot: its test pictures" in text_of(app)
    app.session_state[bars(world)] = clicked("Chest", "base", 1, 1)
    app.run()
    assert app.query_params["class"] == "Chest" and "Chest: its test pictures" in text_of(app)
    choose("segmented_control", "Sorted by", "gain")(app, world)
    assert "Chest: its test pictures" in text_of(app)  # another order is the same class


def test_what_is_typed_but_is_no_view_stays_on_the_page_and_out_of_the_address(open_at, world):
    app = open_at("compare", section="prompts")
    choose("text_area", "Sentences, one a line", "no label")(app, world)
    assert app.text_area[0].value == "no label" and "sentences" not in app.query_params
