"""Exact integer meanings of the recurrent layers.

Sums are those of 18 bits that MID18 gives, saturated to i16; values of curves have 16 bits with the
sign, and 2^15 itself; states are within 2^30. Products of these are i64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.evaluate.integer_linear import dense_sums
from qcomp.ir.evaluate.recurrent import running, step_order
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.integer_recurrent import QGru, QLstm, QRecurrent, QRnn
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import I64, Requantize, rounding_shift
from qcomp.quant.qparams import INTEGERS
from qcomp.quant.recurrence import (
    CELL_BITS,
    LARGEST_STATE,
    MID_REACH,
    Factor,
    mid_scaled,
    on_curve,
)


class _Layer:
    """The constants of a layer, and what its steps have in common."""

    def __init__(self, op: QRecurrent, constants: tuple[Array, ...]) -> None:
        self.op = op
        self.weight, self.bias, self.multiplier, self.shift, self.curves = constants

    def sums(self, x: Array) -> I64:
        return np.asarray(x.astype(np.int64) << self.op.x_shift)

    def hidden(self, state: I64) -> Array:
        return _stored(self.op.hidden, self.op.hidden_factor.of(state))

    def product(self, hidden: Array, rows: slice = slice(None)) -> I64:
        acc = dense_sums(hidden, self.op.hidden.zero_point, self.weight[rows]) + self.bias[rows]
        return mid_scaled(acc, self.multiplier[rows], self.shift[rows], self.op.left)

    def value(self, function: int, sums: I64) -> I64:
        """Of an activation, of sums that are saturated here."""
        clip = self.op.clip
        within = np.clip(sums, max(-clip, -(2**15)), min(clip, 2**15 - 1))
        return self.curve(function, within)

    def curve(self, function: int, within: I64) -> I64:
        return on_curve(self.curves[function], within)


def q_rnn(op: QRnn, x: Array, *operands: Array) -> Array:
    layer = _Layer(op, operands[:5])

    def step(sums: I64, state: I64) -> tuple[I64]:
        return (layer.value(0, sums + layer.product(layer.hidden(state))),)

    return _run(op, layer, x, step, (_initial(op, operands[5]),), *operands[6:])


def q_gru(op: QGru, x: Array, *operands: Array) -> Array:
    layer = _Layer(op, operands[:5])
    size = operands[5].shape[1]
    gates, last = slice(2 * size), slice(2 * size, None)
    f, g = op.fractions

    def step(sums: I64, state: I64) -> tuple[I64]:
        hidden = layer.hidden(state)
        z, r = np.split(layer.value(0, sums[:, gates] + layer.product(hidden, gates)), 2, axis=1)
        if op.linear_before_reset:
            inner = rounding_shift(r * layer.product(hidden, last), f)
        else:
            inner = layer.product(layer.hidden(rounding_shift(r * state, f)), last)
        n = layer.value(1, sums[:, last] + inner) << (op.state_bits - g)
        return (_within(n + rounding_shift(z * (state - n), f)),)

    return _run(op, layer, x, step, (_initial(op, operands[5]),), *operands[6:])


def q_lstm(op: QLstm, x: Array, *operands: Array) -> Array:
    layer = _Layer(op, operands[:5])
    h, c, peephole_multiplier, peephole_shift = operands[5:9]
    f, g, _ = op.fractions
    factors = [a.astype(np.int64).reshape(3, -1) for a in (peephole_multiplier, peephole_shift)]

    def in_sums(c: I64) -> I64:
        return rounding_shift(c, CELL_BITS - op.sum_bits)

    def seen(gate: int, c: I64) -> I64:
        """What a peephole (of i, o, f) adds."""
        t = np.clip(in_sums(c), -MID_REACH, MID_REACH - 1)
        return rounding_shift(t * factors[0][gate], factors[1][gate])

    def step(sums: I64, state: I64, c: I64) -> tuple[I64, I64]:
        s_i, s_o, s_f, s_c = np.split(sums + layer.product(layer.hidden(state)), 4, axis=1)
        i = layer.value(0, s_i + seen(0, c))
        forget = (1 << f) - i if op.coupled else layer.value(0, s_f + seen(2, c))
        new = rounding_shift((i * layer.value(1, s_c)) << CELL_BITS, f + g)
        c = _within(rounding_shift(forget * c, f) + new)
        o = layer.value(0, s_o + seen(1, c))
        h = layer.curve(2, np.clip(in_sums(c), -(2**15), 2**15 - 1))
        return rounding_shift(o * h, f), c

    cell = _within(op.cell_initial_factor.of(c.astype(np.int64) - op.cell_initial_zero_point))
    initial = (_initial(op, h), cell)
    factors_out = (op.result_factor, op.cell_factor)
    return _run(op, layer, x, step, initial, *operands[9:], out=factors_out)


def _initial(op: QRecurrent, h: Array) -> I64:
    return _within(op.initial_factor.of(h.astype(np.int64) - op.initial_zero_point))


def _within(state: I64) -> I64:
    return np.asarray(np.clip(state, -LARGEST_STATE, LARGEST_STATE))


def _stored(to: Requantize, scaled: I64) -> Array:
    found: Array = np.clip(scaled + to.zero_point, to.qmin, to.qmax).astype(INTEGERS[to.bits])
    return found


def _run(
    op: QRecurrent,
    layer: _Layer,
    x: Array,
    step: Callable[..., tuple[I64, ...]],
    state: tuple[I64, ...],
    *lengths: Array,
    out: tuple[Factor, ...] = (),
) -> Array:
    found = np.full((len(x), *state[0].shape), op.result.zero_point, INTEGERS[op.result.bits])
    for t in step_order(len(x), reverse=op.reverse):
        runs = running(len(x), t, *lengths or (None,))
        after = step(layer.sums(x[t]), *state)
        state = tuple(np.where(runs, new, old) for new, old in zip(after, state, strict=True))
        row = _stored(op.result, op.result_factor.of(state[0]))
        found[t] = np.where(runs, row, found[t])
    factors = (out or (op.result_factor,))[: op.tail_rows]
    tail = [_stored(op.result, f.of(s))[np.newaxis] for f, s in zip(factors, state, strict=False)]
    return np.concatenate([found, *tail])


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    QRnn: q_rnn,
    QGru: q_gru,
    QLstm: q_lstm,
}
