"""Familiar or not: distances by eye, thresholds by counting, and a twin of the whole rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.errors import BadSettings
from clipdemo.novelty import LAYOUT, LOOKS, looks, nearest_distances, novelty_of, quantile_threshold, seen


def directions(n, dim=8, seed=0, around=None, spread=1.0):
    rows = np.random.default_rng(seed).normal(size=(n, dim)) * spread + (0 if around is None else around)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def in_all_ways(n, seed, around=None):
    return {way: directions(n, seed=seed * 10 + i, around=around) for i, way in enumerate(("content", "looks"))}


def test_the_nearest_of_three_by_hand():
    reference = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    rows = np.array([[0.6, 0.8], [-3, 0]], np.float32)
    assert nearest_distances(rows, reference) == pytest.approx([(0.36 + 0.04) ** 0.5, 2])


def test_distances_equal_the_slow_way_over_block_borders_with_and_without_groups():
    rows, reference = directions(600), directions(40, seed=1)
    slow = [min(np.linalg.norm(row - other) for other in reference) for row in rows]
    assert nearest_distances(rows, reference) == pytest.approx(np.array(slow), abs=1e-5)
    group = np.arange(600) // 2
    apart = [
        min(np.linalg.norm(row - rows[j]) for j in np.flatnonzero(group != group[i])) for i, row in enumerate(rows)
    ]
    assert nearest_distances(rows, rows, group) == pytest.approx(np.array(apart), abs=1e-3)


@pytest.mark.parametrize(("n", "place"), [(1, 1), (10, 10), (18, 18), (19, 19), (20, 20), (39, 38), (104, 100)])
def test_the_threshold_is_an_order_statistic(n, place):
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(float)
    assert quantile_threshold(scores) == place


@given(st.integers(19, 400))
def test_no_more_than_the_promised_share_is_expected_above_the_threshold(n):
    place = quantile_threshold(np.arange(1, n + 1, dtype=float))
    assert (n + 1 - place) / (n + 1) <= 0.05 + 1e-9


def test_new_pictures_of_the_same_kind_alarm_about_as_often_as_promised():
    alarms = [novelty_of(in_all_ways(200, s), in_all_ways(100, s + 500)).alarms for s in range(100)]
    assert 0.04 < np.sum(alarms) / 10_000 < 0.06


def test_pictures_of_one_case_do_not_make_each_other_familiar():
    """Every case has two pictures that are nearly the same. Without the cases, only twins would be familiar."""
    train, new = in_all_ways(200, 1), in_all_ways(100, 2)
    twins = {way: np.concatenate([rows, rows + np.float32(1e-3)]) for way, rows in train.items()}
    cases = [f"case {i}" for i in range(200)] * 2
    assert novelty_of(twins, new, cases).alarms < 15
    assert novelty_of(twins, new).alarms == 100


def test_what_lies_elsewhere_in_any_way_is_unfamiliar_and_held_out_pictures_decide_nothing():
    here = np.eye(8)[0] * 5
    train = in_all_ways(80, 1, here)
    rule = novelty_of(train, in_all_ways(50, 2, here))
    for way in train:
        strange = in_all_ways(20, 3, here) | {way: directions(20, seed=4, around=-here)}
        assert (rule.strangeness(strange) > rule.threshold).all()
    other = novelty_of(train, in_all_ways(50, 2, -here))
    assert other.threshold == rule.threshold and other.alarms == 50 > rule.alarms
    assert other.false_alarms.low > 0.9 and rule.tested == 50 and rule.learned == 80


def test_a_rule_needs_two_cases_and_no_held_out_picture():
    with pytest.raises(BadSettings, match="3 training pictures of one case"):
        novelty_of(in_all_ways(3, 1), in_all_ways(2, 2), ["a"] * 3)
    assert novelty_of(in_all_ways(3, 1), in_all_ways(0, 2)).tested == 0


def test_looks_tell_noise_flat_and_coloured_pictures_apart_and_do_not_depend_on_their_neighbours():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (72, 72, 3), np.uint8)
    flat, red = np.full_like(noise, 90), np.zeros_like(noise)
    red[..., 0] = 200
    found = looks(np.stack([noise, flat, red]))
    assert found.shape == (3, LOOKS) and np.isfinite(found).all()
    assert looks(np.stack([red]))[0] == pytest.approx(found[2], abs=1e-4)
    assert np.linalg.norm(found[:, None] - found, axis=2)[np.triu_indices(3, 1)].min() > 0.5


@pytest.mark.parametrize("side", [9, 16, 72, 130, 224])
def test_every_size_is_seen_and_a_layout_is_the_mean_colour_of_its_places(side):
    pixels = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), np.uint8)
    found = seen(pixels, directions(2))
    assert {way: rows.shape for way, rows in found.items()} == {
        "content": (2, 8), "looks": (2, LOOKS), "layout": (2, LAYOUT)
    }  # fmt: skip
    block = side // 9
    assert found["layout"][1, :3] == pytest.approx(pixels[1, :block, :block].mean(axis=(0, 1)) / 255, abs=1e-5)
    assert set(seen(pixels)) == {"looks", "layout"} and len(seen(pixels[:0])["looks"]) == 0
