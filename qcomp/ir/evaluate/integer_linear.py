"""Exact integer meaning of the ops with weights: sums by BLAS, then the requantize epilogue.

A floating-point sum of integers is exact, in any order and with or without fused multiply-adds,
while every partial sum is below 2^24 (float32) or 2^53 (float64); the width is chosen by that. The
sums of an x of i32 are certified to stay below 2^48.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.windows import padded, taps, window_matrix
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.integer_linear import QConv2d, QDense, QMatMul
from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, requantize

_LARGEST_WEIGHT = {np.dtype(np.int8): 128, np.dtype(np.int16): 255}  # i16: without zero point
_CENTERED = {
    np.dtype(np.int8): 255,
    np.dtype(np.int16): 65535,
    np.dtype(np.int32): 2**31,
}  # |x - zero_point|
_PATCH_ELEMENTS = 2**23  # of im2col at a time: 64 MB in float64

Real = NDArray[np.floating[Any]]


def exact_dtype(terms: int, largest_product: int) -> type[np.floating[Any]]:
    """The narrowest float in which a sum of so many products is exact."""
    return np.float32 if terms * largest_product < 2**24 else np.float64


def q_conv2d(
    op: QConv2d, x: Array, weight: Array, bias: Array, multiplier: Array, shift: Array, *zero: Array
) -> Array:
    w = centered_weight(weight, *zero)
    acc = convolution_sums(x, op.x_zero_point, w, op.stride, op.padding, op.dilation, op.groups)
    return requantize(acc + bias, multiplier, shift, op.requantize)


def q_dense(
    op: QDense, x: Array, weight: Array, bias: Array, multiplier: Array, shift: Array, *zero: Array
) -> Array:
    acc = dense_sums(x, op.x_zero_point, centered_weight(weight, *zero))
    return requantize(acc + bias, multiplier, shift, op.requantize)


def centered_weight(weight: Array, *zero_point: Array) -> Array:
    """weight - zero_point, in i16 where there is a zero point; else the i8 weight."""
    for zero in zero_point:
        weight = weight.astype(np.int16) - zero.reshape(-1, *(1,) * (weight.ndim - 1))
    return weight


def q_matmul(op: QMatMul, a: Array, b: Array) -> Array:
    dtype = exact_dtype(a.shape[-1], _CENTERED[a.dtype] * _CENTERED[b.dtype])
    sums = (a.astype(dtype) - op.a_zero_point) @ (b.astype(dtype) - op.b_zero_point)
    return requantize(
        sums.astype(np.int64), np.array(op.multiplier), np.array(op.shift), op.requantize
    )


def dense_sums(x: Array, x_zero_point: int, weight: Array) -> I64:
    """(x - x_zero_point) @ weight.T; x [..., K] i8 or i16, weight [N, K] centered."""
    dtype = exact_dtype(weight.shape[1], _CENTERED[x.dtype] * _LARGEST_WEIGHT[weight.dtype])
    sums: Real = (x.astype(dtype) - dtype(x_zero_point)) @ weight.T.astype(dtype)
    return sums.astype(np.int64)


def convolution_sums(
    x: Array,
    x_zero_point: int,
    weight: Array,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> I64:
    """sum(weight * (x - x_zero_point)), padding adds nothing; x NHWC i8 or i16, weight OHWI."""
    dtype = exact_dtype(weight[0].size, _CENTERED[x.dtype] * _LARGEST_WEIGHT[weight.dtype])
    centered: Real = x.astype(dtype) - dtype(x_zero_point)
    values = padded(centered, padding, 0)
    w = weight.astype(dtype)
    if weight.shape[3] == 1 and groups > 1:
        return _depthwise(values, w, stride, dilation).astype(np.int64)
    return _grouped(values, w, stride, dilation, groups).astype(np.int64)


def _depthwise(x: Real, weight: Real, stride: Pair, dilation: Pair) -> Real:
    """One input channel per group: a sum over the taps, no product of matrices."""
    outputs, kh, kw, _ = weight.shape
    repeated = np.repeat(x, outputs // x.shape[3], axis=3) if outputs > x.shape[3] else x
    views = taps(repeated, (kh, kw), stride, dilation)
    sums: Real = sum((view * weight[:, i, j, 0] for i, j, view in views), np.zeros((), x.dtype))
    return sums


def _grouped(x: Real, weight: Real, stride: Pair, dilation: Pair, groups: int) -> Real:
    outputs, kh, kw, depth = weight.shape
    per_group = outputs // groups
    samples = max(1, _PATCH_ELEMENTS // (x[0].size * kh * kw))
    batches = []
    for first in range(0, len(x), samples):
        batch = x[first : first + samples]
        parts = []
        for g in range(groups):
            channels = batch[..., g * depth : (g + 1) * depth]
            patches = window_matrix(channels, (kh, kw), stride, dilation)
            matrix = weight[g * per_group : (g + 1) * per_group].reshape(per_group, -1).T
            parts.append(patches.reshape(*patches.shape[:3], -1) @ matrix)
        batches.append(np.concatenate(parts, axis=3))
    return np.concatenate(batches)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    QConv2d: q_conv2d,
    QDense: q_dense,
    QMatMul: q_matmul,
}
