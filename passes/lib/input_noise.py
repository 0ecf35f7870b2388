"""The noise that integers put on the results of layers that read one tensor, and the factors of its
channels that make it least.

With x / c and W c, each error uniform within its step and independent, and the power P of each row
of the results (of the sum that they are added to, if they are)

    values     step = (max_j high[j] / c[j] - min_j low[j] / c[j]) / levels
               noise = step^2 / 12 * sum_oj (W[o, j] c[j])^2 * E[1 / P]
    weights    step[o] = max_j |W[o, j]| c[j] / levels
               noise = sum_o step[o]^2 / 12 * sum_j E[x[j]^2 / P] / c[j]^2

since normalisations bring rows to one size, and a few rows may be hundreds of times as large as the
others. What is minimised is the sum over the layers. The factors are c[j] = max|x[j]|^a /
max_o|W[o, j]|^b (Xiao et al., "SmoothQuant", ICML 2023, have b = 1 - a), a and b of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.passes.lib.linear_weights import F64
from qcomp.passes.lib.quantization_noise import Precision

_OF_VALUES = np.linspace(0.0, 1.0, 21)
_OF_WEIGHTS = np.linspace(0.0, 1.0, 5)
_PER_OCTAVE = 16  # factors are powers of 2^(1/16), so that last digits of powers do not show
_LEAST = 2.0**-10  # of the largest reach or weight of a channel: what is below counts as this


@dataclass(frozen=True, eq=False)
class Smoothing:
    """Factors c [C], the exponents that gave them, and by how many dB there is less noise."""

    factors: F64
    of_values: float
    of_weights: float
    gain: float

    def __str__(self) -> str:
        low, high = self.factors.min(), self.factors.max()
        return (
            f"channels over [{low:.4g}, {high:.4g}], exponents {self.of_values:.2f} of values and "
            f"{self.of_weights:.2f} of weights: {self.gain:.2f} dB less noise expected"
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """A layer with weights [O, C]: E[x^2 / P] of the channels it reads [C], and E[1 / P]."""

    weight: F64
    power: F64
    inverse: float


@dataclass(frozen=True, eq=False)
class InputNoise:
    """Of one tensor's channels with these bounds, 0 included [C], and the layers that read it."""

    low: F64
    high: F64
    readings: tuple[Reading, ...]
    precision: Precision

    def __call__(self, c: F64) -> float:
        """The noise of all layers, each relative to its results."""
        levels = self.precision
        step = float((self.high / c).max() - (self.low / c).min()) / levels.value_levels
        total = 0.0
        for reading in self.readings:
            scaled = np.abs(reading.weight) * c
            steps = scaled.max(axis=1) if levels.per_channel else scaled.max()
            of_weights = np.sum(np.broadcast_to(steps, len(scaled)) ** 2 / levels.weight_levels**2)
            total += step**2 * float(np.sum(scaled**2)) * reading.inverse
            total += float(of_weights * np.sum(reading.power / c**2))
        return total / 12.0


def least_noise(noise: InputNoise, tied: NDArray[np.intp] | None) -> Smoothing:
    """The best factors; `tied` numbers the channels, and those of one number have one factor."""
    reach = np.maximum(noise.high, -noise.low)
    weights = np.max([np.abs(r.weight).max(axis=0) for r in noise.readings], axis=0)
    if tied is not None:
        reach, weights = _of_groups(reach, tied), _of_groups(weights, tied)
    ones = np.ones_like(reach)
    before, best = noise(ones), Smoothing(ones, 0.0, 0.0, 0.0)
    if before <= 0.0 or not reach.any() or not weights.any():
        return best
    for a, b, c in _candidates(reach, weights):
        after = noise(c)
        gain = float(10.0 * np.log10(before / after))
        if gain > best.gain:
            best = Smoothing(c, a, b, gain)
    return best


def _candidates(reach: F64, weights: F64) -> Iterator[tuple[float, float, F64]]:
    x, w = (np.log2(np.maximum(a, _LEAST * a.max())) for a in (reach, weights))
    for a in _OF_VALUES:
        for b in _OF_WEIGHTS:
            logs = a * x - b * w
            rounded = np.rint((logs - logs.mean()) * _PER_OCTAVE) / _PER_OCTAVE
            yield float(a), float(b), 2.0**rounded


def _of_groups(values: F64, tied: NDArray[np.intp]) -> F64:
    largest = np.zeros(int(tied.max()) + 1)
    np.maximum.at(largest, tied, values)
    return largest[tied]
