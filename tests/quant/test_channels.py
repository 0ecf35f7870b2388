"""Ranges by channel against those of each channel alone."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.quant.channels import ChannelDistributions, channel_ranges
from qcomp.quant.distribution import Distribution
from qcomp.quant.estimators import ESTIMATORS
from qcomp.quant.integer_grid import IntegerGrid
from qcomp.quant.scales import minmax_scales, mse_scales, squared_error

RNG = np.random.default_rng(0)
X = (RNG.standard_t(3, size=(8, 5, 5, 4)) * [0.1, 1.0, 10.0, 0.0]).astype(np.float32)
GRID = IntegerGrid()


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_each_channel_has_the_range_that_it_has_alone(kind: str) -> None:
    together, alone = ChannelDistributions(), [Distribution() for _ in range(4)]
    for part in np.array_split(X, 3):
        together.update(part)
        for c, distribution in enumerate(alone):
            distribution.update(part[..., c])
    found = together.ranges(ESTIMATORS[kind], GRID)
    assert found.shape == (4, 2)
    assert found.tolist() == [list(ESTIMATORS[kind](d, GRID)) for d in alone]


@pytest.mark.parametrize("bits", [4, 8])
def test_symmetric_ranges_of_a_weight_agree_with_its_scales(bits: int) -> None:
    weight = RNG.laplace(size=(6, 3, 3, 16)).astype(np.float32)
    rows = weight.reshape(6, -1).astype(np.float64)
    limit = (1 << (bits - 1)) - 1
    grid = IntegerGrid(-limit, limit, symmetric=True)

    def scales(kind: str) -> np.ndarray:
        return np.abs(channel_ranges(weight, 0, ESTIMATORS[kind], grid)).max(axis=1) / limit

    np.testing.assert_allclose(scales("minmax"), minmax_scales(rows, bits), rtol=1e-6)
    # Neither search is exhaustive, and a histogram takes its values to be uniform within a bin.
    ours = squared_error(rows, bits, scales("mse"))
    best = squared_error(rows, bits, mse_scales(rows, bits))
    np.testing.assert_allclose(ours, best, rtol=0.15)


def test_channels_need_values_and_a_constant_number() -> None:
    found = ChannelDistributions()
    with pytest.raises(ValueError, match="no values"):
        found.ranges(ESTIMATORS["minmax"], GRID)
    found.update(X)
    with pytest.raises(ValueError, match="3 channels after 4"):
        found.update(X[..., :3])
