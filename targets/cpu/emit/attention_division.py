"""The end of an attention: a row's sums over v divided by the sum of its weights.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from qcomp.ir.ops.attention import Unattended
from qcomp.quant.attention import VALUE_BITS
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    broadcast,
    clamp,
    smaller_unsigned,
    splat,
    vector,
)
from qcomp.targets.cpu.kernels.attention import AttentionSpec


@dataclass(frozen=True, eq=False)
class Division:
    """What turns a row's sums over v into results: shifts, and the reciprocal of its weights."""

    left: Value
    right: Value
    half: Value
    reciprocal: Value


def division(b: ir.IRBuilder, spec: AttentionSpec, total: Value, attended: Value) -> Division:
    """total >= 1; see QAttention."""

    def c(n: int) -> ir.Constant:
        return ir.Constant(I32, n)

    bits = b.sub(c(32), b.ctlz(total, ir.Constant(ir.IntType(1), 1)))
    lost = b.sub(bits, c(16))
    is_long = b.icmp_signed(">", lost, c(0))
    right = b.select(is_long, lost, c(0))
    left = b.select(is_long, c(0), b.sub(c(0), lost))
    half = b.lshr(b.shl(c(1), right), c(1))
    mantissa = b.lshr(b.add(b.shl(total, left), half), right)
    over = b.icmp_unsigned(">", mantissa, c(2**16 - 1))
    mantissa = b.select(over, c(2**15), mantissa)
    lost = b.add(lost, b.zext(over, I32))
    quotient = b.udiv(b.add(c(spec.numerator), b.lshr(mantissa, c(1))), mantissa)
    t_bits = VALUE_BITS[spec.widths[3]]
    reciprocal = smaller_unsigned(b, quotient, c(2 ** (31 - t_bits) - 1))
    if spec.unattended is Unattended.ZERO:
        reciprocal = b.select(attended, reciprocal, c(0))
    shift = b.add(lost, c(spec.down))
    is_right = b.icmp_signed(">", shift, c(0))
    right = b.select(is_right, shift, c(0))
    left = b.select(is_right, c(0), b.sub(c(0), shift))
    return Division(left, right, b.lshr(b.shl(c(1), right), c(1)), reciprocal)


def finished(b: ir.IRBuilder, spec: AttentionSpec, by: Division, sums: Value) -> Value:
    """A vector of sums, i32 or i64, as results."""
    lanes, element = sums.type.count, sums.type.element
    shifts = (by.left, by.right, by.half)
    left, right, half = (
        broadcast(b, x if element == I32 else b.zext(x, element), lanes) for x in shifts
    )
    return _results(b, spec, by, b.ashr(b.add(b.shl(sums, left), half), right))


def finished_planes(
    b: ir.IRBuilder, spec: AttentionSpec, by: Division, high: Value, low: Value
) -> Value:
    """Of 256 * high + low. The shift is 8 or more: there are fewer keys than would need less."""
    lanes, c = high.type.count, partial(ir.Constant, I32)
    over = broadcast(b, b.and_(by.half, c(0xFF)), lanes)
    whole = b.add(high, b.ashr(b.add(low, over), splat(I32, lanes, 8)))
    rounded = b.add(whole, broadcast(b, b.lshr(by.half, c(8)), lanes))
    return _results(b, spec, by, b.ashr(rounded, broadcast(b, b.sub(by.right, c(8)), lanes)))


def _results(b: ir.IRBuilder, spec: AttentionSpec, by: Division, t: Value) -> Value:
    """Of shifted sums: saturated, times the reciprocal."""
    lanes = t.type.count
    t_bits = VALUE_BITS[spec.widths[3]]
    t = clamp(b, t, -(2 ** (t_bits - 1)), 2 ** (t_bits - 1) - 1)
    t = t if t.type.element == I32 else b.trunc(t, vector(I32, lanes))
    scaled = b.mul(t, broadcast(b, by.reciprocal, lanes))
    rounded = b.add(scaled, splat(I32, lanes, 1 << spec.shift >> 1))
    y = b.add(b.ashr(rounded, splat(I32, lanes, spec.shift)), splat(I32, lanes, spec.zero_point))
    limit = 1 << (spec.widths[3] - 1)
    return b.trunc(clamp(b, y, -limit, limit - 1), vector(ir.IntType(spec.widths[3]), lanes))
