"""Scales of weights: peaks, the int32 certificate, and the snap to exact multipliers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.quant.fixed_point import multiplier_narrow, nearest_narrow
from qcomp.quant.grid import Grid, largest
from qcomp.quant.weights import BIAS_BITS, certified, snapped_scales, unit_gain, weight_grid

BITS = st.sampled_from([1, 2, 3, 4, 8])
SCALES = st.floats(2.0**-20, 2.0**10)


def peak_grid(weight: NDArray[np.float32], bits: int = 8, *, per_channel: bool = True) -> Grid:
    return weight_grid(weight, bits, per_channel=per_channel, least_squares=False)


def test_a_scale_is_the_channel_s_peak_over_127() -> None:
    weight = np.array([[[1.0, -2.54]], [[0.5, 0.0]], [[0.0, 0.0]]], np.float32)
    np.testing.assert_allclose(peak_grid(weight).scale, [0.02, 0.5 / 127, 0.0], rtol=1e-6)
    np.testing.assert_allclose(peak_grid(weight, per_channel=False).scale, [0.02], rtol=1e-6)


def test_dead_weights_have_scale_zero_until_they_are_certified() -> None:
    dead = np.zeros((2, 3), np.float32)
    assert peak_grid(dead, per_channel=False).scale.tolist() == [0.0]
    found = certified(Grid(np.zeros(2), 8), dead, np.array([0.0, 5.0]), 0.25, 0.5)
    assert found.scale.tolist() == [2.0**-7, 2.0**-7]  # 2^-8 of a result step


def test_ordinary_scales_are_not_raised() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    found = peak_grid(weight)
    raised = certified(found, weight, np.ones(16), 0.02, 0.05)
    assert raised.scale.tolist() == found.scale.tolist()


def accumulator_bound(grid: Grid, weight: NDArray[np.float32], bias: float, x_scale: float) -> int:
    """|bias| + 255 * sum|w| in exact integers, the worst channel; the bias without saturation."""
    w = grid.integers(weight)
    sums = np.abs(w).reshape(len(w), -1).sum(axis=1)
    scales = np.broadcast_to(grid.scale, len(w)).tolist()
    biases = [round(abs(bias) / (x_scale * s)) for s in scales]
    return max(b + 255 * int(s) for b, s in zip(biases, sums.tolist(), strict=True))


@pytest.mark.sweep(100)
@given(
    seed=st.integers(0, 2**32 - 1),
    taps=st.sampled_from([1, 9, 512, 70_000]),
    magnitude=st.floats(-20, 3),
    bias=st.floats(-1e6, 1e6),
    x_scale=SCALES,
    y_scale=SCALES,
    bits=BITS,
    per_channel=st.booleans(),
    power_of_two=st.booleans(),
)
def test_certified_accumulators_fit_int32_with_room_for_rounding(
    seed: int,
    taps: int,
    magnitude: float,
    bias: float,
    x_scale: float,
    y_scale: float,
    bits: int,
    per_channel: bool,
    power_of_two: bool,
) -> None:
    random = np.random.default_rng(seed)
    spread = 10.0 ** (magnitude * random.random((3, 1)))
    weight = (random.normal(size=(3, taps)) * spread).astype(np.float32)
    weight[2] *= random.random() < 0.5
    found = weight_grid(
        weight,
        bits,
        per_channel=per_channel,
        least_squares=taps < 1000,
        power_of_two=power_of_two,
    )
    grid = certified(found, weight, np.full(3, bias), x_scale, y_scale, power_of_two=power_of_two)
    assert (grid.scale >= found.scale).all()
    assert (grid.scale > 0).all()
    assert not power_of_two or (np.frexp(grid.scale)[0] == 0.5).all()
    snapped = replace(grid, scale=snapped_scales(grid.scale, x_scale, y_scale))
    for g in (grid, snapped):
        bound = accumulator_bound(g, weight, bias, x_scale)
        assert bound + 2**29 < 2**31  # the shift rounds by at most 2^29
        assert bound < largest(BIAS_BITS[8])


@pytest.mark.parametrize(("peak", "bias", "fits"), [(1e-9, 3.0, True), (1.0, 3000.0, False)])
def test_a_bias_of_near_nothing_but_itself_fits_32_bits(
    peak: float, bias: float, fits: bool
) -> None:
    """What has 16 bits may have longer sums, where shorter ones would move results."""
    weight = np.full((1, 16), peak, np.float32)
    x_scale, y_scale = 1e-4, 1e-4
    grid = certified(peak_grid(weight, 8), weight, np.array([bias]), x_scale, y_scale, x_bits=16)
    assert (bias / (x_scale * grid.scale[0]) < 2**30) == fits


@given(st.floats(1e-30, 1e-3), SCALES, SCALES, BITS)
def test_a_near_dead_channel_reaches_the_narrow_form(
    peak: float, x_scale: float, y_scale: float, bits: int
) -> None:
    """onnxruntime issue 11415: such a scale would blow the int32 bias up."""
    weight = np.full((1, 4), peak, np.float32)
    found = peak_grid(weight, bits)
    (scale,) = certified(found, weight, np.zeros(1), x_scale, y_scale).scale.tolist()
    real = x_scale * scale / y_scale
    assert real >= 2.0**-36 * (1 - 1e-12)
    if real < 0.999:
        (snapped,) = snapped_scales(np.array([scale]), x_scale, y_scale).tolist()
        assert multiplier_narrow(x_scale * snapped / y_scale) is not None


@given(st.floats(2.0**-36, 1 - 2.0**-12), SCALES, SCALES)
def test_a_snapped_scale_has_an_exact_multiplier_and_moves_little(
    real: float, x_scale: float, y_scale: float
) -> None:
    scale = real * y_scale / x_scale
    (snapped,) = snapped_scales(np.array([scale]), x_scale, y_scale).tolist()
    found = multiplier_narrow(x_scale * scale / y_scale)
    assert found is not None
    m, k = found
    exact = Fraction(m, 2 ** (k + 15)) * Fraction(y_scale) / Fraction(x_scale)
    assert abs(Fraction(snapped) / exact - 1) <= Fraction(1, 2**51)  # two float64 roundings
    assert abs(snapped / scale - 1) <= 2.0**-10 * (1 + 1e-9)
    assert multiplier_narrow(x_scale * snapped / y_scale) == found


@given(st.floats(2.0**-40, 4.0))
@example(1 - 2.0**-12)
@example(2.0**-37 * (2 - 2.0**-12))
def test_factors_of_many_channels_are_found_as_one_is(real: float) -> None:
    found = multiplier_narrow(real)
    (near,) = nearest_narrow(np.array([real])).tolist()
    if found is None:
        assert np.isnan(near)
    else:
        assert near == found[0] * 2.0 ** -(found[1] + 15)


@given(st.lists(st.floats(2.0**-36, 0.99), min_size=1, max_size=5), SCALES, SCALES)
def test_snapping_twice_changes_nothing(reals: list[float], x: float, y: float) -> None:
    once = snapped_scales(np.array(reals) * y / x, x, y)
    assert snapped_scales(once, x, y).tolist() == once.tolist()


def test_scales_that_the_narrow_form_can_not_reach_stay() -> None:
    scales = np.array([1.0, 300.0, 2.0**-40])
    assert snapped_scales(scales, 1.0, 1.0).tolist() == scales.tolist()


def test_snapping_does_not_change_its_argument() -> None:
    scales = np.array([0.1234567])
    scales.flags.writeable = False
    assert snapped_scales(scales, 1.0, 1.0)[0] == pytest.approx(0.1234567, rel=2.0**-10)


@pytest.mark.parametrize("group_size", [0, 16])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_unit_gain_keeps_the_integers_and_the_size_of_the_weights(
    bits: int, per_channel: bool, group_size: int
) -> None:
    weight = np.random.default_rng(bits).standard_t(4, (8, 3, 3, 16)).astype(np.float32)
    found = weight_grid(
        weight, bits, per_channel=per_channel, least_squares=True, group_size=group_size
    )
    before = found.values(weight)
    assert (weight * before).sum() < np.square(weight, dtype=np.float64).sum()  # too small
    grid, stored = unit_gain(found, weight)
    assert grid.integers(stored).tolist() == found.integers(weight).tolist()
    rows, values = (a.reshape(len(grid.scale), -1).astype(np.float64) for a in (weight, stored))
    np.testing.assert_allclose((rows * values).sum(axis=1), (rows**2).sum(axis=1), rtol=1e-5)


def test_dead_channels_have_no_gain() -> None:
    weight = np.zeros((2, 4), np.float32)
    weight[1, 0] = 1.0
    grid, stored = unit_gain(Grid(np.array([0.0, 0.2]), 4), weight)
    assert grid.scale[0] == 0.0
    assert not stored[0].any()
    assert stored[1].tolist() == [1.0, 0.0, 0.0, 0.0]
