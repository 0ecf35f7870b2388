"""Elementwise ops with operands or results of 16 bits on AArch64: eight elements at a time.

Meanings: qcomp.ir.evaluate.integer_elementwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.ir.ops import Op, QAddWide, QMul, QRescale
from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.i16.results import limited
from qcomp.targets.cpu.arm.i16.scale import LANES, constant_scale, halves, scaled_pairs
from qcomp.targets.cpu.arm.intrinsics import smull_pairs
from qcomp.targets.cpu.emit.builder import I32, I64, Value, shuffle, splat, vector
from qcomp.targets.cpu.emit.i16.elementwise import centred
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes
from qcomp.targets.cpu.emit.nest import Body

EIGHT = 8

Compute = Callable[[ir.IRBuilder, Sequence[Value]], Value]  # of four i32 each, to i32


def neon_body(op: Op) -> Body | None:
    """None where the portable form has to do."""
    match op:
        case QAddWide():
            return _in_fours(op.zero_point, op, lambda b, x: _sum(b, op, *x))
        case QMul(requantize=q):
            scaled = constant_scale(op.multiplier, op.shift)
            return _in_fours(q.zero_point, q, lambda b, x: scaled(b, _product(b, op, *x)))
        case QRescale(requantize=q):
            scaled = constant_scale(op.multiplier, op.shift)
            return _in_fours(
                q.zero_point, q, lambda b, x: scaled(b, _minus(b, x[0], op.x_zero_point))
            )
        case _:
            return None


def by_eights(body: Callable[[ir.IRBuilder, Sequence[Value]], Value]) -> Body:
    """The body that does as much at once, whatever the loop's vectors are."""

    def whole(b: ir.IRBuilder, values: Sequence[Value], lanes: int) -> Value:
        wide = [in_lanes(b, x, EIGHT) for x in values]
        parts = [
            body(b, [shuffle(b, x, x, range(n, n + EIGHT)) for x in wide])
            for n in range(0, max(lanes, EIGHT), EIGHT)
        ]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [shuffle(b, x, y, range(2 * x.type.count)) for x, y in pairs]
        return first_lanes(b, parts[0], lanes)

    return whole


def _in_fours(zero_point: int, limits: QAddWide | Requantize, compute: Compute) -> Body:
    def eight(b: ir.IRBuilder, values: Sequence[Value]) -> Value:
        wide = [b.sext(x, vector(I32, EIGHT)) for x in values]
        fours = (range(n, n + LANES) for n in (0, LANES))
        scaled = [compute(b, [shuffle(b, x, x, four) for x in wide]) for four in fours]
        return limited(b, scaled, zero_point, limits.qmin, limits.qmax, limits.bits)

    return by_eights(eight)


def _minus(b: ir.IRBuilder, x: Value, zero_point: int) -> Value:
    """Within 17 bits."""
    return centred(b, x, zero_point, I32)


def _product(b: ir.IRBuilder, op: QMul, x: Value, y: Value) -> Value:
    """It fits i32."""
    return b.mul(_minus(b, x, op.a_zero_point), _minus(b, y, op.b_zero_point))


def _sum(b: ir.IRBuilder, op: QAddWide, x: Value, y: Value) -> Value:
    """17 bits times 31 bits, twice, and a rounding."""
    first, second = (
        [smull_pairs(b, half, splat(I32, LANES // 2, m)) for half in halves(b, _minus(b, v, z))]
        for v, z, m in (
            (x, op.a_zero_point, op.a_multiplier),
            (y, op.b_zero_point, op.b_multiplier),
        )
    )
    sums = [b.add(*pair) for pair in zip(first, second, strict=True)]
    return scaled_pairs(b, sums, [splat(I64, LANES // 2, -op.shift)] * 2)
