"""From sums of AArch64 to results of 8 or 16 bits: the form WIDE in instructions of NEON.

Meaning: qcomp.quant.fixed_point.requantize. A sum a of 32 bits, multiplier m and shift s >= 32 give
    (a * m + 2^(s-1)) >> s = ((a * m >> 31) + 2^(s-32)) >> (s - 31),
as 2^(s-1) is a multiple of 2^31: sqdmulh and srshl, in 32 bits. A multiplier can be doubled, up to
31 bits, with its shift one more, so this is the form of nearly every layer. The others multiply to
64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import (
    smull_pairs,
    sqdmulh,
    sqxtn_pairs,
    srshl,
    umull_pairs,
)
from qcomp.targets.cpu.emit.builder import (
    I32,
    I64,
    Value,
    at,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.i16.spec import LayerConstants

_SHIFT_BITS, _LARGEST_SHIFT = 31, 62
LANES = 4


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


def constant_scale(multiplier: int, shift: int) -> Callable[[ir.IRBuilder, Value], Value]:
    """The scaling of four i32 by what all share."""
    m, s = np.array([multiplier]), np.array([shift])
    if in_words(m, s):
        m, s = doubled(m, s)
        constants = [splat(I32, LANES, int(n[0])) for n in (m, shifts_in_words(s))]
        return lambda b, x: scaled_words(b, x, *constants)
    factor, shifts = splat(I32, LANES, multiplier), [splat(I64, LANES // 2, -shift)] * 2
    return lambda b, x: scaled_pairs(b, products_of_words(b, x, factor), shifts)


@dataclass(frozen=True, eq=False)
class Tables:
    """Pointers to bias, multiplier and shift of a tile's first channel."""

    bias: Value
    multiplier: Value
    shift: Value


@dataclass(frozen=True)
class Scaling:
    """Of sums of a type, i32 or i64, `words` where `scaled_words` takes them."""

    sums: ir.IntType
    words: bool

    @staticmethod
    def of(sums: ir.IntType, layer: LayerConstants) -> Scaling:
        return Scaling(sums, sums == I32 and in_words(layer.multiplier, layer.shift))

    @property
    def entries(self) -> tuple[int, int, int]:
        """Bytes of an entry of each table."""
        return self.sums.width // 8, 4, 4 if self.words else 8

    def tables(self, layer: LayerConstants) -> list[Array]:
        """Bias, multiplier and shift, as `of_vector` reads them."""
        if not self.words:
            return [layer.bias, layer.multiplier, -layer.shift.astype(np.int64)]
        m, s = doubled(layer.multiplier, layer.shift)
        return [layer.bias, m.astype(np.int32), shifts_in_words(s)]

    def of_vector(self, b: ir.IRBuilder, tables: Tables, v: int) -> Callable[[Value], Value]:
        """The scaling of sums of i32, or of two vectors of i64, of the vector v of channels."""
        multiplier = entries(b, tables.multiplier, v, I32)
        if self.words:
            shift = entries(b, tables.shift, v, I32)
            return lambda total: scaled_words(b, total, multiplier, shift)
        shifts = halves(b, entries(b, tables.shift, v, I64))
        if self.sums == I32:
            return lambda total: scaled_pairs(b, products_of_words(b, total, multiplier), shifts)
        factors = halves(b, multiplier)

        def of_pairs(total: Value) -> Value:
            products = [product_of_pair(b, x, m) for x, m in zip(total, factors, strict=True)]
            return scaled_pairs(b, products, shifts)

        return of_pairs


def entries(b: ir.IRBuilder, table: Value, v: int, element: ir.IntType) -> Value:
    """Those of vector v."""
    return load(b, at(b, table, v * LANES * element.width // 8), vector(element, LANES))
