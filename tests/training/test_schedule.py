from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipdemo.training.schedule import batches, learning_rate_at


@given(n=st.integers(1, 300), size=st.integers(1, 64), seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_batches_are_full_and_never_repeat_a_row(n, size, seed, epoch):
    made = batches(n, size, seed, epoch)
    rows = np.concatenate(made)
    assert len(set(rows)) == len(rows) > n - min(size, n)
    assert {len(batch) for batch in made} == {min(size, n)}
    assert rows.min() >= 0
    assert rows.max() < n


def test_each_epoch_has_its_own_order_and_each_seed_too():
    first = np.concatenate(batches(64, 8, 0, 1))
    assert first.tolist() == np.concatenate(batches(64, 8, 0, 1)).tolist()
    assert first.tolist() != np.concatenate(batches(64, 8, 0, 2)).tolist()
    assert first.tolist() != np.concatenate(batches(64, 8, 1, 1)).tolist()


def test_learning_rate_rises_then_falls_to_nearly_zero():
    rates = [learning_rate_at(step, 100, 1e-3, 0.1) for step in range(100)]
    assert rates[0] == 1e-4
    assert max(rates) == rates[9] == rates[10] == 1e-3
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 1e-6


def test_without_warm_up_the_first_step_has_the_peak():
    assert learning_rate_at(0, 10, 0.5, 0) == 0.5
