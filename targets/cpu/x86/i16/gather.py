"""Entries of tables by the gathers of AVX-512, eight of 64 bits at a time."""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, PTR, Value, raw, shuffle, splat, vector
from qcomp.targets.cpu.emit.i16.entries import loaded_neighbours

_LANES = 8
_I1 = ir.IntType(1)


def gathered_neighbours(b: ir.IRBuilder, table: Value, index: Value) -> Value:
    """As `loaded_neighbours`, which what is shorter than a vector is left to."""
    lanes = index.type.count
    if lanes < _LANES:
        return loaded_neighbours(b, table, index)
    parts = [
        _gathered(b, table, shuffle(b, index, index, range(first, first + _LANES)))
        for first in range(0, lanes, _LANES)
    ]
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        halves = zip(parts[::2], parts[1::2], strict=True)
        parts = [shuffle(b, low, high, range(count)) for low, high in halves]
    return parts[0]


def _gathered(b: ir.IRBuilder, table: Value, index: Value) -> Value:
    result, mask = vector(I64, _LANES), splat(_I1, _LANES, 1)
    operands = [ir.zero(result), raw(table), index, mask, ir.Constant(I32, 4)]
    type = ir.FunctionType(result, [result, PTR, index.type, mask.type, I32])
    return b.call(b.module.function("llvm.x86.avx512.mask.gather.dpq.512", type), operands)
