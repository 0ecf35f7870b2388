"""Meanings of normalisation, of floats and of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import saturated
from qcomp.ir.ops import Normalize, Op, QNormalize
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, mulhrs, rounding_shift
from qcomp.quant.inverse_root import inverse_root

F32 = NDArray[np.float32]

MOST_SHIFTED = 2**16 - 1  # whose product with an inverse root fits 32 bits


def normalize(op: Normalize, x: F32, gamma: F32, beta: F32) -> F32:
    y = normalized(op, x) * gamma + beta
    return np.asarray(np.clip(y, op.clamp.low, op.clamp.high), np.float32)


def normalized(op: Normalize, x: F32) -> NDArray[np.float64]:
    """z: what gamma and beta are applied to."""
    d = x.astype(np.float64)
    if op.centered:
        d = d - d.mean(axis=op.axes, keepdims=True)
    power = (d * d).mean(axis=op.axes, keepdims=True) + op.epsilon
    root = np.sqrt(np.maximum(power, op.least))
    return d / np.where(root > 0.0, root, 1.0)


def q_normalize(op: QNormalize, x: Array, roots: Array, gamma: Array, beta: Array) -> Array:
    values = x.astype(np.int64)
    if op.centered:
        total = values.sum(axis=op.axes, keepdims=True)
        center = rounding_shift(total * op.mean_multiplier, op.mean_shift)
    else:
        center = np.asarray(np.int64(op.x_zero_point) << op.fraction_bits)
    d = (values << op.fraction_bits) - center
    power = np.maximum((d * d).sum(axis=op.axes, keepdims=True) + op.added, op.least)
    root, exponent = inverse_root(power, roots)
    t = np.clip(_shifted(d, 31 - exponent - op.precision), -MOST_SHIFTED, MOST_SHIFTED)
    w = mulhrs(t, root)
    y = w * gamma.astype(np.int64) + beta.astype(np.int64) >> op.shift
    return saturated(y, op.qmin, op.qmax, op.bits)


def _shifted(d: I64, k: I64) -> I64:
    """d / 2^k, half up, for k of either sign."""
    return rounding_shift(d << np.maximum(-k, 0), np.maximum(k, 0))


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Normalize: normalize,
    QNormalize: q_normalize,
}
