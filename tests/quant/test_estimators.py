"""Estimators of ranges, and the histogram they work on, against brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.quant.distribution import AverageExtremes, Distribution, Range
from qcomp.quant.estimators import ESTIMATORS
from qcomp.quant.estimators.mse import squared_error
from qcomp.quant.estimators.percentile import percentile
from qcomp.quant.histogram import Histogram
from qcomp.quant.integer_grid import IntegerGrid
from qcomp.quant.qparams import QParams

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
finite = st.floats(-(2.0**100), 2.0**100, width=32)


def sample(draw: Callable[[np.random.Generator], object], seed: int = 0) -> F32:
    return np.asarray(draw(np.random.default_rng(seed)), np.float32)


GRID = IntegerGrid()
SYMMETRIC = IntegerGrid(symmetric=True)
GRIDS = [GRID, SYMMETRIC, IntegerGrid.of(4), IntegerGrid.of(16, symmetric=True)]


def counted(parts: Sequence[F32]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.update(part, float(part.min()), float(part.max()))
    return histogram


def distribution(x: F32, batches: int = 1) -> Distribution:
    found = Distribution()
    for part in np.array_split(x, batches):
        found.update(part)
    return found


def estimated(kind: str, x: F32, grid: IntegerGrid = GRID) -> Range:
    return ESTIMATORS[kind](distribution(x, batches=3), grid)


def quantization_error(x: F32, low: float, high: float, grid: IntegerGrid = GRID) -> float:
    q = QParams.from_range(low, high, qmin=grid.qmin, qmax=grid.qmax, symmetric=grid.symmetric)
    steps = np.clip(np.rint(x / q.scale) + q.zero_point, q.qmin, q.qmax) - q.zero_point
    return float(np.mean((x.astype(np.float64) - steps * q.scale) ** 2))


def test_minmax_is_the_extremes_of_all_batches() -> None:
    x = sample(lambda r: r.normal(size=1000))
    assert estimated("minmax", x) == (float(x.min()), float(x.max()))


def test_moving_average_is_the_plain_mean_at_first_and_forgets_later() -> None:
    ema = AverageExtremes(momentum=0.9)
    for high in (1.0, 2.0, 3.0):
        ema.update(0.0, high)
    assert (ema.low, ema.high) == pytest.approx((0.0, 2.0))
    for _ in range(200):
        ema.update(0.0, 7.0)
    assert (ema.low, ema.high) == pytest.approx((0.0, 7.0), abs=1e-6)


def test_one_batch_of_outliers_moves_the_average_by_its_share_only() -> None:
    seen = Distribution()
    for i in range(100):
        seen.update(np.array([-1.0, 1000.0 if i == 50 else 1.0]))
    low, high = ESTIMATORS["ema"](seen, GRID)
    assert low == -1.0
    assert high < 2.0


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
def test_percentile_agrees_with_sorting_within_a_bin(share: float) -> None:
    x = sample(lambda r: r.normal(size=50_000))
    low, high = percentile(distribution(x), GRID, share)
    assert_allclose([low, high], np.percentile(x, [100 - share, share]), rtol=2**-7)


def test_percentile_ignores_a_far_outlier_and_keeps_its_resolution() -> None:
    x = np.append(sample(lambda r: r.normal(size=200_000)), [np.float32(1e30)])
    low, high = percentile(distribution(x), GRID, 99.99)
    assert_allclose([low, high], np.percentile(x, [0.01, 99.99]), rtol=2**-7)


DISTRIBUTIONS = {
    "normal": lambda r: r.normal(size=20_000),
    "shifted": lambda r: r.normal(3.0, 1.0, size=20_000),
    "laplace": lambda r: r.laplace(0.5, 3.0, size=20_000),
    "relu": lambda r: np.maximum(r.normal(size=20_000), 0.0),
    "relu6": lambda r: np.clip(r.normal(2.0, 3.0, size=20_000), 0.0, 6.0),
    "negative": lambda r: -np.abs(r.normal(size=20_000)),
    "heavy tail": lambda r: r.standard_t(2, size=20_000),
    "tiny": lambda r: r.normal(size=20_000) * 1e-20,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_least_squares_is_as_good_as_the_best_of_all_ranges_tried(
    name: str, grid: IntegerGrid
) -> None:
    x = sample(DISTRIBUTIONS[name])
    low, high = estimated("mse", x, grid)
    ends = np.linspace(1.0, 0.2, 25)
    lowest, highest = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    tried = min(quantization_error(x, lowest * a, highest * b, grid) for a in ends for b in ends)
    assert quantization_error(x, low, high, grid) <= 1.01 * tried


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
def test_expected_error_from_bins_is_the_measured_error(name: str, grid: IntegerGrid) -> None:
    x = sample(DISTRIBUTIONS[name])
    seen = distribution(x)
    low, high = min(float(x.min()), 0.0) * 0.8, max(float(x.max()), 0.0) * 0.6
    (expected,) = squared_error(seen.bins, np.array([low]), np.array([high]), grid)
    assert quantization_error(x, low, high, grid) == pytest.approx(expected, rel=0.02)


def test_least_squares_keeps_zero_as_the_low_end_of_a_relu() -> None:
    low, high = estimated("mse", sample(DISTRIBUTIONS["relu"]))
    assert low == 0.0
    assert 3.0 < high < 4.5


@pytest.mark.parametrize("grid", [g for g in GRIDS if g.steps > 15], ids=str)
def test_least_squares_keeps_a_saturated_value_exactly(grid: IntegerGrid) -> None:
    assert estimated("mse", sample(DISTRIBUTIONS["relu6"]), grid) == (0.0, 6.0)


def test_least_squares_gives_up_outliers_that_cost_less_than_the_resolution() -> None:
    x = np.append(sample(lambda r: r.normal(size=1_000_000)), np.float32([20.0, -20.0]))
    low, high = estimated("mse", x)
    assert -8.0 < low < -3.0 < 3.0 < high < 8.0
    low, high = estimated("mse", x, IntegerGrid.of(16, symmetric=True))
    assert (low, high) == (-20.0, 20.0)


def test_merged_bins_of_the_coarse_search_do_not_cost_accuracy() -> None:
    x = sample(lambda r: np.where(r.random(50_000) < 0.5, 0.0, r.gamma(0.3, 2.0, 50_000)))
    bins = distribution(x).bins
    _, high = estimated("mse", x)
    highs = np.linspace(0.2, 1.0, 400) * float(x.max())
    errors = squared_error(bins, np.zeros(400), highs, GRID)
    (found,) = squared_error(bins, np.zeros(1), np.array([high]), GRID)
    assert found <= 1.001 * errors.min()


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, -0.0, 3.3, -1e-20, 3e38])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_constant_tensor_keeps_its_value_in_range(
    kind: str, value: float, grid: IntegerGrid
) -> None:
    low, high = estimated(kind, np.full(100, value, np.float32), grid)
    assert min(low, 0.0) <= np.float32(value) <= max(high, 0.0)


@pytest.mark.sweep(30)
@given(x=arrays(np.float32, array_shapes(max_dims=3), elements=finite))
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_every_range_stays_within_the_extremes_and_zero(
    kind: str, grid: IntegerGrid, x: F32
) -> None:
    low, high = ESTIMATORS[kind](distribution(x.ravel()), grid)
    assert min(float(x.min()), 0.0) <= low <= high <= max(float(x.max()), 0.0)


@settings(max_examples=60, deadline=None)
@given(x=arrays(np.float32, st.integers(1, 50), elements=finite), cut=st.integers(1, 49))
def test_histograms_do_not_depend_on_how_the_values_were_batched(x: F32, cut: int) -> None:
    whole, parts = counted([x]), counted([part for part in (x[cut:], x[:cut]) if part.size])
    for name in ("left", "right", "count"):
        assert_array_equal(getattr(whole.bins(), name), getattr(parts.bins(), name))


def test_many_values_are_counted_as_few_are() -> None:
    x = sample(lambda r: r.normal(size=20_000))
    few = counted(np.array_split(x, 100)).bins()
    for batches in (1, 2, 7):
        many = counted(np.array_split(x, batches)).bins()
        for name in ("left", "right", "count"):
            assert_array_equal(getattr(many, name), getattr(few, name))
    assert few.total == x.size


@settings(max_examples=60, deadline=None)
@given(x=arrays(np.float32, st.integers(1, 50), elements=finite))
def test_every_value_lies_in_a_bin_that_counted_it(x: F32) -> None:
    least = 1e-40  # subnormal numbers below count as zero
    bins = counted([x]).bins()
    assert bins.total == x.size
    assert (np.diff(bins.left) >= 0).all()
    assert (np.diff(bins.right) >= 0).all()
    for value in x.astype(np.float64):
        assert ((bins.left - least <= value) & (value <= bins.right + least)).any()


def test_memory_does_not_grow_with_the_samples() -> None:
    r = np.random.default_rng(0)
    seen = Distribution()
    sizes = []
    for _ in range(40):
        seen.update(r.normal(size=20_000).astype(np.float32))
        sizes.append(seen.bins.count.size)
    assert sizes[-1] < 1.5 * sizes[3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        Distribution().update(np.array([0.0, bad], np.float32))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_range_needs_values(kind: str) -> None:
    with pytest.raises(ValueError, match="no values"):
        ESTIMATORS[kind](Distribution(), GRID)
    with pytest.raises(ValueError, match="no values"):
        Distribution().update(np.zeros(0, np.float32))
