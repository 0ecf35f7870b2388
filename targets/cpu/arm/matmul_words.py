"""Product of two activations of 8 bits in lanes of 16 bits (smlal), on every AArch64 processor.

Sixteen columns of b lie on the stack without their zero point, by four neighbouring k of each
column, so that the lanes of a register of sums are these k. Both operands are within 9 bits there.

Meaning: qcomp.ir.evaluate.integer_linear (QMatMul).
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.results import limited
from qcomp.targets.cpu.arm.i16.scale import constant_scale
from qcomp.targets.cpu.arm.intrinsics import addp, smull_words
from qcomp.targets.cpu.arm.matmul import BYTES, COLUMNS, GROUP, PANEL_BYTES, exactly, groups
from qcomp.targets.cpu.emit import matmul as portable
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
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
from qcomp.targets.cpu.emit.interleave import interleaved
from qcomp.targets.cpu.emit.lanes import over_chunks
from qcomp.targets.cpu.emit.stack import stack
from qcomp.targets.cpu.kernels.matmul import MatMulSpec
from qcomp.targets.cpu.machine import Isa

_ROWS, _AT_ONCE = 2, 8  # of a tile: rows of a, columns of b
_TRIP = 8  # neighbouring k in straight code
_WORD = 2
_WORDS = vector(I16, 8)


def emit_matmul(
    b: ir.IRBuilder, spec: MatMulSpec, isa: Isa, left: Value, right: Value, result: Value
) -> None:
    """As emit.matmul, which small and very deep products are left to."""
    size = _WORD * groups(spec) * COLUMNS * GROUP
    wide = spec.requantize.form is Form.WIDE and spec.columns >= COLUMNS
    if not wide or size > PANEL_BYTES or spec.rows.count < _ROWS:
        portable.emit_matmul(b, spec, isa, left, right, result)
        return
    with b.goto_entry_block():
        panel = stack(b, size)

    def matrix(x: Value, w: Value, y: Value) -> None:
        def columns(n: Value | int) -> None:
            _pack(b, spec, at(b, w, n), panel)
            loop(b, -(-spec.rows.count // _ROWS), lambda t: tile(t, x, at(b, y, n)), "tile")

        over_chunks(b, spec.columns, COLUMNS, columns)

    def tile(t: Value | int, x: Value, y: Value) -> None:
        m = overlapped(b, t, _ROWS, spec.rows.count)
        p, q = at(b, x, multiple(b, m, spec.rows.src)), at(b, y, multiple(b, m, spec.rows.dst))

        def part(n: Value | int) -> None:
            w = at(b, panel, multiple(b, n, _WORD * _AT_ONCE * GROUP))
            for row, found in enumerate(_results(b, spec, p, w)):
                store(b, found, at(b, at(b, q, multiple(b, n, _AT_ONCE)), row * spec.rows.dst))

        loop(b, COLUMNS // _AT_ONCE, part, "part")

    portable.over_outer(b, spec.outer, (left, right, result), matrix)
    b.ret_void()


def _pack(b: ir.IRBuilder, spec: MatMulSpec, w: Value, panel: Value) -> None:
    """Sixteen columns to the stack, [group of k][column][4 k]; zeros for what is missing."""
    whole, rest = divmod(spec.depth, GROUP)
    zero = splat(I16, 8, spec.b_zero_point)

    def group(k: Value | int, count: int = GROUP) -> None:
        first = at(b, w, multiple(b, k, GROUP * spec.depth_stride))
        rows = [load(b, at(b, first, n * spec.depth_stride), BYTES) for n in range(count)]
        rows += [splat(I8, 16, spec.b_zero_point)] * (GROUP - count)
        to = at(b, panel, multiple(b, k, _WORD * COLUMNS * GROUP))
        for v, columns in enumerate(interleaved(b, rows)):
            for n in (0, 8):
                words = b.sext(shuffle(b, columns, columns, range(n, n + 8)), _WORDS)
                store(b, b.sub(words, zero), at(b, to, _WORD * (v * 16 + n)), 16)

    loop(b, whole, group, "pack")
    if rest:
        group(whole, rest)


def _results(b: ir.IRBuilder, spec: MatMulSpec, x: Value, w: Value) -> list[Value]:
    """Bytes of eight columns of each row."""
    trips, rest = divmod(spec.depth, _TRIP)
    sums: Carried = [splat(I32, 4, 0)] * (_ROWS * _AT_ONCE)

    def add(k: Value | int, sums: Carried, count: int = _TRIP) -> Carried:
        p = at(b, x, multiple(b, k, _TRIP))
        q = at(b, w, multiple(b, k, _WORD * _TRIP * COLUMNS))
        rows = [_row(b, spec, at(b, p, row * spec.rows.src), count) for row in range(_ROWS)]
        result = list(sums)
        for group in range(-(-count // GROUP)):
            to = at(b, q, group * _WORD * COLUMNS * GROUP)
            for pair in range(_AT_ONCE // 2):
                two = _quarters(b, load(b, at(b, to, pair * 16), _WORDS, 16))
                for row in range(_ROWS):
                    for k, column in enumerate(two):
                        n = row * _AT_ONCE + 2 * pair + k
                        result[n] = b.add(result[n], smull_words(b, column, rows[row][group]))
        return result

    sums = repeat(b, trips, sums, add, "k")
    if rest:
        sums = add(trips, sums, rest)
    q, scale = spec.requantize, constant_scale(spec.multiplier, spec.shift)
    result = []
    for row in range(_ROWS):
        eight = sums[row * _AT_ONCE : (row + 1) * _AT_ONCE]
        fours = [scale(b, _added(b, eight[n : n + 4])) for n in (0, 4)]
        result.append(limited(b, fours, q.zero_point, q.qmin, q.qmax, q.bits))
    return result


def _row(b: ir.IRBuilder, spec: MatMulSpec, x: Value, count: int) -> list[Value]:
    """Four k each, without their zero point; what is beyond the row meets zeros."""
    values = exactly(b, x, count)
    words = b.sext(shuffle(b, values, values, range(8)), _WORDS)
    return _quarters(b, b.sub(words, splat(I16, 8, spec.a_zero_point)))


def _quarters(b: ir.IRBuilder, x: Value) -> list[Value]:
    """The low and the high four of eight lanes."""
    return [shuffle(b, x, x, range(n, n + 4)) for n in (0, 4)]


def _added(b: ir.IRBuilder, four: Sequence[Value]) -> Value:
    """The lanes of each added up."""
    return addp(b, *(addp(b, four[n], four[n + 1]) for n in (0, 2)))
