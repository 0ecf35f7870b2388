"""The noise that integers put on the results of linear layers, and the factors that make it least.

Between two linear layers the values of channel i may be divided by s[i] (linear_pairs.py). For one
layer y = W x let u be the logarithms of the factors of its inputs and v of those of its outputs.
Integers of `levels` steps then make, each error uniform within its step and independent,

    inputs    step = max_i reach[i] e^-u[i] / levels
              noise = step^2 / 12 * sum_o g[o] sum_i sum(W[o, i]^2) e^2u[i]
    weights   step = max_oi |W[o, i]| e^(u[i] - v[o]) / levels, or max_i with a scale per channel
              noise = sum_o step^2 / 12 * g[o] e^2v[o] sum_i Var[x[i]] e^-2u[i] * taps

relative to sum_o g[o] Var[y[o]]. g[o] is the power of the weights that read y[o] next. Of x the
variance counts and not the mean: the mean error of rounded weights is for bias correction. What is
minimised is the sum over the layers.

Each term is a product of exponentials, maxima and sums of them with positive coefficients: a convex
function of all u and v together (a geometric program: Boyd, Kim, Vandenberghe, Hassibi, "A tutorial
on geometric programming", 2007). Of the three sides of a pair, each alone would choose s as the
ranges of its first weights, of its values, or as the inverse ranges of its second weights; Nagel et
al. 2019 balance the first and the last, and leave the values to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.linear_pairs import LinearPair
from qcomp.passes.lib.linear_weights import F64
from qcomp.quant.moments import Moments

MomentsOf = Callable[[Graph], Mapping[TensorId, Moments]]

_NORM = 16  # maxima are p-norms with this p: 1.13 times as large for 400000 normal weights
_LEAST = 1e-9  # weights count as at least this part of the largest; with _LARGEST, p-norms
_LARGEST = 1e4  # of factors within this bound neither overflow nor vanish
_TINY = 1e-30
_PER_OCTAVE = 16  # factors are powers of 2^(1/16), so that last digits of exp do not show in them


@dataclass(frozen=True)
class Precision:
    """Quantization steps: of weights on each side of 0, of values (activations) in all.

    `per_channel`: each output channel's weights have steps of their own.
    """

    per_channel: bool = False
    weight_levels: int = 127
    value_levels: int = 255


def least_noise_factors(
    graph: Graph,
    pairs: Sequence[LinearPair],
    moments: Mapping[TensorId, Moments],
    precision: Precision,
    *,
    largest: float,
    iterations: int = 100,
) -> tuple[list[F64], float, float]:
    """The factors of each pair's channels, and the noise in dB without and with them.

    `largest` bounds the factors and their inverses.
    """
    from scipy.optimize import minimize

    problem = NoiseProblem.of(graph, pairs, moments, precision)
    start = np.zeros(problem.starts[-1])
    before, _ = problem(start)
    if not math.isfinite(before):
        return problem.split(np.exp(start)), 0.0, 0.0
    bound = math.log(min(largest, _LARGEST))
    found = minimize(
        problem,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-bound, bound)] * start.size,
        options={"maxiter": iterations, "ftol": 1e-6},
    )
    grid = math.log(2.0) / _PER_OCTAVE
    logs = np.rint(found.x / grid) * grid
    after, _ = problem(logs)
    decibels = 10.0 / math.log(10.0)
    return problem.split(np.exp(logs)), decibels * before, decibels * after


@dataclass(frozen=True, eq=False)
class NoiseProblem:
    """log(sum of the layers' noises) and its gradient, as a function of all factors' logarithms."""

    layers: tuple[_Layer, ...]
    starts: F64  # where the channels of each pair begin
    precision: Precision

    @staticmethod
    def of(
        graph: Graph,
        pairs: Sequence[LinearPair],
        moments: Mapping[TensorId, Moments],
        precision: Precision,
    ) -> NoiseProblem:
        after = {pair.first: i for i, pair in enumerate(pairs)}
        before = {pair.second: i for i, pair in enumerate(pairs)}
        layers = [
            _Layer.of(graph, op, moments, pairs, before.get(op.id), after.get(op.id))
            for op in graph.ops()
            if isinstance(op, Weighted) and (op.id in before or op.id in after)
        ]
        sizes = [graph.type(pair.first).shape[-1] for pair in pairs]
        return NoiseProblem(
            tuple(layer for layer in layers if layer is not None),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            precision,
        )

    def split(self, values: F64) -> list[F64]:
        """Split a vector over all channels into one vector for each pair."""
        return np.split(values, self.starts[1:-1])

    def __call__(self, logs: F64) -> tuple[float, F64]:
        parts = self.split(logs)
        gradients = [np.zeros_like(part) for part in parts]
        total = 0.0
        for layer in self.layers:
            u = layer.inputs_of(parts)
            v = layer.outputs_of(parts)
            noise, by_u, by_v = layer.noise(u, v, self.precision)
            total += noise
            if layer.before is not None:
                gradients[layer.before] += by_u.reshape(layer.repeats, -1).sum(axis=0)
            if layer.after is not None:
                gradients[layer.after] += by_v.reshape(-1)
        if total == 0.0:
            return -math.inf, np.zeros_like(logs)
        return math.log(total), np.concatenate(gradients) / total


@dataclass(frozen=True, eq=False)
class _Layer:
    """One linear layer: groups G, outputs O and inputs I of each group.

    `weight` [G, O, I] are the largest |W| over the kernel, over `peak`, to the power of the norm;
    `gain` [G, I] is what an error of an input makes of noise; `reach` [G, I] logarithms; `variance`
    [G, I] times the taps; `importance` [G, O] is g over the power of the signal. `before` and
    `after` are the numbers of the pairs on its sides.
    """

    weight: F64
    peak: float
    gain: F64
    reach: F64
    variance: F64
    importance: F64
    before: int | None
    after: int | None
    repeats: int

    @staticmethod
    def of(
        graph: Graph,
        op: Weighted,
        moments: Mapping[TensorId, Moments],
        pairs: Sequence[LinearPair],
        before: int | None,
        after: int | None,
    ) -> _Layer | None:
        """None for a layer whose result never changes."""
        taps = _taps(graph, op)
        groups, inputs = op.groups, taps.shape[-1]
        x, y = moments[op.x], moments[op.output]
        g = np.ones(len(taps)) if after is None else _importance(graph, pairs[after])
        signal = float(np.sum(g * y.std**2))
        if signal == 0.0:
            return None
        largest = np.abs(taps).max(axis=1)
        peak = float(largest.max()) or 1.0
        power = np.sum(taps**2, axis=1) * (g / signal)[:, None]
        return _Layer(
            weight=np.maximum(largest / peak, _LEAST).reshape(groups, -1, inputs) ** _NORM,
            peak=peak,
            gain=power.reshape(groups, -1, inputs).sum(axis=1),
            reach=np.log(x.reach + _TINY).reshape(groups, inputs),
            variance=(x.std**2 * taps.shape[1]).reshape(groups, inputs),
            importance=(g / signal).reshape(groups, -1),
            before=before,
            after=after,
            repeats=1 if before is None else pairs[before].repeats,
        )

    def inputs_of(self, parts: Sequence[F64]) -> F64:
        if self.before is None:
            return np.zeros_like(self.reach)
        return np.tile(parts[self.before], self.repeats).reshape(self.reach.shape)

    def outputs_of(self, parts: Sequence[F64]) -> F64:
        if self.after is None:
            return np.zeros_like(self.importance)
        return parts[self.after].reshape(self.importance.shape)

    def noise(self, u: F64, v: F64, precision: Precision) -> tuple[float, F64, F64]:
        """The noise, and its derivatives by u and by v."""
        of_values, by_u = self._noise_of_values(u, precision)
        of_weights, more_by_u, by_v = self._noise_of_weights(u, v, precision)
        return of_values + of_weights, by_u + more_by_u, by_v

    def _noise_of_values(self, u: F64, precision: Precision) -> tuple[float, F64]:
        logs = self.reach - u
        largest = float(logs.max())
        powers = np.exp(_NORM * (logs - largest))
        total = float(powers.sum())
        step = math.exp(2.0 * (largest + math.log(total) / _NORM)) / (
            12.0 * precision.value_levels**2
        )
        gains = self.gain * np.exp(2.0 * u)
        noise = step * float(gains.sum())
        return noise, 2.0 * (step * gains - noise * powers / total)

    def _noise_of_weights(self, u: F64, v: F64, precision: Precision) -> tuple[float, F64, F64]:
        """Sum (|W| e^u e^-v)^p over o and i by matrix-vector products only."""
        high, low = u.max(), v if precision.per_channel else v.min()
        by_inputs = np.exp(_NORM * (u - high))
        by_outputs = np.exp(_NORM * (low - v))
        rows = by_outputs * np.einsum("goi,gi->go", self.weight, by_inputs)
        total = rows if precision.per_channel else rows.sum()
        size = self.peak * np.exp(high - low) / precision.weight_levels
        step = size**2 * total ** (2.0 / _NORM) / 12.0
        outputs = self.importance * np.exp(2.0 * v) * step
        inputs = self.variance * np.exp(-2.0 * u)
        noise = outputs * inputs.sum(axis=1, keepdims=True)
        share = (noise if precision.per_channel else noise.sum()) / total * by_outputs
        moved = by_inputs * np.einsum("goi,go->gi", self.weight, share)
        by_u = moved - outputs.sum(axis=1, keepdims=True) * inputs
        by_v = noise - (noise if precision.per_channel else noise.sum() * rows / total)
        return float(noise.sum()), 2.0 * by_u, 2.0 * by_v


def _taps(graph: Graph, op: Weighted) -> F64:
    """The weight as [O, taps, I]."""
    weight = graph.data(op.weight).astype(np.float64)
    return weight.reshape(weight.shape[0], -1, weight.shape[-1])


def _importance(graph: Graph, pair: LinearPair) -> F64:
    """The power of the second op's weights for each channel of the first, [C]."""
    second = graph.op(pair.second)
    assert isinstance(second, Weighted)
    taps = _taps(graph, second)
    power = np.sum(taps**2, axis=1).reshape(second.groups, -1, taps.shape[-1]).sum(axis=1)
    importance: F64 = power.reshape(pair.repeats, -1).sum(axis=0)
    return importance
