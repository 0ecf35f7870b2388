"""Product of two activations, one or both of 16 bits: vectors over the columns of b, sums in i64.

Meaning: qcomp.ir.evaluate.integer_linear (QMatMul).
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I64,
    Carried,
    Value,
    at,
    broadcast,
    load,
    loop,
    multiple,
    overlapped,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.i16.elementwise import centred
from qcomp.targets.cpu.emit.i16.scale import saturated, scaled_by
from qcomp.targets.cpu.emit.lanes import chunk, over_chunks
from qcomp.targets.cpu.emit.matmul import over_outer
from qcomp.targets.cpu.emit.requantize import Saturation
from qcomp.targets.cpu.kernels.matmul import MatMulSpec

_ROWS = 4


def emit_matmul(
    b: ir.IRBuilder,
    spec: MatMulSpec,
    types: tuple[ir.IntType, ir.IntType],
    lanes: int,
    left: Value,
    right: Value,
    result: Value,
) -> None:
    """Sums of products of 17 bits each; operands of `types`, `lanes` i32 make one vector."""
    width = chunk(spec.columns, lanes, lanes)
    rows = min(_ROWS, spec.rows.count)
    a_size, b_size = (type.width // 8 for type in types)
    y_size = spec.requantize.bits // 8

    def matrix(x: Value, w: Value, y: Value) -> None:
        over_chunks(
            b,
            spec.columns,
            width,
            lambda n: panel(x, at(b, w, multiple(b, n, b_size)), at(b, y, multiple(b, n, y_size))),
        )

    def panel(x: Value, w: Value, y: Value) -> None:
        def tile(t: Value | int) -> None:
            m = overlapped(b, t, rows, spec.rows.count)
            p = at(b, x, multiple(b, m, spec.rows.src))
            q = at(b, y, multiple(b, m, spec.rows.dst))
            to = Saturation.constant(spec.requantize, width)
            for row, acc in enumerate(sums(p, w)):
                value = scaled_by(b, acc, spec.multiplier, spec.shift)
                found = saturated(b, value, to, ir.IntType(spec.requantize.bits))
                store(b, found, at(b, q, row * spec.rows.dst))

        loop(b, -(-spec.rows.count // rows), tile, "tile")

    def sums(x: Value, w: Value) -> Carried:
        def product(k: Value | int, sums: Carried) -> Carried:
            q = at(b, w, multiple(b, k, spec.depth_stride))
            column = centred(b, load(b, q, vector(types[1], width)), spec.b_zero_point, I64)
            found = []
            for row, acc in enumerate(sums):
                p = at(b, at(b, x, multiple(b, k, a_size)), row * spec.rows.src)
                one = centred(b, load(b, p, vector(types[0], 1)), spec.a_zero_point, I64)
                every = broadcast(b, b.extract_element(one, ir.Constant(I64, 0)), width)
                found.append(b.add(acc, b.mul(every, column)))
            return found

        return repeat(b, spec.depth, [splat(I64, width, 0)] * rows, product, "k")

    over_outer(b, spec.outer, (left, right, result), matrix)
    b.ret_void()
