"""Float meanings of the recurrent layers, in float64, rounded once to float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.ops.base import Op
from qcomp.ir.ops.recurrent import Activation, Gru, Lstm, Recurrent, Rnn
from qcomp.ir.tensor import Array

F64 = NDArray[np.float64]


def step_order(steps: int, *, reverse: bool) -> Iterator[int]:
    """The steps in the order that states follow."""
    return iter(range(steps - 1, -1, -1) if reverse else range(steps))


def running(steps: int, step: int, lengths: Array | None) -> Array:
    """[N, 1]: which samples have this step."""
    if lengths is None:
        return np.ones((1, 1), bool)
    return np.asarray(step < np.clip(np.rint(lengths), 0, steps))[:, np.newaxis]


def rnn(op: Rnn, x: Array, weight: Array, bias: Array, h: Array, *lengths: Array) -> Array:
    (f,) = op.activations

    def step(sums: F64, h: F64) -> tuple[F64]:
        return (_gate(op, f, sums + h @ weight.T + bias),)

    return _run(op, x, step, (h,), *lengths)


def gru(op: Gru, x: Array, weight: Array, bias: Array, h: Array, *lengths: Array) -> Array:
    f, g = op.activations
    hidden = h.shape[1]
    gates, candidate = weight[: 2 * hidden].T, weight[2 * hidden :].T

    def step(sums: F64, h: F64) -> tuple[F64]:
        zr = _gate(op, f, sums[:, : 2 * hidden] + h @ gates + bias[: 2 * hidden])
        z, r = np.split(zr, 2, axis=1)
        own = bias[2 * hidden :]
        inner = r * (h @ candidate + own) if op.linear_before_reset else (r * h) @ candidate + own
        n = _gate(op, g, sums[:, 2 * hidden :] + inner)
        return ((1.0 - z) * n + z * h,)

    return _run(op, x, step, (h,), *lengths)


def lstm(
    op: Lstm,
    x: Array,
    weight: Array,
    bias: Array,
    h: Array,
    c: Array,
    peepholes: Array,
    *lengths: Array,
) -> Array:
    f, g, output = op.activations
    p_i, p_o, p_f = np.split(peepholes.astype(np.float64), 3)

    def step(sums: F64, h: F64, c: F64) -> tuple[F64, F64]:
        s_i, s_o, s_f, s_c = np.split(sums + h @ weight.T + bias, 4, axis=1)
        i = _gate(op, f, s_i + p_i * c)
        forget = 1.0 - i if op.coupled else _gate(op, f, s_f + p_f * c)
        c = forget * c + i * _gate(op, g, s_c)
        o = _gate(op, f, s_o + p_o * c)
        return o * _real(output, c), c

    return _run(op, x, step, (h, c), *lengths)


def _gate(op: Recurrent, activation: Activation, sums: F64) -> F64:
    return _real(activation, np.clip(sums, -op.clip, op.clip))


def _real(activation: Activation, x: F64) -> F64:
    return FUNCTIONS[activation.function](x, activation.alpha, activation.beta)


def _run(
    op: Recurrent,
    x: Array,
    step: Callable[..., tuple[F64, ...]],
    initial: tuple[Array, ...],
    *lengths: Array,
) -> Array:
    state = tuple(s.astype(np.float64) for s in initial)
    found = np.zeros((len(x), *state[0].shape))
    for t in step_order(len(x), reverse=op.reverse):
        runs = running(len(x), t, *lengths or (None,))
        after = step(x[t].astype(np.float64), *state)
        state = tuple(np.where(runs, new, old) for new, old in zip(after, state, strict=True))
        found[t] = np.where(runs, state[0], 0.0)
    tail = np.stack(state)[: op.tail_rows]
    return np.concatenate([found, tail]).astype(np.float32)


MEANINGS: Mapping[type[Op], Callable[..., Array]] = {
    Rnn: rnn,
    Gru: gru,
    Lstm: lstm,
}
