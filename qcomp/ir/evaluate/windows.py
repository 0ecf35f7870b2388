"""Sliding windows over NHWC arrays, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcomp.ir.ops.linear import Padding, Pair
from qcomp.ir.tensor import Array


def padded(x: Array, padding: Padding, value: float) -> Array:
    """x with a border of `value`; x itself where the padding is empty."""
    if not any(padding):
        return x
    top, left, bottom, right = padding
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, border, constant_values=x.dtype.type(value))


def taps(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, Array]]:
    """For each kernel position (row, column) the view [N, OH, OW, C] that it sees."""
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    rows = (x.shape[1] - (kh - 1) * dh - 1) // sh + 1
    columns = (x.shape[2] - (kw - 1) * dw - 1) // sw + 1
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            bottom, right = top + (rows - 1) * sh + 1, left + (columns - 1) * sw + 1
            yield i, j, x[:, top:bottom:sh, left:right:sw, :]


def window_matrix(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """The windows side by side: [N, OH, OW, KH, KW, C] (im2col)."""
    views = list(taps(x, kernel, stride, dilation))
    n, rows, columns, channels = views[0][2].shape
    result = np.empty((n, rows, columns, *kernel, channels), x.dtype)
    for i, j, view in views:
        result[:, :, :, i, j, :] = view
    return result
