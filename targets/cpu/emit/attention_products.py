"""Small products of an attention: some rows, of bytes or pairs of words, times packed vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    Carried,
    Value,
    at,
    broadcast,
    load,
    multiple,
    vector,
)
from qcomp.targets.cpu.emit.dynamic_loop import repeat_trips
from qcomp.targets.cpu.kernels.attention import GROUP
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True)
class AttentionProducts:
    """Sums are [row][vector]."""

    isa: Isa

    def tile(self, rows: int, vectors: int) -> tuple[int, int]:
        """(rows, vectors) of sums in registers, of so many."""
        sums = 16 if self.isa.registers >= 32 else 4 if self.isa.machine.dot.widens else 8
        wide = max(n for n in (1, 2, 4) if vectors % n == 0 and n <= sums)
        return min(rows, sums // wide), wide

    def fours(
        self,
        b: ir.IRBuilder,
        xs: Sequence[Value],
        w: Value,
        begin: Carried,
        groups: int,
        stride: int,
        times: Value | int = 1,
    ) -> Carried:
        """Sums of `groups` of four products, `times` as many; weights `stride` bytes apart."""
        dot, wide = self.isa.machine.dot, len(begin) // len(xs)
        together = min(dot.together, groups)

        def step(k: Value | int, sums: Carried, count: int = together) -> list[Value]:
            found = list(sums)
            p = at(b, w, multiple(b, k, together * stride))
            operands = [dot.same(b, at(b, x, multiple(b, k, GROUP * together)), count) for x in xs]
            for g in range(count):
                weights = [
                    dot.weights(b, at(b, p, g * stride + v * self.isa.vector_bits // 8))
                    for v in range(wide)
                ]
                for r, x in enumerate(operands):
                    for v, weight in enumerate(weights):
                        i = r * wide + v
                        found[i] = dot.add(b, found[i], x[g], weight)
            return found

        whole, rest = divmod(groups, together)
        sums: Carried = repeat_trips(b, multiple(b, times, whole), begin, step, "k")
        return step(whole, sums, rest) if rest else sums

    def pairs(
        self,
        b: ir.IRBuilder,
        xs: Sequence[Value],
        w: Value,
        begin: Carried,
        count: int,
        stride: int,
        bytes_: int = 2,
        times: Value | int = 1,
    ) -> Carried:
        """Sums of `count` pairs, `times` as many; those of the vectors, of `bytes_` an element, are
        `stride` bytes apart.
        """
        lanes, wide = self.isa.lanes, len(begin) // len(xs)
        words, stored = vector(I16, 2 * lanes), vector(ir.IntType(8 * bytes_), 2 * lanes)

        def step(k: Value | int, sums: Carried) -> list[Value]:
            found = list(sums)
            p = at(b, w, multiple(b, k, stride))
            size = 2 * lanes * bytes_
            values = [load(b, at(b, p, size * v), stored) for v in range(wide)]
            if bytes_ == 1:
                values = [b.sext(value, words) for value in values]
            for r, x in enumerate(xs):
                two = load(b, at(b, x, multiple(b, k, 4)), I32)
                every = b.bitcast(broadcast(b, two, lanes), words)
                for v, value in enumerate(values):
                    i = r * wide + v
                    found[i] = b.add(found[i], self.isa.machine.pairs(b, every, value))
            return found

        return repeat_trips(b, multiple(b, times, count), begin, step, "k")
