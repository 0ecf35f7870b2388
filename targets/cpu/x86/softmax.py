"""Softmax of long rows of i8 by permutes of bytes (AVX-512 VBMI).

What an element becomes depends on its distance below the largest alone, so a row needs 256
quotients, not one for each element. The table of exponentials is three planes of bytes, which
psadbw adds up. Results of 16 bits: x86/i16/softmax.py. Meaning: qcomp.ir.evaluate.reduction
(QSoftmax).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I32,
    I64,
    Carried,
    Value,
    at,
    biased,
    broadcast,
    larger_unsigned,
    load,
    loop,
    multiple,
    overlapped,
    repeat,
    smaller_unsigned,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import folded, scalar
from qcomp.targets.cpu.emit.reduce import over_axes
from qcomp.targets.cpu.emit.softmax import RECIPROCAL_BITS, SoftmaxSpec, has_reciprocal
from qcomp.targets.cpu.emit.stack import stack
from qcomp.targets.cpu.x86 import intrinsics as x86
from qcomp.targets.cpu.x86.table import permuted, quarters

WIDTH = 64
_PLANES = 3  # bytes of an exponential, at most 2^16
LANES = 16  # quotients at once


class Quotients(Protocol):
    """The results that the 256 distances below the largest have, and how they are stored.

    planes: tables of 256 bytes that they take.
    size: bytes of a result.
    """

    @property
    def planes(self) -> int: ...

    @property
    def size(self) -> int: ...

    def divide(self, b: ir.IRBuilder, total: Value, exponentials: Value, tables: Value) -> None:
        """Write the tables, one behind the other, for the sum `total` (i64)."""

    def put(self, b: ir.IRBuilder, found: Sequence[Value], y: Value) -> None:
        """Store a vector of results, of which `found` has the entry of each table."""


@dataclass(frozen=True)
class PermutedRows:
    """Softmaxes of rows of 64 and more neighbours."""

    kind: str = "softmax_permuted"

    def takes(self, spec: SoftmaxSpec) -> bool:
        axis = spec.axis
        steps = (axis.src, axis.dst)
        return steps == (1, 1) and axis.count >= WIDTH and has_reciprocal(spec)

    def data(self, exp_table: NDArray[np.int32]) -> NDArray[np.uint8]:
        return exponential_planes(exp_table)

    def emit(
        self, b: ir.IRBuilder, spec: SoftmaxSpec, src: Value, dst: Value, exponentials: Value
    ) -> None:
        emit_softmax_permuted(b, spec, biased(src), biased(dst), exponentials, Bytes())


def exponential_planes(exp_table: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The table itself, then its planes."""
    split = exp_table.astype("<i4").view(np.uint8).reshape(256, 4)
    return np.concatenate([split.reshape(-1), split.T[:_PLANES].reshape(-1)])


def emit_softmax_permuted(
    b: ir.IRBuilder,
    spec: SoftmaxSpec,
    src: Value,
    dst: Value,
    exponentials: Value,
    results: Quotients,
) -> None:
    """src and dst are of stored integers; `exponentials` as of `exponential_planes`."""
    count = spec.axis.count
    vectors = -(-count // WIDTH)
    quotients = stack(b, 256 * results.planes)
    planes = [quarters(b, at(b, exponentials, 1024 + 256 * n)) for n in range(_PLANES)]
    bytes_, sums = vector(I8, WIDTH), vector(I64, WIDTH // 8)
    # The last vector is moved back: what it shares with the one before is counted once.
    shared = vectors * WIDTH - count
    once = ir.vector_of(I8, [-(lane >= shared) for lane in range(WIDTH)])

    def row(x: Value, y: Value) -> None:
        def element(n: Value | int) -> Value:
            return load(b, at(b, x, overlapped(b, n, WIDTH, count)), bytes_)

        (tops,) = repeat(
            b, vectors, [splat(I8, WIDTH, 0)], lambda n, m: [larger_unsigned(b, m[0], element(n))]
        )
        top = broadcast(b, scalar(b, folded(b, tops, larger_unsigned)), WIDTH)

        def add(n: Value | int, accs: Carried, kept: Value | None = None) -> list[Value]:
            below = b.sub(top, element(n))
            found = [permuted(b, below, plane) for plane in planes]
            if kept is not None:
                found = [b.and_(f, kept) for f in found]
            return [b.add(a, x86.psadbw(b, f)) for a, f in zip(accs, found, strict=True)]

        accs = repeat(b, vectors - 1, [splat(I64, WIDTH // 8, 0)] * _PLANES, add)
        accs = add(vectors - 1, accs, once)
        shifted = (b.shl(a, splat(I64, sums.count, 8 * n)) for n, a in enumerate(accs))
        total = scalar(b, folded(b, reduce(b.add, shifted), lambda b, p, q: b.add(p, q)))
        results.divide(b, total, exponentials, quotients)
        tables = [quarters(b, at(b, quotients, 256 * n)) for n in range(results.planes)]

        def divided(n: Value | int) -> None:
            below = b.sub(top, element(n))
            found = [permuted(b, below, table) for table in tables]
            start = multiple(b, overlapped(b, n, WIDTH, count), results.size)
            results.put(b, found, at(b, y, start))

        loop(b, vectors, divided)

    over_axes(b, spec.kept, src, dst, row)
    b.ret_void()


@dataclass(frozen=True)
class Bytes:
    """Of 8 bits, as they are stored."""

    planes: int = 1
    size: int = 1

    def divide(self, b: ir.IRBuilder, total: Value, exponentials: Value, tables: Value) -> None:
        """min(255, (256 * e + S // 2) // S) for each e, by a reciprocal; see softmax._divider."""
        one = ir.Constant(I64, 1)
        reciprocal = b.add(b.udiv(ir.Constant(I64, 1 << RECIPROCAL_BITS), total), one)
        by, half = (broadcast(b, v, LANES) for v in (reciprocal, b.lshr(total, one)))

        def some(n: Value | int) -> None:
            e = load(b, at(b, exponentials, multiple(b, n, 4 * LANES)), vector(I32, LANES), 64)
            wide = b.zext(e, vector(I64, LANES))
            scaled = b.add(b.shl(wide, splat(I64, LANES, 8)), half)
            q = b.lshr(b.mul(scaled, by), splat(I64, LANES, RECIPROCAL_BITS))
            q = smaller_unsigned(b, b.trunc(q, vector(I32, LANES)), splat(I32, LANES, 255))
            store(b, b.trunc(q, vector(I8, LANES)), at(b, tables, multiple(b, n, LANES)))

        loop(b, 256 // LANES, some)

    def put(self, b: ir.IRBuilder, found: Sequence[Value], y: Value) -> None:
        store(b, found[0], y)
