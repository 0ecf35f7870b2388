"""Generated softmax and log-softmax equal their meaning."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QLogSoftmax, QSoftmax
from qcomp.quant import gemmlowp
from qcomp.quant.fixed_point import Form
from qcomp.quant.tables import exp_table, log_softmax_constants, log_table


def log_softmax(
    axis: int, x_scale: float, y_scale: float, zero_point: int
) -> tuple[partial[QLogSoftmax], list[np.ndarray[Any, Any]]]:
    multiplier, shift, units = log_softmax_constants(x_scale, y_scale)
    op = partial(QLogSoftmax, axis=axis, multiplier=multiplier, shift=shift, zero_point=zero_point)
    return op, [exp_table(x_scale), log_table(units)]


def check_both(kit: Any, axis: int, x: Any, scale: float = 0.05, **options: Any) -> None:
    kit.check(partial(QSoftmax, axis=axis), x, kit.fixed(exp_table(scale)), **options)
    op, tables = log_softmax(axis, scale, 0.07, 127)
    kit.check(op, x, *map(kit.fixed, tables), **options)


@pytest.mark.parametrize("size", [1, 2, 10, 15, 16, 17, 31, 33, 64, 1000])
def test_softmax_over_the_last_axis(kit: Any, size: int) -> None:
    check_both(kit, 1, kit.i8(3, size))


@pytest.mark.parametrize("size", [63, 64, 65, 127, 129, 300, 3900])
@pytest.mark.parametrize("scale", [1e-6, 0.01, 0.2, 20.0])
def test_long_rows_on_the_most_able_instruction_sets(kit: Any, size: int, scale: float) -> None:
    x, table = kit.i8(3, size), kit.fixed(exp_table(scale))
    kit.check(partial(QSoftmax, axis=1), x, table, isas=kit.isas[-2:])


@pytest.mark.parametrize("finer", [1, 5])
@pytest.mark.parametrize("size", [3, 300])
def test_finer_steps_of_a_softmax(kit: Any, size: int, finer: int) -> None:
    for x in (kit.i8(3, size), np.full((1, size), 5, np.int8)):
        kit.check(partial(QSoftmax, axis=1, finer=finer), x, kit.fixed(exp_table(0.01)))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_softmax_over_any_axis_between_bordered_tensors(kit: Any, axis: int) -> None:
    check_both(kit, axis, kit.i8(2, 5, 6, 7), borders=True)


@pytest.mark.parametrize("scale", [1e-6, 0.001, 0.3, 20.0])
def test_softmax_of_any_scale(kit: Any, scale: float) -> None:
    check_both(kit, 1, kit.i8(4, 40), scale)


def test_softmax_of_equal_extremes(kit: Any) -> None:
    for value in (-128, 127):
        check_both(kit, 1, np.full((2, 5), value, np.int8))


@pytest.mark.parametrize("size", [3500, 4500])
def test_softmax_on_both_sides_of_the_exact_reciprocal(kit: Any, size: int) -> None:
    x = kit.i8(2, size)
    for scale in (1e-6, 0.01, 0.05):
        kit.check(partial(QSoftmax, axis=1), x, kit.fixed(exp_table(scale)))


def test_softmax_over_the_longest_axis(kit: Any) -> None:
    """32767 equal elements: the sum of the exponentials is 32767 * 2^16, just below 2^31."""
    check_both(kit, 1, np.zeros((1, 32767), np.int8))


@pytest.mark.parametrize(
    ("size", "scale"), [(1, 0.2), (2, 3.0), (17, 0.2), (300, 0.01), (4095, 2.0**-20)]
)
def test_softmax_with_a_reciprocal(kit: Any, size: int, scale: float) -> None:
    op = partial(QSoftmax, axis=1, form=Form.TFLITE)
    table = kit.fixed(gemmlowp.exp_table(float(np.float32(scale))))
    for x in (kit.i8(2, size), np.full((1, size), 127, np.int8)):
        kit.check(op, x, table)


def test_softmax_with_a_reciprocal_over_any_axis(kit: Any) -> None:
    table = kit.fixed(gemmlowp.exp_table(0.125))
    for axis in range(4):
        op = partial(QSoftmax, axis=axis, form=Form.TFLITE)
        kit.check(op, kit.i8(2, 5, 6, 7), table, borders=True)


@pytest.mark.parametrize("y_scale", [0.02, 0.5, 4.0])
def test_log_softmax_of_any_result_scale(kit: Any, y_scale: float) -> None:
    op, tables = log_softmax(1, 0.1, y_scale, -3)
    kit.check(op, kit.i8(6, 33), *map(kit.fixed, tables))
