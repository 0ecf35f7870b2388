"""Parameters, constants and tables of 16-bit activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import interpolate
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.ops import Function, Interpolate
from qcomp.quant.binary_constants import (
    I64_LANES,
    add_wide_constants,
    div_constants,
    prelu_constants,
)
from qcomp.quant.fixed_point import Form, Requantize, multiplier_wide, wide_multiplier_bits
from qcomp.quant.grid import Grid
from qcomp.quant.interpolation import LARGEST_ENTRY, interpolation_table
from qcomp.quant.qparams import SOFTMAX_16, QParams, dequantize, integer_range, quantize
from qcomp.quant.tables import exp_table_16, unary_table
from qcomp.quant.weights import certified

F64 = NDArray[np.float64]
ALL = np.arange(-32768, 32768).astype(np.int16)
SCALES = st.floats(2.0**-20, 2.0**20)


def symmetric(bound: float) -> QParams:
    qmin, qmax = integer_range(16)
    return QParams.from_range(-bound, bound, qmin=qmin, qmax=qmax, symmetric=True)


def test_the_scale_is_that_of_tflite() -> None:
    """max|x| / 32767, with -32768 left for what saturates."""
    q = symmetric(3.0)
    assert (q.scale, q.zero_point, q.bits) == (float(np.float32(3.0 / 32767)), 0, 16)
    assert QParams(0.5).bits == QParams(0.5, 3, -127, 127).bits == 8
    assert quantize(np.array([-9.0, 3.0, np.nan], np.float32), q).tolist() == [-32768, 32767, 0]


def test_every_integer_survives_the_way_to_float_and_back() -> None:
    for q in (symmetric(0.1), symmetric(7.3), SOFTMAX_16):
        back = quantize(dequantize(ALL, q), q)
        assert back.dtype == np.int16
        assert_array_equal(back, ALL)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 12}, "12 bits"),
        ({"qmin": -129}, "not within i8"),
        ({"bits": 16, "qmax": 32768}, "not within i16"),
        ({"bits": 16, "zero_point": 40000}, "not an i16"),
    ],
)
def test_a_requantize_that_no_width_holds_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Requantize(**{"form": Form.WIDE, "zero_point": 0, **fields})  # type: ignore[arg-type]


@given(st.integers(1, 2**40 - 1), st.floats(2.0**-30, 2.0**20))
def test_no_product_of_a_wide_requantize_leaves_64_bits(largest: int, real: float) -> None:
    bits = wide_multiplier_bits(largest)
    m, shift = multiplier_wide(real, bits)
    assert largest * m + 2 ** (shift - 1) < 2**63
    assert bits >= 22
    assert abs(m * 2.0**-shift / real - 1) <= 2.0**-bits


@given(SCALES, SCALES, SCALES, st.booleans())
def test_constants_of_64_bit_lanes_keep_to_their_bounds(
    sa: float, sb: float, sy: float, subtract: bool
) -> None:
    try:
        ma, mb, s = add_wide_constants(sa, sb, sy, subtract=subtract, lanes=I64_LANES)
    except ValueError:
        assert max(sa, sb) / sy >= 2**30
    else:
        assert 32768 * (abs(ma) + abs(mb)) + (2**s >> 1) < 2**63
        assert max(abs(ma), abs(mb)) < 2**31
        assert abs(ma - sa / sy * 2.0**s) <= 0.5
    try:
        m, s = div_constants(sa, sb, sy, I64_LANES)
    except ValueError:
        assert sa / sb / sy >= 2**45
    else:
        assert 32768 * m < 2**61
        assert 32768 << s < 2**61


@given(st.floats(-8.0, 8.0), st.floats(2.0**-10, 2.0**10))
def test_a_prelu_of_16_bits_has_more_bits_of_slope(slope: float, ratio: float) -> None:
    positive, negative, s = prelu_constants(ratio, 1.0, np.array([slope]), I64_LANES)
    assert 32768 * max(positive, abs(int(negative[0]))) + (2**s >> 1) < 2**63
    assert abs(negative[0] * 2.0**-s - ratio * slope) <= 2.0**-19 * ratio


def at_all(function: Callable[[F64], F64], x: QParams, y: QParams) -> tuple[int, NDArray[Any]]:
    step_bits, table = interpolation_table(function, x, y)
    op = Interpolate(
        inputs=("x", "t"), output="y", step_bits=step_bits, zero_point=y.zero_point, qmin=y.qmin,
        qmax=y.qmax, bits=y.bits,
    )  # fmt: skip
    return step_bits, interpolate(op, ALL, table).astype(np.float64)


def real_function(function: Function) -> Callable[[F64], F64]:
    alpha = 0.25 if function is Function.LEAKY_RELU else 1.0
    return lambda v: np.asarray(FUNCTIONS[function](v, alpha, 0.0), np.float64)


def error_in_steps(function: Function, bound: float) -> tuple[int, F64]:
    """step_bits and the error of the result at every input, scales as calibration gives them."""
    real, x = real_function(function), symmetric(bound)
    exact = real(x.scale * ALL.astype(np.float64))
    y = symmetric(float(np.abs(exact).max()))
    step_bits, got = at_all(real, x, y)
    return step_bits, got - np.clip(exact / y.scale, -32768, 32767)


@pytest.mark.parametrize("bound", [1.0, 8.0, 20.0])
@pytest.mark.parametrize(
    "function",
    [Function.SILU, Function.GELU, Function.LEAKY_RELU, Function.ABS, Function.NEG],
)
def test_functions_of_networks_take_513_entries_and_are_good_to_two_steps(
    function: Function, bound: float
) -> None:
    """Leaky ReLU and abs bend at 0, which is an entry."""
    step_bits, error = error_in_steps(function, bound)
    assert step_bits == 7
    assert np.abs(error).max() <= 2.0


@pytest.mark.parametrize("bound", [1.0, 8.0, 20.0, 100.0])
@pytest.mark.parametrize(
    "function", [Function.SIGMOID, Function.TANH, Function.ERF, Function.SILU, Function.HARD_SWISH]
)
def test_what_bends_in_a_small_part_of_its_input_takes_more_entries(
    function: Function, bound: float
) -> None:
    step_bits, error = error_in_steps(function, bound)
    assert 2 <= step_bits <= 7
    assert np.abs(error).max() <= 1.6


@pytest.mark.parametrize("function", [Function.FLOOR, Function.SIGN, Function.RECIPROCAL])
def test_jumps_and_poles_get_an_entry_for_each_input(function: Function) -> None:
    x, y = symmetric(4.0), symmetric(5.0)
    real = real_function(function)
    step_bits, got = at_all(real, x, y)
    assert step_bits == 0
    with np.errstate(all="ignore"):
        exact = np.nan_to_num(real(x.scale * ALL.astype(np.float64)) / y.scale, nan=0.0)
    assert np.abs(got - np.clip(exact, -32768, 32767)).max() <= 0.51


def test_entries_stay_within_their_bound() -> None:
    _, table = interpolation_table(np.exp, symmetric(80.0), symmetric(1.0))
    assert np.abs(table.astype(np.int64)).max() == LARGEST_ENTRY


@given(st.integers(0, 65535), st.floats(1e-7, 1.0))
def test_the_exponential_of_any_difference_is_good_to_2_to_the_minus_29(
    d: int, scale: float
) -> None:
    table = exp_table_16(scale).astype(np.int64)
    e = (int(table[d & 255]) * int(table[256 + (d >> 8)]) + 2**29) >> 30
    assert abs(e - 2.0**30 * math.exp(-d * scale)) <= 2.0


def test_a_table_of_an_i8_gives_16_bits() -> None:
    table = unary_table(lambda v: v, QParams(0.5), symmetric(64.0))
    assert table.dtype == np.int16
    assert (table[0], table[128], table[255]) == (-32767, 0, round(63.5 / 64 * 32767))


def test_scales_of_weights_leave_room_for_40_bits_where_x_has_16() -> None:
    weight = np.full((2, 9), 1.0, np.float32)
    weight[1] = 1e-9
    found = Grid(np.abs(weight).max(axis=1).astype(np.float64) / 127, 8)
    bias = np.array([5.0, 5.0])
    grid = certified(found, weight, bias, 1e-4, 1e-4, x_bits=16)
    assert grid.scale[0] == found.scale[0]
    assert grid.scale[1] > found.scale[1]
    q = np.abs(np.rint(bias / (grid.scale * 1e-4))) + 32768 * np.abs(
        np.rint(weight / grid.scale[:, None])
    ).sum(axis=1)
    assert q.max() < 2**40
