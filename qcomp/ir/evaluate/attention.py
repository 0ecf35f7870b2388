"""Meanings of attention, of floats and of integers: all scores at once, as a specification may."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_elementwise import saturated
from qcomp.ir.ops.attention import EXCLUDES, Attention, Mask, QAttention, Unattended
from qcomp.ir.ops.base import Op
from qcomp.ir.tensor import Array
from qcomp.quant.attention import MASK_LIMIT, VALUE_BITS, exponentials, rounded, sixteen_bits
from qcomp.quant.fixed_point import I64, rounding_shift
from qcomp.quant.qparams import integer_range

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]


def attention(op: Attention, q: F32, k: F32, v: F32, *masks: F32) -> F32:
    scores = op.scale * (by_heads(q, q) @ by_heads(k, q).swapaxes(2, 3))
    allowed = visible(scores.shape, op.ahead)
    for kind, mask in zip(op.masks, masks, strict=True):
        if kind is Mask.ADDED:
            scores = scores + np.maximum(mask, np.float32(EXCLUDES)).astype(np.float64)
            allowed = allowed & (mask > EXCLUDES)
        else:
            allowed = allowed & ((mask != 0) == (kind is Mask.ALLOWED))
    attended = allowed.any(axis=3, keepdims=True)
    scores = np.where(allowed, scores, np.where(attended, -np.inf, 0.0))
    e = np.exp(scores - scores.max(axis=3, keepdims=True))
    result = (e @ by_heads(v, q)) / e.sum(axis=3, keepdims=True)
    if op.unattended is Unattended.ZERO:
        result = np.where(attended, result, 0.0)
    return np.asarray(result.swapaxes(1, 2), np.float32)


def by_heads(x: Array, q: Array) -> F64:
    """[B, H, ...] in float64, a head for each of q's."""
    return np.asarray(np.repeat(x, q.shape[2] // x.shape[2], axis=2).swapaxes(1, 2), np.float64)


def visible(shape: tuple[int, ...], ahead: int) -> Flags:
    """[B, H, S, T]: whether the key's position is at most that of the query, and `ahead`."""
    position = np.arange(shape[2])[:, None] + ahead
    return np.broadcast_to(np.arange(shape[3]) <= position, shape)


def q_attention(op: QAttention, q: Array, k: Array, v: Array, table: Array, *masks: Array) -> Array:
    """Products of integers in float64: below 2^53, as the certificate says."""
    product = (by_heads(q, q) - op.q_zero_point) @ by_heads(k, q).swapaxes(2, 3)
    acc = rounding_shift(product.astype(np.int64), op.product_shift)
    acc, allowed = _masked(op, acc, masks)
    attended = allowed.any(axis=3, keepdims=True)
    seen = allowed | ~attended
    acc = np.where(attended, acc, 0)
    largest = np.where(seen, acc, -(2**62)).max(axis=3, keepdims=True)
    distance = np.where(seen, largest - acc, 0)
    p = exponentials(distance, op.score_shift, op.multiplier, table, op.probability_bits)
    p = np.where(seen, p, 0)
    total = p.sum(axis=3, keepdims=True)
    sums = (p.astype(np.float64) @ (by_heads(v, q) - op.v_zero_point)).astype(np.int64)
    mantissa, lost = sixteen_bits(total)
    t_bits = VALUE_BITS[op.bits]
    limit = 1 << (t_bits - 1)
    reciprocal = np.minimum(2 ** (31 - t_bits) - 1, (op.numerator + mantissa // 2) // mantissa)
    t = np.clip(rounded(sums, lost + op.down), -limit, limit - 1)
    scaled = rounding_shift(t * reciprocal, op.shift)
    if op.unattended is Unattended.ZERO:
        scaled = np.where(attended, scaled, 0)
    y = saturated(op.zero_point + scaled, *integer_range(op.bits), op.bits)
    return np.ascontiguousarray(y.swapaxes(1, 2))


def _masked(op: QAttention, acc: I64, masks: tuple[Array, ...]) -> tuple[I64, Flags]:
    """The scores with what is added to them, and which keys are not excluded."""
    allowed = visible(acc.shape, op.ahead)
    zero_points = op.mask_zero_points
    for kind, mask, zero_point in zip(op.masks, masks, zero_points, strict=True):
        values = mask.astype(np.int64)
        if kind is Mask.SCORES:
            acc = acc + np.maximum(values, -MASK_LIMIT)
            allowed = allowed & (values >= -MASK_LIMIT)
        elif kind is Mask.ADDED:
            added = rounding_shift((values - zero_point) * op.added_multiplier, op.added_shift)
            acc = acc + np.clip(added, -MASK_LIMIT, MASK_LIMIT)
            allowed = allowed & (values >= op.added_least)
        else:
            allowed = allowed & ((values != zero_point) == (kind is Mask.ALLOWED))
    return acc, allowed


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Attention: attention,
    QAttention: q_attention,
}
