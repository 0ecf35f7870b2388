"""The four requantize forms against independent models in Python's unbounded integers."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qcomp.quant.fixed_point import (
    Form,
    Requantize,
    mulhrs,
    multiplier_narrow,
    multiplier_onnx,
    multiplier_tflite,
    multiplier_wide,
    requantize,
    rounding_divide_by_pot,
    rounding_shift,
    saturating_rounding_doubling_high_mul,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
REALS = st.floats(2.0**-31, 2.0**29)


def apply(form: Form, acc: int, multiplier: int, shift: int, q: Requantize | None = None) -> int:
    q = q or Requantize(form, 0)
    arrays = np.array([acc]), np.array([multiplier], np.int32), np.array([shift], np.int32)
    return int(requantize(arrays[0], arrays[1], arrays[2], q)[0])


def clip(x: int, low: int = -128, high: int = 127) -> int:
    return min(max(x, low), high)


def half_up(numerator: int, shift: int) -> int:
    return math.floor(Fraction(numerator, 2**shift) + Fraction(1, 2))


def gemmlowp_srdhm(a: int, b: int) -> int:
    """gemmlowp fixedpoint.h, SaturatingRoundingDoublingHighMul; C's division truncates."""
    if a == b == -(2**31):
        return 2**31 - 1
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    return math.trunc(Fraction(a * b + nudge, 2**31))


def gemmlowp_rdpot(x: int, exponent: int) -> int:
    """Nearest to x / 2^exponent, ties away from zero."""
    size = math.floor(Fraction(abs(x), 2**exponent) + Fraction(1, 2))
    return size if x >= 0 else -size


@given(INT32, st.integers(257, 2**15 - 1), st.integers(0, 30), st.integers(-128, 127))
@example(2**31 - 1, 2**15 - 1, 0, 127)
@example(-(2**31), 257, 0, -128)
def test_narrow_is_a_saturated_shift_and_a_rounding_high_product(
    acc: int, m: int, shift: int, zero_point: int
) -> None:
    t = clip(half_up(acc, shift), -(2**15), 2**15 - 1)
    expected = clip(half_up(t * m, 15) + zero_point)
    assert apply(Form.NARROW, acc, m, shift, Requantize(Form.NARROW, zero_point)) == expected


@given(INT32, st.integers(257, 2**15 - 1), st.integers(-128, 127))
def test_narrow_saturates_16_bits_only_where_8_bits_saturate(
    acc: int, m: int, zero_point: int
) -> None:
    unsaturated = clip(half_up(acc * m, 15) + zero_point)
    assert apply(Form.NARROW, acc, m, 0, Requantize(Form.NARROW, zero_point)) == unsaturated


@given(INT32, st.integers(0, 2**31 - 1), st.integers(1, 62), st.integers(-128, 127))
@example(-(2**31), 2**31 - 1, 62, 0)
@example(2**31 - 1, 2**31 - 1, 62, 0)
def test_wide_rounds_the_exact_product_once_half_up(
    acc: int, m: int, shift: int, zero_point: int
) -> None:
    expected = clip(half_up(acc * m, shift) + zero_point)
    assert apply(Form.WIDE, acc, m, shift, Requantize(Form.WIDE, zero_point)) == expected


@given(INT32, st.integers(0, 2**31 - 1), st.integers(1, 62), st.integers(-128, 127))
@example(-(2**31), 2**31 - 1, 62, 0)
@example(-3, 2**30, 31, 0)
def test_away_rounds_the_exact_product_once_half_away_from_zero(
    acc: int, m: int, shift: int, zero_point: int
) -> None:
    size = half_up(abs(acc) * m, shift)
    expected = clip((size if acc >= 0 else -size) + zero_point)
    assert apply(Form.AWAY, acc, m, shift, Requantize(Form.AWAY, zero_point)) == expected


@given(st.integers(-(2**20), 2**20), st.integers(2**30, 2**31 - 1), st.integers(-31, 10))
def test_tflite_is_gemmlowp_s_double_rounding(acc: int, m: int, exponent: int) -> None:
    high = gemmlowp_srdhm(acc << max(exponent, 0), m)
    assert apply(Form.TFLITE, acc, m, exponent) == clip(gemmlowp_rdpot(high, max(-exponent, 0)))


@given(INT32, INT32)
@example(-(2**31), -(2**31))
def test_doubling_high_product_equals_gemmlowp(a: int, b: int) -> None:
    got = saturating_rounding_doubling_high_mul(np.array([a]), np.array([b]))
    assert int(got[0]) == gemmlowp_srdhm(a, b)


@given(INT32, st.integers(0, 31))
def test_division_by_a_power_of_two_equals_gemmlowp(x: int, exponent: int) -> None:
    got = rounding_divide_by_pot(np.array([x]), np.array([exponent]))
    assert int(got[0]) == gemmlowp_rdpot(x, exponent)


def test_ties_of_the_doubling_high_product_go_up() -> None:
    x = np.array([1, -1, 3, -3])
    got = saturating_rounding_doubling_high_mul(x, np.array([2**30]))
    assert got.tolist() == [1, 0, 2, -1]


def test_ties_of_the_division_by_two_go_away_from_zero() -> None:
    got = rounding_divide_by_pot(np.array([1, -1, 3, -3]), np.array([1]))
    assert got.tolist() == [1, -1, 2, -2]


def test_ties_of_shift_and_16_bit_product_go_up() -> None:
    assert rounding_shift(np.array([1, -1, 3, -3]), 1).tolist() == [1, 0, 2, -1]
    assert mulhrs(np.array([1, -1, 3, -3]), 2**14).tolist() == [1, 0, 2, -1]


def test_double_rounding_differs_from_single_rounding_where_both_steps_round() -> None:
    acc, m = 3, 2**30  # 3 * 2^30 / 2^31 = 1.5 -> 2, 2 / 4 = 0.5 -> 1; once: 0.375 -> 0
    assert apply(Form.TFLITE, acc, m, -2) == 1
    assert apply(Form.WIDE, acc, m, 33) == 0


def float32(x: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", x))
    return float(rounded)


@given(INT32, st.floats(2.0**-40, 2.0**10, width=32), st.integers(-128, 127))
@example(1, 0.5, 0)
@example(2**24 + 1, 2.0**-20, 0)
def test_onnx_rounds_the_float32_product_half_to_even(
    acc: int, real: float, zero_point: int
) -> None:
    bits, shift = multiplier_onnx(real)
    product = float32(float32(float(acc)) * real)
    expected = clip(round(product) + zero_point)
    assert apply(Form.ONNX, acc, bits, shift, Requantize(Form.ONNX, zero_point)) == expected


def test_onnx_saturates_a_product_that_leaves_float32() -> None:
    bits, shift = multiplier_onnx(float(np.finfo(np.float32).max))
    assert apply(Form.ONNX, 1000, bits, shift) == 127
    assert apply(Form.ONNX, -1000, bits, shift) == -128


@pytest.mark.parametrize("form", list(Form))
def test_every_form_saturates_to_its_bounds(form: Form) -> None:
    multiplier, shift = {
        Form.NARROW: (2**14, 0),
        Form.WIDE: (2**30, 31),
        Form.TFLITE: (2**30, 0),
        Form.AWAY: (2**30, 31),
        Form.ONNX: multiplier_onnx(0.5),
        Form.QUOTIENT: (2, 0),
    }[form]
    q = Requantize(form, 3, -5, 20)
    assert [apply(form, acc, multiplier, shift, q) for acc in (-400, 2, 400)] == [-5, 4, 20]


def test_multipliers_vary_along_the_last_axis() -> None:
    acc = np.full((2, 3), 64)
    got = requantize(
        acc,
        np.array([2**30, 2**30, 0], np.int32),
        np.array([30, 31, 5], np.int32),
        Requantize(Form.WIDE, 1),
    )
    assert got.tolist() == [[65, 33, 1]] * 2


@given(REALS)
def test_wide_multiplier_has_31_bits(real: float) -> None:
    m, shift = multiplier_wide(real)
    assert 2**30 <= m < 2**31
    assert 1 <= shift <= 62
    assert abs(Fraction(m, 2**shift) / Fraction(real) - 1) <= Fraction(1, 2**31)


@given(st.floats(2.0**-200, 2.0**-33, exclude_max=True))
def test_a_tiny_wide_multiplier_makes_every_accumulator_zero(real: float) -> None:
    m, shift = multiplier_wide(real)
    assert [apply(Form.WIDE, acc, m, shift) for acc in (-(2**31), -1, 2**31 - 1)] == [0, 0, 0]


@given(st.floats(2.0**-36, 1 - 2.0**-15))
@example(2.0**-36)
@example(2.0**-5)
@example(2.0**-5 - 2.0**-16)
def test_narrow_multiplier_has_10_bits_or_the_shift_0(real: float) -> None:
    found = multiplier_narrow(real)
    assert found is not None
    m, shift = found
    assert 0 <= shift <= 30
    assert 512 <= m < (1024 if shift else 2**15)
    assert abs(Fraction(m, 2 ** (shift + 15)) / Fraction(real) - 1) <= Fraction(1, 2**10)


@given(st.integers(257, 1023), st.integers(0, 30))
def test_a_factor_of_the_narrow_form_is_exact(m: int, shift: int) -> None:
    found = multiplier_narrow(math.ldexp(m, -(shift + 15)))
    if shift == 30 and m < 512:
        assert found is None  # 10 bits would need the shift 31
    else:
        assert found is not None
        assert Fraction(found[0], 2 ** found[1]) == Fraction(m, 2**shift)


def test_a_narrow_multiplier_that_rounds_to_11_bits_shifts_less() -> None:
    almost = (1023.75) * 2.0**-20
    assert multiplier_narrow(almost) == (512, 4)
    assert multiplier_narrow(1023.75 * 2.0**-15) == (1024, 0)


def test_narrow_declines_factors_that_no_shift_reaches() -> None:
    assert multiplier_narrow(1.0) is None
    assert multiplier_narrow(1 - 2.0**-17) is None
    assert multiplier_narrow(0.125) == (4096, 0)
    assert multiplier_narrow(2.0**-36) == (512, 30)
    assert multiplier_narrow(2.0**-37) is None


@given(REALS)
def test_tflite_multiplier_has_31_bits(real: float) -> None:
    m, exponent = multiplier_tflite(real)
    assert 2**30 <= m < 2**31
    assert abs(Fraction(m) * Fraction(2) ** (exponent - 31) / Fraction(real) - 1) <= 2.0**-31


def test_tflite_multiplier_of_almost_one_carries_into_the_exponent() -> None:
    assert multiplier_tflite(1 - 2.0**-40) == (2**30, 1)
    assert multiplier_tflite(0.0) == (0, 0)
    assert multiplier_tflite(2.0**-40) == (0, 0)


def test_onnx_multiplier_is_the_float32_itself() -> None:
    assert multiplier_onnx(1.0) == (0x3F800000, 0)


@pytest.mark.parametrize("real", [0.0, -1.0, math.inf, math.nan])
def test_multipliers_must_be_positive_and_finite(real: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        multiplier_wide(real)
    with pytest.raises(ValueError, match="positive and finite"):
        multiplier_narrow(real)


def test_multipliers_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="too large"):
        multiplier_wide(2.0**30)
    with pytest.raises(ValueError, match="too large"):
        multiplier_tflite(2.0**31)
    with pytest.raises(ValueError, match="positive and finite"):
        multiplier_tflite(math.inf)
    with pytest.raises(ValueError, match="finite float32"):
        multiplier_onnx(1e39)


def test_saturation_and_zero_point_must_be_i8() -> None:
    with pytest.raises(ValueError, match="not within i8"):
        Requantize(Form.WIDE, 0, -129, 127)
    with pytest.raises(ValueError, match="not an i8"):
        Requantize(Form.WIDE, 128)
