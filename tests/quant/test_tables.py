"""Tables against the real functions that they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.qparams import QParams
from qcomp.quant.tables import (
    exp_table,
    log_softmax_constants,
    log_table,
    unary_table,
)

SCALES = st.floats(2.0**-16, 2.0**4, width=32)


@given(SCALES, st.integers(-128, 127), SCALES, st.integers(-128, 127))
def test_a_table_holds_the_nearest_representable_value(
    x_scale: float, x_zero: int, y_scale: float, y_zero: int
) -> None:
    x, y = QParams(x_scale, x_zero), QParams(y_scale, y_zero)
    table = unary_table(np.tanh, x, y)
    assert table.dtype == np.int8
    for v in range(-128, 128):
        exact = math.tanh(x_scale * (v - x_zero)) / y_scale + y_zero
        assert abs(table[v + 128] - min(max(exact, -128), 127)) <= 0.5 + 1e-9


def test_ties_of_a_table_go_to_even() -> None:
    table = unary_table(lambda real: real / 2, QParams(1.0), QParams(1.0))
    assert table[128:134].tolist() == [0, 0, 1, 2, 2, 2]
    assert table[122:128].tolist() == [-3, -2, -2, -2, -1, 0]


def test_infinities_saturate_and_nan_becomes_zero() -> None:
    y = QParams(0.05, 10, -100, 100)
    table = unary_table(np.log, QParams(0.1), y)
    assert table[128] == -100  # log(0)
    assert set(table[:128].tolist()) == {10}  # log of negatives
    assert unary_table(np.reciprocal, QParams(0.1), y)[128] == 100


def test_rescaling_to_the_same_parameters_changes_nothing() -> None:
    q = QParams(0.3, -7)
    assert unary_table(lambda x: x, q, q).tolist() == list(range(-128, 128))


def test_rescaling_to_twice_the_scale_halves() -> None:
    table = unary_table(lambda x: x, QParams(0.5, 0), QParams(1.0, 1))
    assert table[128 + 20] == 11
    assert table[128 - 128] == -63


@given(SCALES)
def test_exponentials_are_q16(scale: float) -> None:
    table = exp_table(scale)
    assert table.dtype == np.int32
    assert table[0] == 65536
    for d in range(256):
        assert abs(int(table[d]) - 65536 * math.exp(-d * scale)) <= 0.5 + 1e-6


def test_logarithms_are_in_units() -> None:
    table = log_table(1000.0)
    assert table.shape == (289,)
    assert table[16] == table[32] == 0
    assert table[17] == table[-1] == 693
    assert table[0] == -11090


@given(SCALES, SCALES)
def test_log_softmax_never_leaves_32_bits(x_scale: float, y_scale: float) -> None:
    try:
        multiplier, shift, units = log_softmax_constants(x_scale, y_scale)
    except ValueError:
        assert (255 * x_scale + 12) / y_scale > 2.0**31 / 2**9
        return
    assert 8 <= shift <= 30
    assert units == 2.0**shift / y_scale
    assert abs(multiplier - units * x_scale) <= 0.5
    table = log_table(units).astype(np.int64)
    largest_log = max(abs(int(table[0])), int(table[31] + table[-1]))
    assert 255 * multiplier + largest_log + 2 ** (shift - 1) < 2**31


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a larger output scale"):
        log_softmax_constants(1.0, 1e-6)
    with pytest.raises(ValueError, match="do not fit 32 bits"):
        log_table(2.0**30)
    with pytest.raises(ValueError, match="positive and finite"):
        exp_table(0.0)
