"""Interpolation of tables on AArch64: one load of 64 bits per element.

An entry is the function, times the elements between two entries, and the difference to the next:
    t = entry + difference * r,
as in Interpolate. Indices are bits of the elements, which scalar instructions take from 64 of them.

Meaning: qcomp.ir.evaluate.integer_elementwise (Interpolate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.ops import Interpolate
from qcomp.ir.tensor import Array
from qcomp.quant.interpolation import FRACTION_BITS
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.elementwise import EIGHT, by_eights
from qcomp.targets.cpu.arm.i16.results import limited_words
from qcomp.targets.cpu.arm.intrinsics import saturating_add, sqrshrn_words
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    I64,
    Value,
    at,
    i64,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.i16.curves import Curve, PlainCurves
from qcomp.targets.cpu.emit.i16.entries import Neighbours, loaded_neighbours
from qcomp.targets.cpu.emit.nest import Body

_FEWEST_STEP_BITS = 4  # tables of more entries stay half as large
_ENTRY_BITS = 3  # log2 of its bytes
_LANES = 4


@dataclass(frozen=True)
class PairedCurves:
    """Entries and differences side by side; the portable form of large tables."""

    neighbours: Neighbours = loaded_neighbours

    def curve(self, op: Interpolate, table: Array) -> Curve:
        if not _is_paired(op):
            return PlainCurves(self.neighbours).curve(op, table)
        entries = table.astype(np.int64)
        pairs = np.stack([entries[:-1] << op.step_bits, np.diff(entries)], axis=1)

        def make(b: ir.IRBuilder, pointer: Value) -> Body:
            middle = at(b, pointer, 1 << (15 - op.step_bits + _ENTRY_BITS))
            return by_eights(lambda b, values: _interpolated(b, op, values[0], middle))

        return Curve(pairs.astype(np.int32), make)


def _is_paired(op: Interpolate) -> bool:
    """What saturates to i16 before a zero point is added is right with none, or for 8 bits."""
    return op.step_bits >= _FEWEST_STEP_BITS and (op.zero_point == 0 or op.bits == 8)


def _interpolated(b: ir.IRBuilder, op: Interpolate, x: Value, middle: Value) -> Value:
    """Of eight; all of it fits i32."""
    wide = vector(I32, EIGHT)
    rest = b.and_(x, splat(I16, EIGHT, (1 << op.step_bits) - 1))
    rests = b.sext(rest, wide)
    shift = op.step_bits + FRACTION_BITS
    fours = b.bitcast(x, vector(I64, EIGHT // _LANES))
    words = []
    for n in range(EIGHT // _LANES):
        entries, differences = _entries(
            b, op, b.extract_element(fours, ir.Constant(I32, n)), middle
        )
        r = shuffle(b, rests, rests, range(n * _LANES, (n + 1) * _LANES))
        words.append(b.add(entries, b.mul(differences, r)))
    first, second = words
    q = sqrshrn_words(b, first, second, shift)
    if op.zero_point:
        q = saturating_add(b, q, splat(I16, EIGHT, op.zero_point))
    return limited_words(b, q, op.qmin, op.qmax, op.bits)


def _entries(b: ir.IRBuilder, op: Interpolate, four: Value, middle: Value) -> Sequence[Value]:
    """The pairs that four elements select, apart."""
    pairs = []
    for lane in range(_LANES):
        top = b.shl(four, i64(48 - 16 * lane))
        index = b.ashr(top, i64(48 + op.step_bits))
        slot = at(b, middle, b.shl(index, i64(_ENTRY_BITS)))
        pairs.append(load(b, slot, vector(I32, 2), 8))
    low, high = (shuffle(b, pairs[n], pairs[n + 1], range(_LANES)) for n in (0, 2))
    return [shuffle(b, low, high, range(k, 2 * _LANES, 2)) for k in (0, 1)]
