import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.map_charts import (
    MOST_DRAWN,
    PALETTE,
    SENTENCES,
    bounds,
    brushed,
    by_answer,
    by_class,
    caption_characters,
    drawn_note,
    highlighted,
    hover_of,
    inside,
    map_data,
    thinned,
)
from clipdemo.projection import Map, MapSettings

CLASSES = ("Cat", "Dog")
LABELS = ["Cat", "Dog", "Dog", "Cat", "Dog"]
TITLES = {"base": "Base", "tuned": "Tuned"}
SQUARE = [[0, 0], [2, 0], [2, 2], [0, 2]]


def made(n=5, view="together"):
    rng = np.random.default_rng(0)
    images = {name: rng.normal(size=(n, 2)).astype(np.float32) + i for i, name in enumerate(("base", "tuned"))}
    texts = {name: np.array([[0, 0], [9, 1]], np.float32) - i for i, name in enumerate(("base", "tuned"))}
    return Map(MapSettings(view=view), np.arange(n) * 10, images, texts, {})


def rows_of(n=5, label="Cat", caption="a caption"):
    return pd.DataFrame({"label": [label] * n, "split": ["test"] * n, "caption": [caption] * n})


def read(data):
    """What was packed, as the browser takes it apart: a header and arrays in the order of `assets/map.js`."""
    length = int.from_bytes(data[:4], "little")
    header, at = json.loads(data[4 : 4 + length]), 4 + length
    assert at % 4 == 0
    arrays = []
    n, m = header["n"], len(header["sentences"])
    sizes = [("<f4", 2 * n), ("<f4", 2 * m)] * len(header["ends"]) + [("<u4", n), ("<u4", n), ("u1", n)]
    for kind, count in sizes:
        arrays.append(np.frombuffer(data, kind, count, at))
        at += arrays[-1].nbytes
    assert at == len(data)
    return header, arrays


# ---- groups


def test_every_point_is_in_one_group_and_common_classes_come_first():
    groups = by_class(LABELS)
    assert [(g.name, g.places.tolist()) for g in groups] == [("Dog", [1, 2, 4]), ("Cat", [0, 3])]
    assert len({g.colour for g in groups}) == 2


def test_pictures_without_a_class_have_a_name_in_the_legend_too():
    assert [group.name for group in by_class(["", "", "Cat"])] == ["no class", "Cat"]


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


# ---- what hovering shows


def test_hovering_shows_class_split_and_the_captions_beginning_letter_by_letter():
    hostile = "<img src=x onerror=alert(1)> & {@x} {b} \u2028 line"
    rows = pd.DataFrame(
        {"label": ["<b>Cat</b>", None, "Cat"], "split": ["test", "train", "test"], "caption": [hostile, None, hostile]}
    )
    hover = hover_of(rows)
    assert [hover.whats[i] for i in hover.what] == ["<b>Cat</b>, test", "train", "Cat, test"]
    shown = [hover.captions[i] for i in hover.caption]
    assert shown == ["<img src=x onerror=alert(1)> & {@x} {b} line", "", shown[0]]
    assert len(hover.captions) == 2  # each once


def test_long_captions_are_cut():
    [caption] = hover_of(rows_of(1, caption="word  " * 20 + "x" * 100_000)).captions
    assert len(caption) == 160 and caption.endswith("…") and caption.startswith("word word")


def test_the_more_pictures_the_shorter_their_captions():
    assert [caption_characters(n) for n in (1, 10_000, 25_000, 100_000)] == [160, 160, 160, 40]


# ---- what is sent


def test_a_model_s_map_holds_its_points_its_groups_and_its_names():
    found = made()
    data = map_data(found, by_class(LABELS), hover_of(rows_of()), CLASSES, TITLES, "base", alt="A map")
    header, (images, texts, what, caption, group) = read(data)
    np.testing.assert_array_equal(images.reshape(-1, 2), found.images["base"])
    np.testing.assert_array_equal(texts.reshape(-1, 2), found.texts["base"])
    assert [header["groups"][g]["name"] for g in group] == LABELS
    assert header["sentences"] == ["Cat", "Dog"] and header["titles"] == ["Base"] and header["alt"] == "A map"
    assert [header["whats"][i] for i in what] == ["Cat, test"] * 5
    assert [header["captions"][i] for i in caption] == ["a caption"] * 5


def test_the_way_holds_both_ends_with_the_same_pictures_in_the_same_order():
    found = made()
    data = map_data(found, by_class(LABELS), hover_of(rows_of()), CLASSES, TITLES, "base", "tuned")
    header, (start, first_texts, goal, last_texts, *_) = read(data)
    assert header["ends"] == ["base", "tuned"] and header["titles"] == ["Base", "Tuned"]
    np.testing.assert_array_equal(start.reshape(-1, 2), found.images["base"])
    np.testing.assert_array_equal(goal.reshape(-1, 2), found.images["tuned"])
    np.testing.assert_array_equal(last_texts - first_texts, -1)


def test_without_sentences_there_are_only_pictures():
    found = made()
    none = Map(found.settings, found.rows, found.images, dict.fromkeys(found.images, np.empty((0, 2), np.float32)), {})
    header, (_, texts, *_) = read(map_data(none, by_class(LABELS), hover_of(rows_of()), CLASSES, TITLES, "base"))
    assert header["sentences"] == [] and not texts.size


def test_text_that_is_no_text_is_sent_as_what_can_be_read():
    header, _ = read(map_data(made(), by_class(["\ud800"] * 5), hover_of(rows_of()), CLASSES, TITLES, "base"))
    assert header["groups"][0]["name"] == "?"


def test_the_same_bounds_hold_all_points_of_all_models():
    found = made()
    points = np.concatenate([*found.images.values(), *found.texts.values()])
    left, right, bottom, top = bounds(found)
    assert left < points[:, 0].min() and points[:, 0].max() < right
    assert bottom < points[:, 1].min() and points[:, 1].max() < top
    told = [
        read(map_data(found, by_class(LABELS), hover_of(rows_of()), CLASSES, TITLES, name))[0]["bounds"]
        for name in TITLES
    ]
    assert told[0] == told[1] == [left, right, bottom, top]


def test_the_axis_of_the_gap_says_what_it_is():
    axes = {
        view: read(map_data(made(view=view), by_class(LABELS), hover_of(rows_of()), CLASSES, TITLES, "base"))[0]["axis"]
        for view in ("gap", "together")
    }
    assert "mean sentence" in axes["gap"] and axes["together"] == ""


def test_points_of_many_are_smaller():
    sizes = []
    for n in (5, 20_000, 100_000):
        data = map_data(made(n), by_class(["Cat"] * n), hover_of(rows_of(n)), CLASSES, TITLES, "base")
        sizes.append(read(data)[0]["groups"][0]["size"])
    assert sizes[0] == sizes[1] == 6 and 3 < sizes[2] < 4


# ---- many points, and chosen ones


def test_many_points_are_thinned_by_class_and_a_note_says_so():
    found = made(100)
    labels = ["Cat"] * 90 + ["Dog"] * 10
    fewer = thinned(found, labels, 40)
    assert sum(labels[row // 10] == "Dog" for row in fewer.rows) == 10 and len(fewer.rows) == 40
    np.testing.assert_array_equal(fewer.images["tuned"], found.images["tuned"][fewer.rows // 10])
    assert drawn_note(fewer, 100).startswith("40 of 100 pictures are drawn")
    assert thinned(found, labels) is found and drawn_note(found, 100) == "" and MOST_DRAWN == 100_000
    assert "first 40 characters" in drawn_note(made(100_000), 100_000)


def test_inside_a_drawn_area_by_hand():
    hollow = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)  # a crown: its dent is outside
    points = np.array([[0.5, 2], [3.5, 2], [2, 3], [2, 0.5], [5, 1], [-1, 1]], np.float32)
    assert inside(points, hollow).tolist() == [True, True, False, True, False, False]


def slowly(x, y, corners):
    """Crossings of a ray to the right, one edge after another, as `assets/map.js` counts them."""
    odd, j = False, len(corners) - 1
    for i in range(len(corners)):
        (ax, ay), (bx, by) = corners[i], corners[j]
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            odd = not odd
        j = i
    return odd


small = st.integers(-4, 4).map(lambda i: i / 2)


@given(st.lists(st.tuples(small, small), min_size=3, max_size=9), st.lists(st.tuples(small, small), min_size=1))
def test_all_points_at_once_are_inside_as_one_after_another(corners, points):
    points, corners = np.array(points, np.float32), np.array(corners, float)
    assert inside(points, corners).tolist() == [slowly(x, y, corners) for x, y in points.astype(float)]


def test_what_was_drawn_round_comes_back_as_rows_without_hidden_groups():
    found = made()
    found.images["base"][:] = [[1, 1], [1.5, 1], [5, 5], [0.1, 0.1], [-1, 1]]
    groups = by_class(LABELS)
    assert brushed(found, groups, "base", {"area": SQUARE, "hidden": []}) == [0, 10, 30]
    assert brushed(found, groups, "base", {"area": SQUARE, "hidden": ["Cat", SENTENCES, "none such"]}) == [10]
    assert brushed(found, groups, "base", {"point": 2}) == [20]


@pytest.mark.parametrize(
    "brush",
    [
        None, "all", [], 3, {}, {"area": None}, {"area": []}, {"area": [[0, 0], [1, 1]]}, {"area": [[0, 0, 0]] * 3},
        {"area": [[0, 0], [1], [2, 2]]}, {"area": [["a", "b"]] * 3}, {"area": [[float("nan"), 0], [1, 1], [0, 1]]},
        {"area": [[float("inf"), 0], [1, 1], [0, 1]]}, {"area": [[10**400, 0], [1, 1], [0, 1]]},
        {"area": [[0, 0], [9, 9]] * 10_000}, {"area": {"0": [0, 0]}}, {"area": [{}, {}, {}]},
        {"point": -1}, {"point": 5}, {"point": 10**30}, {"point": True}, {"point": 1.0}, {"point": "1"},
    ],
)  # fmt: skip
def test_nonsense_is_nobody(brush):
    assert brushed(made(), by_class(LABELS), "base", brush) == []


@pytest.mark.parametrize("hidden", [None, 3, "Cat", [["Cat"]], [{}]])
def test_nonsense_hides_nothing(hidden):
    everything = [[-99, -99], [99, -99], [99, 99], [-99, 99]]
    assert len(brushed(made(), by_class(LABELS), "base", {"area": everything, "hidden": hidden})) == 5
