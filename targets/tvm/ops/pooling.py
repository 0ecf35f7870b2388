"""Pooling windows over NHWC as reductions."""

from __future__ import annotations

from functools import reduce as fold

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.windows import padded as with_border
from qcomp.ir.evaluate.windows import taps
from qcomp.ir.ops import MaxPool2d, QAveragePool2d
from qcomp.targets.tvm.api.expressions import Expr
from qcomp.targets.tvm.api.tensors import Tensor, axis, compute, dtype_of, largest, total
from qcomp.targets.tvm.arithmetic import I32, I64, WIDTHS
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.indexing import padded
from qcomp.targets.tvm.requantize import Factor, requantize


def max_pool2d(b: Builder, op: MaxPool2d) -> Tensor:
    """Padding has the least value."""
    x = b.stored(op.x)
    least = int(np.iinfo(dtype_of(x)).min)
    i, j = axis(op.kernel[0]), axis(op.kernel[1])

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        return largest(_tap(x, op, (n, y, z, c), (i, j), least), (i, j))

    return compute(b.type(op.output).shape, element)


def q_average_pool2d(b: Builder, op: QAveragePool2d) -> Tensor:
    """The sum, less the zero point of what it has inside; the multiplier by the place."""
    x, counts = b.stored(op.x), _counts(b, op)
    lane = WIDTHS[I32 if dtype_of(x) == "int8" else I64]
    i, j = axis(op.kernel[0]), axis(op.kernel[1])

    def sums(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        return total(lane(_tap(x, op, (n, y, z, c), (i, j), op.x_zero_point)), (i, j))

    acc = compute(b.type(op.output).shape, sums)
    multipliers = b.constant(b.array(op.multiplier)[counts])
    area = op.kernel[0] * op.kernel[1]  # padding is the zero point

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        centered = acc[n, y, z, c] - lane(area * op.x_zero_point)
        return requantize(centered, Factor(multipliers[y, z], op.shift), op.requantize)

    return compute(b.type(op.output).shape, element)


def _tap(
    x: Tensor,
    op: MaxPool2d | QAveragePool2d,
    at: tuple[Expr, Expr, Expr, Expr],
    tap: tuple[Expr, Expr],
    outside: int,
) -> Expr:
    (n, y, z, c), (top, left, bottom, right) = at, op.padding
    row = y * op.stride[0] + tap[0] * op.dilation[0] - top
    column = z * op.stride[1] + tap[1] * op.dilation[1] - left
    checked = (False, bool(top or bottom), bool(left or right), False)
    return padded(x, (n, row, column, c), checked, outside)


def _counts(b: Builder, op: QAveragePool2d) -> NDArray[np.int64]:
    """How many positions each window averages over [OH, OW]."""
    _, height, width, _ = b.type(op.x).shape
    counted = with_border(
        np.ones((1, height, width, 1), np.int64), op.padding, int(op.count_include_pad)
    )
    views = (view for _, _, view in taps(counted, op.kernel, op.stride, op.dilation))
    total: NDArray[np.int64] = fold(np.add, views)
    return total[0, :, :, 0]


FUNCTIONS: Functions = {MaxPool2d: max_pool2d, QAveragePool2d: q_average_pool2d}
