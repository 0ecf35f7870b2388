"""Meanings of pooling, reductions, softmax and argmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce as fold

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.windows import padded, taps
from qcomp.ir.ops import (
    ArgMax,
    AveragePool2d,
    LogSoftmax,
    MaxPool2d,
    Op,
    Reduce,
    Reduction,
    Softmax,
)
from qcomp.ir.tensor import Array

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_REDUCERS: Mapping[Reduction, Callable[..., F64]] = {
    Reduction.MEAN: np.mean,
    Reduction.SUM: np.sum,
    Reduction.MAX: np.max,
    Reduction.MIN: np.min,
}


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


def reduce(op: Reduce, x: F32) -> F32:
    result = _REDUCERS[op.kind](x.astype(np.float64), axis=op.axes, keepdims=op.keepdims)
    return np.asarray(result, np.float32)


def softmax(op: Softmax, x: F32) -> F32:
    e = np.exp(x.astype(np.float64) - x.max(axis=op.axis, keepdims=True))
    return np.asarray(e / e.sum(axis=op.axis, keepdims=True), np.float32)


def log_softmax(op: LogSoftmax, x: F32) -> F32:
    t = x.astype(np.float64) - x.max(axis=op.axis, keepdims=True)
    return np.asarray(t - np.log(np.exp(t).sum(axis=op.axis, keepdims=True)), np.float32)


def argmax(op: ArgMax, x: Array) -> NDArray[np.int32]:
    """Of any element type."""
    if op.last:
        back = np.argmax(np.flip(x, op.axis), axis=op.axis, keepdims=op.keepdims)
        return np.asarray(x.shape[op.axis] - 1 - back, np.int32)
    return np.asarray(np.argmax(x, axis=op.axis, keepdims=op.keepdims), np.int32)


REDUCTION_MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    MaxPool2d: max_pool2d,
    AveragePool2d: average_pool2d,
    Reduce: reduce,
    Softmax: softmax,
    LogSoftmax: log_softmax,
    ArgMax: argmax,
}
