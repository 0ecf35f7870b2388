"""The loop over the steps of a sample, and what is before and behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qcomp.ir.ops import QLstm
from qcomp.quant.recurrence import Factor
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    at,
    load,
    loop,
    multiple,
    plus,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.i16.entries import Neighbours
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.recurrent.cells import STEPS, Cells, Step, gru_gates
from qcomp.targets.cpu.emit.recurrent.product import Product, ProductTables
from qcomp.targets.cpu.emit.recurrent.spec import RecurrentSpec
from qcomp.targets.cpu.emit.recurrent.values import Curves, multiplied, stored, within_state
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import in_bits, word, word_type
from qcomp.targets.cpu.machine import Isa


class _Pointers(NamedTuple):
    x: Value
    weights: Value
    bias: Value
    multiplier: Value
    shift: Value
    curves: Value
    initial_h: Value
    y: Value
    scratch: Value
    cell: Sequence[Value]  # initial_c and the two tables of peepholes, or none
    lengths: Sequence[Value]  # or none


@dataclass(frozen=True)
class RecurrentKernel:
    """The code of one layer."""

    spec: RecurrentSpec
    isa: Isa
    neighbours: Neighbours

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: those of `_Pointers` up to scratch, then the others; the span is of samples."""
        cells = 3 if isinstance(self.spec.op, QLstm) else 0
        rest = pointers[9:]
        p = _Pointers._make((*pointers[:9], rest[:cells], rest[cells:]))
        Span(begin, end).loop(b, lambda n: self._sample(b, p, n), "sample")
        b.ret_void()

    def _sample(self, b: ir.IRBuilder, p: _Pointers, n: Value) -> None:
        spec = self.spec
        op = spec.op
        scratch = at(b, p.scratch, multiple(b, n, spec.scratch))
        start = self._cells(b, p, scratch, n, 0)
        self._begin(b, p, start, n)
        steps = spec.steps
        limit = self._length(b, p.lengths[0], n) if p.lengths else None

        def visit(i: Value | int) -> None:
            t = _turned(b, i, steps) if op.reverse else i
            cells = self._cells(b, p, scratch, n, t)
            if limit is None:
                self._step(b, p, cells)
                return
            t = word(b, t) if isinstance(t, int) else t
            with b.if_else(b.icmp_signed("<", t, limit)) as (runs, waits):
                with runs:
                    self._step(b, p, cells)
                with waits:
                    self._over(b, lambda first, lanes: self._zero(b, cells, first, lanes))

        loop(b, steps, visit, "step")
        if op.tail:
            self._tail(b, self._cells(b, p, scratch, n, steps), spec.state_at, op.result_factor)
        if op.tail and isinstance(op, QLstm):
            self._tail(b, self._cells(b, p, scratch, n, steps + 1), spec.cell_at, op.cell_factor)

    def _cells(
        self, b: ir.IRBuilder, p: _Pointers, scratch: Value, n: Value, t: Value | int
    ) -> Cells:
        spec = self.spec
        row = plus(b, multiple(b, t, spec.batch), n)
        return Cells(
            spec,
            Curves(p.curves, self.neighbours),
            (p.cell[1], p.cell[2]) if spec.has_peepholes else None,
            scratch,
            at(b, p.x, multiple(b, row, 2 * spec.channels)),
            at(b, p.y, multiple(b, row, spec.hidden * spec.op.result.bits // 8)),
        )

    def _over(self, b: ir.IRBuilder, body: Callable[[Value | int, int], None]) -> None:
        """body(first cell, lanes) for whole vectors, then for what is left."""
        lanes, size = self.spec.lanes, self.spec.hidden
        loop(b, size // lanes, lambda i: body(multiple(b, i, lanes), lanes), "cells")
        for start, count in powers(size % lanes):
            body(size - size % lanes + start, count)

    def _begin(self, b: ir.IRBuilder, p: _Pointers, cells: Cells, n: Value) -> None:
        """The initial states; what fills up the last group of k meets weights of 0."""
        spec = self.spec
        op = spec.op
        row = multiple(b, n, spec.hidden)

        def state(source: Value, size: int, zero_point: int, factor: Factor) -> Step:
            def read(b: ir.IRBuilder, cells: Cells, first: Value | int, lanes: int) -> Value:
                place = at(b, source, multiple(b, plus(b, row, first), size))
                q = load(b, place, vector(ir.IntType(8 * size), lanes), size)
                centered = b.sub(b.sext(q, vector(I32, lanes)), splat(I32, lanes, zero_point))
                return within_state(b, multiplied(b, centered, factor))

            return read

        hidden = state(p.initial_h, spec.initial_bytes, op.initial_zero_point, op.initial_factor)

        def visit(first: Value | int, lanes: int) -> None:
            h = hidden(b, cells, first, lanes)
            cells.keep(b, h, spec.state_at, first)
            cells.keep_hidden(b, h, spec.hidden_at, first, small=False)
            if isinstance(op, QLstm):
                zero_point, factor = op.cell_initial_zero_point, op.cell_initial_factor
                read = state(p.cell[0], spec.cell_bytes, zero_point, factor)
                cells.keep(b, read(b, cells, first, lanes), spec.cell_at, first)

        self._over(b, visit)

    def _length(self, b: ir.IRBuilder, lengths: Value, n: Value) -> Value:
        """How many steps the sample has; one that is out of range has none, or all."""
        size = self.spec.length_bytes
        type = ir.IntType(8 * size)
        length = load(b, at(b, lengths, multiple(b, n, size)), type, size)
        return in_bits(b, length, word_type(b))

    def _step(self, b: ir.IRBuilder, p: _Pointers, cells: Cells) -> None:
        spec = self.spec
        tables = ProductTables(p.weights, p.bias, p.multiplier, p.shift)
        product = Product(spec, self.isa)
        first, *others = spec.parts
        product.emit(b, first, at(b, cells.scratch, spec.hidden_at), tables, cells.scratch)
        for part in others:
            self._over(b, lambda start, lanes: gru_gates(b, cells, start, lanes))
            candidate = at(b, cells.scratch, spec.candidate_at)
            product.emit(b, part, candidate, tables, cells.scratch)
        step = STEPS[type(spec.op)]
        self._over(b, lambda start, lanes: step(b, cells, start, lanes))

    def _zero(self, b: ir.IRBuilder, cells: Cells, first: Value | int, lanes: int) -> None:
        to = self.spec.op.result
        zero = splat(ir.IntType(to.bits), lanes, to.zero_point)
        store(b, zero, at(b, cells.y, multiple(b, first, to.bits // 8)), to.bits // 8)

    def _tail(self, b: ir.IRBuilder, cells: Cells, offset: int, factor: Factor) -> None:
        """A row with the last states."""
        to = self.spec.op.result

        def visit(first: Value | int, lanes: int) -> None:
            q = stored(b, cells.kept(b, offset, first, lanes), factor, to, small=False)
            store(b, q, at(b, cells.y, multiple(b, first, to.bits // 8)), to.bits // 8)

        self._over(b, visit)


def _turned(b: ir.IRBuilder, i: Value | int, steps: int) -> Value | int:
    """The i-th step from the end."""
    return steps - 1 - i if isinstance(i, int) else b.sub(word(b, steps - 1), i)
