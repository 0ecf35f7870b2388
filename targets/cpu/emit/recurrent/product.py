"""Products of the hidden state with the weights of all gates, as sums of MID18.

With 8 bits by the machine's dot product of four, with 16 by its sums of pairs. Weights of a block
of channels lie together, and go through the caches once for each step of a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.quant.recurrence import MID_REACH, MID_SHIFT
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    broadcast,
    clamp,
    load,
    loop,
    multiple,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.recurrent.spec import Part, RecurrentSpec
from qcomp.targets.cpu.machine import Isa

_UNROLLED = 4  # groups of k in straight code


@dataclass(frozen=True, eq=False)
class ProductTables:
    """Pointers to the packed weights, and to what each channel has."""

    weights: Value
    bias: Value
    multiplier: Value
    shift: Value


@dataclass(frozen=True)
class Product:
    """The product of one layer on one machine."""

    spec: RecurrentSpec
    isa: Isa

    def emit(
        self, b: ir.IRBuilder, part: Part, hidden: Value, tables: ProductTables, sums: Value
    ) -> None:
        """Store the sums of a part's channels, i32, and what fills up its last block."""
        spec, lanes = self.spec, self.spec.lanes
        vectors, first = spec.vectors(part), spec.part_offset(part)
        block = vectors * lanes
        bytes_ = spec.groups * spec.group

        def visit(n: Value | int) -> None:
            channel = multiple(b, n, block)
            weights = at(b, at(b, tables.weights, first * bytes_), multiple(b, channel, bytes_))
            rows = [
                at(b, at(b, table, 4 * first), multiple(b, channel, 4))
                for table in (tables.bias, tables.multiplier, tables.shift)
            ]
            acc = self._sums(b, hidden, weights, rows[0], vectors)
            target = at(b, at(b, sums, 4 * part.first), multiple(b, channel, 4))
            for v, x in enumerate(acc):
                m, k = (_words(b, row, v, lanes) for row in rows[1:])
                store(b, self._scaled(b, x, m, k), at(b, target, 4 * v * lanes), 4)

        loop(b, spec.blocks(part), visit, "channels")

    def _sums(
        self, b: ir.IRBuilder, hidden: Value, weights: Value, bias: Value, vectors: int
    ) -> Sequence[Value]:
        spec = self.spec
        step = vectors * spec.lanes * spec.group
        start = [_words(b, bias, v, spec.lanes) for v in range(vectors)]
        dot = self.isa.machine.dot
        together = max(_UNROLLED, dot.together) if spec.element == 1 else _UNROLLED
        together = min(together, spec.groups)

        def trip(n: Value | int, acc: Carried, count: int = together) -> Carried:
            k = multiple(b, n, together)
            x = at(b, hidden, multiple(b, k, spec.group * spec.element))
            w = at(b, weights, multiple(b, k, step))
            for i, operand in enumerate(self._operands(b, x, count)):
                acc = self._added(b, acc, operand, at(b, w, i * step))
            return acc

        trips, rest = divmod(spec.groups, together)
        acc = repeat(b, trips, start, trip, "k")
        return trip(trips, acc, rest) if rest else acc

    def _operands(self, b: ir.IRBuilder, x: Value, count: int) -> Sequence[Value]:
        """The hidden state of so many groups of k, for every channel."""
        spec = self.spec
        if spec.element == 1:
            dot = self.isa.machine.dot
            found: list[Value] = []
            while len(found) < count:
                groups = min(dot.together, count - len(found))
                found += dot.same(b, at(b, x, spec.group * len(found)), groups)
            return found
        pairs = (load(b, at(b, x, 4 * i), I32) for i in range(count))
        wide = vector(I16, 2 * spec.lanes)
        return [b.bitcast(broadcast(b, pair, spec.lanes), wide) for pair in pairs]

    def _added(self, b: ir.IRBuilder, acc: Carried, x: Value, w: Value) -> Carried:
        spec, machine = self.spec, self.isa.machine
        bytes_ = spec.lanes * spec.group
        result = []
        for v, total in enumerate(acc):
            place = at(b, w, v * bytes_)
            if spec.element == 1:
                result.append(machine.dot.add(b, total, x, machine.dot.weights(b, place)))
            else:
                own = b.sext(load(b, place, vector(I8, bytes_)), vector(I16, bytes_))
                result.append(b.add(total, machine.pairs(b, x, own)))
        return result

    def _scaled(self, b: ir.IRBuilder, acc: Value, multiplier: Value, shift: Value) -> Value:
        """MID18, of i32 that the certificate has room for."""
        lanes, left = self.spec.lanes, self.spec.op.left
        one = splat(I32, lanes, 1)
        if left:
            acc = b.shl(acc, splat(I32, lanes, left))
        half = b.lshr(b.shl(one, shift), one)
        t = clamp(b, b.ashr(b.add(acc, half), shift), -MID_REACH, MID_REACH - 1)
        product = b.add(b.mul(t, multiplier), splat(I32, lanes, 1 << (MID_SHIFT - 1)))
        return b.ashr(product, splat(I32, lanes, MID_SHIFT))


def _words(b: ir.IRBuilder, table: Value, v: int, lanes: int) -> Value:
    return load(b, at(b, table, 4 * v * lanes), vector(I32, lanes), 4)
