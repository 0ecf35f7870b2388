"""The arithmetic of TensorFlow Lite's reference kernels, against scalar C written in Python."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.ops import Op, QAddRescaled, QAveragePool2d, QReduceSum, QSoftmax
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant import gemmlowp
from qcomp.quant.fixed_point import Form, Requantize, multiplier_tflite
from qcomp.quant.tflite_constants import add_rescaled_constants, mean_constants

I8 = NDArray[np.int8]
ALL = np.arange(-128, 128, dtype=np.int8)
SCALES = st.floats(2.0**-12, 2.0, width=32)
INT_MAX = 2**31 - 1
POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def meaning(op: Op, *operands: NDArray[Any]) -> NDArray[Any]:
    result = MEANINGS[type(op)](op, *operands)
    types = [TensorType(DType.of(t.dtype), t.shape) for t in operands]
    assert op.result_type(*types) == TensorType(DType.of(result.dtype), result.shape)
    return result


def clip(x: int) -> int:
    return min(max(x, -128), 127)


def int32(x: int) -> int:
    assert -(2**31) <= x <= INT_MAX, "C would overflow"
    return x


def mbqm(x: int, q31: int, shift: int) -> int:
    """MultiplyByQuantizedMultiplier: both of its roundings in one sum and one shift."""
    e = max(-shift, 0)
    x = int32(x << max(shift, 0))
    second = 2 ** (30 + e) - (2**31 if x < 0 else 0) if e else 0
    return (x * q31 + 2**30 + second) >> (31 + e)


# --- addition


def added(a: I8, b: I8, zero_points: tuple[int, int, int], sign: int, **constants: int) -> I8:
    za, zb, zy = zero_points
    op = QAddRescaled(
        inputs=("a", "b"),
        output="y",
        a_zero_point=za,
        b_zero_point=zb,
        b_sign=sign,
        requantize=Requantize(Form.TFLITE, zy),
        **constants,
    )
    return meaning(op, a, b)


def test_addition_by_hand() -> None:
    """Of one scale, s / (2 s) is 2^30 in Q31, and the sum has the factor 2 / 2^20."""
    constants = add_rescaled_constants(0.5, 0.5, 0.5)
    assert asdict(constants) == {
        "left_shift": 20,
        "a_multiplier": 2**30, "a_shift": 0,
        "b_multiplier": 2**30, "b_shift": 0,
        "multiplier": 2**30, "shift": -18,
    }  # fmt: skip
    a, b = np.array([3, -3, 100, -128], np.int8), np.array([4, -5, 100, 127], np.int8)
    assert added(a, b, (0, 0, 0), 1, **asdict(constants)).tolist() == [7, -8, 127, -1]
    assert added(a, b, (0, 0, 0), -1, **asdict(constants)).tolist() == [-1, 2, 0, -128]
    # In steps twice as long, halves go away from zero: 7 / 2 is 4, and -7 / 2 is -4.
    halves = asdict(add_rescaled_constants(0.5, 0.5, 1.0))
    a, b = np.array([3, -3], np.int8), np.array([4, -4], np.int8)
    assert added(a, b, (0, 0, 0), 1, **halves).tolist() == [4, -4]


@given(SCALES, SCALES, SCALES, st.tuples(*[st.integers(-128, 127)] * 3), st.sampled_from([1, -1]))
def test_addition_is_three_multiplications_by_quantized_multipliers(
    a_scale: float, b_scale: float, y_scale: float, zero_points: tuple[int, int, int], sign: int
) -> None:
    c = add_rescaled_constants(a_scale, b_scale, y_scale)
    random = np.random.default_rng(0)
    a, b = random.permutation(ALL), random.permutation(ALL)
    za, zb, zy = zero_points

    def expected(x: int, y: int) -> int:
        first = mbqm((x - za) << 20, c.a_multiplier, c.a_shift)
        second = mbqm((y - zb) << 20, c.b_multiplier, c.b_shift)
        return clip(mbqm(int32(first + sign * second), c.multiplier, c.shift) + zy)

    got = added(a, b, zero_points, sign, **asdict(c))
    assert got.tolist() == [expected(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    real = a_scale * (a - float(za)) + sign * b_scale * (b - float(zb))
    assert np.abs(got - np.clip(real / y_scale + zy, -128, 127)).max() < 0.6


def test_scales_that_the_reference_refuses_are_refused() -> None:
    with pytest.raises(ValueError, match="too large beside"):
        add_rescaled_constants(2.0, 1.0, 2.0**-19)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b_sign": 2}, "b_sign 2; expected 1 or -1"),
        ({"left_shift": 23}, "left_shift 23; expected 0 to 22"),
        ({"requantize": Requantize(Form.WIDE, 0)}, "form wide; expected tflite"),
    ],
)
def test_an_addition_of_another_kind_is_no_op(change: dict[str, Any], said: str) -> None:
    op = QAddRescaled(
        inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, b_sign=1,
        requantize=Requantize(Form.TFLITE, 0), **asdict(add_rescaled_constants(1, 1, 1)),
    )  # fmt: skip
    types = [TensorType(DType.I8, (2,))] * 2
    assert op.result_type(*types) == types[0]
    with pytest.raises(ValueError, match=said):
        replace(op, **change).result_type(*types)


# --- averages


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize("kernel", [(1, 2), (2, 2), (3, 3)])
def test_average_pool_divides_the_sum_of_integers_half_away_from_zero(
    kernel: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    x = np.random.default_rng(1).integers(-128, 128, (1, 9, 8, 3)).astype(np.int8)
    x[0, :4] = np.random.default_rng(2).integers(-2, 3, (4, 8, 3))
    op = QAveragePool2d(
        inputs=("x", "n"), output="y", x_zero_point=0, shift=0, kernel=kernel, padding=padding,
        requantize=Requantize(Form.QUOTIENT, 0, -100, 90),
    )  # fmt: skip
    counts = np.arange(kernel[0] * kernel[1] + 1, dtype=np.int32)
    got = meaning(op, x, counts)
    for n, i, j, c in np.ndindex(*got.shape):
        top, left = i - padding[0], j - padding[1]
        rows, columns = slice(max(top, 0), top + kernel[0]), slice(max(left, 0), left + kernel[1])
        window = x[n, rows, columns, c].astype(int)
        total, count = int(window.sum()), window.size
        half = count // 2
        mean = (total + half) // count if total > 0 else -((-total + half) // count)
        assert got[n, i, j, c] == min(max(mean, -100), 90)


def test_quotients_by_hand() -> None:
    sums = np.array([[3, -3, 1, -1, 5, -5, 0]], np.int8).reshape(1, 1, 7, 1)
    op = QAveragePool2d(
        inputs=("x", "n"), output="y", x_zero_point=0, shift=0, kernel=(1, 1),
        requantize=Requantize(Form.QUOTIENT, 0),
    )  # fmt: skip
    got = meaning(op, sums, np.array([0, 2], np.int32))
    assert got.ravel().tolist() == [2, -2, 1, -1, 3, -3, 0]


@given(SCALES, SCALES, st.integers(1, 5000), st.integers(-128, 127))
def test_a_mean_has_the_multiplier_of_the_scales_divided_by_the_count(
    x_scale: float, y_scale: float, count: int, zero: int
) -> None:
    multiplier, shift = mean_constants(x_scale, y_scale, count)
    q31, s = multiplier_tflite(x_scale / y_scale)
    k = min(math.floor(math.log2(count)), 32, 31 + s)
    assert (multiplier, shift) == ((q31 << k) // count, s - k)
    x = np.random.default_rng(count).integers(-128, 128, (1, count)).astype(np.int8)
    op = QReduceSum(
        inputs=("x",), output="y", axes=(1,), keepdims=False, x_zero_point=zero,
        multiplier=multiplier, shift=shift, requantize=Requantize(Form.TFLITE, 5),
    )  # fmt: skip
    total = int((x.astype(int) - zero).sum())
    assert meaning(op, x).tolist() == [clip(mbqm(total, multiplier, shift) + 5)]


# --- softmax


def srdhm(a: int, b: int) -> int:
    ab = int32(a) * int32(b)
    nudged = ab + (2**30 if ab >= 0 else 1 - 2**30)
    return nudged >> 31 if nudged >= 0 else -(-nudged >> 31)


def rdpot(x: int, exponent: int) -> int:
    """Half away from zero."""
    half = 1 << exponent >> 1
    return (x + half) >> exponent if x >= 0 else -((-x + half) >> exponent)


def exp_on_negative_values(a: int) -> int:
    """gemmlowp's, of Q5.26 in Q0.31."""
    if a == 0:
        return INT_MAX
    quarter = 1 << 24
    rest = (a & (quarter - 1)) - quarter
    x = (rest << 5) + (1 << 28)
    x2 = srdhm(x, x)
    x3, x4 = srdhm(x2, x), srdhm(x2, x2)
    inner = rdpot(srdhm(rdpot(x4, 2) + x3, 715827883) + x2, 1)
    result = 1895147668 + srdhm(1895147668, x + inner)
    for k, power in enumerate(POWERS):
        if (rest - a) & (1 << (24 + k)):
            result = srdhm(result, power)
    return result


def reciprocal(x: int) -> tuple[int, int]:
    headroom = 32 - x.bit_length()
    a = (x << headroom) - 2**31
    half = (a + INT_MAX + 1) // 2
    y = int32(1515870810 + srdhm(half, -1010580540))
    for _ in range(3):
        y = int32(y + int32(srdhm(y, 2**29 - srdhm(half, y)) << 2))
    return min(y << 1, INT_MAX), 12 - headroom


def softmax(row: list[int], scale: float) -> list[int]:
    """reference_ops::Softmax of int8_t."""
    m, left = multiplier_tflite(scale * 2**26)
    radius = math.floor(31 * 2**26 / 2**left)
    differences = [x - max(row) for x in row]
    exponentials = [
        exp_on_negative_values(srdhm(d << left, m)) if d >= -radius else None for d in differences
    ]
    total = int32(sum(rdpot(e, 12) for e in exponentials if e is not None))
    shifted, over_unit = reciprocal(total)
    return [
        -128 if e is None else clip(rdpot(srdhm(shifted, e), over_unit + 31 - 8) - 128)
        for e in exponentials
    ]


def softmax_of(rows: I8, scale: float) -> I8:
    op = QSoftmax(inputs=("x", "t"), output="y", axis=1, form=Form.TFLITE)
    return meaning(op, rows, gemmlowp.exp_table(scale))


@given(st.floats(2.0**-10, 4.0, width=32), st.integers(1, 400))
def test_softmax_is_that_of_the_reference(scale: float, count: int) -> None:
    rows = np.random.default_rng(count).integers(-128, 128, (2, count)).astype(np.int8)
    got = softmax_of(rows, scale)
    assert got.tolist() == [softmax(row.tolist(), scale) for row in rows]
    real = np.exp((rows - rows.max(axis=1, keepdims=True).astype(float)) * scale)
    real /= real.sum(axis=1, keepdims=True)
    assert np.abs(got - np.clip(256 * real - 128, -128, 127)).max() < 0.6


def test_softmax_by_hand() -> None:
    assert softmax_of(np.array([[5], [-9]], np.int8), 0.5).tolist() == [[127], [127]]
    assert softmax_of(np.full((1, 2), 3, np.int8), 0.5).tolist() == [[0, 0]]
    assert softmax_of(np.full((1, 256), 3, np.int8), 0.5).tolist() == [[-127] * 256]


def test_softmax_of_the_test_of_tensorflow_lite_micro() -> None:
    """softmax_test.cc, Softmax2D: its real answers, of inputs in steps of 0.1."""
    real = [[1.0, 2.0, 3.0, 4.0, 5.0], [-1.0, -2.0, -3.0, -4.0, -5.0]]
    answers = [0.011656231, 0.031684921, 0.086128544, 0.234121657, 0.636408647]
    rows = np.rint(np.array(real) / 0.1).astype(np.int8)
    got = softmax_of(rows, float(np.float32(0.1)))
    expected = np.rint(np.array([answers, answers[::-1]]) * 256) - 128
    assert np.abs(got - expected).max() <= 1


def test_exponentials_are_near_the_real_ones_and_end() -> None:
    for scale in (0.01, 0.1, 0.5, 3.0):
        table = gemmlowp.exp_table(float(np.float32(scale))).astype(float)
        real = np.exp(-float(np.float32(scale)) * np.arange(256))
        assert np.abs(table / 2**31 - real).max() < 3e-7
    assert_array_equal(gemmlowp.exp_table(16 - 2.0**-10)[2:], 0)
    with pytest.raises(ValueError, match="expected at least 2\\^-26"):
        gemmlowp.exp_table(2.0**-27)


@pytest.mark.parametrize(
    ("x", "bits", "form", "said"),
    [
        ("i16", 8, Form.TFLITE, "form tflite of i16"),
        ("i8", 16, Form.TFLITE, "form tflite of i8"),
        ("i8", 8, Form.WIDE, "form wide of i8"),
    ],
)
def test_a_softmax_of_another_form_is_no_op(x: str, bits: int, form: Form, said: str) -> None:
    op = QSoftmax(inputs=("x", "t"), output="y", axis=0, bits=bits, form=form)
    entries = 256 if x == "i8" else 2**16 + 513
    types = TensorType(DType(x), (4,)), TensorType(DType.I32, (entries,))
    with pytest.raises(ValueError, match=f"{said}.*expected quotient, or tflite of i8 to i8"):
        op.result_type(*types)
