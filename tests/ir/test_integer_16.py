"""Integer ops on i16, at its edges and against Python integers and real numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.ir.evaluate import MEANINGS
from qcomp.ir.ops import (
    Interpolate,
    MaxPool2d,
    Op,
    QAdd,
    QAddWide,
    QConv2d,
    QDense,
    QDiv,
    QLogSoftmax,
    QMatMul,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QReduceSum,
    QRescale,
    QSoftmax,
    Resize2d,
    ResizeMode,
    Table,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.tables import (
    exp_table_16,
    log_softmax_constants_16,
    log_table_16,
)

Array = NDArray[Any]
LOW, HIGH = -32768, 32767
EDGES = np.array([LOW, LOW + 1, -129, -128, -1, 0, 1, 127, 128, HIGH - 1, HIGH], np.int16)
I16 = st.integers(LOW, HIGH)
TO_8, TO_16 = Requantize(Form.WIDE, -3), Requantize(Form.WIDE, 0, LOW, HIGH, 16)


def meaning(op: Op, *operands: Array) -> Array:
    """The result, whose type is the one that the op infers."""
    result = MEANINGS[type(op)](op, *operands)
    types = [TensorType(DType.of(t.dtype), t.shape) for t in operands]
    assert op.result_type(*types) == TensorType(DType.of(result.dtype), result.shape)
    return result


def half_up(numerator: int, shift: int) -> int:
    return (Fraction(numerator, 2**shift) + Fraction(1, 2)).__floor__()


def clip(x: int, q: Requantize) -> int:
    return min(max(x, q.qmin), q.qmax)


@pytest.mark.parametrize("q", [TO_8, TO_16])
@pytest.mark.parametrize(("m", "shift"), [(2**31 - 1, 31), (2**30, 38), (1, 1), (2**31 - 1, 62)])
def test_rescaling_is_one_rounding_of_the_product(q: Requantize, m: int, shift: int) -> None:
    op = QRescale(
        inputs=("x",), output="y", x_zero_point=0, multiplier=m, shift=shift, requantize=q
    )
    expected = [clip(q.zero_point + half_up(int(x) * m, shift), q) for x in EDGES]
    assert meaning(op, EDGES).tolist() == expected


@pytest.mark.parametrize("dtypes", [(np.int16, np.int16), (np.int16, np.int8), (np.int8, np.int8)])
@given(x=I16, y=I16, ma=st.integers(-(2**31) + 1, 2**31 - 1), shift=st.integers(0, 62))
def test_a_wide_sum_is_exact_up_to_its_one_rounding(
    dtypes: tuple[type, type], x: int, y: int, ma: int, shift: int
) -> None:
    a, b = np.array([x]).astype(dtypes[0]), np.array([y]).astype(dtypes[1])
    op = QAddWide(
        inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, a_multiplier=ma,
        b_multiplier=2**31 - 1, shift=shift, zero_point=0, qmin=LOW, qmax=HIGH, bits=16,
    )  # fmt: skip
    exact = int(a[0]) * ma + int(b[0]) * (2**31 - 1)
    expected = half_up(exact, shift) if shift else exact
    assert meaning(op, a, b)[0] == clip(expected, TO_16)


@given(x=I16, y=I16, m=st.integers(1, 2**45), shift=st.integers(0, 45))
def test_a_quotient_is_the_nearest_and_by_zero_it_saturates(
    x: int, y: int, m: int, shift: int
) -> None:
    op = QDiv(
        inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=m, shift=shift,
        zero_point=0, qmin=LOW, qmax=HIGH, bits=16,
    )  # fmt: skip
    got = int(meaning(op, np.array([x], np.int16), np.array([y], np.int16))[0])
    if y == 0:
        assert got == (0 if x == 0 else HIGH if x > 0 else LOW)
        return
    exact = Fraction(x * m, y * 2**shift)
    away = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    assert got == clip(away, TO_16)


@given(x=I16, y=I16, shift=st.integers(1, 62))
def test_a_product_of_any_two_widths(x: int, y: int, shift: int) -> None:
    for q in (TO_8, TO_16):
        op = QMul(
            inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=2**31 - 1,
            shift=shift, requantize=q,
        )  # fmt: skip
        got = meaning(op, np.array([x], np.int16), np.array([y], np.int16))[0]
        assert got == clip(q.zero_point + half_up(x * y * (2**31 - 1), shift), q)


@pytest.mark.parametrize("bias", [np.int32, np.int64])
def test_sums_with_weights_are_exact_at_the_edges(bias: type) -> None:
    """4608 products of the largest magnitude: 2^34, which only an i64 accumulator may reach."""
    depth = 4608 if bias is np.int64 else 100
    x = np.full((2, depth), LOW, np.int16)
    x[1] = HIGH
    weight = np.full((3, depth), 127, np.int8)
    weight[1] = -127
    b = np.array([0, 5, -(2**31)], bias)
    m, s = np.full(3, 2**24 - 1, np.int32), np.full(3, 44, np.int32)
    op = QDense(inputs=tuple("xwbms"), output="y", x_zero_point=0, requantize=TO_16)
    sums = x.astype(object) @ weight.T.astype(object) + b.astype(object)
    expected = [[clip(half_up(int(v) * (2**24 - 1), 44), TO_16) for v in row] for row in sums]
    assert meaning(op, x, weight, b, m, s).tolist() == expected
    conv = QConv2d(inputs=tuple("xwbms"), output="y", x_zero_point=0, requantize=TO_16)
    got = meaning(conv, x[None, None], weight[:, None, None], b, m, s)
    assert got[0, 0].tolist() == expected


def test_a_matrix_product_is_exact_at_the_edges() -> None:
    a, b = np.full((1, 4096), LOW, np.int16), np.full((4096, 1), LOW, np.int16)
    op = QMatMul(
        inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=2**19 - 1,
        shift=47, requantize=TO_16,
    )  # fmt: skip
    assert meaning(op, a, b).item() == clip(half_up(4096 * 2**30 * (2**19 - 1), 47), TO_16)


@pytest.mark.parametrize("x", [EDGES, EDGES[::-1]])
def test_extremes_and_prelu(x: Array) -> None:
    assert meaning(QMinimum(inputs=("a", "b"), output="y", qmin=-5, qmax=HIGH), x, x).min() == -5
    assert meaning(QMaximum(inputs=("a", "b"), output="y", qmin=LOW, qmax=9), x, x).max() == 9
    op = QPRelu(
        inputs=("x", "m"), output="y", x_zero_point=0, positive_multiplier=2**30, shift=30,
        zero_point=0, qmin=LOW, qmax=HIGH, bits=16,
    )  # fmt: skip
    slope = np.array([-(2**29)], np.int32)
    expected = [int(v) if v >= 0 else half_up(-int(v), 1) for v in x]
    assert meaning(op, x, slope).tolist() == expected


def test_padding_of_a_maximum_never_wins() -> None:
    op = MaxPool2d(inputs=("x",), output="y", kernel=(3, 3), padding=(1, 1, 1, 1))
    x = np.full((1, 1, 1, 1), LOW + 1, np.int16)
    assert meaning(op, x).item() == LOW + 1


def test_a_sum_of_many_and_a_resize_are_exact() -> None:
    x = np.full((1, 300, 300, 2), LOW, np.int16)
    x[..., 1] = HIGH
    mean = QReduceSum(
        inputs=("x",), output="y", axes=(1, 2), keepdims=False, x_zero_point=0,
        multiplier=round(2**29 / 90000), shift=29, requantize=TO_16,
    )  # fmt: skip
    sums = [LOW * 90000, HIGH * 90000]
    expected = [clip(half_up(v * round(2**29 / 90000), 29), TO_16) for v in sums]
    assert meaning(mean, x).tolist() == [expected]
    op = Resize2d(inputs=("x",), output="y", size=(7, 5), scale=(3.5, 2.5), mode=ResizeMode.LINEAR)
    assert_array_equal(meaning(op, x[:, :2, :2])[0, 3, 2], [LOW, HIGH])


def test_a_table_gives_either_width() -> None:
    x = np.array([-128, 0, 127], np.int8)
    table = np.arange(256, dtype=np.int16) * 100
    assert meaning(Table(inputs=("x", "t"), output="y"), x, table).tolist() == [0, 12800, 25500]


@pytest.mark.parametrize("k", range(8))
def test_interpolation_meets_its_entries_and_stays_between_them(k: int) -> None:
    random = np.random.default_rng(k)
    table = random.integers(-(2**22), 2**22, 2 ** (16 - k) + 1).astype(np.int32)
    op = Interpolate(
        inputs=("x", "t"), output="y", step_bits=k, zero_point=0, qmin=LOW, qmax=HIGH, bits=16
    )
    x = np.arange(LOW, HIGH + 1).astype(np.int16)
    got = meaning(op, x, table).astype(np.int64)
    exact = np.interp(np.arange(2**16) / 2**k, np.arange(len(table)), table) / 128
    assert_array_equal(got, np.clip(np.floor(exact + 0.5), LOW, HIGH))


@given(st.lists(I16, min_size=1, max_size=30), st.floats(1e-5, 1e-2), st.sampled_from([8, 16]))
def test_softmax_is_within_a_step_of_the_real_one(row: list[int], scale: float, bits: int) -> None:
    x = np.array(row, np.int16)
    op = QSoftmax(inputs=("x", "e"), output="y", axis=0, bits=bits)
    got = meaning(op, x, exp_table_16(scale)).astype(np.float64) + (128 if bits == 8 else 0)
    e = np.exp((x - float(x.max())) * scale)
    exact = e / e.sum() * (256 if bits == 8 else 32768)
    assert np.abs(got - np.minimum(exact, 255 if bits == 8 else 32767)).max() <= 0.51


def test_softmax_orders_what_8_bits_would_tie() -> None:
    x = np.array([20000, 20010, 19990], np.int16)
    op = QSoftmax(inputs=("x", "e"), output="y", axis=0, bits=16)
    assert np.argsort(meaning(op, x, exp_table_16(1e-3))).tolist() == [2, 0, 1]


@given(st.lists(I16, min_size=1, max_size=30), st.floats(1e-5, 1e-2))
def test_log_softmax_is_within_a_step_of_the_real_one(row: list[int], scale: float) -> None:
    x, y_scale = np.array(row, np.int16), 1 / 2048
    m, shift, units = log_softmax_constants_16(scale, y_scale)
    op = QLogSoftmax(
        inputs=("x", "e", "l"), output="y", axis=0, multiplier=m, shift=shift, zero_point=0, bits=16
    )
    got = meaning(op, x, exp_table_16(scale), log_table_16(units, 30))
    t = (x - float(x.max())) * scale
    exact = (t - np.log(np.exp(t).sum())) / y_scale
    assert np.abs(got - np.maximum(exact, LOW)).max() <= 0.52


@pytest.mark.parametrize(
    ("op", "operands", "message"),
    [
        (QAdd(inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, a_multiplier=1,
              b_multiplier=1, fraction_bits=2, zero_point=0), ["i16", "i8"], "expected i8"),
        (QMinimum(inputs=("a", "b"), output="y"), ["i16", "i8"], "differ in type"),
        (QMul(inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=300,
              shift=3, requantize=Requantize(Form.NARROW, 0)), ["i16", "i8"], "expected wide"),
        (QDiv(inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=1, shift=0,
              zero_point=1, bits=16), ["i8", "i8"], "zero_point 1 of an i16 result"),
        (QDiv(inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=1, shift=0,
              zero_point=0, bits=24), ["i8", "i8"], "expected 8, 16 or 32"),
        (QMinimum(inputs=("a", "b"), output="y"), ["i32", "i32"], "expected i8 or i16"),
        (QMul(inputs=("a", "b"), output="y", a_zero_point=0, b_zero_point=0, multiplier=300,
              shift=3, requantize=Requantize(Form.WIDE, 0)), ["i32", "i32"], "two i32"),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit_are_refused(op: Op, operands: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op.result_type(*(TensorType(DType(t), (4,)) for t in operands))


def test_a_bias_of_64_bits_belongs_to_operands_of_16() -> None:
    op = QDense(inputs=tuple("xwbms"), output="y", x_zero_point=0, requantize=TO_8)
    types = [TensorType(DType.I8, (1, 4)), TensorType(DType.I8, (2, 4))]
    vectors = [TensorType(d, (2,)) for d in (DType.I64, DType.I32, DType.I32)]
    with pytest.raises(ValueError, match="i64 where x is i16"):
        op.result_type(*types, *vectors)


def test_every_meaning_is_in_the_table_of_integer_meanings() -> None:
    assert {QRescale, Interpolate} <= set(MEANINGS)
