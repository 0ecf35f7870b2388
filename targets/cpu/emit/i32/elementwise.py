"""Bodies of elementwise loops with operands or results of 32 bits, in lanes of i64.

Meanings: qcomp.ir.evaluate.integer_elementwise and octaves.
"""

from __future__ import annotations

from qcomp.ir.ops import InterpolateOctaves, QAddWide, QDiv, QMul, QRescale
from qcomp.quant.octaves import entries_of, fraction_bits
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, at, i64, load, splat, vector
from qcomp.targets.cpu.emit.i16.elementwise import centred, quotient
from qcomp.targets.cpu.emit.i32.scale import Limits, rounding_shift, scaled_by

_I1 = ir.IntType(1)


def rescale(b: ir.IRBuilder, op: QRescale, x: Value) -> Value:
    x = centred(b, x, op.x_zero_point, I64)
    scaled = scaled_by(b, x, op.multiplier, op.shift)
    return Limits.of(op.requantize, x.type.count).saturated(b, scaled)


def mul(b: ir.IRBuilder, op: QMul, a: Value, c: Value) -> Value:
    product = b.mul(centred(b, a, op.a_zero_point, I64), centred(b, c, op.b_zero_point, I64))
    scaled = scaled_by(b, product, op.multiplier, op.shift)
    return Limits.of(op.requantize, a.type.count).saturated(b, scaled)


def add_wide(b: ir.IRBuilder, op: QAddWide, a: Value, c: Value) -> Value:
    lanes = a.type.count
    first = b.mul(centred(b, a, op.a_zero_point, I64), splat(I64, lanes, op.a_multiplier))
    second = b.mul(centred(b, c, op.b_zero_point, I64), splat(I64, lanes, op.b_multiplier))
    total = rounding_shift(b, b.add(first, second), op.shift)
    return _limits(op, lanes).saturated(b, total)


def div(b: ir.IRBuilder, op: QDiv, a: Value, c: Value) -> Value:
    signed = quotient(b, op, a, c)
    return _limits(op, a.type.count).saturated(b, signed)


def interpolate_octaves(
    b: ir.IRBuilder, op: InterpolateOctaves, x: Value, table: Value, *, signed: bool
) -> Value:
    """Element by element, which a count of leading zeros and two loads are in any case."""
    lanes = x.type.count
    values = ir.undefined(vector(I64, lanes))
    for lane in range(lanes):
        where = ir.Constant(I32, lane)
        found = _on_curve(b, op, b.extract_element(x, where), table, signed=signed)
        values = b.insert_element(values, found, where)
    return _limits(op, lanes).saturated(b, rounding_shift(b, values, fraction_bits(op.bits)))


def _on_curve(
    b: ir.IRBuilder, op: InterpolateOctaves, x: Value, table: Value, *, signed: bool
) -> Value:
    """The table's value at an i32, as i64, in its units: differences of 33 bits times 15."""
    k = op.step_bits
    wide = b.sext(x, I64)
    below = b.icmp_signed("<", wide, i64(0))
    size = b.select(below, b.sub(i64(0), wide) if signed else i64(0), wide)
    is_zero = b.icmp_signed("==", size, i64(0))
    size = b.select(is_zero, i64(1), size)
    n = b.sub(i64(63), b.ctlz(size, ir.Constant(_I1, 1)))
    mantissa = b.and_(b.shl(size, b.sub(i64(31), n)), i64(2**31 - 1))
    position = b.add(b.shl(n, i64(31)), mantissa)
    j = b.add(b.lshr(position, i64(31 - k)), i64(1))
    if signed:
        j = b.add(j, b.select(below, i64(entries_of(k)), i64(0)))
    r = b.and_(b.lshr(position, i64(16 - k)), i64(2**15 - 1))

    def entry(index: Value) -> Value:
        return b.sext(load(b, at(b, table, b.shl(index, i64(2))), I32, 4), I64)

    low, high = entry(j), entry(b.add(j, i64(1)))
    product = b.add(b.mul(b.sub(high, low), r), i64(1 << 14))
    between = b.add(low, b.ashr(product, i64(15)))
    return b.select(is_zero, entry(i64(0)), between)


def _limits(op: QAddWide | QDiv | InterpolateOctaves, lanes: int) -> Limits:
    return Limits.constant(op.zero_point, op.qmin, op.qmax, lanes, op.bits)
