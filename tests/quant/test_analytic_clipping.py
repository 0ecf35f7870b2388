"""ACIQ against the tables of its authors and against the errors that it minimises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators.aciq import analytic_clipping, laplace_clip, normal_clip
from qcomp.quant.integer_grid import IntegerGrid

# For 2 to 8 bits, as printed in the authors' code (submission2019/cnn-quantization on GitHub).
LAPLACE = (2.83068299, 3.89722946, 5.02864014, 6.20476633, 7.41312622, 8.64561995, 9.89675982)
NORMAL = (1.71063519, 2.15159277, 2.55913646, 2.93620062, 3.28691474, 3.6151146, 3.92403714)
# After a ReLU, rounded as there; the normal one for 8 bits to 4.2.
LAPLACE_AFTER_RELU = (3.89, 5.02, 6.2, 7.41, 8.64, 9.89, 11.16)
NORMAL_AFTER_RELU = (2.15, 2.55, 2.93, 3.28, 3.61, 3.92, 4.2)

FOUR_BITS = IntegerGrid.of(4)


def test_the_constants_are_those_published() -> None:
    steps = 2.0 ** np.arange(2, 9)
    np.testing.assert_allclose([laplace_clip(s) for s in steps], LAPLACE, rtol=1e-6)
    np.testing.assert_allclose([normal_clip(s) for s in steps], NORMAL, rtol=1e-6)


def test_after_a_relu_they_are_those_of_one_bit_more() -> None:
    steps = 2.0 ** np.arange(3, 10)
    np.testing.assert_allclose([laplace_clip(s) for s in steps], LAPLACE_AFTER_RELU, atol=0.011)
    np.testing.assert_allclose([normal_clip(s) for s in steps], NORMAL_AFTER_RELU, atol=0.02)


@pytest.mark.parametrize("steps", [15.0, 255.0, 510.0, 65535.0])
def test_the_constants_minimise_the_error_that_they_are_derived_from(steps: float) -> None:
    for clip, density in ((laplace_clip, stats.laplace.pdf), (normal_clip, stats.norm.pdf)):

        def error(alpha: float, density: Callable[[float], float] = density) -> float:
            def outside(x: float) -> float:
                return (x - alpha) ** 2 * density(x)

            cut, _ = integrate.quad(outside, alpha, alpha + 40, epsabs=0, limit=200)
            return float(2 * cut + alpha**2 / (3 * steps**2))

        found = optimize.minimize_scalar(error, bounds=(0.5, 30), options={"xatol": 1e-6})
        assert clip(steps) == pytest.approx(found.x, abs=1e-3)


def seen(x: np.ndarray) -> Distribution:
    found = Distribution()
    found.update(x.astype(np.float32))
    return found


def test_each_distribution_is_recognised_and_clipped_around_its_mean() -> None:
    r = np.random.default_rng(0)
    low, high = analytic_clipping(seen(r.laplace(1.0, 0.5, 400_000)), FOUR_BITS)
    alpha = 0.5 * laplace_clip(15)
    assert (low, high) == pytest.approx((1 - alpha, 1 + alpha), rel=0.01)
    low, high = analytic_clipping(seen(r.normal(0.2, 2.0, 400_000)), FOUR_BITS)
    alpha = 2.0 * normal_clip(15)
    assert (low, high) == pytest.approx((0.2 - alpha, 0.2 + alpha), rel=0.01)


def test_after_a_relu_all_steps_are_on_one_side() -> None:
    r = np.random.default_rng(0)
    low, high = analytic_clipping(seen(np.maximum(r.laplace(0, 0.5, 400_000), 0)), FOUR_BITS)
    assert low == 0.0
    assert high == pytest.approx(0.5 * laplace_clip(30), rel=0.01)
    low, high = analytic_clipping(seen(np.maximum(r.normal(0, 2, 400_000), 0)), FOUR_BITS)
    assert (low, high) == (0.0, pytest.approx(2 * normal_clip(30), rel=0.01))
    low, high = analytic_clipping(seen(np.minimum(r.normal(0, 2, 400_000), 0)), FOUR_BITS)
    assert (low, high) == (pytest.approx(-2 * normal_clip(30), rel=0.01), 0.0)


def test_a_symmetric_grid_wastes_the_other_side_of_a_relu() -> None:
    r = np.random.default_rng(0)
    grid = IntegerGrid.of(4, symmetric=True)
    _, high = analytic_clipping(seen(np.maximum(r.laplace(0, 0.5, 400_000), 0)), grid)
    assert high == pytest.approx(0.5 * laplace_clip(14), rel=0.01)


def test_more_bits_clip_less() -> None:
    x = seen(np.random.default_rng(0).laplace(size=1_000_000))
    highs = [analytic_clipping(x, IntegerGrid.of(bits))[1] for bits in (2, 4, 8)]
    assert highs == sorted(highs)
    assert analytic_clipping(x, IntegerGrid.of(16, symmetric=True)) == x.extremes
