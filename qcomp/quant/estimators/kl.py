"""The range whose rounding keeps most information: least Kullback-Leibler divergence.

Migacz, "8-bit inference with TensorRT" (GTC 2017). The values are counted in equal bins. For each
range of the first i bins, P is the histogram with what lies outside added to the outermost bins,
and Q the same bins, without what lies outside, rounded to the levels: each level's count is shared
out among its bins that are not empty. The range with the least sum(P log(P / Q)) wins; of equals,
the widest.

On a symmetric grid that is done with |x| and the levels 0..127, as in TensorRT. On an affine grid
the bins lie on both sides of 0, ranges are cut to [-t, t] within the extremes, and all 256 levels
are spread over what is left: a ReLU has them all on one side. Exact zeros, which every grid
represents, are left out; TensorRT's calibrator and NVIDIA's pytorch-quantization also ignore their
bin. So are values saturated at an end (the 6 of a ReLU6) where the range goes up to it. There are
16 bins for a level. A grid with more levels than the histogram can tell apart (16 bits) has nothing
to gain from clipping, and gets the extremes.

With c, m and h the sums of the counts, of the bins that are not empty and of count * log(count) in
front of each bin, the divergence of a range needs only their differences between levels:

    sum(P log P) - sum over levels of P_level * log(count_level / bins_level), normalised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.histogram import F64, Bins
from qcomp.quant.integer_grid import IntegerGrid

I64 = NDArray[np.int64]

BINS_PER_LEVEL = 16
_MOST_LEVELS = 1024
_CANDIDATES = 512


def divergence(
    counts: F64, first: I64, last: I64, levels: int, ends: tuple[float, float] = (0.0, 0.0)
) -> F64:
    """KL divergence of each range of bins first[i]..last[i] - 1; as many as levels, 2 at least.

    `ends` counts the values that are exactly the ends of all bins: a range up to there represents
    them as they are, and to others they lie outside.
    """
    sums = _before(counts)
    filled = _before((counts > 0).astype(np.float64))
    entropy = _before(special.xlogy(counts, counts))
    width = last - first
    edges = first[:, None] + np.arange(levels + 1) * width[:, None] // levels
    inside = np.diff(sums[edges], axis=1)
    bins = np.diff(filled[edges], axis=1)
    total = sums[-1] + sum(ends)
    exact = np.where(first == 0, ends[0], 0.0), np.where(last == counts.size, ends[1], 0.0)
    kept = inside.sum(axis=1) + exact[0] + exact[1]
    left = sums[first] + ends[0] - exact[0]
    right = sums[-1] - sums[last] + ends[1] - exact[1]
    # The outermost bins of P have also what lies outside.
    p_log_p = entropy[last] - entropy[first]
    p = inside.copy()
    impossible = np.zeros(first.size, bool)
    for outside, bin, level in ((left, first, 0), (right, last - 1, -1)):
        own = counts[bin]
        p_log_p += special.xlogy(own + outside, own + outside) - special.xlogy(own, own)
        p[:, level] += outside
        impossible |= (outside > 0) & (own == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.where(inside > 0, np.log(inside / bins), 0.0)
        result = (p_log_p - (p * log_q).sum(axis=1)) / total + np.log(kept / total)
    return np.asarray(np.where(impossible | ~(kept > 0), np.inf, result))


def information(distribution: Distribution, grid: IntegerGrid) -> Range:
    """See the module."""
    low, high = distribution.extremes
    levels = grid.reach + 1 if grid.symmetric else grid.steps + 1
    peak = max(-low, high)
    if levels > _MOST_LEVELS or peak == 0.0:
        return low, high
    bins, ends = _without_exact(distribution.bins)
    side = BINS_PER_LEVEL * levels
    if grid.symmetric:
        counts = _equal_bins(bins, peak, side) + _equal_bins(bins, -peak, side)
        below, above = 0, side
        ends = 0.0, (ends[0] if -low == peak else 0.0) + (ends[1] if high == peak else 0.0)
    else:
        below = int(np.ceil(side * max(-low, 0.0) / peak))
        above = int(np.ceil(side * max(high, 0.0) / peak))
        counts = np.concatenate(
            [
                _equal_bins(bins, -peak * below / side, below)[::-1],
                _equal_bins(bins, peak * above / side, above),
            ]
        )
    reach = np.unique(np.linspace(side, 1, min(_CANDIDATES, side)).astype(np.int64))[::-1]
    first, last = np.maximum(below - reach, 0), np.minimum(below + reach, below + above)
    enough = last - first >= levels
    best = int(np.argmin(divergence(counts, first[enough], last[enough], levels, ends)))
    bound = peak * float(reach[enough][best]) / side
    return max(low, -bound), min(high, bound)


def _before(values: F64) -> F64:
    return np.concatenate([[0.0], np.cumsum(values)])


def _without_exact(bins: Bins) -> tuple[Bins, tuple[float, float]]:
    """The bins without zeros and saturated values; and how many are saturated at each end."""
    point = bins.left == bins.right
    low, high = point & (bins.left == bins.left[0]), point & (bins.left == bins.left[-1])
    low, high = low & (bins.left < 0), high & (bins.left > 0)
    rest = ~(low | high | (point & (bins.left == 0.0)))
    ends = float(bins.count[low].sum()), float(bins.count[high].sum())
    return Bins(bins.left[rest], bins.right[rest], bins.count[rest]), ends


def _equal_bins(bins: Bins, reach: float, count: int) -> F64:
    """Counts in `count` equal bins from 0 to `reach`, which may be negative, outwards.

    The values of a wide bin are spread evenly over it, so counts are fractions; what rounding
    leaves of less than a thousandth of a value is nothing.
    """
    if count == 0:
        return np.zeros(0)
    inner, outer, own = bins.left / reach, bins.right / reach, bins.count.astype(np.float64)
    if reach < 0:
        inner, outer, own = outer[::-1], inner[::-1], own[::-1]
    here = (inner >= 0) & (outer > 0)
    inner, outer, own = inner[here], outer[here], own[here]
    wide = outer > inner
    knots = np.stack([inner[wide], outer[wide]], axis=1).ravel()
    sums = np.repeat(_before(own[wide]), 2)[1:-1]
    counts = np.zeros(count)
    if knots.size:
        counts += np.diff(np.interp(np.arange(count + 1) / count, knots, sums))
    at = np.minimum((inner[~wide] * count).astype(np.int64), count - 1)
    counts += np.bincount(at, weights=own[~wide], minlength=count)
    return np.where(counts > 1e-3, counts, 0.0)
