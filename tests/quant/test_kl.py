"""The KL estimator against a direct implementation of what its module says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators.kl import BINS_PER_LEVEL, divergence, information
from qcomp.quant.integer_grid import IntegerGrid

GRID = IntegerGrid()
SYMMETRIC = IntegerGrid(symmetric=True)


def by_definition(
    counts: np.ndarray, first: int, last: int, levels: int, ends: tuple[float, float] = (0, 0)
) -> float:
    """One range at a time, one level at a time; a covered end is a symbol of its own."""
    p = counts[first:last].copy()
    q = np.zeros_like(p)
    for level in range(levels):
        a, b = (k * (last - first) // levels for k in (level, level + 1))
        filled = p[a:b] > 0
        if filled.any():
            q[a:b][filled] = p[a:b].sum() / filled.sum()
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    for covered, place, count in ((first == 0, 0, ends[0]), (last == counts.size, -1, ends[1])):
        if covered:
            p, q = np.append(p, count), np.append(q, count)
        else:
            p[place if place == 0 else last - first - 1] += count
    if q.sum() == 0:
        return np.inf
    return float(special.rel_entr(p / p.sum(), q / q.sum()).sum())


@pytest.mark.parametrize("levels", [2, 3, 8])
@pytest.mark.parametrize("ends", [(0.0, 0.0), (7.0, 30.0)])
def test_the_divergence_of_many_ranges_is_that_of_each(
    levels: int, ends: tuple[float, float]
) -> None:
    r = np.random.default_rng(levels)
    counts = r.poisson(r.gamma(0.5, 4.0, 60)).astype(np.float64)
    ranges = [(a, b) for a in range(60) for b in range(a + levels, 61)]
    first, last = np.array(ranges).T
    found = divergence(counts, first, last, levels, ends)
    expected = [by_definition(counts, a, b, levels, ends) for a, b in ranges]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.isinf(expected).any()
    assert np.isfinite(expected).any()


def seen(x: np.ndarray) -> Distribution:
    found = Distribution()
    found.update(x.astype(np.float32))
    return found


def test_the_symmetric_threshold_is_that_of_a_search_with_exact_counts() -> None:
    x = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    _, high = information(seen(x), SYMMETRIC)
    peak, side = float(np.abs(x).max()), 128 * BINS_PER_LEVEL
    counts = np.histogram(np.abs(x), bins=side, range=(0, peak))[0].astype(np.float64)
    tried = range(side, 127, -16)
    errors = [by_definition(counts, 0, i, 128) for i in tried]
    bound = peak * tried[int(np.argmin(errors))] / side
    assert high == pytest.approx(bound, rel=0.06)


@pytest.mark.parametrize("grid", [GRID, SYMMETRIC], ids=str)
def test_a_far_outlier_is_given_up(grid: IntegerGrid) -> None:
    x = np.append(np.random.default_rng(0).normal(size=300_000), [30.0])
    low, high = information(seen(x), grid)
    assert -6.0 < low < -2.5 < 2.5 < high < 6.0


@pytest.mark.parametrize("grid", [GRID, SYMMETRIC], ids=str)
def test_evenly_spread_values_are_not_clipped(grid: IntegerGrid) -> None:
    x = np.linspace(-1.0, 1.0, 100_000)
    assert information(seen(x), grid) == pytest.approx((-1.0, 1.0), rel=0.01)


def test_zeros_do_not_count() -> None:
    x = np.maximum(np.random.default_rng(0).normal(size=300_000), 0)
    with_zeros, without = information(seen(x), GRID), information(seen(x[x > 0]), GRID)
    assert with_zeros[0] == 0.0
    assert with_zeros[1] == without[1]
    assert without[0] == x[x > 0].astype(np.float32).min()


@pytest.mark.parametrize("mean", [-3.0, 0.0, 2.0])
def test_a_saturated_value_is_kept(mean: float) -> None:
    x = np.clip(np.random.default_rng(0).normal(mean, 3.0, size=100_000), 0.0, 6.0)
    assert information(seen(x), GRID) == (0.0, 6.0)
    assert information(seen(x - 6), GRID) == (-6.0, 0.0)


def test_signs_mirror() -> None:
    x = np.random.default_rng(0).gamma(1.0, 1.0, 100_000) - 0.3
    low, high = information(seen(x), GRID)
    assert information(seen(-x), GRID) == pytest.approx((-high, -low), rel=1e-6)


def test_grids_finer_than_the_histogram_get_the_extremes() -> None:
    x = seen(np.random.default_rng(0).normal(size=1000))
    assert information(x, IntegerGrid.of(16, symmetric=True)) == x.extremes
