"""Charts are tested by the data in them; how they look is for eyes."""

import json

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from clipdemo import charts
from clipdemo.appearance import COLOURS
from clipdemo.records import ClassScore, CleaningReport, Evaluation, Step


def evaluation(name, cat, dog):
    return Evaluation(
        name=name,
        run=None,
        base="builtin",
        sample="tiny",
        sample_hash="0",
        template="{label}",
        predictions="p",
        top1=0.5,
        top3=1.0,
        n=14,
        per_class={"Cat": ClassScore(correct=cat, top3=4, n=4), "Dog": ClassScore(correct=dog, top3=10, n=10)},
    )


def test_class_shares_are_per_cent_of_each_whole():
    report = CleaningReport(
        rows=100,
        dropped=[],
        sampled=16,
        not_drawn=84,
        relabelled=0,
        source_classes={"Cat": 25, "Dog": 75},
        split_classes={"train": {"Cat": 4, "Dog": 4}, "validation": {"Dog": 4}, "test": {"Cat": 1, "Dog": 3}},
    )
    source, train, validation, test = charts.class_shares(report).data
    assert list(source.y) == ["Dog", "Cat"]
    assert [list(trace.x) for trace in (source, train, validation, test)] == [[75, 25], [50, 50], [100, 0], [75, 25]]
    assert source.name == "cleaned source, n = 100"
    assert train.name == "train, n = 8"
    assert len({trace.marker.symbol for trace in (train, validation, test)}) == 3


def validated(step, epoch, top1, loss=1.0):
    return Step(step=step, epoch=epoch, seconds=1, validation_loss=loss, validation_top1=top1)


def trained(step, epoch, loss):
    return Step(step=step, epoch=epoch, seconds=1, training_loss=loss)


STEPS = [validated(0, 0, 0.9), trained(1, 0.5, 3.0), validated(2, 1, 0.4), validated(4, 2, 0.6), validated(6, 3, 0.6)]


def test_the_best_epoch_is_the_first_of_the_highest_and_never_the_base():
    assert charts.best_step(STEPS).epoch == 2
    assert charts.best_step(STEPS[:2]) is None
    assert charts.best_step([]) is None


def test_accuracy_curves_hold_per_cent_and_ring_the_best_epoch():
    option = charts.accuracy_curves({"captions": STEPS, "labels": STEPS[:2]}, epochs=6)
    frame = option["dataset"]["source"]
    rows = frame[["epoch", "captions, validation"]].dropna().to_numpy()
    assert np.allclose(rows, [[0, 90], [1, 40], [2, 60], [3, 60]])
    captions, labels = option["series"]
    assert captions["markPoint"]["data"][0]["coord"] == [2, 60]
    assert "markPoint" not in labels
    assert (captions["color"], labels["color"]) == (COLOURS["captions"][0], COLOURS["labels"][0])
    assert option["xAxis"]["max"] == 6
    assert option["animation"] is False


def test_loss_curves_tell_training_from_validation_by_more_than_colour():
    option = charts.loss_curves({"labels": STEPS}, epochs=3)
    training, validation = option["series"]
    assert training["encode"]["y"] == "labels, training"
    assert training["lineStyle"]["type"] == "solid"
    assert validation["lineStyle"]["type"] != "solid"
    frame = option["dataset"]["source"]
    assert frame["labels, training"].dropna().tolist() == [3.0]
    assert len(frame["labels, validation"].dropna()) == 4


def test_options_without_their_data_are_json():
    option = charts.loss_curves({"captions": STEPS}, 3) | {"dataset": None}
    assert json.loads(json.dumps(option)) == option


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(4, 50))
def test_thinning_keeps_order_ends_and_extremes(values, most):
    frame = pd.DataFrame({"x": range(len(values)), "y": values})
    thin = charts.thinned(frame, "y", most)
    assert len(thin) <= max(most + 2, 0) or len(frame) <= most
    assert thin["x"].is_monotonic_increasing and thin["x"].is_unique
    assert thin["x"].iloc[0] == 0 and thin["x"].iloc[-1] == len(values) - 1
    assert thin["y"].min() == min(values) and thin["y"].max() == max(values)


def test_a_long_training_curve_is_drawn_faint_beneath_its_smoothed_self():
    steps = [Step(step=i, epoch=i / 10, seconds=i, training_loss=5 / (1 + i) + (i % 2)) for i in range(1, 60)]
    option = charts.loss_curves({"labels": steps}, epochs=6)
    raw, _, smoothed = option["series"]
    assert raw["lineStyle"]["opacity"] < 0.5 and smoothed["encode"]["y"] == "labels, smoothed"
    frame = option["dataset"]["source"]
    smoothed, raw = (frame[f"labels, {kind}"].dropna() for kind in ("smoothed", "training"))
    assert len(smoothed) == len(raw) == 59
    assert smoothed.diff().abs().mean() < raw.diff().abs().mean() / 3
