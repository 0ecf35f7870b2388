"""AdaRound: whether each weight goes up or down is learned from what the layer should give.

Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for Post-Training
Quantization", ICML 2020, section 3.3. Between the two levels around a weight, s apart, the soft
weight is

    w~ = lower + s * h(V),    h(V) = clip(sigmoid(V) * (zeta - gamma) + gamma, 0, 1)

and V minimises  E ||f(W x) - f(W~ x_q)||^2 + lambda * sum(1 - |2 h(V) - 1|^beta)  by Adam, where
x_q is what the quantized network gives the layer, f its activation function, and beta falls from 20
to 2 after a first part without the regulariser, which drives each h to 0 or 1.

What differs: the start is a rounding that is good already (GPTQ's), and the two levels are the one
that it chose and the neighbour on the side where the weight lies. The error is relative to the
start's, times the number of weights, so that one lambda suits every layer. An output channel takes
what was learned only where that is better than the start. Gradients are written out, and each step
takes some rows in turn: all is products of matrices and passes over arrays of the weights' size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.engine import Engine, Value
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.problem import Problem

F64 = NDArray[np.float64]

ZETA, GAMMA = 1.1, -0.1
START = 1.5  # |V| at the start: h is about 0.88 or 0.12
MOMENTUM, SPREAD, TINY = 0.9, 0.999, 1e-8  # Adam's beta 1, beta 2 and epsilon
_CHUNK = 1024


@dataclass(frozen=True)
class Schedule:
    """Steps of Adam, their rows and rate; lambda, beta, and the part without the regulariser."""

    iterations: int
    rows: int = 256
    rate: float = 0.01
    weight: float = 10.0
    beta: tuple[float, float] = (20.0, 2.0)
    warm: float = 0.2

    def beta_at(self, i: int) -> float | None:
        """None in the first part; then half a cosine from the one to the other."""
        begin = self.warm * self.iterations
        if i < begin:
            return None
        high, low = self.beta
        done = (i - begin) / (self.iterations - begin)
        return low + 0.5 * (high - low) * (1.0 + math.cos(done * math.pi))


def adaround(
    problem: Problem, levels: Levels, start: F64, schedule: Schedule, engine: Engine
) -> F64:
    """The level of each weight, from those of `start` [G, O / G, K]."""
    up = levels.position(problem.weight) < start
    lower = np.where(up, start - 1, start)
    free = (lower >= 0) & (lower < levels.count - 1)
    lower = np.where(free, lower, start)
    soft = SoftWeights.on(engine, levels.value(lower), np.where(free, levels.spacing, 0.0))
    error = LayerError(problem, engine, schedule.rows)
    first = error.whole(engine.array(levels.value(start)))
    count = int(np.count_nonzero(free))
    if count == 0 or not first.any():
        return start
    v = engine.array(np.where(free, np.where(up, START, -START), 0.0))
    adam = _Adam(engine, v, schedule.rate)
    for i in range(schedule.iterations):
        h = soft.part(v)
        slope = error.gradient(soft.weight(h), i)
        slope *= count / float(first.sum())
        adam.step(v, soft.chain(slope, v, h, schedule.beta_at(i), schedule.weight))
    rounded_up = engine.numpy(soft.part(v)) >= 0.5
    learned = np.where(free, lower + rounded_up, start)
    better = error.whole(engine.array(levels.value(learned))) < first
    return np.where(better[:, :, None], learned, start)


@dataclass(frozen=True, eq=False)
class SoftWeights:
    """w~ = lower + size * h(V); `size` is 0 where there is no choice."""

    engine: Engine
    lower: Value
    size: Value

    @staticmethod
    def on(engine: Engine, lower: F64, size: F64) -> SoftWeights:
        return SoftWeights(engine, engine.array(lower), engine.array(size))

    def part(self, v: Value) -> Value:
        """h(V); sigmoid(V) is (1 + tanh(V / 2)) / 2, which does not overflow."""
        xp = self.engine.xp
        h = xp.tanh(v * 0.5)
        h *= (ZETA - GAMMA) / 2
        h += (ZETA + GAMMA) / 2
        return xp.clip(h, 0.0, 1.0)

    def weight(self, h: Value) -> Value:
        w = h * self.size
        w += self.lower
        return w

    def chain(self, slope: Value, v: Value, h: Value, beta: float | None, weight: float) -> Value:
        """The gradient by V from that by w~, with the regulariser's; where h is clipped, 0."""
        xp = self.engine.xp
        slope *= self.size
        if beta is not None:
            centre = h * 2.0
            centre -= 1.0
            pull = xp.abs(centre) ** (beta - 1.0)
            pull *= xp.sign(centre)
            pull *= 2.0 * beta * weight
            slope -= pull
        inner = xp.tanh(v * 0.5)
        inner *= inner
        inner -= 1.0
        slope *= inner
        slope *= -(ZETA - GAMMA) / 4
        slope *= (h > 0.0) & (h < 1.0)
        return slope


class LayerError:
    """Mean of ||f(W~ x + b) - f(target)||^2 over rows, and its gradient by W~ on some of them."""

    def __init__(self, problem: Problem, engine: Engine, rows: int) -> None:
        order = np.random.default_rng(0).permutation(problem.rows.x.shape[1])
        self._engine = engine
        self._x = engine.array(problem.rows.x[:, order])
        self._bias = engine.array(problem.bias[:, None, :])
        self._activation: Activation = problem.activation.on(engine)
        self._target = self._activation(engine, engine.array(problem.rows.target[:, order]))
        self._rows = min(rows, len(order))

    def whole(self, weight: Value) -> F64:
        """Of each output channel, [G, O / G]."""
        count = self._x.shape[1]
        total = np.zeros(self._bias.shape[::2])
        for begin in range(0, count, _CHUNK):
            rows = slice(begin, begin + _CHUNK)
            difference = self._activation(self._engine, self._sums(weight, rows))
            difference -= self._target[:, rows]
            difference *= difference
            total += self._engine.numpy(difference).sum(axis=1, dtype=np.float64)
        return np.asarray(total / count)

    def gradient(self, weight: Value, i: int) -> Value:
        """On the i-th set of rows, which are taken in turn."""
        turn = i % (self._x.shape[1] // self._rows)
        rows = slice(turn * self._rows, (turn + 1) * self._rows)
        y = self._sums(weight, rows)
        slope = self._activation(self._engine, y)
        slope -= self._target[:, rows]
        slope *= self._activation.derivative(self._engine, y)
        slope *= 2.0 / self._rows
        return self._engine.xp.matmul(slope.swapaxes(1, 2), self._x[:, rows])

    def _sums(self, weight: Value, rows: slice) -> Value:
        y = self._engine.xp.matmul(self._x[:, rows], weight.swapaxes(1, 2))
        y += self._bias
        return y


class _Adam:
    """Kingma and Ba, ICLR 2015, algorithm 1, in place."""

    def __init__(self, engine: Engine, v: Value, rate: float) -> None:
        self._xp = engine.xp
        self._rate = rate
        self._mean, self._square = v * 0.0, v * 0.0
        self._count = 0

    def step(self, v: Value, slope: Value) -> None:
        """Moves v; `slope` is used up."""
        self._count += 1
        self._mean *= MOMENTUM
        self._mean += slope * (1.0 - MOMENTUM)
        slope *= slope
        slope *= 1.0 - SPREAD
        self._square *= SPREAD
        self._square += slope
        root = self._xp.sqrt(self._square)
        root *= (1.0 - SPREAD**self._count) ** -0.5
        root += TINY
        root = self._mean / root
        root *= self._rate / (1.0 - MOMENTUM**self._count)
        v -= root
