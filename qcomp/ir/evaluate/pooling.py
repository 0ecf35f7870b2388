"""Meanings of pooling, of floats and of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce as fold

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import centered
from qcomp.ir.evaluate.windows import padded, taps
from qcomp.ir.ops import AveragePool2d, MaxPool2d, Op, QAveragePool2d
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, requantize

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def max_pool2d(op: MaxPool2d, x: Array) -> Array:
    """Of any element type; padding has the type's least value."""
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    views = taps(padded(x, op.padding, least), op.kernel, op.stride, op.dilation)
    return np.ascontiguousarray(fold(np.maximum, (view for _, _, view in views)))


def average_pool2d(op: AveragePool2d, x: F32) -> F32:
    """A window that lies wholly in the padding has the mean zero."""
    total = _window_sum(op, x.astype(np.float64))
    if op.count_include_pad:
        return (total / (op.kernel[0] * op.kernel[1])).astype(np.float32)
    count = _window_sum(op, np.ones((1, *x.shape[1:3], 1)))
    return (total / np.maximum(count, 1.0)).astype(np.float32)


def _window_sum(op: AveragePool2d, x: F64) -> F64:
    views = taps(padded(x, op.padding, 0.0), op.kernel, op.stride, op.dilation)
    total: F64 = fold(np.add, (view for _, _, view in views))
    return total


def q_average_pool2d(op: QAveragePool2d, x: Array, multiplier: Array) -> Array:
    values = padded(centered(x, op.x_zero_point), op.padding, 0)
    counted = np.ones((1, *x.shape[1:3], 1), np.int64)
    inside = padded(counted, op.padding, int(op.count_include_pad))
    sums, count = _integer_window_sums(op, values), _integer_window_sums(op, inside)
    return requantize(sums, multiplier[count], np.array(op.shift), op.requantize)


def _integer_window_sums(op: QAveragePool2d, x: I64) -> I64:
    views = taps(x, op.kernel, op.stride, op.dilation)
    return sum((view for _, _, view in views), np.zeros((), np.int64))


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    MaxPool2d: max_pool2d,
    AveragePool2d: average_pool2d,
    QAveragePool2d: q_average_pool2d,
}
