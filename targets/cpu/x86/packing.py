"""The packed epilogue of x86: four vectors of i32 sums to one of stored bytes.

Arithmetic shift, packssdw, pmulhrsw, a residual addition, the zero point where it is not the least,
packuswb, the clamp where it limits more than bytes do, and a lookup; meaning:
qcomp.quant.fixed_point.requantize (NARROW). Packs work within 128-bit lanes, so bytes come out in
*packed order*: in each lane four of the first vector, four of the second, ...
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    at,
    broadcast,
    larger_unsigned,
    load,
    smaller_unsigned,
    vector,
)
from qcomp.targets.cpu.emit.narrow import BlockParameters
from qcomp.targets.cpu.emit.residual import AddConstants, add_residual
from qcomp.targets.cpu.kernels.constants import ADDITION_BYTES, LOOKUP_BYTES, STORED_BYTES
from qcomp.targets.cpu.storage import BIAS
from qcomp.targets.cpu.x86 import intrinsics as x86
from qcomp.targets.cpu.x86.table import permuted, quarters


@dataclass
class Packing:
    """One place of the code, where each constant is loaded once."""

    block: BlockParameters
    _values: dict[tuple[int, ...], Value] = field(default_factory=dict)
    _addition: AddConstants | None = None
    _quarters: list[Value] | None = None

    def packed(
        self,
        b: ir.IRBuilder,
        four: Sequence[Value],
        vs: tuple[int, ...],
        others: Sequence[Value] = (),
    ) -> Value:
        """Four vectors of sums, of the channel vectors `vs`, to bytes + BIAS in packed order.

        `others` are what a residual addition adds to the first and to the last two, as i16.
        """
        halves = []
        for i in (0, 2):
            a, c = (b.ashr(four[i + j], self._shift(b, vs[i + j])) for j in (0, 1))
            t = x86.packssdw(b, a, c)
            scaled = x86.pmulhrsw(b, t, self._multipliers(b, vs[i : i + 2]))
            if others:
                scaled = self._added(b, scaled, others[i // 2])
            if not self.block.rectified:  # else + BIAS it is 0
                scaled = x86.saturating_add(b, scaled, self._zero_point(b, t.type.count))
            halves.append(scaled)
        q = x86.packuswb(b, *halves)
        if self.block.clamped:
            q = larger_unsigned(b, q, self._limit(b, 1, q.type.count))
        if self.block.ceiling:
            q = smaller_unsigned(b, q, self._ceilings(b, vs))
        if self.block.clamped:
            q = smaller_unsigned(b, q, self._limit(b, 2, q.type.count))
        return self._looked_up(b, q) if self.block.lookup else q

    def _shift(self, b: ir.IRBuilder, v: int) -> Value:
        return self._once((2, v), lambda: self.block.shift(b, v))

    def _multipliers(self, b: ir.IRBuilder, vs: tuple[int, ...]) -> Value:
        pair = (self.block.multiplier(b, v) for v in vs)
        return self._once((1, *vs), lambda: x86.packssdw(b, *pair))

    def _ceilings(self, b: ir.IRBuilder, vs: tuple[int, ...]) -> Value:
        def pair(vs: tuple[int, ...]) -> Value:
            return self._once(
                (3, *vs), lambda: x86.packssdw(b, *(self.block.ceilings(b, v) for v in vs))
            )

        def make() -> Value:
            pairs = (pair(vs[i : i + 2]) for i in (0, 2))
            bias = broadcast(b, ir.Constant(I16, BIAS), 2 * self.block.lanes)
            return x86.packuswb(b, *(b.add(pair, bias) for pair in pairs))

        return self._once((3, *vs, -1), make)

    def _added(self, b: ir.IRBuilder, scaled: Value, other: Value) -> Value:
        if self._addition is None:
            constants = at(b, self.block.header, ADDITION_BYTES)
            self._addition = AddConstants.loaded(b, constants, scaled.type.count)
        return add_residual(b, scaled, other, self._addition, x86.pmulhrsw)

    def _zero_point(self, b: ir.IRBuilder, lanes: int) -> Value:
        slot = at(b, self.block.header, STORED_BYTES)
        return self._once((-1,), lambda: broadcast(b, load(b, slot, I16, 2), lanes))

    def _limit(self, b: ir.IRBuilder, n: int, lanes: int) -> Value:
        """qmin (1) or qmax (2), + BIAS."""
        slot = at(b, self.block.header, STORED_BYTES + 4 * n)
        return self._once((-1, n), lambda: broadcast(b, load(b, slot, I8), lanes))

    def _looked_up(self, b: ir.IRBuilder, q: Value) -> Value:
        if self._quarters is None:
            self._quarters = quarters(b, at(b, self.block.header, LOOKUP_BYTES))
        return permuted(b, q, self._quarters)

    def _once(self, key: tuple[int, ...], make: Callable[[], Value]) -> Value:
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]


def in_order(b: ir.IRBuilder, q: Value) -> Value:
    """Bytes in packed order to one vector after the other."""
    lanes = q.type.count // 16  # of 128 bits
    if lanes == 1:
        return q
    order = [i * 4 + j for j in range(4) for i in range(lanes)]
    dwords = b.bitcast(q, vector(I32, q.type.count // 4))
    return b.bitcast(x86.permute_dwords(b, dwords, order), q.type)
