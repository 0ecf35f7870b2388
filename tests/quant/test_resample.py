"""Resampling along one axis; tests/export compares every mode with onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.resample import fixed_point_weights, linear_weights, nearest_indices

MODES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
]


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        ("floor", [0, 2, 3, 5]),
        ("ceil", [1, 3, 4, 6]),
        ("round_prefer_floor", [0, 2, 4, 6]),
        ("round_prefer_ceil", [0, 2, 4, 6]),
    ],
)
def test_seven_pixels_become_four(rounding: str, expected: list[int]) -> None:
    """By half pixels the coordinates are 0.375, 2.125, 3.875, 5.625."""
    assert nearest_indices(7, 4, 4 / 7, "half_pixel", rounding).tolist() == expected


def test_a_tie_goes_where_it_is_told() -> None:
    """Twenty pixels to six: result 4 lies at 14.5, which float32 puts just below."""
    assert nearest_indices(20, 6, 6 / 20, "half_pixel", "round_prefer_floor")[4] == 14
    assert nearest_indices(20, 6, 6 / 20, "half_pixel", "round_prefer_ceil")[4] == 15


def test_a_tie_that_float32_puts_just_above_is_one_too() -> None:
    """Fourteen pixels to nineteen: result 9 lies at 6.5."""
    assert nearest_indices(14, 19, 19 / 14, "half_pixel", "round_prefer_floor")[9] == 6
    assert nearest_indices(14, 19, 19 / 14, "half_pixel", "round_prefer_ceil")[9] == 7


def test_aligned_corners_keep_both_ends() -> None:
    i0, i1, w1 = linear_weights(3, 5, 5 / 3, "align_corners")
    assert i0.tolist() == [0, 0, 1, 1, 2]
    assert i1.tolist() == [1, 1, 2, 2, 2]
    assert w1.tolist() == [0, 0.5, 0, 0.5, 0]


@given(
    in_size=st.integers(1, 40),
    out_size=st.integers(1, 80),
    mode=st.sampled_from(MODES),
)
def test_positions_and_weights_stay_inside(in_size: int, out_size: int, mode: str) -> None:
    i0, i1, w1 = linear_weights(in_size, out_size, out_size / in_size, mode)
    assert ((i0 >= 0) & (i0 <= i1) & (i1 < in_size)).all()
    assert ((w1 >= 0) & (w1 < 1)).all()
    assert (np.diff(i0 + w1) >= 0).all()
    q = fixed_point_weights(w1)
    assert ((q >= 0) & (q <= 2048)).all()
