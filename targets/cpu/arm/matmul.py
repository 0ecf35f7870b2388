"""Product of two activations of 8 bits with sdot: a panel of b is packed once for all rows of a.

Sixteen columns of b lie on the stack as weights do, four neighbouring k of each column; a row of a
is an operand by its elements. Zero points come out of the sums:
    sum of (a - za) * (b - zb) = sum of a * b - za * sum of b - zb * sum of a + depth * za * zb,
where sums of the columns of b are found as it is packed, and those of the rows of a on the way.
All of it is modulo 2^32, in which the whole fits.

Meaning: qcomp.ir.evaluate.integer_linear (QMatMul).
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.results import limited
from qcomp.targets.cpu.arm.i16.scale import constant_scale
from qcomp.targets.cpu.arm.intrinsics import addp, sdot
from qcomp.targets.cpu.emit import matmul as portable
from qcomp.targets.cpu.emit.builder import (
    I8,
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
from qcomp.targets.cpu.emit.lanes import over_chunks, powers
from qcomp.targets.cpu.emit.stack import stack
from qcomp.targets.cpu.kernels.matmul import MatMulSpec
from qcomp.targets.cpu.machine import Isa

COLUMNS = 16
_VECTORS, _LANES, GROUP = 4, 4, 4
_TOGETHER = 4  # groups of k that a load of a brings
_MOST_ROWS = 5
PANEL_BYTES = 1 << 15  # bytes of a panel, at most
BYTES = vector(I8, 16)


def emit_matmul(
    b: ir.IRBuilder, spec: MatMulSpec, isa: Isa, left: Value, right: Value, result: Value
) -> None:
    """As emit.matmul, which small and very deep products are left to."""
    size = groups(spec) * COLUMNS * GROUP
    wide = spec.requantize.form is Form.WIDE and spec.columns >= COLUMNS
    if not wide or size > PANEL_BYTES or spec.rows.count < GROUP:
        portable.emit_matmul(b, spec, isa, left, right, result)
        return
    with b.goto_entry_block():
        panel = stack(b, size)

    def matrix(x: Value, w: Value, y: Value) -> None:
        def columns(n: Value | int) -> None:
            start = _packed(b, spec, at(b, w, n), panel)
            _rows(b, spec, x, panel, at(b, y, n), start)

        over_chunks(b, spec.columns, COLUMNS, columns)

    portable.over_outer(b, spec.outer, (left, right, result), matrix)
    b.ret_void()


def groups(spec: MatMulSpec) -> int:
    return -(-spec.depth // GROUP)


def _packed(b: ir.IRBuilder, spec: MatMulSpec, w: Value, panel: Value) -> list[Value]:
    """Sixteen columns to the stack; what sums of their products start from."""
    ones, whole = splat(I8, 16, 1), spec.depth // GROUP

    def group(k: Value | int, sums: Carried, count: int = GROUP) -> Carried:
        first = at(b, w, multiple(b, k, GROUP * spec.depth_stride))
        rows = [load(b, at(b, first, n * spec.depth_stride), BYTES) for n in range(count)]
        rows += [splat(I8, 16, 0)] * (GROUP - count)
        to = at(b, panel, multiple(b, k, COLUMNS * GROUP))
        result = []
        for v, columns in enumerate(interleaved(b, rows)):
            store(b, columns, at(b, to, v * 16), 16)
            result.append(sdot(b, sums[v], columns, ones))
        return result

    sums: Carried = repeat(b, whole, [splat(I32, _LANES, 0)] * _VECTORS, group, "pack")
    if rest := spec.depth % GROUP:
        sums = group(whole, sums, rest)
    both = splat(I32, _LANES, spec.depth * spec.a_zero_point * spec.b_zero_point)
    za = splat(I32, _LANES, spec.a_zero_point)
    return [b.sub(both, b.mul(s, za)) for s in sums]


def _rows(
    b: ir.IRBuilder, spec: MatMulSpec, x: Value, panel: Value, y: Value, start: Sequence[Value]
) -> None:
    """Tiles of rows of a times the panel, the last one moved back."""
    rows = min(range(1, _MOST_ROWS + 1), key=lambda n: -(-spec.rows.count // n) * (n + 1))

    def tile(t: Value | int) -> None:
        m = overlapped(b, t, rows, spec.rows.count)
        p = at(b, x, multiple(b, m, spec.rows.src))
        q = at(b, y, multiple(b, m, spec.rows.dst))
        sums = _sums(b, spec, rows, p, panel, start)
        for row in range(rows):
            found = _requantized(b, spec, sums[row * _VECTORS : (row + 1) * _VECTORS])
            store(b, found, at(b, q, row * spec.rows.dst))

    loop(b, -(-spec.rows.count // rows), tile, "tile")


def _sums(
    b: ir.IRBuilder, spec: MatMulSpec, rows: int, x: Value, panel: Value, start: Sequence[Value]
) -> list[Value]:
    """[row][vector]."""
    trips, rest = divmod(spec.depth, GROUP * _TOGETHER)
    moved = spec.b_zero_point != 0  # sums of rows are needed

    def add(k: Value | int, sums: Carried, bytes_: int = GROUP * _TOGETHER) -> Carried:
        p = at(b, x, multiple(b, k, GROUP * _TOGETHER))
        w = at(b, panel, multiple(b, k, GROUP * _TOGETHER * COLUMNS))
        pixels = [exactly(b, at(b, p, row * spec.rows.src), bytes_) for row in range(rows)]
        result = list(sums)
        for group in range(-(-bytes_ // GROUP)):
            columns = [
                load(b, at(b, w, (group * _VECTORS + v) * 16), BYTES, 16) for v in range(_VECTORS)
            ]
            for n in range(rows * _VECTORS):
                row, v = divmod(n, _VECTORS)
                fours = b.bitcast(pixels[row], vector(I32, _LANES))
                every = b.bitcast(shuffle(b, fours, fours, [group] * _LANES), BYTES)
                result[n] = sdot(b, result[n], columns[v], every)
        for row in range(rows if moved else 0):
            n = rows * _VECTORS + row
            result[n] = sdot(b, result[n], pixels[row], splat(I8, 16, 1))
        return result

    zeros = [splat(I32, _LANES, 0)] * (rows if moved else 0)
    sums: Carried = repeat(b, trips, [*start] * rows + zeros, add, "k")
    if rest:
        sums = add(trips, sums, rest)
    if not moved:
        return list(sums)
    result = []
    for row in range(rows):
        four = sums[rows * _VECTORS + row]
        two = addp(b, four, four)
        offset = b.mul(addp(b, two, two), splat(I32, _LANES, -spec.b_zero_point))
        result += [b.add(s, offset) for s in sums[row * _VECTORS : (row + 1) * _VECTORS]]
    return result


def exactly(b: ir.IRBuilder, x: Value, count: int) -> Value:
    """`count` bytes, up to sixteen, and none behind them: these are zeros."""
    result = splat(I8, 16, 0)
    for start, size in powers(count):
        part = load(b, at(b, x, start), vector(I8, size))
        if size == 16:
            return part
        wide = shuffle(b, part, part, [min(i, size - 1) for i in range(16)])
        order = [16 + i - start if start <= i < start + size else i for i in range(16)]
        result = shuffle(b, result, wide, order)
    return result


def _requantized(b: ir.IRBuilder, spec: MatMulSpec, four: Sequence[Value]) -> Value:
    """Sixteen sums as bytes."""
    q = spec.requantize
    scale = constant_scale(spec.multiplier, spec.shift)
    halves = [
        limited(b, [scale(b, s) for s in four[n : n + 2]], q.zero_point, q.qmin, q.qmax, q.bits)
        for n in (0, 2)
    ]
    low, high = halves
    return shuffle(b, low, high, range(16))
