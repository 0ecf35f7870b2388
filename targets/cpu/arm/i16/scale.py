"""From sums of AArch64 to results of 8 or 16 bits: the form WIDE in instructions of NEON.

Meaning: qcomp.quant.fixed_point.requantize. A sum a of 32 bits, multiplier m and shift s >= 32 give
    (a * m + 2^(s-1)) >> s = ((a * m >> 31) + 2^(s-32)) >> (s - 31),
as 2^(s-1) is a multiple of 2^31: sqdmulh and srshl, in 32 bits. A multiplier can be doubled, up to
31 bits, with its shift one more, so this is the form of nearly every layer. The others multiply to
64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import (
    saturating_add,
    smull_pairs,
    sqdmulh,
    sqxtn_bytes,
    sqxtn_pairs,
    sqxtn_words,
    srshl,
    umull_pairs,
)
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Value,
    at,
    broadcast,
    larger,
    load,
    shuffle,
    smaller,
    splat,
    store,
    vector,
)

_SHIFT_BITS, _LARGEST_SHIFT = 31, 62
_LANES = 4


def doubled(multiplier: Array, shift: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same scales with multipliers as large as fit 31 bits, shifts up to 62."""
    m, s = multiplier.astype(np.int64), shift.astype(np.int64)
    while (more := (m < 1 << 30) & (s < _LARGEST_SHIFT)).any():
        m, s = np.where(more, 2 * m, m), np.where(more, s + 1, s)
    return m, s


def in_words(multiplier: Array, shift: Array) -> bool:
    """Whether sums of 32 bits are scaled in 32 bits."""
    return bool((doubled(multiplier, shift)[1] > _SHIFT_BITS).all())


def shifts_in_words(shift: NDArray[np.int64]) -> NDArray[np.int32]:
    """What `scaled_words` takes: to the right is negative."""
    return (_SHIFT_BITS - shift).astype(np.int32)


def scaled_words(b: ir.IRBuilder, sums: Value, multiplier: Value, shift: Value) -> Value:
    """<4 x i32>, where `in_words` is true; |sums * multipliers| < 2^62, so nothing saturates."""
    return srshl(b, sqdmulh(b, sums, multiplier), shift)


def scaled_pairs(b: ir.IRBuilder, products: Sequence[Value], shifts: Sequence[Value]) -> Value:
    """Products of 64 bits, two vectors, and shifts to the left, to <4 x i32>.

    What leaves 32 bits saturates, as does every result and zero point in fewer.
    """
    return sqxtn_pairs(b, *(srshl(b, p, s) for p, s in zip(products, shifts, strict=True)))


def halves(b: ir.IRBuilder, x: Value) -> list[Value]:
    """The low and the high half of four lanes."""
    return [shuffle(b, x, x, (n, n + 1)) for n in (0, 2)]


def products_of_words(b: ir.IRBuilder, x: Value, multiplier: Value) -> list[Value]:
    """<4 x i32> each to two vectors of i64."""
    pairs = zip(halves(b, x), halves(b, multiplier), strict=True)
    return [smull_pairs(b, *pair) for pair in pairs]


def product_of_pair(b: ir.IRBuilder, x: Value, multiplier: Value) -> Value:
    """<2 x i64> times <2 x i32>, not negative: the low 64 bits, which hold the product."""
    pair, thirty_two = vector(I32, 2), splat(I64, 2, 32)
    low, high = b.trunc(x, pair), b.trunc(b.lshr(x, thirty_two), pair)
    above = b.shl(b.zext(b.mul(high, multiplier), x.type), thirty_two)
    return b.add(umull_pairs(b, low, multiplier), above)


class Limits:
    """Zero point and limits of a layer, loaded once."""

    def __init__(self, b: ir.IRBuilder, limits: Value, result: ir.IntType) -> None:
        """From [zero point, least, largest], i32."""
        self._result = result
        self._zero_point = broadcast(b, load(b, limits, I32, 4), _LANES)
        self._low, self._high = (
            broadcast(b, load(b, at(b, limits, 4 * n), I16, 4), 2 * _LANES) for n in (1, 2)
        )

    def store(self, b: ir.IRBuilder, scaled: Sequence[Value], to: Value, channels: int) -> None:
        """sat(scaled + zero_point) of neighbouring vectors of channels, `channels` of them real."""
        real = min(channels, _LANES * len(scaled))
        moved = [saturating_add(b, x, self._zero_point) for x in scaled]
        words = []
        for first in range(0, len(moved), 2):
            q = sqxtn_words(b, moved[first], moved[min(first + 1, len(moved) - 1)])
            words.append(smaller(b, larger(b, q, self._low), self._high))
        if self._result == I8:
            words = [
                sqxtn_bytes(b, words[n], words[min(n + 1, len(words) - 1)])
                for n in range(0, len(words), 2)
            ]
        for n, q in enumerate(words):
            first = n * q.type.count
            _store_lanes(b, q, at(b, to, first * self._result.width // 8), real - first)


def _store_lanes(b: ir.IRBuilder, value: Value, to: Value, count: int) -> None:
    """Exactly the first `count` lanes, or all, in powers of two."""
    lanes, done = value.type.count, 0
    size = value.type.element.width // 8
    while done < min(count, lanes):
        piece = 1 << ((min(count, lanes) - done).bit_length() - 1)
        part = value if piece == lanes else shuffle(b, value, value, range(done, done + piece))
        store(b, part, at(b, to, done * size))
        done += piece
