"""Analytic clipping: the range that would lose least if the values were Laplace or normal.

Banner, Nahshan, Hoffer and Soudry, "ACIQ: analytical clipping for integer quantization of neural
networks" (2018), and section 3 of Banner, Nahshan and Soudry (NeurIPS 2019). Values around their
mean are cut at +-alpha and rounded to L steps between. In units of the deviation b (Laplace) or
sigma (normal), the mean squared error

    2 * integral over x > alpha of (x - alpha)^2 p(x) dx  +  alpha^2 / (3 L^2)

has its minimum where

    Laplace:  exp(-alpha) = alpha / (3 L^2),  that is  alpha = W(3 L^2), Lambert's function;
    normal:   phi(alpha) - alpha * Q(alpha) = alpha / (6 L^2), Q the upper tail probability.

With 2^M steps these are the tables of the paper: 5.03 b and 2.55 sigma for 4 bits, 9.89 b and 3.92
sigma for 8. After a ReLU only one half of the distribution is rounded, to as many steps, which is
the same with 2 L.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from qcomp.quant.distribution import Distribution, Range
from qcomp.quant.histogram import Bins
from qcomp.quant.integer_grid import IntegerGrid


def laplace_clip(steps: float) -> float:
    """alpha / b for so many steps between -alpha and alpha."""
    return float(special.lambertw(3.0 * steps**2).real)


@cache
def normal_clip(steps: float) -> float:
    """alpha / sigma for so many steps between -alpha and alpha."""
    from scipy.optimize import brentq

    def slope(alpha: float) -> float:
        density = math.exp(-0.5 * alpha**2) / math.sqrt(2 * math.pi)
        return density - alpha * float(special.ndtr(-alpha)) - alpha / (6.0 * steps**2)

    return float(brentq(slope, 0.0, 30.0, xtol=1e-9))


def analytic_clipping(distribution: Distribution, grid: IntegerGrid) -> Range:
    """The optimal clipping of the Laplace or normal distribution that fits better.

    Values of one sign are taken for what a ReLU left of a distribution around 0: the zeros are the
    other half, and the others have the deviations b = E[x], sigma^2 = E[x^2]. Else the
    distribution lies around its mean; on a symmetric grid, around 0.
    """
    low, high = distribution.extremes
    bins = distribution.bins
    one_sided = low >= 0.0 or high <= 0.0
    fit = _fit(bins, one_sided, around_zero=one_sided or grid.symmetric)
    half = grid.reach if grid.symmetric else grid.steps / (1 if one_sided else 2)
    clip = laplace_clip if fit.laplace else normal_clip
    alpha = fit.deviation * clip(2.0 * half)
    return max(low, fit.center - alpha), min(high, fit.center + alpha)


class Fit(NamedTuple):
    """A Laplace distribution with deviation b, or a normal one with deviation sigma."""

    laplace: bool
    center: float
    deviation: float


def _fit(bins: Bins, one_sided: bool, *, around_zero: bool) -> Fit:
    """Fit both by maximum likelihood; keep the one of smaller Kolmogorov-Smirnov distance.

    Both are symmetric, so the distances from the center are compared.
    """
    middle, count = (bins.left + bins.right) / 2, bins.count.astype(np.float64)
    if one_sided:
        count = np.where(middle == 0.0, 0.0, count)
    if not count.any():
        return Fit(True, 0.0, 0.0)
    share = count / count.sum()
    center = 0.0 if around_zero else float(share @ middle)
    distance = np.abs(middle - center)
    b, sigma = float(share @ distance), math.sqrt(float(share @ distance**2))
    if b == 0.0 or sigma == 0.0:
        return Fit(True, center, 0.0)
    order = np.argsort(distance, kind="stable")
    distance, below = distance[order], np.cumsum(share[order])
    from_laplace = np.abs(below + np.expm1(-distance / b)).max()
    from_normal = np.abs(below - special.erf(distance / (sigma * math.sqrt(2)))).max()
    if from_laplace <= from_normal:
        return Fit(True, center, b)
    return Fit(False, center, sigma)
