"""From i64 values to results of 8, 16 or 32 bits: multiply, shift with rounding, saturate.

Meaning: qcomp.quant.fixed_point.requantize in the form WIDE, the only one of ops on i32.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, larger, smaller, splat, vector
from qcomp.targets.cpu.emit.requantize import Saturation


@dataclass(frozen=True, eq=False)
class Limits:
    """min(max(x + zero_point, low), high); vectors of i64, and the type of the result."""

    zero_point: Value
    low: Value
    high: Value
    result: ir.IntType

    @staticmethod
    def constant(zero_point: int, qmin: int, qmax: int, lanes: int, bits: int) -> Limits:
        zero, low, high = (splat(I64, lanes, n) for n in (zero_point, qmin, qmax))
        return Limits(zero, low, high, ir.IntType(bits))

    @staticmethod
    def of(q: Requantize, lanes: int) -> Limits:
        return Limits.constant(q.zero_point, q.qmin, q.qmax, lanes, q.bits)

    @staticmethod
    def loaded(b: ir.IRBuilder, header: Value, lanes: int, result: ir.IntType) -> Limits:
        """What `Saturation.loaded` reads."""
        found = Saturation.loaded(b, header, lanes)
        wide = vector(I64, lanes)
        zero, low, high = (b.sext(v, wide) for v in (found.zero_point, found.low, found.high))
        return Limits(zero, low, high, result)

    def saturated(self, b: ir.IRBuilder, x: Value) -> Value:
        x = smaller(b, larger(b, b.add(x, self.zero_point), self.low), self.high)
        return b.trunc(x, vector(self.result, x.type.count))


def scaled(b: ir.IRBuilder, x: Value, multiplier: Value, shift: Value) -> Value:
    """rounding_shift(x * multiplier, shift) of i64 lanes; multipliers and shifts are i32 lanes.

    1 <= shift <= 62, and the caller certifies that the product and its rounding fit i64.
    """
    lanes = x.type.count
    wide = vector(I64, lanes)
    one, shift = splat(I64, lanes, 1), b.zext(shift, wide)
    half = b.lshr(b.shl(one, shift), one)
    return b.ashr(b.add(b.mul(x, b.sext(multiplier, wide)), half), shift)


def scaled_by(b: ir.IRBuilder, x: Value, multiplier: int, shift: int) -> Value:
    """`scaled` by constants that all lanes share."""
    lanes = x.type.count
    return scaled(b, x, splat(I32, lanes, multiplier), splat(I32, lanes, shift))


def rounding_shift(b: ir.IRBuilder, x: Value, shift: int) -> Value:
    """(x + 2^(shift-1)) >> shift of i64 lanes."""
    if not shift:
        return x
    lanes = x.type.count
    rounded = b.add(x, splat(I64, lanes, 1 << (shift - 1)))
    return b.ashr(rounded, splat(I64, lanes, shift))
