"""The grid of an array is searched once, and forgotten with it."""

from __future__ import annotations

import gc

import numpy as np
from numpy.testing import assert_array_equal

from qcomp.passes.lib.known_grids import GridChoices, _known, known_grid
from qcomp.quant.weights import weight_grid

CHOICES = GridChoices(4, True, True, 0, False)


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, 3, 3, 2)).astype(np.float32)


def test_it_is_the_grid_of_the_weights_and_the_choices() -> None:
    weight = weights(1)
    found = known_grid(weight, CHOICES)
    expected = weight_grid(weight, 4, per_channel=True, least_squares=True)
    assert_array_equal(found.scale, expected.scale)
    assert known_grid(weight, CHOICES) is found
    coarse = known_grid(weight, GridChoices(2, True, True, 0, False))
    assert coarse.bits == 2
    assert known_grid(weights(1), CHOICES) is not found


def test_it_goes_with_the_array() -> None:
    weight = weights(2)
    known_grid(weight, CHOICES)
    before = len(_known)
    del weight
    gc.collect()
    assert len(_known) < before
