"""Affine parameters: what they represent, and how values become integers and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.qparams import (
    SMALLEST_SCALE,
    SOFTMAX,
    QParams,
    dequantize,
    quantize,
)

REALS = st.floats(-1e30, 1e30)


@given(REALS, REALS)
def test_the_interval_covers_the_range_and_zero_is_exact(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    q = QParams.from_range(low, high)
    slack = q.scale * (0.5 + 1e-4)  # the zero point is rounded, the scale is a float32
    assert q.range[0] - slack <= min(low, 0.0)
    assert max(high, 0.0) <= q.range[1] + slack
    assert q.scale == float(np.float32(q.scale))
    assert dequantize(quantize(np.zeros(1, np.float32), q), q)[0] == 0.0


@given(REALS, REALS)
def test_symmetric_parameters_have_the_zero_point_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    q = QParams.from_range(low, high, qmin=-127, qmax=127, symmetric=True)
    assert q.zero_point == 0
    assert max(-low, high, 0.0) <= q.range[1] * (1 + 1e-6) + SMALLEST_SCALE


def test_a_symmetric_range_fits_the_smaller_side() -> None:
    q = QParams.from_range(-1.0, 0.5, symmetric=True)
    assert q.scale == float(np.float32(1 / 127))


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_range_without_width_has_scale_one(symmetric: bool) -> None:
    q = QParams.from_range(0.0, 0.0, symmetric=symmetric)
    assert q.scale == 1.0
    assert q.range[0] <= 0.0 <= q.range[1]


def test_a_range_on_one_side_of_zero_grows_to_zero() -> None:
    assert QParams.from_range(2.0, 4.0).range == pytest.approx((0.0, 4.0))
    assert QParams.from_range(-4.0, -2.0).range == pytest.approx((-4.0, 0.0))


def test_a_tiny_range_keeps_a_normal_scale() -> None:
    assert QParams.from_range(0.0, 1e-44).scale == SMALLEST_SCALE


@pytest.mark.parametrize("bound", [math.inf, math.nan])
def test_a_range_that_is_not_finite_is_an_error(bound: float) -> None:
    with pytest.raises(ValueError, match="is not finite in float32"):
        QParams.from_range(-1.0, bound)
    with pytest.raises(ValueError, match="is not finite in float32"):
        QParams.from_range(-bound, 1.0)
    with pytest.raises(ValueError, match="is not finite in float32"):
        QParams.from_range(-bound, bound, symmetric=True)


def test_a_range_beyond_float32_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not finite in float32"):
        QParams.from_range(0.0, 1e45)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_must_be_positive_and_finite(scale: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        QParams(scale)


@pytest.mark.parametrize("zero_point", [-129, 128])
def test_the_zero_point_must_be_representable(zero_point: int) -> None:
    with pytest.raises(ValueError, match=r"outside \[-128, 127\]"):
        QParams(1.0, zero_point)


def test_quantize_rounds_half_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert quantize(x, QParams(1.0)).tolist() == [0, 2, 2, 0, -2, -2]
    assert quantize(x, QParams(1.0, 1)).tolist() == [1, 3, 3, 1, -1, -1]


def test_quantize_saturates_and_takes_nan_for_zero() -> None:
    x = np.array([math.inf, -math.inf, math.nan, 3e38, -3e38, 5.0], np.float32)
    assert quantize(x, QParams(0.01, 7)).tolist() == [127, -128, 7, 127, -128, 127]
    assert quantize(x, QParams(1.0, 0, -3, 4)).tolist() == [4, -3, 0, 4, -3, 4]


def test_quantize_divides_in_float32() -> None:
    scale = float(np.float32(0.1))
    x = np.float32(0.45)
    assert np.float32(x / np.float32(scale)) == 4.5  # the real quotient is not a tie
    assert quantize(np.array([x]), QParams(scale)).tolist() == [4]


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(-128, 127))
def test_integers_survive_the_way_there_and_back(scale: float, zero_point: int) -> None:
    q = QParams(scale, zero_point)
    every = np.arange(-128, 128, dtype=np.int8)
    assert quantize(dequantize(every, q), q).tolist() == every.tolist()


@given(st.lists(st.floats(-100, 100, width=32), min_size=1), st.floats(0.5, 2.0, width=32))
def test_a_value_within_the_interval_moves_by_at_most_half_a_step(
    values: list[float], scale: float
) -> None:
    q = QParams(scale)
    x = np.clip(np.array(values, np.float32), *q.range).astype(np.float32)
    assert np.abs(dequantize(quantize(x, q), q) - x).max() <= scale * (0.5 + 1e-4)


def test_a_softmax_represents_0_to_almost_1() -> None:
    assert SOFTMAX.range == (0.0, 255 / 256)
