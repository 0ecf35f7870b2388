"""Groups of weights with steps of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcomp.quant.grid import Grid, largest
from qcomp.quant.groups import largest_multiplier
from qcomp.quant.weights import certified, weight_grid

FEW_BITS = st.sampled_from([1, 2, 3, 4])
CHOICES: dict[str, Any] = {"per_channel": True, "least_squares": True}


def weights(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Magnitudes that vary along the input channels, as they do in trained networks."""
    random = np.random.default_rng(seed)
    return random.normal(size=shape) * random.lognormal(0, 0.7, size=shape[-1])


def error(grid: Grid, weight: Any) -> float:
    return float(np.square(grid.values(weight) - weight).sum())


def test_every_product_is_an_8_bit_weight() -> None:
    assert [largest_multiplier(bits) for bits in (8, 4, 3, 2, 1)] == [1, 18, 42, 127, 127]


@pytest.mark.sweep(100)
@given(
    shape=st.sampled_from([(3, 7), (2, 3, 3, 5), (4, 1, 1, 33), (1, 64)]),
    bits=FEW_BITS,
    size=st.integers(1, 40),
    per_channel=st.booleans(),
    least_squares=st.booleans(),
    power_of_two=st.booleans(),
    seed=st.integers(0, 99),
)
def test_neighbours_share_a_multiplier_and_products_fit_8_bits(
    shape: tuple[int, ...],
    bits: int,
    size: int,
    per_channel: bool,
    least_squares: bool,
    power_of_two: bool,
    seed: int,
) -> None:
    weight = weights(shape, seed)
    grid = weight_grid(
        weight,
        bits,
        per_channel=per_channel,
        least_squares=least_squares,
        group_size=size,
        power_of_two=power_of_two,
    )
    assert np.abs(grid.integers(weight)).max() <= 127
    assert grid.scale.shape == (shape[0] if per_channel else 1,)
    assert not power_of_two or (np.frexp(grid.scale)[0] == 0.5).all()
    rows = weight.reshape(shape[0], -1)
    if grid.multiplier is None:
        assert size >= rows.shape[1]
        assert per_channel
        return
    assert grid.multiplier.min() >= 1
    multipliers = grid.multiplier.reshape(rows.shape)
    for start in range(0, rows.shape[1], size):
        group = multipliers[:, start : start + size]
        assert (group == group[:, :1]).all()
    if not least_squares and bits > 1:
        assert (np.abs(weight) <= grid.steps(weight.ndim) * largest(bits) * (1 + 1e-9)).all()


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_smaller_groups_round_better(bits: int, per_channel: bool) -> None:
    weight = weights((16, 3, 3, 64))
    choices = {**CHOICES, "per_channel": per_channel}
    plain, wide, narrow = (
        error(weight_grid(weight, bits, group_size=g, **choices), weight) for g in (0, 64, 16)
    )
    assert narrow < wide < plain


def test_integer_multipliers_cost_little_beside_real_scales() -> None:
    weight = weights((8, 256))
    real = weight_grid(weight.reshape(-1, 32), 4, **CHOICES)
    grid = weight_grid(weight, 4, group_size=32, **CHOICES)
    assert error(grid, weight) < 1.05 * error(real, weight.reshape(-1, 32))


def test_eight_bits_leave_no_room_for_multipliers() -> None:
    assert weight_grid(weights((4, 64)), 8, group_size=16, **CHOICES).multiplier is None


def test_a_dead_channel_and_a_dead_group_are_rounded_to_zero() -> None:
    weight = weights((3, 8))
    weight[1], weight[2, :4] = 0.0, 0.0
    grid = certified(weight_grid(weight, 4, group_size=4, **CHOICES), weight, np.ones(3), 0.1, 0.2)
    integers = grid.integers(weight)
    assert (grid.scale > 0).all()
    assert not integers[1].any()
    assert not integers[2, :4].any()
    assert integers[2, 4:].any()


@settings(deadline=None, max_examples=30)
@given(FEW_BITS, st.sampled_from([9, 4608, 70_000]), st.floats(-1e4, 1e4))
def test_groups_are_certified_too(bits: int, taps: int, bias: float) -> None:
    weight = weights((2, taps))
    grid = weight_grid(weight, bits, per_channel=True, least_squares=False, group_size=32)
    grid = certified(grid, weight, np.full(2, bias), 1e-3, 1e-2)
    sums = np.abs(grid.integers(weight)).sum(axis=1)
    bound = np.rint(abs(bias) / (1e-3 * grid.scale)) + 255 * sums
    assert bound.max() + 2**29 < 2**31
