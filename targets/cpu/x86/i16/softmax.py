"""Softmax of long rows of i8 with results of 16 bits, by permutes of bytes (AVX-512 VBMI).

As in x86/softmax.py; a quotient is two bytes, of a table each. Meaning:
qcomp.ir.evaluate.reduction (QSoftmax).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Value,
    at,
    biased,
    broadcast,
    load,
    loop,
    multiple,
    shuffle,
    smaller_unsigned,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.softmax import SoftmaxSpec
from qcomp.targets.cpu.x86.softmax import LANES, WIDTH, emit_softmax_permuted, exponential_planes

_RECIPROCAL_BITS = 48


@dataclass(frozen=True)
class PermutedWideRows:
    """Softmaxes of rows of 64 and more neighbours of 8 bits."""

    kind: str = "softmax_permuted_i16"

    def takes(self, spec: SoftmaxSpec) -> bool:
        axis = spec.axis
        return (axis.src, axis.dst) == (1, Words.size) and axis.count >= WIDTH

    def data(self, exp_table: NDArray[np.int32]) -> NDArray[np.uint8]:
        return exponential_planes(exp_table)

    def emit(
        self, b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exponentials: Value
    ) -> None:
        emit_softmax_permuted(b, spec, biased(src), dst, exponentials, Words())


@dataclass(frozen=True)
class Words:
    """Quotients of 16 bits: tables of their low and of their high bytes."""

    planes: int = 2
    size: int = 2

    def divide(self, b: ir.IRBuilder, total: Value, exponentials: Value, tables: Value) -> None:
        """min(32767, (2^15 * e + S // 2) // S) for each e, by a reciprocal and one correction, as
        emit/i16/softmax.py proves: 2^16 <= S < 2^31, so that what is divided and M fit u32.
        """
        one, words = ir.Constant(I64, 1), vector(I32, LANES)
        reciprocal = b.udiv(ir.Constant(I64, 1 << _RECIPROCAL_BITS), b.add(total, one))
        by, half, sums = (
            broadcast(b, b.trunc(v, I32), LANES) for v in (reciprocal, b.lshr(total, one), total)
        )
        by = b.zext(by, vector(I64, LANES))

        def some(n: Value | int) -> None:
            e = load(b, at(b, exponentials, multiple(b, n, 4 * LANES)), words, 64)
            scaled = b.add(b.shl(e, splat(I32, LANES, 15)), half)
            product = b.mul(b.zext(scaled, vector(I64, LANES)), by)
            q = b.trunc(b.lshr(product, splat(I64, LANES, _RECIPROCAL_BITS)), words)
            rest = b.sub(scaled, b.mul(q, sums))
            q = b.add(q, b.zext(b.icmp_unsigned(">=", rest, sums), words))
            q = smaller_unsigned(b, q, splat(I32, LANES, 2**15 - 1))
            for plane in range(self.planes):
                part = b.trunc(b.lshr(q, splat(I32, LANES, 8 * plane)), vector(I8, LANES))
                table = at(b, tables, 256 * plane)
                store(b, part, at(b, table, multiple(b, n, LANES)))

        loop(b, 256 // LANES, some)

    def put(self, b: ir.IRBuilder, found: Sequence[Value], y: Value) -> None:
        low, high = found
        for half in range(2):
            first = half * WIDTH // 2
            order = [first + i + of for i in range(WIDTH // 2) for of in (0, WIDTH)]
            store(b, shuffle(b, low, high, order), at(b, y, half * WIDTH))
