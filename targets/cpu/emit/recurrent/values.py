"""Numbers of a step, a vector of i32 at a time: curves, factors, and states as they are stored."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.quant.fixed_point import Requantize
from qcomp.quant.recurrence import (
    ENTRIES,
    ENTRY_BITS,
    LARGEST_STATE,
    STEP_BITS,
    VALUE_BITS,
    Factor,
)
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, at, clamp, splat, vector
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.i16.scale import saturated, scaled_by
from qcomp.targets.cpu.emit.requantize import Saturation


def shifted(b: ir.IRBuilder, x: Value, shift: int) -> Value:
    """rounding_shift of lanes of any width; the caller has room for the rounding."""
    if not shift:
        return x
    element, lanes = x.type.element, x.type.count
    x = b.add(x, splat(element, lanes, 1 << (shift - 1)))
    return b.ashr(x, splat(element, lanes, shift))


def product(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Of i32, as i64."""
    wide = vector(I64, x.type.count)
    return b.mul(b.sext(x, wide), b.sext(y, wide))


def within_state(b: ir.IRBuilder, x: Value) -> Value:
    """i64 as a state, i32."""
    return b.trunc(clamp(b, x, -LARGEST_STATE, LARGEST_STATE), vector(I32, x.type.count))


def multiplied(b: ir.IRBuilder, x: Value, factor: Factor) -> Value:
    """i32 by a factor, as i64."""
    lanes = x.type.count
    return shifted(b, product(b, x, splat(I32, lanes, factor.multiplier)), factor.shift)


def stored(b: ir.IRBuilder, state: Value, factor: Factor, to: Requantize, *, small: bool) -> Value:
    """A state as integers of a tensor; a small one is at most 2^15 in magnitude."""
    lanes = state.type.count
    if small and factor.multiplier < 2**VALUE_BITS and factor.shift <= 30:
        x = shifted(b, b.mul(state, splat(I32, lanes, factor.multiplier)), factor.shift)
    else:
        x = scaled_by(b, state, factor.multiplier, factor.shift)
    return saturated(b, x, Saturation.constant(to, lanes), ir.IntType(to.bits))


@dataclass(frozen=True, eq=False)
class Curves:
    """The activations' tables, and how a machine reads neighbours in one."""

    table: Value
    neighbours: Neighbours

    def value(self, b: ir.IRBuilder, function: int, u: Value) -> Value:
        """Of sums within i16; everything fits i32."""
        lanes = u.type.count
        index = b.ashr(u, splat(I32, lanes, STEP_BITS))
        index = b.add(index, splat(I32, lanes, ENTRIES // 2))
        both = self.neighbours(b, at(b, self.table, 4 * ENTRIES * function), index)
        low = b.trunc(both, vector(I32, lanes))
        high = b.trunc(b.lshr(both, splat(I64, lanes, 32)), vector(I32, lanes))
        rest = b.and_(u, splat(I32, lanes, (1 << STEP_BITS) - 1))
        t = b.add(b.shl(low, splat(I32, lanes, STEP_BITS)), b.mul(b.sub(high, low), rest))
        return shifted(b, t, STEP_BITS + ENTRY_BITS)
