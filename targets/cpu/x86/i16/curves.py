"""Interpolation of tables of 513 entries by permutes of bytes (AVX-512 VBMI), 64 elements at once.

With i = x >> 7 and r = x & 127, and a slope c that all entries share,

    (e[i] << 7) + (e[i+1] - e[i]) * r  =  (base[i] << 7) + d[i] * r + c * x,
    base[i] = e[i] - c * i,  d[i] = e[i+1] - e[i] - c.

base and d are planes of bytes, each of eight registers, of which bits 14 and 15 of an element
select two. Rounding and zero point join base. Sums wrap around, which is exact as the result fits
i32. Packs and unpacks work within 128-bit lanes, so each undoes what the other does to the order.

Meaning: qcomp.ir.evaluate.integer_elementwise (Interpolate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.ops import Interpolate
from qcomp.ir.tensor import Array
from qcomp.quant.interpolation import FRACTION_BITS, WIDEST_STEP
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    at,
    broadcast,
    clamp,
    load,
    shuffle,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.i16.curves import Curve, PlainCurves
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.lanes import first_lanes, in_lanes, zipped
from qcomp.targets.cpu.emit.nest import Body
from qcomp.targets.cpu.x86 import intrinsics as x86
from qcomp.targets.cpu.x86.i16.gather import gathered_neighbours

_LANES = 64
_WORDS = 32
_DWORDS = 16
_INTERVALS = 1 << (16 - WIDEST_STEP)
_SHIFT = WIDEST_STEP + FRACTION_BITS
_BASES, _DIFFERENCES = 3, 2  # bytes of an entry
_SLOPE = (_BASES + _DIFFERENCES) * _INTERVALS  # where it is in the data


@dataclass(frozen=True)
class _Planes:
    """What is looked up: base i32 and d i16, by bits 7 to 15 of the element; the slope c."""

    base: Array
    difference: Array
    slope: int

    @staticmethod
    def of(op: Interpolate, table: Array) -> _Planes | None:
        """None where there are more entries, or no slope for which they fit."""
        if op.step_bits != WIDEST_STEP:
            return None
        entries = table.astype(np.int64)
        differences = np.diff(entries)
        index = np.arange(_INTERVALS) - _INTERVALS // 2
        added = (1 << (FRACTION_BITS - 1)) + (op.zero_point << FRACTION_BITS)
        for slope in (0, (int(differences.min() + differences.max()) + 1) // 2):
            base, d = entries[:-1] - slope * index + added, differences - slope
            if _fits(base, 8 * _BASES) and _fits(d, 8 * _DIFFERENCES) and _fits(slope, 16):
                half = _INTERVALS // 2
                return _Planes(
                    np.roll(base, half).astype("<i4"), np.roll(d, half).astype("<i2"), slope
                )
        return None

    @property
    def bytes(self) -> Array:
        """Plane after plane, the lowest of base first, and the slope."""
        base = self.base.view(np.uint8).reshape(_INTERVALS, 4)[:, :_BASES]
        d = self.difference.view(np.uint8).reshape(_INTERVALS, 2)
        slope = np.array([self.slope], "<i2").view(np.uint8)
        return np.concatenate([*base.T, *d.T, slope])


def _fits(x: Array | int, bits: int) -> bool:
    return bool(np.min(x) >= -(1 << (bits - 1)) and np.max(x) < 1 << (bits - 1))


@dataclass(frozen=True)
class PermutedCurves:
    """Tables that fit planes of bytes; gathers for the others."""

    neighbours: Neighbours = gathered_neighbours

    def curve(self, op: Interpolate, table: Array) -> Curve:
        planes = _Planes.of(op, table)
        if planes is None:
            return PlainCurves(self.neighbours).curve(op, table)

        def make(b: ir.IRBuilder, pointer: Value) -> Body:
            slope = broadcast(b, load(b, at(b, pointer, _SLOPE), I16, 2), _WORDS)
            return lambda b, values, lanes: _interpolated(b, op, values[0], pointer, slope)

        return Curve(planes.bytes, make, _LANES)


def _interpolated(b: ir.IRBuilder, op: Interpolate, x: Value, table: Value, slopes: Value) -> Value:
    lanes = x.type.count
    x = in_lanes(b, x, _LANES)
    halves = [shuffle(b, x, x, range(n, n + _WORDS)) for n in (0, _WORDS)]
    planes = _looked_up(b, halves, table)
    first, second = (
        clamp(b, _half(b, half, planes, slopes, high=bool(n)), op.qmin, op.qmax)
        for n, half in enumerate(halves)
    )
    q = shuffle(b, first, second, range(_LANES))
    if op.bits == 8:
        q = b.trunc(q, vector(I8, _LANES))
    return first_lanes(b, q, lanes)


def _looked_up(b: ir.IRBuilder, halves: Sequence[Value], table: Value) -> list[Value]:
    """The bytes of each plane, for the elements in the order of a pack."""
    one, eight = (splat(I16, _WORDS, n) for n in (1, 8))
    index = x86.packuswb(b, *(b.lshr(b.shl(x, one), eight) for x in halves))
    zero, signs = splat(I8, _LANES, 0), x86.packsswb(b, *halves)
    quarters = [
        b.and_(b.icmp_signed(sign, signs, zero), b.icmp_signed(part, index, zero))
        for sign in (">=", "<")
        for part in (">=", "<")
    ]

    def plane(n: int) -> Value:
        found = index
        for k, quarter in enumerate(quarters):
            start = n * _INTERVALS + 2 * k * _LANES
            low, high = (load(b, at(b, table, start + m), index.type, 64) for m in (0, _LANES))
            found = b.select(quarter, x86.vpermi2b(b, low, high, found), found)
        return found

    return [plane(n) for n in range(_BASES + _DIFFERENCES)]


def _half(
    b: ir.IRBuilder, x: Value, planes: Sequence[Value], slopes: Value, *, high: bool
) -> Value:
    """One half of the elements: results as i16, saturated."""

    def words(low: Value, top: Value) -> Value:
        return b.bitcast(zipped(b, low, top, high=high), vector(I16, _WORDS))

    first, second, third, *d = planes
    bottom, top, difference = words(splat(I8, _LANES, 0), first), words(second, third), words(*d)
    rest = b.and_(x, splat(I16, _WORDS, (1 << WIDEST_STEP) - 1))
    sums = []
    for part in (False, True):
        base = b.bitcast(zipped(b, bottom, top, high=part), vector(I32, _DWORDS))
        base = b.ashr(base, splat(I32, _DWORDS, 8 - WIDEST_STEP))
        rates, distances = (
            zipped(b, *pair, high=part) for pair in ((difference, slopes), (rest, x))
        )
        t = x86.vpdpwssd(b, base, rates, distances)
        sums.append(b.ashr(t, splat(I32, _DWORDS, _SHIFT)))
    return x86.packssdw(b, *sums)
