"""The range of logits by cross-entropy against trying all ranges, and the rows it is found on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators.cross_entropy import cross_entropy, least_cross_entropy
from qcomp.quant.estimators.mse import least_squares
from qcomp.quant.integer_grid import IntegerGrid
from qcomp.quant.qparams import QParams
from qcomp.quant.rows import MOST_ROWS, RowSample

LOGITS = np.random.default_rng(0).gumbel(-3.0, 2.0, size=(40, 50)).astype(np.float32)
GRIDS = [IntegerGrid.of(4), IntegerGrid.of(4, symmetric=True), IntegerGrid()]


def seen(*batches: np.ndarray) -> Distribution:
    found = Distribution(rows=RowSample())
    for batch in batches:
        found.update(batch)
    return found


def by_definition(x: np.ndarray, low: float, high: float, grid: IntegerGrid) -> float:
    q = QParams.from_range(low, high, qmin=grid.qmin, qmax=grid.qmax, symmetric=grid.symmetric)
    steps = np.clip(np.rint(x.astype(np.float64) / q.scale) + q.zero_point, q.qmin, q.qmax)
    rounded = (steps - q.zero_point) * q.scale
    terms = special.softmax(x, axis=1) * special.log_softmax(rounded, axis=1)
    return -float(terms.sum(axis=1).mean())


EXACT = by_definition(LOGITS, -1e3, 1e3, IntegerGrid.of(24))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_cross_entropy_of_a_range_is_as_defined(grid: IntegerGrid) -> None:
    rows = LOGITS.astype(np.float64)
    found = cross_entropy(rows, special.softmax(rows, axis=1), -9.0, 6.0, grid)
    assert found == pytest.approx(by_definition(LOGITS, -9.0, 6.0, grid), rel=1e-4)


@pytest.mark.parametrize("grid", [g for g in GRIDS if g.steps == 15], ids=str)
def test_no_range_of_a_fine_mesh_is_much_better(grid: IntegerGrid) -> None:
    low, high = least_cross_entropy(seen(LOGITS), grid)
    ends = np.linspace(1.0, 0.0, 26)[:-1]
    tried = [
        by_definition(LOGITS, float(LOGITS.min()) * a, float(LOGITS.max()) * b, grid)
        for a in ends
        for b in ends
    ]
    # What rounding adds to the entropy of the predictions themselves.
    assert by_definition(LOGITS, low, high, grid) - EXACT <= 1.1 * (min(tried) - EXACT)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_neither_all_of_the_range_nor_least_squares_is_better(grid: IntegerGrid) -> None:
    found = by_definition(LOGITS, *least_cross_entropy(seen(LOGITS), grid), grid)
    assert EXACT < found <= by_definition(LOGITS, *least_squares(seen(LOGITS), grid), grid)
    assert found < by_definition(LOGITS, float(LOGITS.min()), float(LOGITS.max()), grid)


def test_logits_far_below_the_largest_are_given_up_where_squares_keep_them() -> None:
    rows = np.concatenate([LOGITS, np.full((40, 10), -40.0, np.float32)], axis=1)
    low, high = least_cross_entropy(seen(rows), IntegerGrid.of(4))
    assert low > -20.0
    assert high > 0.7 * LOGITS.max()
    assert least_squares(seen(rows), IntegerGrid.of(4))[0] < -30.0


def test_tensors_without_rows_of_logits_get_the_least_squared_error() -> None:
    plain = Distribution()
    plain.update(LOGITS)
    assert least_cross_entropy(plain, IntegerGrid()) == least_squares(plain, IntegerGrid())


def test_a_short_stream_of_rows_is_kept_whole() -> None:
    rows = RowSample()
    for part in np.array_split(LOGITS.reshape(4, 10, 50), 3):
        rows.update(part)
    np.testing.assert_array_equal(rows.rows, LOGITS)


def test_a_long_stream_of_rows_is_sampled_evenly_and_bounded() -> None:
    rows = RowSample()
    for start in range(0, 50_000, 500):
        rows.update(np.arange(start, start + 500, dtype=np.float32)[:, None])
    assert rows.rows.shape == (MOST_ROWS, 1)
    share, _ = np.histogram(rows.rows, bins=5, range=(0, 50_000))
    np.testing.assert_allclose(share, MOST_ROWS / 5, rtol=0.15)
    again = RowSample()
    again.update(np.arange(50_000, dtype=np.float32)[:, None])
    assert again.rows.shape == rows.rows.shape


def test_rows_that_are_very_wide_are_kept_one_at_least() -> None:
    rows = RowSample()
    rows.update(np.zeros((2, 1 << 21), np.float32))
    assert rows.rows.shape == (1, 1 << 21)
