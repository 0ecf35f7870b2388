"""The noise that integers put on the results of linear layers, and the factors that make it least.

The values of a class of channels may be divided by a factor (channel_classes.py); let f be the
factors' logarithms. For one layer y = W x let u be those of its inputs and v of its outputs.
Integers of `levels` steps then make, each error uniform within its step and independent,

    values    step = max_i reach[i] e^-f[i] / levels
              noise = step^2 / 12 * sum_i gain[i] e^2f[i]
    weights   step = max_oi |W[o, i]| e^(u[i] - v[o]) / levels, or max_i with a scale per channel
              noise = sum_o step^2 / 12 * g[o] e^2v[o] sum_i Var[x[i]] e^-2u[i] * taps

relative to sum_o g[o] Var[y[o]]. g[o] is the power of the weights that read y[o] next, and gain[i]
of a value's channel the sum of g[o] W[o, i]^2 over what reads it. Of x the variance counts and not
the mean: the mean error of rounded weights is for bias correction. What is minimised is the sum
over layers and values.

Each term is a product of exponentials, maxima and sums of them with positive coefficients: a convex
function of f (a geometric program: Boyd, Kim, Vandenberghe, Hassibi, "A tutorial on geometric
programming", 2007). Between two layers each of the three sides alone would choose the factors as
the ranges of its first weights, of its values, or as the inverse ranges of its second weights;
Nagel et al. 2019 balance the first and the last, and leave the values to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.channel_classes import ChannelClasses, Indices
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


@dataclass(frozen=True, eq=False)
class LeastNoise:
    """Factors of the classes, and the noise in dB without and with them."""

    factors: F64
    before: float
    after: float


def least_noise_factors(
    problem: NoiseProblem, *, largest: float, iterations: int = 100
) -> LeastNoise:
    """`largest` bounds the factors and their inverses; that of class 0 is 1."""
    from scipy.optimize import minimize

    start = np.zeros(problem.classes)
    before, _ = problem(start)
    if not math.isfinite(before):
        return LeastNoise(np.exp(start), 0.0, 0.0)
    bound = math.log(min(largest, _LARGEST))
    bounds = [(0.0, 0.0), *[(-bound, bound)] * (problem.classes - 1)]
    found = minimize(
        problem,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": iterations, "ftol": 1e-6},
    )
    grid = math.log(2.0) / _PER_OCTAVE
    logs = np.rint(found.x / grid) * grid
    after, _ = problem(logs)
    decibels = 10.0 / math.log(10.0)
    return LeastNoise(np.exp(logs), decibels * before, decibels * after)


@dataclass(frozen=True, eq=False)
class NoiseProblem:
    """log(sum of the noises) and its gradient, as a function of the classes' logarithms.

    Terms that no factor moves are left out.
    """

    layers: tuple[Layer, ...]
    values: tuple[Value, ...]
    classes: int
    precision: Precision

    @staticmethod
    def of(
        graph: Graph,
        classes: ChannelClasses,
        moments: Mapping[TensorId, Moments],
        precision: Precision,
    ) -> NoiseProblem:
        ops = [
            op
            for op in graph.ops()
            if isinstance(op, Weighted) and (classes.of[op.x].any() or classes.of[op.output].any())
        ]
        taps = {op.id: _taps(graph, op) for op in ops}
        power = np.zeros(classes.count)  # of the weights that read a class
        for op in ops:
            power += _by_class(np.sum(taps[op.id] ** 2, axis=1), classes.of[op.x], op.groups, power)
        layers, gain = [], np.zeros(classes.count)
        for op in ops:
            g = _importance(power, classes.of[op.output])
            signal = float(np.sum(g * moments[op.output].std ** 2))
            if signal == 0.0:  # its result never changes
                continue
            read = np.sum(taps[op.id] ** 2, axis=1) * (g / signal)[:, None]
            gain += _by_class(read, classes.of[op.x], op.groups, gain)
            layers.append(Layer.of(op, taps[op.id], moments[op.x], classes, g / signal))
        values = [
            Value(of, gain[of] * (of > 0), np.log(moments[id].reach + _TINY))
            for id in _rounded(graph)
            if (of := classes.of[id]).any()
        ]
        return NoiseProblem(tuple(layers), tuple(values), classes.count, precision)

    def noise_by_class(self, logs: F64) -> F64:
        """The noise that the values of each class cause, [classes]."""
        found = np.zeros(self.classes)
        for value in self.values:
            f = logs[value.of]
            noise, _ = value.noise(f, self.precision)
            gains = value.gain * np.exp(2.0 * f)
            _add(found, value.of, noise * gains / max(float(gains.sum()), _TINY))
        return found

    def __call__(self, logs: F64) -> tuple[float, F64]:
        gradient = np.zeros_like(logs)
        total = 0.0
        for value in self.values:
            noise, by_f = value.noise(logs[value.of], self.precision)
            total += noise
            _add(gradient, value.of, by_f)
        for layer in self.layers:
            noise, by_u, by_v = layer.noise(logs[layer.inputs], logs[layer.outputs], self.precision)
            total += noise
            _add(gradient, layer.inputs, by_u)
            _add(gradient, layer.outputs, by_v)
        if total == 0.0:
            return -math.inf, gradient
        gradient[0] = 0.0
        return math.log(total), gradient / total


@dataclass(frozen=True, eq=False)
class Value:
    """An activation with one scale: per channel [C] class, gain, and the logarithm of its reach."""

    of: Indices
    gain: F64
    reach: F64

    def noise(self, f: F64, precision: Precision) -> tuple[float, F64]:
        """The noise, and its derivatives by f."""
        logs = self.reach - f
        largest = float(logs.max())
        powers = np.exp(_NORM * (logs - largest))
        total = float(powers.sum())
        step = math.exp(2.0 * (largest + math.log(total) / _NORM)) / (
            12.0 * precision.value_levels**2
        )
        gains = self.gain * np.exp(2.0 * f)
        noise = step * float(gains.sum())
        return noise, 2.0 * (step * gains - noise * powers / total)


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: groups G, outputs O and inputs I of each group.

    `weight` [G, O, I] are the largest |W| over the kernel, over `peak`, to the power of the norm;
    `variance` [G, I] is that of the inputs times the taps; `importance` [G, O] is g over the power
    of the signal; `inputs` [G, I] and `outputs` [G, O] are classes.
    """

    weight: F64
    peak: float
    variance: F64
    importance: F64
    inputs: Indices
    outputs: Indices

    @staticmethod
    def of(op: Weighted, taps: F64, x: Moments, classes: ChannelClasses, importance: F64) -> Layer:
        groups, inputs = op.groups, taps.shape[-1]
        largest = np.abs(taps).max(axis=1)
        peak = float(largest.max()) or 1.0
        return Layer(
            weight=np.maximum(largest / peak, _LEAST).reshape(groups, -1, inputs) ** _NORM,
            peak=peak,
            variance=(x.std**2 * taps.shape[1]).reshape(groups, inputs),
            importance=importance.reshape(groups, -1),
            inputs=classes.of[op.x].reshape(groups, inputs),
            outputs=classes.of[op.output].reshape(groups, -1),
        )

    def noise(self, u: F64, v: F64, precision: Precision) -> tuple[float, F64, F64]:
        """The noise, and its derivatives by u and by v.

        Sum (|W| e^u e^-v)^p over o and i by matrix-vector products only.
        """
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


def _rounded(graph: Graph) -> list[TensorId]:
    """Activations that are rounded to a scale of their own; copies share that of their operand."""
    copies = {op.output for op in graph.ops() if op.copies_integers and len(op.inputs) == 1}
    read = {t for op in graph.ops() for t in op.inputs}
    made = [*graph.inputs.values(), *(op.output for op in graph.ops())]
    return [t for t in made if t in read and t not in copies]


def _taps(graph: Graph, op: Weighted) -> F64:
    """The weight as [O, taps, I]."""
    weight = graph.data(op.weight).astype(np.float64)
    return weight.reshape(weight.shape[0], -1, weight.shape[-1])


def _by_class(read: F64, of: Indices, groups: int, like: F64) -> F64:
    """What [O, I] reads of each class, summed over outputs."""
    channels = read.reshape(groups, -1, read.shape[-1]).sum(axis=1).reshape(-1)
    found = np.zeros_like(like)
    _add(found, of, channels)
    return found


def _importance(power: F64, of: Indices) -> F64:
    """The power of the weights that read each channel next; 1 where the factor is 1, [C]."""
    free = of > 0
    if not free.any():
        return np.ones(of.size)
    g = power[of]
    g[~free] = g[free].mean()
    return g


def _add(gradient: F64, of: Indices, derivative: F64) -> None:
    gradient += np.bincount(of.reshape(-1), derivative.reshape(-1), minlength=gradient.size)
