"""Grids of symmetric values: how constants are rounded to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.quant.grid import Grid, largest

ONE = np.array([0.5])


def test_channels_are_rounded_with_their_own_scales() -> None:
    x = np.array([[1.0, 2.5], [3.0, -500.0]], np.float32)
    scale = np.array([1.0, 2.0])
    assert Grid(scale, 8).integers(x).tolist() == [[1, 2], [2, -127]]
    assert Grid(scale, 8, axis=1).integers(x).tolist() == [[1, 1], [3, -127]]
    assert Grid(ONE, 4, axis=1).integers(x).tolist() == [[2, 5], [6, -7]]
    assert Grid(ONE, 4).integers(np.array(3.0)).tolist() == 6


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (1, [-1, -1, 1, 1, 1]),
        (2, [-1, 0, 0, 1, 1]),
        (3, [-3, 0, 0, 1, 3]),
        (8, [-127, 0, 0, 1, 18]),
    ],
)
def test_few_bits_are_symmetric_and_one_bit_is_the_sign(bits: int, expected: list[int]) -> None:
    x = np.array([-200.0, -0.2, 0.0, 0.4, 9.0])
    assert Grid(ONE, bits).integers(x).tolist() == expected
    assert Grid(ONE, bits).values(x).tolist() == [0.5 * q for q in expected]


def test_a_multiplier_widens_the_steps_of_its_weights() -> None:
    x = np.array([[1.0, 2.0, -7.0]])
    grid = Grid(ONE, 2, multiplier=np.array([[1, 5, 5]], np.int8))
    assert grid.steps(2).tolist() == [[0.5, 2.5, 2.5]]
    assert grid.nearest(x).tolist() == [[1, 1, -1]]
    assert grid.integers(x).tolist() == [[1, 5, -5]]
    assert grid.values(x).tolist() == [[0.5, 2.5, -2.5]]


@pytest.mark.parametrize("bits", [0, -1, 49])
def test_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"a grid has 1 to 48 bits, not {bits}"):
        Grid(ONE, bits)


@given(
    st.sampled_from([1, 2, 3, 4, 8]),
    st.floats(2.0**-40, 2.0**40),
    st.integers(1, 127),
    st.randoms(use_true_random=False),
)
def test_rounded_values_stay_as_they_are_even_in_float32(
    bits: int, scale: float, multiplier: int, random: object
) -> None:
    """Rounding passes store `values` in float32; the grid must find the same integers there."""
    limit = largest(bits)
    multipliers = np.full(2 * limit + 1, min(multiplier, 127 // limit), np.int8)
    grid = Grid(np.array([scale]), bits, multiplier=multipliers)
    x = np.linspace(-1, 1, 2 * limit + 1) * limit * scale * multipliers
    stored = grid.values(x).astype(np.float32)
    assert grid.integers(stored).tolist() == grid.integers(x).tolist()
    assert grid.values(stored).tolist() == grid.values(x).tolist()
