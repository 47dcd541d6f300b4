import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import result_charts as charts
from clipdemo.appearance import COLOURS, of_kind
from clipdemo.evaluation import calibration
from clipdemo.interpolation import Hits, Interpolation
from clipdemo.interpolation import Point as Mix
from clipdemo.records import Step
from clipdemo.sweep import Point, SweepConfig, SweepResult
from clipdemo.worth import worth

LOOKS = {"b": of_kind("base"), "c": of_kind("captions"), "l": of_kind("labels")}
CLASSES = ("Cat", "Dog", "Eel")


def table(classes=CLASSES, models=tuple(LOOKS)):
    """Cat: 4 pictures, base 1 right; Dog: 2, base 2; Eel: 8, base 0. Captions gain 1, labels 2 of each but Dog's."""
    rows = []
    for extra, model in enumerate(models):
        for name, n, right in zip(classes, (4, 2, 8), (1, 2, 0), strict=True):
            found = min(n, right + extra)
            top1 = found / n
            gain = top1 - right / n if extra else np.nan
            rows.append((model, name, found, n, top1, top1 / 2, (1 + top1) / 2, gain))
    return pd.DataFrame(rows, columns=["model", "class", "right", "n", "top1", "low", "high", "gain"])


def valid(figure):
    """The figure, after a round through JSON with all of Plotly's checks."""
    return go.Figure(json.loads(figure.to_json()))


# ---- classes


@pytest.mark.parametrize(
    ("order", "model", "names"),
    [
        ("name", "l", ["Cat", "Dog", "Eel"]),
        ("frequency", "l", ["Eel", "Cat", "Dog"]),
        ("gain", "l", ["Cat", "Eel", "Dog"]),  # 2 of 4, 2 of 8, nothing
        ("difficulty", "b", ["Eel", "Cat", "Dog"]),
        ("difficulty", "l", ["Eel", "Cat", "Dog"]),
    ],
)
def test_classes_stand_in_the_order_asked_for(order, model, names):
    assert charts.ordered_classes(table(), order, model) == names
    assert order in charts.ORDERS


def test_equals_stand_by_name_and_a_model_without_a_base_keeps_all_classes():
    assert charts.ordered_classes(table(), "gain", "b") == ["Cat", "Dog", "Eel"]


def test_a_bar_is_a_share_with_its_interval_and_knows_its_class_and_model():
    figure = charts.class_bars(table(), LOOKS, ["Eel", "Cat", "Dog"])
    base, captions, labels = figure.data
    assert list(base.x) == [0, 25, 100] and list(captions.x) == [12.5, 50, 100] and list(labels.x) == [25, 75, 100]
    np.testing.assert_allclose(np.array(labels.x) - labels.error_x.arrayminus, [12.5, 37.5, 50])
    np.testing.assert_allclose(np.array(labels.x) + labels.error_x.array, [62.5, 87.5, 100])
    assert [list(row) for row in captions.customdata] == [["Eel", "c", 1, 8], ["Cat", "c", 2, 4], ["Dog", "c", 2, 2]]
    assert [name.split("<br>")[0] for name in base.y] == ["Eel", "Cat", "Dog"]
    assert "n = 8" in base.y[0]
    assert figure.layout.yaxis.autorange == "reversed"  # the first on top


def test_models_differ_in_more_than_colour():
    traces = charts.class_bars(table(), LOOKS, CLASSES).data
    assert len({trace.marker.color for trace in traces}) == 3
    assert len({trace.marker.pattern.shape for trace in traces}) == 3
    assert [trace.name for trace in traces] == ["● Base", "▲ Captions", "■ Labels"]


def test_no_class_left_is_an_empty_chart():
    empty = table()[:0]
    assert charts.ordered_classes(empty, "frequency", "l") == []
    assert len(valid(charts.class_bars(empty, LOOKS, [])).data) == 3


def test_more_classes_make_a_taller_chart():
    few, many = (charts.class_bars(table(), LOOKS, CLASSES[:n]).layout.height for n in (1, 3))
    assert many > few


def test_intervals_lie_about_their_value():
    figure = charts.model_intervals([(LOOKS["b"], 0.25, 0.2, 0.4), (LOOKS["l"], 0.5, 0.45, 0.6)])
    for trace, low, value, high in zip(figure.data, (20, 45), (25, 50), (40, 60), strict=True):
        assert trace.x[0] == value
        assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(low)
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(high)


# ---- confusion


def test_a_cell_is_its_share_of_the_line_and_knows_its_class_and_answer():
    counts = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    heat, dark, light, cells = charts.confusion_matrix(counts, CLASSES).data
    np.testing.assert_allclose(np.array(heat.z, float), [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]])
    assert (heat.zmin, heat.zmax) == (0, 1)  # the same scale in every matrix
    written = {(x, y): text for trace in (dark, light) for x, y, text in zip(trace.x, trace.y, trace.text, strict=True)}
    assert written == {(0, 0): "3", (1, 0): "1", (0, 2): "2", (2, 2): "2"}
    assert len(cells.x) == 9
    for x, y, (label, answer, n) in zip(cells.x, cells.y, cells.customdata, strict=True):
        assert (label, answer) == (CLASSES[int(y)], CLASSES[int(x)])
        assert int(n) == counts[int(y), int(x)]


@given(st.integers(2, 12), st.integers(0, 1000))
def test_every_picture_is_written_once(k, seed):
    counts = np.random.default_rng(seed).integers(0, 4, (k, k))
    _, dark, light, _ = charts.confusion_matrix(counts, [f"c{i}" for i in range(k)]).data
    assert sum(int(text) for trace in (dark, light) for text in trace.text) == counts.sum()


# ---- calibration


def test_a_bin_is_a_point_and_empty_bins_are_none():
    sure = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.55, 0.45]])
    found = calibration(sure, np.array([0, 0, 0, 1]))
    diagonal, line = charts.reliability({"l": found}, LOOKS).data
    assert list(diagonal.x) == list(diagonal.y) == [0, 100]
    np.testing.assert_allclose(line.x, [55, 95])
    np.testing.assert_allclose(line.y, [50, 100])
    assert line.marker.size[0] == line.marker.size[1] and [row[0] for row in line.customdata] == [2, 2]


def test_no_pictures_make_the_diagonal_alone():
    found = calibration(np.empty((0, 2)), np.empty(0, int))
    assert len(charts.reliability({"l": found}, LOOKS).data[1].x) == 0


# ---- weights and sweeps


def mix(share, validation, test, general):
    return Mix(share=share, **{k: Hits(right=v, n=10) for k, v in
               (("validation", validation), ("test", test), ("general", general))})  # fmt: skip


def test_the_way_between_weights_has_a_line_a_set_and_one_where_one_looks():
    found = Interpolation(
        id="i", run="r", base="builtin", sample="s", sample_hash="h", template="{label}", choices="labels",
        general_set="g", points=(mix(0, 2, 3, 9), mix(0.5, 5, 4, 8), mix(1, 6, 7, 1)),
    )  # fmt: skip
    figure = valid(charts.interpolation_curves(found, "labels", 0.5))
    assert [list(line.y) for line in figure.data] == [[20, 50, 60], [30, 40, 70], [90, 80, 10]]
    assert all(list(line.x) == [0, 0.5, 1] for line in figure.data)
    assert figure.layout.shapes[0].x0 == 0.5


def point(kind, pictures, seed, right):
    bits = np.packbits(np.arange(10) < right).tobytes().hex()
    return Point(kind=kind, pictures=pictures, seed=seed, run="r", evaluation="e", n=10, right=right, bits=bits)


def swept(*points):
    config = SweepConfig(sample="s", sizes=(100, 1000), seeds=(0, 1))
    base = Point(kind="base", pictures=0, seed=None, run=None, evaluation="e", n=10, right=2, bits="c000")
    values = {"id": "w", "sample": "s", "sample_hash": "h", "synthetic": True, "config": config, "total": 8}
    return SweepResult(**values, base=base, points=points)


POINTS = tuple(
    point(kind, size, seed, right + seed)
    for kind, rights in (("captions", (2, 4)), ("labels", (3, 7)))
    for size, right in zip((100, 1000), rights, strict=True)
    for seed in (0, 1)
)


def test_learning_curves_are_means_bands_and_a_sign_a_run():
    figure = valid(charts.learning_curves(swept(*POINTS), None))
    means = {line.name: (list(line.x), list(line.y)) for line in figure.data if line.name}
    assert means == {"▲ Captions": ([100, 1000], [25, 45]), "■ Labels": ([100, 1000], [35, 75])}
    signs = [sorted(trace.y) for trace in figure.data if trace.mode == "markers"]
    assert signs == [[20, 30, 40, 50], [30, 40, 70, 80]]
    bands = [list(trace.y) for trace in figure.data if trace.fill == "toself"]
    assert bands == [[30, 50, 40, 20], [40, 80, 70, 30]]
    assert figure.layout.shapes[0].y0 == 20  # the base
    assert [a.text for a in figure.layout.annotations] == ["base model"]


def test_a_sweep_that_has_just_begun_is_drawn():
    assert len(valid(charts.learning_curves(swept(), None)).data) == 6
    assert valid(charts.learning_curves(swept(POINTS[0]), None))


def test_an_arrow_leads_from_the_captions_to_the_labels_that_give_as_much():
    figure = charts.learning_curves(swept(*POINTS), known := worth(swept(*POINTS), resamples=50))
    arrow = figure.layout.annotations[-1]
    assert 10**arrow.ax == pytest.approx(1000) and arrow.y == arrow.ay == pytest.approx(45)  # the most captions
    assert 10**arrow.x == pytest.approx(known.answer.labels) and 100 < known.answer.labels < 1000


def test_there_is_no_arrow_to_a_size_that_was_not_tried():
    poor = [p if p.kind == "captions" else point("labels", p.pictures, p.seed, 1) for p in POINTS]
    known = worth(swept(*poor), resamples=50)
    assert known.answer.labels == float("inf")
    assert [a.text for a in charts.learning_curves(swept(*poor), known).layout.annotations] == ["base model"]


# ---- training


STEPS = [
    Step(step=0, epoch=0, seconds=0, validation_loss=3, validation_top1=0.1),
    Step(step=1, epoch=0.5, seconds=1, training_loss=2.5),
    Step(step=2, epoch=1, seconds=2, training_loss=2, validation_loss=2, validation_top1=0.4),
    Step(step=4, epoch=2, seconds=4, training_loss=1, validation_loss=1.5, validation_top1=0.3),
]


def test_losses_are_a_line_of_steps_and_one_of_epochs():
    training, validation = charts.training_losses({"l": STEPS}, LOOKS).data
    assert (list(training.x), list(training.y)) == ([0.5, 1, 2], [2.5, 2, 1])
    assert (list(validation.x), list(validation.y)) == ([0, 1, 2], [3, 2, 1.5])
    assert training.line.color == validation.line.color == COLOURS["labels"][0]
    assert training.line.dash is None and validation.line.dash == "dash"


def test_the_best_epoch_is_ringed():
    line, ring = charts.validation_accuracies({"l": STEPS}, LOOKS).data
    np.testing.assert_allclose(line.y, [10, 40, 30])
    assert (list(ring.x), list(ring.y)) == ([1], [40])


@pytest.mark.parametrize("steps", [[], STEPS[1:2]])
def test_a_run_that_has_measured_little_is_drawn(steps):
    assert valid(charts.training_losses({"l": steps}, LOOKS))
    assert valid(charts.validation_accuracies({"l": steps}, LOOKS))
