"""The range that loses least: expected squared error of affine quantization.

With step s = (high - low) / (qmax - qmin) and zero on the grid, the represented numbers are the
multiples of s between s * (qmin - zero_point) and s * (qmax - zero_point). A value t inside errs by
t - s * rint(t / s); a value outside by its distance to the nearer end. Choosing the range by the
least mean of the squares follows Sung, Shin and Hwang, "Resiliency of deep neural networks under
quantization" (2015), and Banner, Nahshan and Soudry, "Post training 4-bit quantization" (NeurIPS
2019). Here the mean is not approximated by s^2 / 12: it is integrated exactly over histogram bins,
in which values are taken to be uniform. For the part of a bin inside, with n = rint(t / s),

    integral from 0 to t of (u - s * rint(u / s))^2 du  =  n * s^3 / 12 + (t - n * s)^3 / 3,

and outside, where c is the nearer end, integral of (u - c)^2 du = (t - c)^3 / 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.histogram import F64, Bins
from qcomp.quant.integer_grid import IntegerGrid

_STEPS_PER_OCTAVE = 4
_OCTAVES = 24
_ROUNDS = 3
_REFINEMENTS = 3
_MERGE = 8


def squared_error(bins: Bins, low: F64, high: F64, grid: IntegerGrid) -> F64:
    """Mean squared error of each candidate range [low[i], high[i]], which contains 0."""
    step, zero_point = grid.step_and_zero(low[:, None], high[:, None])
    ends = step * (grid.qmin - zero_point), step * (grid.qmax - zero_point)
    knots, weights, points, counts = bins.as_knots
    error = _integral(knots, step, *ends) @ weights + _pointwise(points, step, *ends) @ counts
    return np.asarray(error / bins.total)


def _integral(t: F64, step: F64, low: F64, high: F64) -> F64:
    """Integral of the squared error from 0 to t: rounding inside [low, high], distance outside."""
    inside = np.clip(t, low, high)
    n = np.rint(inside / step)
    return n * (_cube(step) / 12) + (_cube(inside - n * step) + _cube(t - inside)) / 3


def _cube(x: F64) -> F64:
    """`x**3` costs ten times as much: numpy calls pow for each element."""
    return x * x * x


def _pointwise(t: F64, step: F64, low: F64, high: F64) -> F64:
    error: F64 = (t - step * np.rint(np.clip(t, low, high) / step)) ** 2
    return error


def least_squares(distribution: Distribution, grid: IntegerGrid) -> Range:
    """The range with the least squared error; an end that is 0 stays 0.

    On merged bins a coarse scan shrinks both ends together over 24 octaves, so that far outliers
    are found, and then each end by itself. On all bins the ends then move in ever smaller steps.
    On a symmetric grid only the larger end matters, and the other one follows it.
    """
    bins = distribution.bins
    merged = _merged(bins)
    limit = Ends(min(float(bins.left[0]), 0.0), max(float(bins.right[-1]), 0.0))
    coarse = 2.0 ** -(np.arange(_OCTAVES * _STEPS_PER_OCTAVE) / _STEPS_PER_OCTAVE)
    move = _both_moved if grid.symmetric else _moved

    def rough(lows: F64, highs: F64) -> F64:
        return squared_error(merged, lows, highs, grid)

    def exact(lows: F64, highs: F64) -> F64:
        return squared_error(bins, lows, highs, grid)

    best = _both_moved(rough, limit, limit, limit, coarse)
    for _ in range(_ROUNDS):
        before, best = best, move(rough, best, limit, limit, coarse)
        if best == before:
            break
    span = 2.0 ** (1 / _STEPS_PER_OCTAVE) - 1
    for _ in range(_REFINEMENTS):
        best = move(exact, best, best, limit, np.linspace(1 - span, 1 + span, 13))
        span /= 5
    if grid.symmetric:
        bound = max(-best.low, best.high)
        return max(-bound, limit.low), min(bound, limit.high)
    return best.low, best.high


def _merged(bins: Bins) -> Bins:
    """Join runs of neighbouring bins; bins of width 0 (exact values) stay as they are."""
    if bins.count.size <= _MERGE * _MERGE:
        return bins
    wide = np.flatnonzero(bins.right > bins.left)
    first = wide[::_MERGE]
    last = np.append(wide[_MERGE - 1 :: _MERGE], wide[-1])[: first.size]
    exact = np.flatnonzero(bins.right == bins.left)
    counts = np.add.reduceat(bins.count[wide], np.arange(0, wide.size, _MERGE))
    return Bins(
        np.concatenate([bins.left[first], bins.left[exact]]),
        np.concatenate([bins.right[last], bins.right[exact]]),
        np.concatenate([counts, bins.count[exact]]),
    )


class Ends(NamedTuple):
    """A range that contains 0."""

    low: float
    high: float


def _both_moved(
    error: Callable[[F64, F64], F64], best: Ends, origin: Ends, limit: Ends, factors: F64
) -> Ends:
    """Both ends at the best of `factors` times the origin, or where they are, within the limit."""
    lows = np.maximum(np.append(factors * origin.low, best.low), limit.low)
    highs = np.minimum(np.append(factors * origin.high, best.high), limit.high)
    i = int(np.argmin(error(lows, highs)))
    return Ends(float(lows[i]), float(highs[i]))


def _moved(
    error: Callable[[F64, F64], F64], best: Ends, origin: Ends, limit: Ends, factors: F64
) -> Ends:
    """Each end in turn at the best of itself and `factors` times the origin, within the limit."""
    low, high = best
    if limit.high > 0:
        highs = np.minimum(np.append(factors * origin.high, high), limit.high)
        high = float(highs[np.argmin(error(np.full(highs.shape, low), highs))])
    if limit.low < 0:
        lows = np.maximum(np.append(factors * origin.low, low), limit.low)
        low = float(lows[np.argmin(error(lows, np.full(lows.shape, high)))])
    return Ends(low, high)
