"""One step of a vector of cells, of each kind of layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qcomp.ir.ops import QGru, QLstm, QRecurrent, QRnn
from qcomp.quant.recurrence import CELL_BITS, MID_REACH
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    I32,
    I64,
    Value,
    at,
    clamp,
    load,
    multiple,
    plus,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.recurrent.spec import RecurrentSpec
from qcomp.targets.cpu.emit.recurrent.values import (
    Curves,
    product,
    shifted,
    stored,
    within_state,
)


@dataclass(frozen=True, eq=False)
class Cells:
    """Pointers to what a step of a sample reads and writes; `x` and `y` are rows of the tensors."""

    spec: RecurrentSpec
    curves: Curves
    peepholes: tuple[Value, Value] | None
    scratch: Value
    x: Value
    y: Value

    # Memory

    def word(self, b: ir.IRBuilder, base: Value, place: Value | int, lanes: int) -> Value:
        return load(b, at(b, base, multiple(b, place, 4)), vector(I32, lanes), 4)

    def keep(self, b: ir.IRBuilder, x: Value, offset: int, start: Value | int) -> None:
        store(b, x, at(b, at(b, self.scratch, offset), multiple(b, start, 4)), 4)

    def kept(self, b: ir.IRBuilder, offset: int, start: Value | int, lanes: int) -> Value:
        return self.word(b, at(b, self.scratch, offset), start, lanes)

    def input(self, b: ir.IRBuilder, gate: int, start: Value | int, lanes: int) -> Value:
        """What the inputs add to a gate."""
        place = plus(b, start, gate * self.spec.hidden)
        x = load(b, at(b, self.x, multiple(b, place, 2)), vector(I16, lanes), 2)
        return b.shl(b.sext(x, vector(I32, lanes)), splat(I32, lanes, self.spec.op.x_shift))

    def hidden_sum(self, b: ir.IRBuilder, gate: int, start: Value | int, lanes: int) -> Value:
        """What the hidden state adds to a gate."""
        return self.word(b, self.scratch, plus(b, start, gate * self.spec.hidden), lanes)

    def sum(self, b: ir.IRBuilder, gate: int, start: Value | int, lanes: int) -> Value:
        return b.add(self.input(b, gate, start, lanes), self.hidden_sum(b, gate, start, lanes))

    def keep_hidden(
        self, b: ir.IRBuilder, state: Value, offset: int, start: Value | int, *, small: bool
    ) -> None:
        """As weights are multiplied by it."""
        op, size = self.spec.op, self.spec.element
        q = stored(b, state, op.hidden_factor, op.hidden, small=small)
        if self.spec.bias:
            q = b.xor(q, splat(q.type.element, q.type.count, -128))
        store(b, q, at(b, at(b, self.scratch, offset), multiple(b, start, size)), size)

    def give(self, b: ir.IRBuilder, state: Value, start: Value | int) -> None:
        """The new state: kept for the next step, and returned."""
        op, size = self.spec.op, self.spec.op.result.bits // 8
        small = not isinstance(op, QGru)
        self.keep(b, state, self.spec.state_at, start)
        self.keep_hidden(b, state, self.spec.hidden_at, start, small=small)
        q = stored(b, state, op.result_factor, op.result, small=small)
        store(b, q, at(b, self.y, multiple(b, start, size)), size)

    # Values

    def activation(self, b: ir.IRBuilder, function: int, sums: Value) -> Value:
        clip = self.spec.op.clip
        within = clamp(b, sums, max(-clip, -(2**15)), min(clip, 2**15 - 1))
        return self.curves.value(b, function, within)

    def peephole(self, b: ir.IRBuilder, gate: int, cell: Value, start: Value | int) -> Value:
        """What the cell state adds to gate i, o or f."""
        lanes, shift = cell.type.count, CELL_BITS - self.spec.op.sum_bits
        t = clamp(b, shifted(b, cell, shift), -MID_REACH, MID_REACH - 1)
        assert self.peepholes is not None
        place = plus(b, start, gate * self.spec.hidden)
        m, s = (self.word(b, table, place, lanes) for table in self.peepholes)
        one = splat(I32, lanes, 1)
        half = b.lshr(b.shl(one, s), one)
        return b.ashr(b.add(b.mul(t, m), half), s)


Step = Callable[[ir.IRBuilder, Cells, "Value | int", int], None]
"""(builder, cells, the first cell, lanes)"""


def rnn_step(b: ir.IRBuilder, cells: Cells, start: Value | int, lanes: int) -> None:
    cells.give(b, cells.activation(b, 0, cells.sum(b, 0, start, lanes)), start)


def gru_gates(b: ir.IRBuilder, cells: Cells, start: Value | int, lanes: int) -> None:
    """Where a candidate's hidden state is what the gate r leaves of the state."""
    f = cells.spec.op.fractions[0]
    r = cells.activation(b, 0, cells.sum(b, 1, start, lanes))
    state = cells.kept(b, cells.spec.state_at, start, lanes)
    left = b.trunc(shifted(b, product(b, r, state), f), vector(I32, lanes))
    cells.keep_hidden(b, left, cells.spec.candidate_at, start, small=False)


def gru_step(b: ir.IRBuilder, cells: Cells, start: Value | int, lanes: int) -> None:
    spec = cells.spec
    op = spec.op
    assert isinstance(op, QGru)
    f, g = op.fractions
    z = cells.activation(b, 0, cells.sum(b, 0, start, lanes))
    inner = cells.hidden_sum(b, 2, start, lanes)
    if op.linear_before_reset:
        r = cells.activation(b, 0, cells.sum(b, 1, start, lanes))
        inner = b.trunc(shifted(b, product(b, r, inner), f), vector(I32, lanes))
    n = cells.activation(b, 1, b.add(cells.input(b, 2, start, lanes), inner))
    wide = vector(I64, lanes)
    n = b.shl(b.sext(n, wide), splat(I64, lanes, op.state_bits - g))
    state = b.sext(cells.kept(b, spec.state_at, start, lanes), wide)
    moved = shifted(b, b.mul(b.sext(z, wide), b.sub(state, n)), f)
    cells.give(b, within_state(b, b.add(n, moved)), start)


def lstm_step(b: ir.IRBuilder, cells: Cells, start: Value | int, lanes: int) -> None:
    spec = cells.spec
    op = spec.op
    assert isinstance(op, QLstm)
    f, g, _ = op.fractions
    cell = cells.kept(b, spec.cell_at, start, lanes)

    def gate(index: int, peephole: int, cell: Value) -> Value:
        sums = cells.sum(b, index, start, lanes)
        if spec.has_peepholes:
            sums = b.add(sums, cells.peephole(b, peephole, cell, start))
        return cells.activation(b, 0, sums)

    i = gate(0, 0, cell)
    forget = b.sub(splat(I32, lanes, 1 << f), i) if op.coupled else gate(2, 2, cell)
    new = b.mul(i, cells.activation(b, 1, cells.sum(b, 3, start, lanes)))
    wide = vector(I64, lanes)
    if f + g >= CELL_BITS:
        new = b.sext(shifted(b, new, f + g - CELL_BITS), wide)
    else:
        new = b.shl(b.sext(new, wide), splat(I64, lanes, CELL_BITS - f - g))
    cell = within_state(b, b.add(shifted(b, product(b, forget, cell), f), new))
    cells.keep(b, cell, spec.cell_at, start)
    o = gate(1, 1, cell)
    seen = clamp(b, shifted(b, cell, CELL_BITS - op.sum_bits), -(2**15), 2**15 - 1)
    cells.give(b, shifted(b, b.mul(o, cells.curves.value(b, 2, seen)), f), start)


STEPS: Mapping[type[QRecurrent], Step] = {
    QRnn: rnn_step,
    QGru: gru_step,
    QLstm: lstm_step,
}
