"""Meanings of the ops of scales that are found at run time, of floats and of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import saturated
from qcomp.ir.ops import AbsMax, Op, QAbsMax, QScaleDown, QScaleUp, ScaleDown, ScaleUp
from qcomp.ir.tensor import Array
from qcomp.quant.dynamic_constants import reciprocal

F32 = NDArray[np.float32]


def abs_max(op: AbsMax, x: F32) -> F32:
    return np.asarray(np.abs(x).max(axis=op.axes, keepdims=True))


def scale_down(op: ScaleDown, x: F32, scale: F32) -> F32:
    return np.asarray(x / np.where(scale > 0.0, scale, np.float32(1.0)), np.float32)


def scale_up(op: ScaleUp, x: F32, scale: F32, bias: F32) -> F32:
    return np.asarray(np.clip(x * scale + bias, op.clamp.low, op.clamp.high), np.float32)


def q_abs_max(op: QAbsMax, x: Array) -> Array:
    largest = np.abs(x.astype(np.int32)).max(axis=op.axes, keepdims=True)
    return np.asarray(np.minimum(largest, 2**15 - 1)).astype(np.int16)


def q_scale_down(op: QScaleDown, x: Array, scale: Array) -> Array:
    power, r = reciprocal(scale)
    q = (x.astype(np.int64) * power * r + 2**21) >> 22
    return np.asarray(q).astype(np.int8)


def q_scale_up(op: QScaleUp, x: Array, scale: Array, bias: Array) -> Array:
    product = x.astype(np.int64) * scale.astype(np.int64) + bias.astype(np.int64)
    return saturated(product >> op.shift, op.qmin, op.qmax, op.bits)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    AbsMax: abs_max,
    ScaleDown: scale_down,
    ScaleUp: scale_up,
    QAbsMax: q_abs_max,
    QScaleDown: q_scale_down,
    QScaleUp: q_scale_up,
}
