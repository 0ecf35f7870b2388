"""What each op tells apart of an operand, by the table of saturation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qcomp.ir import ops
from qcomp.ir.saturation import WHOLE, Interval, Reading, seen

READING = Reading(0, ((-50.0, 50.0), (-1.0, 2.0)), (-90.0, 90.0), WHOLE, tolerance=0.002)
UNARY = {
    "sigmoid": (ops.Function.SIGMOID, 1.0, (-6.2, 6.2)),
    "tanh": (ops.Function.TANH, 1.0, (-3.5, 3.5)),
    "hard sigmoid": (ops.Function.HARD_SIGMOID, 0.2, (-2.5, 2.5)),
    "exp of negatives": (ops.Function.EXP, 1.0, (-6.2, 50.0)),
    "softplus": (ops.Function.SOFTPLUS, 1.0, (-6.2, 50.0)),
    "sign": (ops.Function.SIGN, 1.0, (0.0, 0.0)),
    "absolute value": (ops.Function.ABS, 1.0, (-50.0, 50.0)),
}


@pytest.mark.parametrize(("function", "alpha", "expected"), UNARY.values(), ids=UNARY.keys())
def test_a_function_leaves_out_where_it_is_flat(
    function: ops.Function, alpha: float, expected: Interval
) -> None:
    beta = 0.5 if function is ops.Function.HARD_SIGMOID else 0.0
    op = ops.Unary(inputs=("x",), output="y", function=function, alpha=alpha, beta=beta)
    np.testing.assert_allclose(seen(op, READING), expected, atol=0.1)


BINARY: dict[str, tuple[type[ops.Binary], int, Interval, Interval]] = {
    "sum": (ops.Add, 0, (-3.0, 3.0), (-5.0, 4.0)),
    "minuend": (ops.Sub, 0, (-3.0, 3.0), (-4.0, 5.0)),
    "subtrahend": (ops.Sub, 1, (-3.0, 3.0), (-53.0, 53.0)),
    "minimum": (ops.Minimum, 0, (-3.0, 3.0), (-3.0, 3.0)),
    "maximum": (ops.Maximum, 0, (-3.0, 3.0), (-3.0, 3.0)),
    "factor beside both signs": (ops.Mul, 0, (-3.0, 3.0), (-50.0, 50.0)),
    "divisor": (ops.Div, 1, (-3.0, 3.0), WHOLE),
}


@pytest.mark.parametrize(("kind", "index", "result", "expected"), BINARY.values(), ids=BINARY)
def test_an_operand_needs_what_the_result_tells_apart(
    kind: type[ops.Binary], index: int, result: Interval, expected: Interval
) -> None:
    op = kind(inputs=("a", "b"), output="y")
    reading = replace(READING, index=index, result=result, needed=result)
    whole = reading.operand
    assert seen(op, reading) == (max(expected[0], whole[0]), min(expected[1], whole[1]))


@pytest.mark.parametrize(
    ("kind", "other", "expected"),
    [
        (ops.Mul, (2.0, 4.0), (-1.5, 0.5)),
        (ops.Mul, (-4.0, -2.0), (-0.5, 1.5)),
        (ops.Div, (2.0, 4.0), (-12.0, 4.0)),
        (ops.Div, (-4.0, -2.0), (-4.0, 12.0)),
    ],
)
def test_a_factor_of_one_sign_scales_the_need(
    kind: type[ops.Binary], other: Interval, expected: Interval
) -> None:
    """The operand beyond it saturates the result for every value of the other one."""
    op = kind(inputs=("a", "b"), output="y")
    reading = replace(READING, operands=((-50.0, 50.0), other), needed=(-3.0, 1.0))
    assert seen(op, reading) == expected
    apply = np.multiply if kind is ops.Mul else np.divide
    beyond = np.array([[expected[0] - 0.1], [expected[1] + 0.1]])
    assert all(v <= -3.0 or v >= 1.0 for v in apply(beyond, np.linspace(*other, 9)).ravel())


def test_a_fused_clamp_is_where_a_sum_saturates() -> None:
    op = ops.Add(inputs=("a", "b"), output="y", clamp=ops.RELU6)
    assert seen(op, READING) == (-2.0, 7.0)


@pytest.mark.parametrize(("peak", "low"), [(None, -50.0), (4.0, -12.0), (-2.0, -18.0)])
def test_a_softmax_sees_sixteen_below_the_lowest_peak(peak: float | None, low: float) -> None:
    op = ops.Softmax(inputs=("x",), output="y", axis=1)
    assert seen(op, replace(READING, peak=peak)) == (low, 50.0)
    assert math.exp(-16.0) < 1 / 32768 / 100


def test_a_comparison_tells_apart_what_is_near_the_other_operand() -> None:
    op = ops.Compare(inputs=("a", "b"), output="y", relation=ops.Relation.LESS)
    margin = 100.0 / 64
    assert seen(op, READING) == (-1.0 - margin, 2.0 + margin)


def test_a_selection_needs_of_its_operands_what_its_result_does() -> None:
    op = ops.Select(inputs=("c", "a", "b"), output="y")
    reading = Reading(0, ((0.0, 1.0), (-50.0, 50.0), (-9.0, 1.0)), (-3.0, 2.0), (-3.0, 2.0), 0.0)
    needs = [seen(op, replace(reading, index=i)) for i in range(3)]
    assert needs == [(0.0, 1.0), (-3.0, 2.0), (-3.0, 1.0)]
