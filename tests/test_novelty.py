"""Familiar or not: distances by eye, thresholds by counting, and a twin of the whole rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.errors import BadSettings
from clipdemo.novelty import kth_distances, novelty_of, quantile_threshold


def directions(n, dim=8, seed=0, around=None, spread=1.0):
    rows = np.random.default_rng(seed).normal(size=(n, dim)) * spread + (0 if around is None else around)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_second_nearest_of_three_by_hand():
    reference = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    picture = np.array([[0.6, 0.8]], np.float32)
    assert [float(kth_distances(picture, reference, k)[0]) for k in (1, 2, 3)] == pytest.approx([0.2, 0.4, 1.6])


def test_distances_equal_the_slow_way_over_block_borders():
    features, reference = directions(600), directions(40, seed=1)
    slow = [sorted(1 - float(row @ other) for other in reference)[4] for row in features]
    assert kth_distances(features, reference, 5) == pytest.approx(np.array(slow), abs=1e-5)


@pytest.mark.parametrize(("n", "place"), [(1, 1), (10, 10), (18, 18), (19, 19), (20, 20), (39, 38), (104, 100)])
def test_the_threshold_is_an_order_statistic(n, place):
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(float)
    assert quantile_threshold(scores) == place


@given(st.integers(19, 400))
def test_no_more_than_the_promised_share_is_expected_above_the_threshold(n):
    place = quantile_threshold(np.arange(1, n + 1, dtype=float))
    assert (n + 1 - place) / (n + 1) <= 0.05 + 1e-9


def test_new_pictures_of_the_same_kind_alarm_about_as_often_as_promised():
    alarms = [
        novelty_of(directions(200, seed=s), directions(99, seed=s + 500), directions(100, seed=s + 900)).alarms
        for s in range(100)
    ]
    assert 0.04 < np.sum(alarms) / 10_000 < 0.06


def test_what_lies_elsewhere_is_unfamiliar_and_test_pictures_decide_nothing():
    here = np.eye(8)[0] * 5
    train, validation = directions(80, around=here), directions(30, seed=1, around=here)
    rule = novelty_of(train, validation, directions(50, seed=2, around=here))
    assert (rule.distances(directions(20, seed=3, around=-here)) > rule.threshold).all()
    other = novelty_of(train, validation, directions(50, seed=2, around=-here))
    assert other.threshold == rule.threshold and other.alarms == 50 > rule.alarms
    assert other.false_alarms.low > 0.9 and rule.tested == 50 and rule.validated == 30


def test_few_training_pictures_make_k_smaller_and_none_are_refused():
    assert novelty_of(directions(3), directions(2, seed=1), directions(2, seed=2), k=5).k == 3
    with pytest.raises(BadSettings, match="0 training and 2 validation"):
        novelty_of(directions(3)[:0], directions(2), directions(2))
