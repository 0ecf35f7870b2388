"""Algebra of beliefs about activations: per-channel moments and bounds, without any data.

Each channel is taken to be normal where it matters, as batch normalisation makes it, and
independent of the others. Sums, products and clamps have exact moments under that assumption; other
functions get theirs by quadrature over equally probable points of the normal distribution. Bounds
follow from interval arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qcomp.ir.ops import ClampRange
from qcomp.quant.moments import F64, Moments

STD_DEVIATIONS = 6.0  # Nagel et al., ICCV 2019, section 4: ranges are beta +- 6 gamma
_INTERVAL_POINTS = 1025


def _nodes(count: int) -> F64:
    z = np.asarray(special.ndtri((np.arange(count) + 0.5) / count), np.float64)
    return np.asarray(z / np.sqrt(np.mean(z**2)))


_NODES = _nodes(101)
_NODES_OF_PAIRS = _nodes(25)


def normal(mean: F64, std: F64) -> Moments:
    """Bounded at STD_DEVIATIONS."""
    reach = STD_DEVIATIONS * std
    return Moments(mean, std, mean - reach, mean + reach)


def uniform(low: float, high: float) -> Moments:
    """Every number of an interval is as likely."""
    one = np.ones(1)
    return Moments(one * (low + high) / 2, one * (high - low) / np.sqrt(12), one * low, one * high)


def of_constant(data: NDArray[np.floating], channels: int) -> Moments:
    """Per channel where the last axis is the channel axis, else over everything."""
    per_channel = data.ndim > 0 and data.shape[-1] == channels
    rows = data.reshape(-1, channels if per_channel else 1).astype(np.float64)
    return Moments(rows.mean(axis=0), rows.std(axis=0), rows.min(axis=0), rows.max(axis=0))


def mixture(beliefs: Sequence[Moments]) -> Moments:
    """Channel by channel, a value that comes from each belief equally often."""
    mean = np.mean([b.mean for b in beliefs], axis=0)
    second = np.mean([b.std**2 + b.mean**2 for b in beliefs], axis=0)
    return Moments(
        mean,
        np.sqrt(np.maximum(second - mean**2, 0.0)),
        np.min([b.low for b in beliefs], axis=0),
        np.max([b.high for b in beliefs], axis=0),
    )


def pooled(belief: Moments) -> Moments:
    """The mixture of all channels, as one channel."""
    columns = zip(belief.mean, belief.std, belief.low, belief.high, strict=True)
    return mixture([Moments(*(np.array([v]) for v in column)) for column in columns])


def selected(belief: Moments, index: NDArray[np.integer]) -> Moments:
    """The channels of `index`, in its order."""
    return Moments(belief.mean[index], belief.std[index], belief.low[index], belief.high[index])


def joined(beliefs: Sequence[Moments]) -> Moments:
    """The channels of all, one after the other."""
    return Moments(
        np.concatenate([b.mean for b in beliefs]),
        np.concatenate([b.std for b in beliefs]),
        np.concatenate([b.low for b in beliefs]),
        np.concatenate([b.high for b in beliefs]),
    )


def scaled(belief: Moments, factor: float) -> Moments:
    """A positive multiple."""
    return Moments(
        belief.mean * factor, belief.std * factor, belief.low * factor, belief.high * factor
    )


def containing(belief: Moments, value: float) -> Moments:
    """The bounds widened to a value that now and then stands in for the others."""
    low, high = np.minimum(belief.low, value), np.maximum(belief.high, value)
    return Moments(belief.mean, belief.std, low, high)


def spread(belief: Moments, channels: int) -> Moments:
    """The belief with exactly `channels` channels; a foreign number of them is pooled first."""
    if belief.mean.size == channels:
        return belief
    one = belief if belief.mean.size == 1 else pooled(belief)
    return selected(one, np.zeros(channels, np.int64))


def clamped(belief: Moments, clamp: ClampRange) -> Moments:
    """min(max(x, low), high); moments of the clipped normal distribution.

    With a = (low - mean) / std and b likewise of high, Phi the normal distribution, the parts
    below, within and above weigh Phi(a), Phi(b) - Phi(a) and 1 - Phi(b).
    """
    if clamp.is_none:
        return belief
    low, high = np.clip(belief.low, *_ends(clamp)), np.clip(belief.high, *_ends(clamp))
    std = np.maximum(belief.std, 1e-30)
    a, b = (low - belief.mean) / std, (high - belief.mean) / std
    below, above = special.ndtr(a), special.ndtr(-b)
    within = np.maximum(1.0 - below - above, 0.0)
    phi_a, phi_b = (np.exp(-0.5 * np.minimum(v**2, 1e3)) / np.sqrt(2 * np.pi) for v in (a, b))
    first = std * (phi_a - phi_b)
    mean = low * below + high * above + belief.mean * within + first
    second = (
        low**2 * below
        + high**2 * above
        + (belief.mean**2 + std**2) * within
        + 2 * belief.mean * first
        + std**2 * (a * phi_a - b * phi_b)
    )
    variance = np.maximum(second - mean**2, 0.0)
    return Moments(np.clip(mean, low, high), np.sqrt(variance), low, high)


def _ends(clamp: ClampRange) -> tuple[float, float]:
    return clamp.low, clamp.high


def mapped(belief: Moments, function: Callable[[F64], F64]) -> Moments:
    """A function of one value; `function` takes [points, C]."""
    points = np.clip(belief.mean + belief.std * _NODES[:, None], belief.low, belief.high)
    values = function(points)
    t = np.linspace(0.0, 1.0, _INTERVAL_POINTS)[:, None]
    inside = belief.low + (belief.high - belief.low) * t
    zero = np.clip(0.0, belief.low, belief.high)[None]  # where piecewise functions bend
    reached = function(np.concatenate([inside, zero, points]))
    return Moments(
        values.mean(axis=0), values.std(axis=0), reached.min(axis=0), reached.max(axis=0)
    )


def added(a: Moments, b: Moments, sign: float = 1.0) -> Moments:
    """a + sign * b. A sum is nearly normal, so its bounds are cut to STD_DEVIATIONS."""
    ends = np.sort(np.stack([sign * b.low, sign * b.high]), axis=0)
    sum = normal(a.mean + sign * b.mean, np.hypot(a.std, b.std))
    low, high = a.low + ends[0], a.high + ends[1]
    return Moments(sum.mean, sum.std, np.maximum(low, sum.low), np.minimum(high, sum.high))


def multiplied(a: Moments, b: Moments) -> Moments:
    """a * b; products have long tails, so interval arithmetic gives the bounds."""
    variance = (a.std * b.std) ** 2 + (a.std * b.mean) ** 2 + (a.mean * b.std) ** 2
    return Moments(a.mean * b.mean, np.sqrt(variance), *_corners(a, b, np.multiply))


def combined(a: Moments, b: Moments, function: Callable[[F64, F64], F64]) -> Moments:
    """Another function of two values; it must be monotone in each where the other is fixed."""
    x = np.clip(a.mean + a.std * _NODES_OF_PAIRS[:, None, None], a.low, a.high)
    y = np.clip(b.mean + b.std * _NODES_OF_PAIRS[None, :, None], b.low, b.high)
    values = function(x, y)
    return Moments(values.mean(axis=(0, 1)), values.std(axis=(0, 1)), *_corners(a, b, function))


def _corners(a: Moments, b: Moments, function: Callable[[F64, F64], F64]) -> tuple[F64, F64]:
    corners = np.stack([function(s, t) for s in (a.low, a.high) for t in (b.low, b.high)])
    return corners.min(axis=0), corners.max(axis=0)
