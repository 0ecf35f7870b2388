"""Steps that weights are multiples of already are found, whatever the largest multiple is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.quant.lattice import lattice_steps
from qcomp.quant.weights import weight_grid

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("largest", [127, 120, 64, 17])
def test_rows_of_integers_keep_them(largest: int) -> None:
    q = RNG.integers(-largest, largest + 1, (6, 40))
    q[:, 0], q[:, 1] = largest, 1
    step = RNG.uniform(0.001, 0.1, (6, 1))
    weight = (q * step).astype(np.float32)
    often = 127 // largest  # the finest step that all are multiples of
    steps = lattice_steps(weight.astype(np.float64), 127)
    assert_allclose(steps, step[:, 0] / often, rtol=1e-6)
    grid = weight_grid(weight, 8, per_channel=True, least_squares=False)
    assert_array_equal(grid.integers(weight), q * often)


def test_other_rows_have_no_step() -> None:
    rows = RNG.normal(size=(50, 9))
    rows[7] = 0
    assert np.isnan(lattice_steps(rows, 127)).all()


def test_integers_beyond_the_largest_are_none() -> None:
    row = np.array([[-128.0, 1.0, 3.0, 77.0, 127.0]])
    assert np.isnan(lattice_steps(row, 127)).all()


def test_each_row_by_itself() -> None:
    rows = RNG.normal(size=(3, 16))
    rows[1] = RNG.permutation(np.arange(-8, 8)) * 0.25
    steps = lattice_steps(rows, 127)
    assert np.isnan(steps[[0, 2]]).all()
    assert steps[1] == pytest.approx(0.25 / 15)  # -8 is -120 of them
