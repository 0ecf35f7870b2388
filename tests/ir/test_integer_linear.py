"""Convolution, dense and matrix product against loops over Python integers."""

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
from qcomp.ir.evaluate.integer_linear import exact_dtype
from qcomp.ir.ops import Op, QConv2d, QDense, QMatMul
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize

Array = NDArray[Any]
SEEDS = st.integers(0, 2**32 - 1)
EPILOGUE = Requantize(Form.WIDE, -3, -120, 110)


def random_i8(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-128, 128, shape).astype(np.int8)


def channel_constants(rng: np.random.Generator, channels: int) -> tuple[Array, Array, Array]:
    """bias, multiplier, shift; the factor is about 1 / 500."""
    return (
        rng.integers(-5000, 5000, channels).astype(np.int32),
        rng.integers(2**30, 2**31, channels).astype(np.int32),
        rng.integers(38, 42, channels).astype(np.int32),
    )


def epilogue(acc: int, multiplier: int, shift: int) -> int:
    scaled = math.floor(Fraction(acc * int(multiplier), 2 ** int(shift)) + Fraction(1, 2))
    return min(max(scaled + EPILOGUE.zero_point, EPILOGUE.qmin), EPILOGUE.qmax)


def meaning(op: Op, *operands: Array) -> Array:
    result = MEANINGS[type(op)](op, *operands)
    types = [TensorType(DType.of(t.dtype), t.shape) for t in operands]
    assert op.result_type(*types) == TensorType(DType.of(result.dtype), result.shape)
    return result


def conv_by_loops(
    op: QConv2d, x: Array, weight: Array, bias: Array, multiplier: Array, shift: Array
) -> Array:
    samples, height, width, _ = x.shape
    outputs, kh, kw, depth = weight.shape
    top, left, bottom, right = op.padding
    rows = (height + top + bottom - (kh - 1) * op.dilation[0] - 1) // op.stride[0] + 1
    columns = (width + left + right - (kw - 1) * op.dilation[1] - 1) // op.stride[1] + 1
    result = np.empty((samples, rows, columns, outputs), np.int8)
    for n, i, j, o in np.ndindex(*result.shape):
        acc = int(bias[o])
        first = o // (outputs // op.groups) * depth
        for ki, kj, c in np.ndindex(kh, kw, depth):
            row = i * op.stride[0] + ki * op.dilation[0] - top
            column = j * op.stride[1] + kj * op.dilation[1] - left
            if 0 <= row < height and 0 <= column < width:
                value = int(x[n, row, column, first + c]) - op.x_zero_point
                acc += value * int(weight[o, ki, kj, c])
        result[n, i, j, o] = epilogue(acc, multiplier[o], shift[o])
    return result


@given(
    seed=SEEDS,
    groups=st.sampled_from([(1, 3, 2), (1, 1, 2), (3, 1, 1), (3, 1, 2), (2, 2, 3)]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    x_zero_point=st.integers(-128, 127),
)
def test_convolution_equals_the_loops(
    seed: int,
    groups: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int, int, int],
    x_zero_point: int,
) -> None:
    rng = np.random.default_rng(seed)
    count, depth, per_group = groups
    op = QConv2d(
        inputs=("x", "w", "b", "m", "s"),
        output="y",
        x_zero_point=x_zero_point,
        requantize=EPILOGUE,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=count,
    )
    x = random_i8(rng, 2, 5, 6, count * depth)
    weight = random_i8(rng, count * per_group, *kernel, depth)
    constants = channel_constants(rng, count * per_group)
    np.testing.assert_array_equal(
        meaning(op, x, weight, *constants), conv_by_loops(op, x, weight, *constants)
    )


@given(SEEDS, st.booleans(), st.sampled_from([(1, 3, 2), (3, 1, 2), (2, 2, 3)]))
def test_weights_with_a_zero_point_are_the_centered_weights(
    seed: int, each: bool, groups: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    count, depth, per_group = groups
    channels = count * per_group
    names = {"output": "y", "x_zero_point": 7, "requantize": EPILOGUE, "groups": count}
    op = QConv2d(inputs=("x", "w", "b", "m", "s", "z"), padding=(1, 0, 1, 1), **names)
    x, weight = random_i8(rng, 1, 4, 3, count * depth), random_i8(rng, channels, 2, 2, depth)
    zero = random_i8(rng, channels if each else 1)
    constants = channel_constants(rng, channels)
    centered = weight.astype(np.int64) - zero.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(
        meaning(op, x, weight, *constants, zero), conv_by_loops(op, x, centered, *constants)
    )


@given(SEEDS)
def test_dense_weights_with_a_zero_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    op = QDense(
        inputs=("x", "w", "b", "m", "s", "z"), output="y", x_zero_point=-5, requantize=EPILOGUE
    )
    x, weight, zero = random_i8(rng, 2, 9), random_i8(rng, 3, 9), random_i8(rng, 3)
    constants = bias, multiplier, shift = channel_constants(rng, 3)
    result = meaning(op, x, weight, *constants, zero)
    for i, o in np.ndindex(2, 3):
        terms = zip(x[i].tolist(), weight[o].tolist(), strict=True)
        acc = int(bias[o]) + sum((a + 5) * (w - int(zero[o])) for a, w in terms)
        assert result[i, o] == epilogue(acc, multiplier[o], shift[o])


@pytest.mark.parametrize("shape", [(2,), (3, 1), (4,)])
def test_a_zero_point_is_for_each_channel_or_for_all(shape: tuple[int, ...]) -> None:
    op = QDense(
        inputs=("x", "w", "b", "m", "s", "z"), output="y", x_zero_point=0, requantize=EPILOGUE
    )
    types = [TensorType(DType.I8, (2, 9)), TensorType(DType.I8, (3, 9))]
    types += [TensorType(DType.I32, (3,))] * 3
    with pytest.raises(ValueError, match="for 3 channels"):
        op.result_type(*types, TensorType(DType.I8, shape))


def test_a_convolution_of_many_samples_equals_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcomp.ir.evaluate.integer_linear._PATCH_ELEMENTS", 1000)
    rng = np.random.default_rng(1)
    op = QConv2d(inputs=("x", "w", "b", "m", "s"), output="y", x_zero_point=5, requantize=EPILOGUE)
    x, weight = random_i8(rng, 7, 6, 6, 2), random_i8(rng, 3, 3, 3, 2)
    constants = channel_constants(rng, 3)
    singly = [meaning(op, sample[None], weight, *constants) for sample in x]
    np.testing.assert_array_equal(meaning(op, x, weight, *constants), np.concatenate(singly))


@given(SEEDS, st.sampled_from([(4,), (3, 4), (2, 1, 4)]), st.integers(-128, 127))
def test_dense_equals_the_loops(seed: int, shape: tuple[int, ...], x_zero_point: int) -> None:
    rng = np.random.default_rng(seed)
    op = QDense(
        inputs=("x", "w", "b", "m", "s"),
        output="y",
        x_zero_point=x_zero_point,
        requantize=EPILOGUE,
    )
    x, weight = random_i8(rng, *shape), random_i8(rng, 3, 4)
    bias, multiplier, shift = channel_constants(rng, 3)
    got = meaning(op, x, weight, bias, multiplier, shift)
    for *lead, o in np.ndindex(*shape[:-1], 3):
        row = x[tuple(lead)]
        acc = int(bias[o]) + sum(
            (int(v) - x_zero_point) * int(w) for v, w in zip(row, weight[o], strict=True)
        )
        assert got[(*lead, o)] == epilogue(acc, multiplier[o], shift[o])


@given(
    SEEDS,
    st.sampled_from([((2, 3), (3, 4)), ((2, 2, 3), (3, 1)), ((2, 1, 2, 3), (3, 3, 2))]),
    st.integers(-128, 127),
    st.integers(-128, 127),
)
def test_matrix_product_equals_the_loops(
    seed: int, shapes: tuple[tuple[int, ...], tuple[int, ...]], a_zero: int, b_zero: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (random_i8(rng, *shape) for shape in shapes)
    op = QMatMul(
        inputs=("a", "b"),
        output="y",
        a_zero_point=a_zero,
        b_zero_point=b_zero,
        multiplier=1_500_000_000,
        shift=40,
        requantize=EPILOGUE,
    )
    got = meaning(op, a, b)
    batch = got.shape[:-2]
    wide_a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    wide_b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
    for *lead, i, j in np.ndindex(*got.shape):
        left, right = wide_a[(*lead, i)], wide_b[tuple(lead)][:, j]
        acc = sum((int(u) - a_zero) * (int(v) - b_zero) for u, v in zip(left, right, strict=True))
        assert got[(*lead, i, j)] == epilogue(acc, op.multiplier, op.shift)


@pytest.mark.parametrize("terms", [514, 515, 515 * 9])
def test_sums_at_the_edge_of_float32_are_exact(terms: int) -> None:
    """All products are 255 * 127 but one, which makes the sum odd."""
    op = QDense(
        inputs=("x", "w", "b", "m", "s"),
        output="y",
        x_zero_point=-128,
        requantize=Requantize(Form.WIDE, 0),
    )
    x, weight = np.full((1, terms), 127, np.int8), np.full((2, terms), 127, np.int8)
    x[0, 0], weight[:, 0] = -127, 1
    expected = (terms - 1) * 255 * 127 + 1
    for offset in (-3, 0, 5):
        bias = np.array([offset - expected, -expected], np.int32)
        unit, shift = np.full(2, 2**30, np.int32), np.full(2, 30, np.int32)
        assert meaning(op, x, weight, bias, unit, shift).tolist() == [[offset, 0]]


def test_float32_is_used_only_below_its_integer_range() -> None:
    assert exact_dtype(514, 255 * 128) is np.float32
    assert exact_dtype(515, 255 * 128) is np.float64
