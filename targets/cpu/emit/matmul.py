"""Product of two activations: vectors over the columns of b, whose rows are interleaved in pairs.

Meaning: qcomp.ir.evaluate.integer_linear (QMatMul).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    broadcast,
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
from qcomp.targets.cpu.emit.lanes import over_chunks
from qcomp.targets.cpu.emit.requantize import emit_requantize_by
from qcomp.targets.cpu.kernels.matmul import MatMulSpec
from qcomp.targets.cpu.machine import Isa

_ROWS = 4


def emit_matmul(
    b: ir.IRBuilder, spec: MatMulSpec, isa: Isa, left: Value, right: Value, result: Value
) -> None:
    """|products| <= 255^2; the caller certifies that depth * 255^2 fits i32."""
    lanes = min(isa.lanes, 1 << (spec.columns.bit_length() - 1))
    vectors = max(1, min(4 if isa.registers >= 32 else 2, spec.columns // lanes))
    rows = min(_ROWS, spec.rows.count)

    def matrix(x: Value, w: Value, y: Value) -> None:
        over_chunks(b, spec.columns, lanes * vectors, lambda n: panel(x, at(b, w, n), at(b, y, n)))

    def panel(x: Value, w: Value, y: Value) -> None:
        def tile(t: Value | int) -> None:
            m = overlapped(b, t, rows, spec.rows.count)
            p = at(b, x, multiple(b, m, spec.rows.src))
            q = at(b, y, multiple(b, m, spec.rows.dst))
            sums = _sums(b, spec, rows, vectors, lanes, p, w)
            for i, acc in enumerate(sums):
                value = emit_requantize_by(b, acc, spec.multiplier, spec.shift, spec.requantize)
                row, column = divmod(i, vectors)
                store(b, value, at(b, q, row * spec.rows.dst + column * lanes))

        loop(b, -(-spec.rows.count // rows), tile, "tile")

    over_outer(b, spec.outer, (left, right, result), matrix)
    b.ret_void()


def over_outer(
    b: ir.IRBuilder,
    axes: Sequence[tuple[int, ...]],
    pointers: Sequence[Value],
    body: Callable[..., None],
) -> None:
    """body(*pointers) at each position; an axis is its count and the stride of each pointer."""
    if not axes:
        body(*pointers)
        return
    count, *strides = axes[0]

    def step(i: Value | int) -> None:
        moved = [at(b, p, multiple(b, i, s)) for p, s in zip(pointers, strides, strict=True)]
        over_outer(b, axes[1:], moved, body)

    loop(b, count, step, "outer")


def _sums(
    b: ir.IRBuilder, spec: MatMulSpec, rows: int, vectors: int, lanes: int, x: Value, w: Value
) -> Carried:
    """Accumulators of a tile, row by row; an odd last k stands alone."""
    start = [splat(I32, lanes, 0)] * (rows * vectors)
    pairs = spec.depth // 2

    def pair(k: Value | int, sums: Carried) -> Carried:
        p, q = at(b, x, multiple(b, k, 2)), at(b, w, multiple(b, k, 2 * spec.depth_stride))
        columns = [_interleaved(b, spec, at(b, q, v * lanes), lanes) for v in range(vectors)]
        result = []
        for m in range(rows):
            both = broadcast(b, load(b, at(b, p, m * spec.rows.src), I16), lanes)
            a = _centred(b, b.bitcast(both, vector(I8, 2 * lanes)), spec.a_zero_point)
            result += [_pair_sums(b, b.mul(a, column)) for column in columns]
        return _added(b, sums, result)

    sums: Carried = repeat(b, pairs, start, pair, "k")
    if spec.depth % 2:
        p, q = at(b, x, 2 * pairs), at(b, w, 2 * pairs * spec.depth_stride)
        type = vector(I8, lanes)
        columns = [
            _centred(b, load(b, at(b, q, v * lanes), type), spec.b_zero_point)
            for v in range(vectors)
        ]
        last = []
        for m in range(rows):
            one = broadcast(b, load(b, at(b, p, m * spec.rows.src), I8), lanes)
            a = _centred(b, one, spec.a_zero_point)
            last += [b.mul(a, column) for column in columns]
        sums = _added(b, sums, last)
    return sums


def _added(b: ir.IRBuilder, x: Sequence[Value], y: Sequence[Value]) -> list[Value]:
    return [b.add(p, q) for p, q in zip(x, y, strict=True)]


def _interleaved(b: ir.IRBuilder, spec: MatMulSpec, w: Value, lanes: int) -> Value:
    """Two rows of b, centred, as lanes (row 0, row 1) of each column."""
    type = vector(I8, lanes)
    low, high = load(b, w, type), load(b, at(b, w, spec.depth_stride), type)
    order = [lane + row * lanes for lane in range(lanes) for row in (0, 1)]
    return _centred(b, shuffle(b, low, high, order), spec.b_zero_point)


def _centred(b: ir.IRBuilder, x: Value, zero_point: int) -> Value:
    """x - zero_point in 16 bits, widened to i32: the operand shape of pmaddwd."""
    lanes = x.type.count
    wide = b.sub(b.sext(x, vector(I16, lanes)), splat(I16, lanes, zero_point))
    return b.sext(wide, vector(I32, lanes))


def _pair_sums(b: ir.IRBuilder, products: Value) -> Value:
    """Sums of neighbouring lanes."""
    lanes = products.type.count
    even = shuffle(b, products, products, range(0, lanes, 2))
    odd = shuffle(b, products, products, range(1, lanes, 2))
    return b.add(even, odd)
