"""Moments of values that stream by are those of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.quant.moments import Moments, RunningMoments


def test_batches_give_the_moments_of_all_their_values() -> None:
    batches = [np.random.default_rng(i).normal(i, 2.0, (1, 5 + i, 4, 3)) for i in range(4)]
    running = RunningMoments()
    for batch in batches:
        running.update(batch.astype(np.float32))
    rows = np.concatenate([batch.astype(np.float32).reshape(-1, 3) for batch in batches])
    found = running.moments()
    assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-9)
    assert_allclose(found.std, rows.std(axis=0, dtype=np.float64), rtol=1e-9)
    assert_array_equal(found.low, rows.min(axis=0))
    assert_array_equal(found.high, rows.max(axis=0))
    assert found.range == (rows.min(), rows.max())


def test_a_single_number_is_one_channel() -> None:
    running = RunningMoments()
    running.update(np.float32(3.0))
    assert running.moments().range == (3.0, 3.0)
    assert running.moments().std == 0.0


def test_there_are_none_before_the_first_value() -> None:
    with pytest.raises(ValueError, match="no values were observed"):
        RunningMoments().moments()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        RunningMoments().update(np.array([1.0, np.nan]))


def test_integers_must_reach_zero_too() -> None:
    zero = np.zeros(3)
    found = Moments(zero, zero, np.array([-1.0, 2.0, -3.0]), np.array([4.0, 5.0, -2.0]))
    assert_array_equal(found.reach, [5.0, 5.0, 3.0])
