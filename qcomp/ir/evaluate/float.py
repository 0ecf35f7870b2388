"""Float meanings of the ops with weights and of the elementwise ops.

Sums and products are formed in float64 and rounded once to float32, so the result is nearer to the
real number than any float32 runtime's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.evaluate.windows import padded, taps, window_matrix
from qcomp.ir.ops import (
    Add,
    BatchNorm,
    Clamp,
    ClampRange,
    Conv2d,
    Dense,
    Div,
    MatMul,
    Maximum,
    Minimum,
    Mul,
    Op,
    PRelu,
    Sub,
    Unary,
)
from qcomp.ir.tensor import Array

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def clamped(x: F64 | F32, clamp: ClampRange) -> F32:
    """Rounded to float32, then saturated; an overflow becomes infinity."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(x, np.float32)
    return rounded if clamp.is_none else np.clip(rounded, clamp.low, clamp.high)


def conv2d(op: Conv2d, x: F32, weight: F32, bias: F32) -> F32:
    sums = _depthwise if weight.shape[3] == 1 and op.groups > 1 else _grouped
    wide = padded(x, op.padding, 0.0).astype(np.float64)
    return clamped(sums(op, wide, weight.astype(np.float64)) + bias, op.clamp)


def _depthwise(op: Conv2d, x: F64, weight: F64) -> F64:
    """One input channel per group: a sum of scaled taps."""
    x = np.repeat(x, weight.shape[0] // op.groups, axis=3)
    kernel = (weight.shape[1], weight.shape[2])
    products = (tap * weight[:, i, j, 0] for i, j, tap in taps(x, kernel, op.stride, op.dilation))
    acc = next(products)
    for product in products:
        acc += product
    return np.asarray(acc)


def _grouped(op: Conv2d, x: F64, weight: F64) -> F64:
    """A matrix product per group: windows [G, P, KH*KW*I] times kernels [G, KH*KW*I, O/G]."""
    outputs, kh, kw, depth = weight.shape
    groups = op.groups
    windows = window_matrix(x, (kh, kw), op.stride, op.dilation)
    positions = windows.shape[:3]
    by_group = windows.reshape(-1, kh * kw, groups, depth).transpose(2, 0, 1, 3)
    kernels = weight.reshape(groups, outputs // groups, kh * kw * depth).transpose(0, 2, 1)
    acc = by_group.reshape(groups, -1, kh * kw * depth) @ kernels
    return acc.transpose(1, 0, 2).reshape(*positions, outputs)


def dense(op: Dense, x: F32, weight: F32, bias: F32) -> F32:
    return clamped(x.astype(np.float64) @ weight.T.astype(np.float64) + bias, op.clamp)


def matmul(op: MatMul, a: F32, b: F32) -> F32:
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)), np.float32)


def batch_norm(op: BatchNorm, x: F32, gamma: F32, beta: F32, mean: F32, var: F32) -> F32:
    k = gamma.astype(np.float64) / np.sqrt(var.astype(np.float64) + op.eps)
    return np.asarray(k * (x.astype(np.float64) - mean) + beta, np.float32)


def clamp(op: Clamp, x: F32) -> F32:
    return clamped(x, op.clamp)


def unary(op: Unary, x: F32) -> F32:
    """In float64, rounded once; outside the domain of a function the result is NaN or infinite."""
    with np.errstate(all="ignore"):
        y = FUNCTIONS[op.function](x.astype(np.float64), op.alpha, op.beta)
        return y.astype(np.float32)


def prelu(op: PRelu, x: F32, slope: F32) -> F32:
    return np.where(x >= 0, x, slope * x)


def add(op: Add, a: F32, b: F32) -> F32:
    return clamped(a + b, op.clamp)


def sub(op: Sub, a: F32, b: F32) -> F32:
    return clamped(a - b, op.clamp)


def mul(op: Mul, a: F32, b: F32) -> F32:
    return clamped(a * b, op.clamp)


def div(op: Div, a: F32, b: F32) -> F32:
    with np.errstate(divide="ignore", invalid="ignore"):
        return clamped(a / b, op.clamp)


def minimum(op: Minimum, a: F32, b: F32) -> F32:
    return clamped(np.minimum(a, b), op.clamp)


def maximum(op: Maximum, a: F32, b: F32) -> F32:
    return clamped(np.maximum(a, b), op.clamp)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Conv2d: conv2d,
    Dense: dense,
    MatMul: matmul,
    BatchNorm: batch_norm,
    Clamp: clamp,
    Unary: unary,
    PRelu: prelu,
    Add: add,
    Sub: sub,
    Mul: mul,
    Div: div,
    Minimum: minimum,
    Maximum: maximum,
}
