"""Elementwise integer ops over all pairs of i8 values, against Python integers and real numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.ops import (
    Op,
    PairTable,
    QAdd,
    QAddWide,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    Table,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.binary_constants import (
    add_constants,
    add_wide_constants,
    div_constants,
    mul_constants,
    prelu_constants,
)
from qcomp.quant.fixed_point import Form, Requantize

Array = NDArray[Any]
ZERO_POINTS = st.integers(-128, 127)
SCALES = st.floats(0.25, 4.0, width=32)
ALL = np.arange(-128, 128).astype(np.int8)
SAMPLE = [-128, -127, -65, -3, -1, 0, 1, 2, 64, 126, 127]


def meaning(op: Op, *operands: Array) -> Array:
    result = MEANINGS[type(op)](op, *operands)
    types = [TensorType(DType.of(t.dtype), t.shape) for t in operands]
    assert op.result_type(*types) == TensorType(DType.of(result.dtype), result.shape)
    return result


def all_pairs(op: Op) -> Array:
    """The result [256, 256] for every a (rows) and b (columns)."""
    return meaning(op, ALL[:, None], ALL[None, :])


def at(result: Array, a: int, b: int) -> int:
    return int(result[a + 128, b + 128])


def clip(x: int, low: int = -128, high: int = 127) -> int:
    return min(max(x, low), high)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def centered(zero_point: int) -> Array:
    return ALL.astype(np.float64) - zero_point


def assert_within(result: Array, exact: Array, bound: float) -> None:
    """exact is in steps, before saturation."""
    assert np.abs(result - np.clip(exact, -128, 127)).max() <= bound + 1e-9


@settings(max_examples=30)
@given(SCALES, SCALES, SCALES, ZERO_POINTS, ZERO_POINTS, ZERO_POINTS, st.booleans())
def test_addition_in_16_bits_is_within_a_step_of_the_real_sum(
    sa: float, sb: float, sy: float, za: int, zb: int, zy: int, subtract: bool
) -> None:
    constants = add_constants(sa, sb, sy, subtract=subtract)
    assert constants is not None
    ma, mb, f = constants.a_multiplier, constants.b_multiplier, constants.fraction_bits
    op = QAdd(
        inputs=("a", "b"),
        output="y",
        a_zero_point=za,
        b_zero_point=zb,
        a_multiplier=ma,
        b_multiplier=mb,
        fraction_bits=f,
        zero_point=zy,
    )
    result = all_pairs(op)
    for a in SAMPLE:
        for b in SAMPLE:
            a_term = half_up(Fraction((a - za) * 128 * ma, 2**15))
            b_term = half_up(Fraction((b - zb) * 128 * mb, 2**15))
            assert at(result, a, b) == clip(zy + half_up(Fraction(a_term + b_term, 2**f)))
    sign = -1 if subtract else 1
    exact = (sa * centered(za)[:, None] + sign * sb * centered(zb)[None, :]) / sy + zy
    assert_within(result, exact, 0.5 + 2.0 ** (1 - f))


@settings(max_examples=30)
@given(
    st.floats(1e-4, 16.0),
    st.floats(1e-4, 16.0),
    ZERO_POINTS,
    ZERO_POINTS,
    ZERO_POINTS,
    st.booleans(),
)
def test_wide_addition_is_almost_the_rounded_real_sum(
    sa: float, sb: float, za: int, zb: int, zy: int, subtract: bool
) -> None:
    ma, mb, shift = add_wide_constants(sa, sb, 1.0, subtract=subtract)
    op = QAddWide(
        inputs=("a", "b"),
        output="y",
        a_zero_point=za,
        b_zero_point=zb,
        a_multiplier=ma,
        b_multiplier=mb,
        shift=shift,
        zero_point=zy,
    )
    result = all_pairs(op)
    for a in SAMPLE:
        for b in SAMPLE:
            total = Fraction((a - za) * ma + (b - zb) * mb, 2**shift)
            assert at(result, a, b) == clip(zy + half_up(total))
    sign = -1 if subtract else 1
    exact = sa * centered(za)[:, None] + sign * sb * centered(zb)[None, :] + zy
    assert_within(result, exact, 0.5 + 255 * 2.0**-shift)


@settings(max_examples=30)
@given(SCALES, SCALES, st.floats(0.05, 500.0), ZERO_POINTS, ZERO_POINTS, ZERO_POINTS)
def test_multiplication_rounds_the_exact_product(
    sa: float, sb: float, sy: float, za: int, zb: int, zy: int
) -> None:
    multiplier, shift = mul_constants(sa, sb, sy)
    op = QMul(
        inputs=("a", "b"),
        output="y",
        a_zero_point=za,
        b_zero_point=zb,
        multiplier=multiplier,
        shift=shift,
        requantize=Requantize(Form.WIDE, zy),
    )
    result = all_pairs(op)
    for a in SAMPLE:
        for b in SAMPLE:
            scaled = Fraction((a - za) * (b - zb) * multiplier, 2**shift)
            assert at(result, a, b) == clip(zy + half_up(scaled))
    exact = sa * sb / sy * np.outer(centered(za), centered(zb)) + zy
    assert_within(result, exact, 0.5 + 1e-3)


def quotient(n: int, d: int) -> int:
    """n / d rounded half away from zero; far outside i8 by the sign of n where d is zero."""
    if d == 0:
        return 1000 * ((n > 0) - (n < 0))
    size = math.floor(Fraction(abs(n), abs(d)) + Fraction(1, 2))
    return size if (n >= 0) == (d >= 0) else -size


@settings(max_examples=30)
@given(SCALES, SCALES, st.floats(2.0**-16, 4.0), ZERO_POINTS, ZERO_POINTS, ZERO_POINTS)
def test_division_rounds_half_away_and_saturates_at_zero_divisors(
    sa: float, sb: float, sy: float, za: int, zb: int, zy: int
) -> None:
    multiplier, shift = div_constants(sa, sb, sy)
    op = QDiv(
        inputs=("a", "b"),
        output="y",
        a_zero_point=za,
        b_zero_point=zb,
        multiplier=multiplier,
        shift=shift,
        zero_point=zy,
        qmin=-100,
        qmax=100,
    )
    result = all_pairs(op)
    for a in [*SAMPLE, za]:
        for b in [*SAMPLE, zb]:
            expected = quotient((a - za) * multiplier, (b - zb) * 2**shift)
            assert at(result, a, b) == clip(zy + expected, -100, 100)


def test_division_is_near_the_real_quotient() -> None:
    sa, sb, sy = 0.02, 0.05, 0.01
    multiplier, shift = div_constants(sa, sb, sy)
    op = QDiv(
        inputs=("a", "b"),
        output="y",
        a_zero_point=3,
        b_zero_point=-128,
        multiplier=multiplier,
        shift=shift,
        zero_point=5,
    )
    divisors = ALL[1:]
    exact = sa * centered(3)[:, None] / (sb * centered(-128)[None, 1:]) / sy + 5
    assert_within(meaning(op, ALL[:, None], divisors[None, :]), exact, 0.5 + 1e-3)


@pytest.mark.parametrize(("op_type", "choice"), [(QMinimum, min), (QMaximum, max)])
def test_extremes_of_two_operands_saturate(
    op_type: type[QMinimum] | type[QMaximum], choice: Any
) -> None:
    result = all_pairs(op_type(inputs=("a", "b"), output="y", qmin=-100, qmax=90))
    for a in SAMPLE:
        for b in SAMPLE:
            assert at(result, a, b) == clip(choice(a, b), -100, 90)


def test_operands_broadcast() -> None:
    op = QMaximum(inputs=("a", "b"), output="y")
    a, b = np.arange(6).astype(np.int8).reshape(2, 3), np.array([1, 2, 3], np.int8)
    assert meaning(op, a, b).tolist() == [[1, 2, 3], [3, 4, 5]]


def test_a_table_of_pairs_is_read_at_every_pair() -> None:
    table = np.random.default_rng(0).integers(-128, 128, 2**16).astype(np.int8)
    op = PairTable(inputs=("a", "b", "t"), output="y")
    result = meaning(op, ALL[:, None], ALL[None, :], table)
    assert result.tolist() == table.reshape(256, 256).tolist()
    assert meaning(op, ALL[:1], ALL[-1:], table).tolist() == [table[255]]


def test_a_table_is_read_at_every_value() -> None:
    table = np.random.default_rng(0).permutation(ALL)
    result = meaning(Table(inputs=("x", "t"), output="y"), ALL.reshape(4, 64), table)
    np.testing.assert_array_equal(result.reshape(-1), table)


@given(
    st.floats(0.1, 8.0),
    st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3),
    ZERO_POINTS,
    ZERO_POINTS,
)
def test_prelu_has_two_slopes(ratio: float, slopes: list[float], x_zero: int, y_zero: int) -> None:
    positive, negatives, shift = prelu_constants(ratio, 1.0, np.array(slopes))
    op = QPRelu(
        inputs=("x", "m"),
        output="y",
        x_zero_point=x_zero,
        positive_multiplier=positive,
        shift=shift,
        zero_point=y_zero,
    )
    x = np.repeat(ALL[:, None], 3, axis=1)
    result = meaning(op, x, negatives)
    for v in SAMPLE:
        for c in range(3):
            t = v - x_zero
            m = positive if t >= 0 else int(negatives[c])
            assert result[v + 128, c] == clip(y_zero + half_up(Fraction(t * m, 2**shift)))
    t = centered(x_zero)[:, None]
    exact = ratio * np.where(t >= 0, t, t * np.array(slopes)) + y_zero
    assert_within(result, exact, 0.5 + 255 * 2.0**-shift)
