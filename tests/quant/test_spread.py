"""Some values of an array, evenly spread over it."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.quant.distribution import Distribution
from qcomp.quant.spread import spread


def test_few_values_are_all_taken() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    assert spread(x, 24, 5).tolist() == list(range(24))


@pytest.mark.parametrize("shape", [(1, 64, 64, 48), (1, 56, 56, 24), (1, 3, 32768), (7, 9973)])
def test_every_channel_and_column_is_met_alike(shape: tuple[int, ...]) -> None:
    most = 4096
    for axis in range(1, len(shape)):
        own = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        taken = np.concatenate([spread(np.broadcast_to(own, shape), most, t) for t in range(40)])
        assert 0.5 * most <= taken.size / 40 <= most
        assert taken.mean() == pytest.approx(own.mean(), rel=0.02)


def test_later_arrays_are_looked_at_elsewhere() -> None:
    x = np.arange(1 << 16)
    first, second = (set(spread(x, 1 << 12, turn).tolist()) for turn in (0, 1))
    assert not first & second


def test_a_share_of_the_values_has_the_shape_of_all() -> None:
    x = np.random.default_rng(3).normal(size=(16, 1 << 16)).astype(np.float32)
    x[3, 77] = 50.0
    whole, some = Distribution(), Distribution(1 << 13)
    for row in x:
        whole.update(row)
        some.update(row)
    assert some.extremes == whole.extremes
    assert some.bins.right[-1] == np.float32(50.0)
    assert some.bins.total < whole.bins.total / 7
    middles = [(d.bins.left + d.bins.right) / 2 for d in (whole, some)]
    power = [
        float(m**2 @ d.bins.count) / d.bins.total
        for m, d in zip(middles, (whole, some), strict=True)
    ]
    assert power[1] == pytest.approx(power[0], rel=0.03)
