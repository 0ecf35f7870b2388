"""Observers and histograms against brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.quant.clipping import best_range, squared_error
from qcomp.quant.histogram import Histogram
from qcomp.quant.observers import (
    OBSERVERS,
    ChannelMean,
    LeastSquares,
    MinMax,
    MovingAverage,
    Observer,
    Percentile,
    make_observer,
)
from qcomp.quant.qparams import QParams, dequantize, quantize

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
finite = st.floats(-(2.0**100), 2.0**100, width=32)


def sample(draw: Callable[[np.random.Generator], object], seed: int = 0) -> F32:
    return np.asarray(draw(np.random.default_rng(seed)), np.float32)


def observed(observer: Observer, x: F32, batches: int = 3) -> tuple[float, float]:
    for part in np.array_split(x, batches):
        observer.update(part)
    return observer.range()


def quantization_error(x: F32, low: float, high: float) -> float:
    q = QParams.from_range(low, high)
    return float(np.mean((x.astype(np.float64) - dequantize(quantize(x, q), q)) ** 2))


def test_minmax_is_the_extremes_of_all_batches() -> None:
    x = sample(lambda r: r.normal(size=1000))
    assert observed(MinMax(), x) == (float(x.min()), float(x.max()))


def test_moving_average_is_the_plain_mean_at_first_and_forgets_later() -> None:
    ema = MovingAverage(momentum=0.9)
    for high in (1.0, 2.0, 3.0):
        ema.update(np.array([0.0, high]))
    assert ema.range() == pytest.approx((0.0, 2.0))
    for _ in range(200):
        ema.update(np.array([0.0, 7.0]))
    assert ema.range() == pytest.approx((0.0, 7.0), abs=1e-6)


def test_one_batch_of_outliers_moves_the_average_by_its_share_only() -> None:
    ema = MovingAverage(momentum=0.9)
    for i in range(100):
        ema.update(np.array([-1.0, 1000.0 if i == 50 else 1.0]))
    assert ema.range()[1] < 2.0


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_agrees_with_sorting_within_a_bin(percentile: float) -> None:
    x = sample(lambda r: r.normal(size=50_000))
    low, high = observed(Percentile(percentile), x)
    expected = np.percentile(x, [100 - percentile, percentile])
    assert_allclose([low, high], expected, rtol=2**-7)


def test_percentile_ignores_a_far_outlier_and_keeps_its_resolution() -> None:
    x = np.append(sample(lambda r: r.normal(size=200_000)), [np.float32(1e30)])
    low, high = observed(Percentile(99.99), x)
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
def test_least_squares_is_as_good_as_the_best_of_a_grid_of_ranges(name: str) -> None:
    x = sample(DISTRIBUTIONS[name])
    low, high = observed(LeastSquares(), x)
    ends = np.linspace(1.0, 0.2, 25)
    lowest, highest = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    grid = min(quantization_error(x, lowest * a, highest * b) for a in ends for b in ends)
    assert quantization_error(x, low, high) <= 1.01 * grid


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_expected_error_from_bins_is_the_measured_error(name: str) -> None:
    x = sample(DISTRIBUTIONS[name])
    histogram = Histogram()
    histogram.update(x)
    low, high = min(histogram.low, 0.0) * 0.8, max(histogram.high, 0.0) * 0.6
    (expected,) = squared_error(histogram.bins(), np.array([low]), np.array([high]))
    assert quantization_error(x, low, high) == pytest.approx(expected, rel=0.02)


def test_least_squares_keeps_zero_as_the_low_end_of_a_relu() -> None:
    low, high = observed(LeastSquares(), sample(DISTRIBUTIONS["relu"]))
    assert low == 0.0
    assert 3.0 < high < 4.5


def test_least_squares_keeps_a_saturated_value_exactly() -> None:
    assert observed(LeastSquares(), sample(DISTRIBUTIONS["relu6"])) == (0.0, 6.0)


def test_least_squares_gives_up_outliers_that_cost_less_than_the_resolution() -> None:
    x = np.append(sample(lambda r: r.normal(size=1_000_000)), np.float32([20.0, -20.0]))
    low, high = observed(LeastSquares(), x)
    assert -8.0 < low < -3.0 < 3.0 < high < 8.0


def test_merged_bins_of_the_coarse_search_do_not_cost_accuracy() -> None:
    x = sample(lambda r: np.where(r.random(50_000) < 0.5, 0.0, r.gamma(0.3, 2.0, 50_000)))
    histogram = Histogram()
    histogram.update(x)
    _, high = best_range(histogram.bins())
    highs = np.linspace(0.2, 1.0, 400) * histogram.high
    errors = squared_error(histogram.bins(), np.zeros(400), highs)
    (found,) = squared_error(histogram.bins(), np.zeros(1), np.array([high]))
    assert found <= 1.001 * errors.min()


@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, -0.0, 3.3, -1e-20, 3e38])
def test_a_constant_tensor_keeps_its_value_in_range(kind: str, value: float) -> None:
    low, high = observed(make_observer(kind), np.full(100, value, np.float32))
    assert min(low, 0.0) <= np.float32(value) <= max(high, 0.0)


@settings(max_examples=60, deadline=None)
@given(x=arrays(np.float32, array_shapes(max_dims=3), elements=finite))
@pytest.mark.parametrize("kind", OBSERVERS)
def test_every_observer_stays_within_the_extremes_and_zero(kind: str, x: F32) -> None:
    observer = make_observer(kind)
    observer.update(x)
    low, high = observer.range()
    assert min(float(x.min()), 0.0) <= low <= high <= max(float(x.max()), 0.0)


@settings(max_examples=60, deadline=None)
@given(x=arrays(np.float32, st.integers(1, 50), elements=finite), cut=st.integers(1, 49))
def test_histograms_do_not_depend_on_how_the_values_were_batched(x: F32, cut: int) -> None:
    whole, parts = Histogram(), Histogram()
    whole.update(x)
    for part in (x[cut:], x[:cut]):
        if part.size:
            parts.update(part)
    for name in ("left", "right", "count"):
        assert_array_equal(getattr(whole.bins(), name), getattr(parts.bins(), name))


@settings(max_examples=60, deadline=None)
@given(x=arrays(np.float32, st.integers(1, 50), elements=finite))
def test_every_value_lies_in_a_bin_that_counted_it(x: F32) -> None:
    least = 1e-40  # subnormal numbers below count as zero
    histogram = Histogram()
    histogram.update(x)
    bins = histogram.bins()
    assert bins.total == x.size
    assert (np.diff(bins.left) >= 0).all()
    assert (np.diff(bins.right) >= 0).all()
    for value in x.astype(np.float64):
        assert ((bins.left - least <= value) & (value <= bins.right + least)).any()


def test_memory_does_not_grow_with_the_samples() -> None:
    r = np.random.default_rng(0)
    histogram = Histogram()
    sizes = []
    for _ in range(40):
        histogram.update(r.normal(size=20_000).astype(np.float32))
        sizes.append(histogram.bins().count.size)
    assert sizes[-1] < 1.5 * sizes[3]


def test_channel_mean_is_the_mean_over_all_but_the_last_axis() -> None:
    x = sample(lambda r: r.normal(5.0, 1.0, size=(6, 4, 4, 3)))
    mean = ChannelMean()
    for part in np.array_split(x, 4):
        mean.update(part)
    assert_allclose(mean.mean(), x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("kind", OBSERVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        make_observer(kind).update(np.array([0.0, bad], np.float32))


@pytest.mark.parametrize("kind", OBSERVERS)
def test_a_range_needs_values(kind: str) -> None:
    with pytest.raises(ValueError, match="no values"):
        make_observer(kind).range()
    with pytest.raises(ValueError, match="no values"):
        make_observer(kind).update(np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="no values"):
        ChannelMean().mean()


def test_an_unknown_observer_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="'median'; choose one of minmax, ema, percentile, mse"):
        make_observer("median")
