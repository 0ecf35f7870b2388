"""Softmax of rows of 16 and more neighbours on AArch64, sixteen elements at a time.

Exponentials are looked up as two planes of bytes (tbl). Those that are 2^16 do not fit these: they
are 2^16 - 1 there, and are known by their distance from the largest element; they share a quotient.
A row divides once: with b the bits of its sum S, and k = 30 + b,
    M = 2^k // S + 1,  n // S = n * M >> k
for n <= 2^30, as in softmax._divider: n * S < 2^k, and M fits 32 bits.

Meaning: qcomp.ir.evaluate.reduction (QSoftmax).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.ir.ops import Reduction
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import uaddlp, umull_pairs, uqxtn_bytes
from qcomp.targets.cpu.arm.table import looked_up, quarters
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    I64,
    Carried,
    Value,
    at,
    broadcast,
    flipped,
    i64,
    load,
    loop,
    multiple,
    overlapped,
    repeat,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.folds import extreme
from qcomp.targets.cpu.emit.lanes import folded, scalar, zipped
from qcomp.targets.cpu.emit.reduce import fold_line, over_axes
from qcomp.targets.cpu.emit.softmax import SoftmaxSpec
from qcomp.targets.cpu.emit.stack import stack

_WIDTH = 16
_LONGEST = 4096  # of a row: its exponentials are on the stack
_BYTES, _WORDS = vector(I8, _WIDTH), vector(I16, 8)
_TABLE = 256
_WHOLE = 1 << 16  # the largest exponential
_SUM_BITS = 32


@dataclass(frozen=True)
class LookedUpRows:
    """Softmaxes in steps of 1/256."""

    kind: str = "softmax_rows"

    def takes(self, spec: SoftmaxSpec) -> bool:
        steps = (spec.axis.src, spec.axis.dst)
        return steps == (1, 1) and _WIDTH <= spec.axis.count <= _LONGEST and spec.finer == 0

    def data(self, exp_table: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Low bytes, high bytes, and up to which distance they are 2^16: to 0 at least.

        Raises TargetError for a table that no exponential has.
        """
        if exp_table[0] != _WHOLE or (np.diff(exp_table) > 0).any() or exp_table[-1] < 0:
            raise TargetError("a table of exponentials is expected to fall from 2^16 on, to 0")
        planes = np.minimum(exp_table, _WHOLE - 1).astype("<u2").view(np.uint8).reshape(-1, 2)
        whole = np.full(_WIDTH, int((exp_table == _WHOLE).sum()) - 1, np.uint8)
        return np.concatenate([planes[:, 0], planes[:, 1], whole])

    def emit(
        self, b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exponentials: Value
    ) -> None:
        count = spec.axis.count
        vectors = -(-count // _WIDTH)
        kept = stack(b, 2 * _WIDTH * vectors)
        whole = load(b, at(b, exponentials, 2 * _TABLE), _BYTES, _WIDTH)

        def row(x: Value, y: Value) -> None:
            found = fold_line(b, extreme(Reduction.MAX), (spec.axis,), x, spec.lanes)
            top = broadcast(b, scalar(b, found), _WIDTH)

            def below(n: Value | int) -> Value:
                return b.sub(top, load(b, at(b, x, overlapped(b, n, _WIDTH, count)), _BYTES))

            def add(n: Value | int, sums: Carried, once: Value | None = None) -> Carried:
                distance = below(n)
                planes = [
                    looked_up(b, distance, quarters(b, at(b, exponentials, k * _TABLE)))
                    for k in (0, 1)
                ]
                more = b.zext(_is_whole(b, distance, whole), _BYTES)
                place = at(b, kept, multiple(b, n, 2 * _WIDTH))
                for k, words in enumerate(_words(b, planes)):
                    store(b, words, at(b, place, k * _WIDTH), _WIDTH)
                if once is not None:
                    planes = [b.and_(plane, once) for plane in planes]
                    more = b.and_(more, once)
                parts = [uaddlp(b, words) for words in (*_words(b, planes), uaddlp(b, more))]
                return [b.add(total, part) for total, part in zip(sums, parts, strict=True)]

            # The last vector is moved back: what it shares with the one before is counted once.
            shared = vectors * _WIDTH - count
            once = ir.vector_of(I8, [-(lane >= shared) for lane in range(_WIDTH)])
            sums = repeat(b, vectors - 1, [splat(I32, 4, 0)] * 3, add, "sum")
            low, high, more = add(vectors - 1, sums, once)
            lanes = b.add(b.add(low, high), more)
            divide = _Division(b, scalar(b, folded(b, lanes, lambda b, p, q: b.add(p, q))))

            def divided(n: Value | int) -> None:
                place = at(b, kept, multiple(b, n, 2 * _WIDTH))
                words = [load(b, at(b, place, k * _WIDTH), _WORDS, _WIDTH) for k in (0, 1)]
                q = b.select(_is_whole(b, below(n), whole), divide.whole, divide.of(b, words))
                store(b, flipped(b, q), at(b, y, overlapped(b, n, _WIDTH, count)))

            loop(b, vectors, divided, "divide")

        over_axes(b, spec.kept, src, dst, row)
        b.ret_void()


def _words(b: ir.IRBuilder, planes: Sequence[Value]) -> list[Value]:
    low, high = planes
    return [b.bitcast(zipped(b, low, high, high=half), _WORDS) for half in (False, True)]


def _is_whole(b: ir.IRBuilder, distance: Value, whole: Value) -> Value:
    """i1: whether the exponential is 2^16."""
    return b.icmp_unsigned("<=", distance, whole)


class _Division:
    """(256 * e + S // 2) // S of a row, at most 255."""

    def __init__(self, b: ir.IRBuilder, total: Value) -> None:
        bits = b.sub(i64(_SUM_BITS), b.zext(b.ctlz(total, ir.Constant(ir.IntType(1), 1)), I64))
        k, wide = b.add(bits, i64(30)), b.zext(total, I64)
        by = b.add(b.udiv(b.shl(i64(1), k), wide), i64(1))
        half = b.lshr(wide, i64(1))
        top = b.lshr(b.mul(b.add(half, i64(_WHOLE << 8)), by), k)
        top = b.select(b.icmp_unsigned("<", top, i64(255)), top, i64(255))
        self.whole = broadcast(b, b.trunc(top, I8), _WIDTH)
        self._half = broadcast(b, b.trunc(half, I32), 4)
        self._by = broadcast(b, b.trunc(by, I32), 2)
        self._right = broadcast(b, b.trunc(b.sub(bits, i64(2)), I32), 4)

    def of(self, b: ir.IRBuilder, words: Sequence[Value]) -> Value:
        """Sixteen exponentials in two vectors."""
        eights = []
        for eight in words:
            wide = b.zext(eight, vector(I32, 8))
            fours = [self._of_four(b, shuffle(b, wide, wide, range(n, n + 4))) for n in (0, 4)]
            eights.append(b.trunc(shuffle(b, fours[0], fours[1], range(8)), _WORDS))
        return uqxtn_bytes(b, eights[0], eights[1])

    def _of_four(self, b: ir.IRBuilder, e: Value) -> Value:
        n = b.add(b.shl(e, splat(I32, 4, 8)), self._half)
        products = [
            b.bitcast(umull_pairs(b, shuffle(b, n, n, pair), self._by), vector(I32, 4))
            for pair in ((0, 1), (2, 3))
        ]
        high = shuffle(b, products[0], products[1], (1, 3, 5, 7))
        return b.lshr(high, self._right)
