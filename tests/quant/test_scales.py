"""Scales of least squared error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.quant import scales as searched
from qcomp.quant.grid import largest, nearest
from qcomp.quant.scales import minmax_scales, mse_scales, pow2_above, squared_error

F64 = NDArray[np.float64]
BITS = [1, 2, 3, 4, 8]


def rows_of(seed: int, count: int, taps: int) -> F64:
    return np.random.default_rng(seed).standard_t(3, size=(count, taps))


def least_error(row: F64, bits: int) -> float:
    """The least error over all scales, exactly.

    As a scale shrinks, one |q| after the other grows by one, where |w| / scale passes a half. Each
    rounding on the way leaves <w, w> - <w, q>^2 / <q, q> with the scale that suits it best, and the
    best rounding of all is among them.
    """
    size = np.abs(row)
    if bits == 1:
        return float(np.square(size - size.mean()).sum())
    q = np.arange(1, largest(bits) + 1)
    scale = size[:, None] / (q - 0.5)
    order = np.argsort(-scale.ravel(), kind="stable")
    along = np.cumsum(np.broadcast_to(size[:, None], scale.shape).ravel()[order])
    energy = np.cumsum(np.broadcast_to(2 * q - 1, scale.shape).ravel()[order])
    return float((size**2).sum() - (along**2 / energy).max())


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("taps", [1, 9, 64, 500])
def test_the_error_is_that_of_an_exhaustive_search(bits: int, taps: int) -> None:
    rows = rows_of(taps, 50, taps)
    found = squared_error(rows, bits, mse_scales(rows, bits))
    exact = np.array([least_error(row, bits) for row in rows])
    assert (found >= exact - 1e-9).all()
    assert found.sum() <= 1.002 * exact.sum() + 1e-9


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.sweep(60)
@given(seed=st.integers(0, 2**32 - 1), taps=st.integers(1, 40))
def test_least_squares_are_never_worse_than_the_peak(
    bits: int, power_of_two: bool, seed: int, taps: int
) -> None:
    rows = rows_of(seed, 3, taps)
    peaks = minmax_scales(rows, bits)
    peaks = pow2_above(peaks) if power_of_two else peaks
    found = squared_error(rows, bits, mse_scales(rows, bits, power_of_two=power_of_two))
    assert (found <= squared_error(rows, bits, peaks) * (1 + 1e-12) + 1e-15).all()


def test_a_binary_scale_is_the_mean_magnitude() -> None:
    """XNOR-Net, section 3.1: alpha* = |W|_1 / n."""
    rows = rows_of(1, 20, 33)
    np.testing.assert_allclose(mse_scales(rows, 1), np.abs(rows).mean(axis=1))


def test_a_ternary_scale_is_the_mean_of_what_is_above_half_of_it() -> None:
    """Ternary Weight Networks, eq. 5, with its threshold where the nearest rounding has it."""
    rows = rows_of(2, 20, 200)
    for row, scale in zip(np.abs(rows), mse_scales(rows, 2).tolist(), strict=True):
        assert row[row > scale / 2].mean() == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_rows_of_zeros_have_scale_zero_and_no_error(bits: int) -> None:
    rows = np.zeros((2, 5))
    for scales in (minmax_scales(rows, bits), mse_scales(rows, bits)):
        assert scales.tolist() == [0.0, 0.0]
        assert squared_error(rows, bits, scales).tolist() == [0.0, 0.0]
    assert mse_scales(rows, bits, power_of_two=True).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("bits", BITS)
def test_the_scale_of_values_on_a_grid_is_the_grid_s(bits: int) -> None:
    q = nearest(np.random.default_rng(3).normal(0, 50, (4, 30)), bits)
    q[:, 0] = largest(bits)
    np.testing.assert_allclose(mse_scales(0.37 * q, bits), 0.37, rtol=1e-12)


def test_powers_of_two() -> None:
    scales = np.array([0.0, 0.25, 0.2500001, 3.0, 1e-30])
    above = pow2_above(scales)
    assert above[:4].tolist() == [0.0, 0.25, 0.5, 4.0]
    assert 1e-30 <= above[4] < 2e-30
    found = mse_scales(rows_of(5, 40, 64), 4, power_of_two=True)
    assert (np.frexp(found)[0] == 0.5).all()


def test_what_is_not_tried_would_not_have_been_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [rows_of(1, 40, taps) for taps in (1, 9, 64, 300)]
    tried = Counted(searched._refined)
    monkeypatch.setattr(searched, "_refined", tried)
    found = [mse_scales(r, 8) for r in rows]
    few, tried.calls = tried.calls, 0
    monkeypatch.setattr(searched, "_HOPELESS", 1e12)
    every = [mse_scales(r, 8) for r in rows]
    assert [f.tolist() for f in found] == [e.tolist() for e in every]
    assert 2 * few < tried.calls


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return self.function(*arguments)
