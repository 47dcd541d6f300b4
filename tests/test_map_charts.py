import base64
import json

import numpy as np
import pandas as pd
import pytest

from clipdemo.map_charts import (
    MOST_DRAWN,
    PALETTE,
    animated_figure,
    between,
    by_answer,
    by_class,
    highlighted,
    hover_texts,
    map_figure,
    selected_rows,
    thinned,
)
from clipdemo.projection import Map, MapSettings

CLASSES = ("Cat", "Dog")
LABELS = ["Cat", "Dog", "Dog", "Cat", "Dog"]


def made(n=5, view="together"):
    rng = np.random.default_rng(0)
    images = {name: rng.normal(size=(n, 2)).astype(np.float32) + i for i, name in enumerate(("base", "tuned"))}
    texts = {name: np.array([[0, 0], [9, 1]], np.float32) - i for i, name in enumerate(("base", "tuned"))}
    return Map(MapSettings(view=view), np.arange(n) * 10, images, texts, {})


def figure(found=None, groups=None, **more):
    found = found or made()
    return map_figure(found, groups or by_class(LABELS), [f"hover {i}" for i in range(5)], CLASSES, "base", **more)


def sent(trace):
    """The numbers of a trace as the browser gets them."""
    return [np.frombuffer(base64.b64decode(trace[axis]["bdata"]), trace[axis]["dtype"]) for axis in "xy"]


# ---- groups


def test_every_point_is_in_one_group_and_common_classes_come_first():
    groups = by_class(LABELS)
    assert [(g.name, g.places.tolist()) for g in groups] == [("Dog", [1, 2, 4]), ("Cat", [0, 3])]
    assert len({g.colour for g in groups}) == 2


@pytest.mark.parametrize(("classes", "names"), [(12, 12), (13, 13), (14, 13), (300, 13)])
def test_twelve_classes_have_a_colour_and_the_rest_is_grey(classes, names):
    labels = [f"class {i:03}" for i in range(classes) for _ in range(2)] + ["class 000"]
    groups = by_class(labels)
    assert len(groups) == names == len({g.colour for g in groups})
    assert sorted(np.concatenate([g.places for g in groups])) == list(range(len(labels)))
    if classes > 13:
        assert groups[-1].name == f"{classes - 12} other classes"


def test_the_palette_has_twelve_colours():
    assert len(set(PALETTE)) == 12


def test_right_and_wrong_differ_in_sign_and_colour():
    groups = by_answer([True, None, False, True])
    assert [(g.name, g.places.tolist()) for g in groups] == [("not asked", [1]), ("right", [0, 3]), ("wrong", [2])]
    assert len({g.symbol for g in groups[1:]}) == len({g.colour for g in groups[1:]}) == 2
    assert [g.name for g in by_answer(np.array([True, True]))] == ["right"]


def test_one_class_stands_out_by_sign_size_and_shade():
    rest, one = highlighted(LABELS, "Cat")
    assert (rest.places.tolist(), one.places.tolist()) == ([1, 2, 4], [0, 3])
    assert rest.symbol != one.symbol and rest.size < one.size and rest.opacity < one.opacity


# ---- what is hostile


def test_captions_and_labels_cannot_speak_html():
    rows = pd.DataFrame(
        {
            "label": ["<a href='javascript:x'>Cat</a>", None],
            "split": ["test", "train"],
            "caption": ["<img src=x onerror=alert(1)> & %{customdata} $x^2$ \u2028 line", None],
        }
    )
    hostile, empty = hover_texts(rows)
    assert hostile.startswith("<b>&lt;a href='javascript:x'&gt;Cat&lt;/a&gt;</b>, test<br>")
    assert hostile.count("<") == hostile.count("<b>") + hostile.count("</b>") + hostile.count("<br>")
    assert "&lt;img src=x onerror=alert(1)&gt; &amp;" in hostile
    assert "%{" not in hostile and "$" not in hostile
    assert empty == "train"


def test_class_names_are_escaped_in_legend_and_sentences():
    found = made()
    drawn = map_figure(found, by_class(["<b>x</b>"] * 5), [""] * 5, ("<i>a</i>", "b"), "base")
    assert drawn.data[0].name == "&lt;b&gt;x&lt;/b&gt;"
    assert drawn.data[-1].text[0] == "&lt;i&gt;a&lt;/i&gt;"
    names = ("<u>Base</u>", "<u>Tuned</u>")
    text = animated_figure(found, by_class(LABELS), [""] * 5, CLASSES, "base", "tuned", names).to_json()
    assert "<u>" not in json.loads(text)["layout"]["updatemenus"][0]["buttons"][0]["label"]


def test_long_captions_are_cut_and_broken_into_lines():
    rows = pd.DataFrame({"label": [""], "split": ["test"], "caption": ["word " * 20 + "x" * 500]})
    lines = hover_texts(rows)[0].split("<br>")
    assert lines[0] == "test"
    assert max(len(line) for line in lines) <= 60
    assert "".join(lines[1:]).endswith("…") and sum(len(line) for line in lines[1:]) <= 160


# ---- figures


def test_a_point_carries_its_row_its_hover_and_its_place():
    found = made()
    traces = json.loads(figure(found).to_json())["data"]
    dogs, cats, sentences = traces
    assert dogs["customdata"] == [[10], [20], [40]] and cats["customdata"] == [[0], [30]]
    assert dogs["text"] == ["hover 1", "hover 2", "hover 4"]
    assert dogs["type"] == "scattergl"
    np.testing.assert_array_equal(np.stack(sent(dogs), 1), found.images["base"][[1, 2, 4]])
    np.testing.assert_array_equal(np.stack(sent(sentences), 1), found.texts["base"])
    assert sentences["marker"]["symbol"] == "diamond" and sentences["text"] == ["Cat", "Dog"]
    assert "customdata" not in sentences


def test_svg_is_there_for_browsers_without_webgl():
    assert {trace.type for trace in figure(webgl=False).data} == {"scatter"}


def test_of_many_sentences_only_hovering_shows_the_names():
    found = made()
    many = {name: np.zeros((41, 2), np.float32) for name in found.texts}
    crowded = Map(found.settings, found.rows, found.images, many, {})
    drawn = map_figure(crowded, by_class(LABELS), [""] * 5, [f"c{i}" for i in range(41)], "base")
    assert drawn.data[-1].mode == "markers"


def test_without_sentences_there_are_only_pictures():
    found = made()
    none = Map(found.settings, found.rows, found.images, dict.fromkeys(found.images, np.empty((0, 2), np.float32)), {})
    assert len(figure(none).data) == 2
    assert len(animated_figure(none, by_class(LABELS), [""] * 5, (), "base", "tuned", ("a", "b")).frames[0].data) == 2


def test_axes_are_the_same_for_all_models_and_hold_all_points():
    found = made()
    first, second = (map_figure(found, by_class(LABELS), [""] * 5, CLASSES, name) for name in ("base", "tuned"))
    points = np.concatenate([*found.images.values(), *found.texts.values()])
    for axis, values in (("xaxis", points[:, 0]), ("yaxis", points[:, 1])):
        low, high = first.layout[axis].range
        assert first.layout[axis].range == second.layout[axis].range
        assert low < values.min() and values.max() < high


def test_the_axis_of_the_gap_says_what_it_is():
    assert "mean sentence" in figure(made(view="gap")).layout.xaxis.title.text
    assert figure().layout.xaxis.title.text is None


# ---- from one model to the next


def test_between_two_models_lies_a_straight_way():
    found = made()
    images, texts = between(found, "base", "tuned", 0.25)
    np.testing.assert_allclose(images, 0.75 * found.images["base"] + 0.25 * found.images["tuned"], atol=1e-6)
    np.testing.assert_allclose(texts, found.texts["base"] - 0.25)
    assert np.array_equal(between(found, "base", "tuned", 0)[0], found.images["base"])
    assert np.array_equal(between(found, "base", "tuned", 1)[0], found.images["tuned"])


def test_frames_begin_at_one_model_and_end_at_the_other_in_the_traces_order():
    found, groups = made(), by_class(LABELS)
    drawn = json.loads(animated_figure(found, groups, [""] * 5, CLASSES, "base", "tuned", ("Base", "Tuned")).to_json())
    for frame, model in ((drawn["frames"][0], "base"), (drawn["frames"][-1], "tuned")):
        assert [t["type"] for t in frame["data"]] == [t["type"] for t in drawn["data"]]
        for group, trace in zip(groups, frame["data"], strict=False):
            np.testing.assert_array_equal(np.stack(sent(trace), 1), found.images[model][group.places])
        np.testing.assert_array_equal(np.stack(sent(frame["data"][-1]), 1), found.texts[model])
    names = [frame["name"] for frame in drawn["frames"]]
    forth, back = drawn["layout"]["updatemenus"][0]["buttons"]
    assert forth["args"][0] == names and back["args"][0] == names[::-1]
    steps = drawn["layout"]["sliders"][0]["steps"]
    assert [step["args"][0] for step in steps] == [[name] for name in names]
    assert (steps[0]["label"], steps[-1]["label"]) == ("Base", "Tuned")


# ---- many points, and chosen ones


def test_many_points_are_thinned_by_class_and_a_note_says_so():
    found = made(100)
    labels = ["Cat"] * 90 + ["Dog"] * 10
    fewer, note = thinned(found, labels, 40)
    assert sum(labels[row // 10] == "Dog" for row in fewer.rows) == 10 and len(fewer.rows) == 40
    np.testing.assert_array_equal(fewer.images["tuned"], found.images["tuned"][fewer.rows // 10])
    assert note.startswith("40 of 100 pictures are drawn")
    assert thinned(found, labels) == (found, "") and MOST_DRAWN == 20_000


def test_selected_points_are_rows_each_once_and_sentences_are_left_out():
    points = [{"customdata": [30]}, {"customdata": [0]}, {"point_index": 1}, {"customdata": [30]}, {"customdata": 7}]
    assert selected_rows(points) == [30, 0, 7]
