"""Pooling, reductions, softmax and log-softmax against loops over Python integers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.evaluate.reduction import integer_log
from qcomp.ir.ops import (
    Op,
    QAveragePool2d,
    QLogSoftmax,
    QReduceExtreme,
    QReduceSum,
    QSoftmax,
    Reduction,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.binary_constants import average_multipliers, sum_constants
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import exp_table, log_softmax_constants, log_table

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
ZERO_POINTS = st.integers(-128, 127)


def random_i8(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def meaning(op: Op, *operands: Array) -> Array:
    result = MEANINGS[type(op)](op, *operands)
    types = [TensorType(DType.of(t.dtype), t.shape) for t in operands]
    assert op.result_type(*types) == TensorType(DType.of(result.dtype), result.shape)
    return result


def clip(x: int) -> int:
    return min(max(x, -128), 127)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@given(
    seed=SEEDS,
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    count_include_pad=st.booleans(),
    x_zero_point=ZERO_POINTS,
)
def test_average_pool_divides_by_the_positions_it_counts(
    seed: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    count_include_pad: bool,
    x_zero_point: int,
) -> None:
    x = random_i8(seed, 2, 5, 6, 2)
    multipliers, shift = average_multipliers(0.5, 0.4, kernel[0] * kernel[1])
    op = QAveragePool2d(
        inputs=("x", "m"),
        output="y",
        x_zero_point=x_zero_point,
        shift=shift,
        requantize=Requantize(Form.WIDE, -3),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        count_include_pad=count_include_pad,
    )
    got = meaning(op, x, multipliers)
    for n, i, j, c in np.ndindex(*got.shape):
        values = []
        for ki, kj in np.ndindex(*kernel):
            row = i * stride[0] + ki * dilation[0] - padding[0]
            column = j * stride[1] + kj * dilation[1] - padding[1]
            if 0 <= row < 5 and 0 <= column < 6:
                values.append(int(x[n, row, column, c]) - x_zero_point)
        count = kernel[0] * kernel[1] if count_include_pad else len(values)
        scaled = Fraction(sum(values) * int(multipliers[count]), 2**shift)
        assert got[n, i, j, c] == clip(half_up(scaled) - 3)
        exact = sum(values) / max(count, 1) * 0.5 / 0.4 - 3
        assert abs(got[n, i, j, c] - min(max(exact, -128), 127)) <= 0.5 + 1e-6


@given(
    SEEDS,
    st.sampled_from([(), (0,), (1, 2), (0, 1, 2), (2,)]),
    st.booleans(),
    ZERO_POINTS,
)
def test_mean_is_a_sum_with_a_smaller_multiplier(
    seed: int, axes: tuple[int, ...], keepdims: bool, x_zero_point: int
) -> None:
    x = random_i8(seed, 2, 3, 4)
    count = math.prod(x.shape[a] for a in axes)
    multiplier, shift = sum_constants(0.3, 0.2, divisor=count)
    op = QReduceSum(
        inputs=("x",),
        output="y",
        axes=axes,
        keepdims=keepdims,
        x_zero_point=x_zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=Requantize(Form.WIDE, 4),
    )
    got = meaning(op, x)
    sums: dict[tuple[int, ...], int] = {}
    for index in np.ndindex(*x.shape):
        kept = tuple(0 if a in axes else k for a, k in enumerate(index))
        sums[kept] = sums.get(kept, 0) + int(x[index]) - x_zero_point
    result = got.reshape([1 if a in axes else e for a, e in enumerate(x.shape)])
    for kept, total in sums.items():
        assert result[kept] == clip(half_up(Fraction(total * multiplier, 2**shift)) + 4)
        exact = min(max(total / count * 0.3 / 0.2 + 4, -128), 127)
        assert abs(result[kept] - exact) <= 0.5 + 1e-6


@pytest.mark.parametrize(("kind", "choice"), [(Reduction.MAX, max), (Reduction.MIN, min)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_extremes_over_axes(kind: Reduction, choice: Any, keepdims: bool) -> None:
    x = random_i8(3, 2, 3, 4)
    op = QReduceExtreme(inputs=("x",), output="y", kind=kind, axes=(0, 2), keepdims=keepdims)
    expected = [choice(int(v) for v in x[:, i, :].reshape(-1)) for i in range(3)]
    assert meaning(op, x).reshape(-1).tolist() == expected


def softmax_by_loops(row: list[int], table: Array) -> list[int]:
    e = [int(table[max(row) - v]) for v in row]
    total = sum(e)
    return [min(127, (256 * v + total // 2) // total - 128) for v in e]


@given(SEEDS, st.integers(1, 12), st.floats(1e-3, 1.0))
def test_softmax_equals_the_loops_and_the_real_function(seed: int, size: int, scale: float) -> None:
    x, table = random_i8(seed, 2, size, 3), exp_table(scale)
    got = meaning(QSoftmax(inputs=("x", "t"), output="y", axis=1), x, table)
    for n, c in np.ndindex(2, 3):
        row = x[n, :, c]
        assert got[n, :, c].tolist() == softmax_by_loops(row.tolist(), table)
        real = np.exp(scale * (row.astype(np.float64) - row.max()))
        exact = np.minimum(256 * real / real.sum() - 128, 127)
        assert np.abs(got[n, :, c] - exact).max() <= 0.5 + 0.05


def test_softmax_of_equal_values_is_uniform_and_of_one_value_saturates() -> None:
    op = QSoftmax(inputs=("x", "t"), output="y", axis=1)
    assert meaning(op, np.zeros((1, 4), np.int8), exp_table(0.1)).tolist() == [[-64] * 4]
    assert meaning(op, np.full((1, 1), -128, np.int8), exp_table(0.1)).tolist() == [[127]]


def log_by_bits(s: int, table: Array) -> int:
    """The docstring of QLogSoftmax, on the bits of s."""
    n = s.bit_length() - 1
    mantissa = int(bin(s)[3:].ljust(31, "0")[:16] or "0", 2)
    i, r = mantissa // 256, mantissa % 256
    low, high = int(table[32 + i]), int(table[33 + i])
    return int(table[n]) + low + (high - low) * r // 256


@given(st.integers(2**16, 2**31 - 1), st.floats(100.0, 1e8))
def test_integer_logarithm_equals_its_description_and_the_real_one(s: int, units: float) -> None:
    table = log_table(units)
    got = int(integer_log(np.array([s]), table)[0])
    assert got == log_by_bits(s, table)
    assert abs(got - units * math.log(s / 65536)) <= units * 2.0**-15 + 3


@pytest.mark.parametrize("s", [2**16, 2**16 + 1, 2**17 - 1, 2**17, 2**30, 2**31 - 1])
def test_integer_logarithm_at_powers_of_two(s: int) -> None:
    table = log_table(1e6)
    assert int(integer_log(np.array([s]), table)[0]) == log_by_bits(s, table)


@given(SEEDS, st.integers(1, 40), st.floats(1e-2, 1.0), st.floats(0.02, 0.5), ZERO_POINTS)
def test_log_softmax_equals_the_loops_and_the_real_function(
    seed: int, size: int, x_scale: float, y_scale: float, zero_point: int
) -> None:
    multiplier, shift, units = log_softmax_constants(x_scale, y_scale)
    exponentials, logarithms = exp_table(x_scale), log_table(units)
    x = random_i8(seed, 2, size)
    op = QLogSoftmax(
        inputs=("x", "e", "l"),
        output="y",
        axis=1,
        multiplier=multiplier,
        shift=shift,
        zero_point=zero_point,
    )
    got = meaning(op, x, exponentials, logarithms)
    for row, result in zip(x.tolist(), got.tolist(), strict=True):
        log = log_by_bits(sum(int(exponentials[max(row) - v]) for v in row), logarithms)
        scaled = [Fraction((v - max(row)) * multiplier - log, 2**shift) for v in row]
        assert result == [clip(zero_point + half_up(s)) for s in scaled]
    real = x_scale * x.astype(np.float64)
    real -= real.max(axis=1, keepdims=True)
    exact = (real - np.log(np.exp(real).sum(axis=1, keepdims=True))) / y_scale + zero_point
    assert np.abs(got - np.clip(exact, -128, 127)).max() <= 0.55
