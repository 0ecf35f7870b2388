"""What rounding takes from a channel's results on average, its scale gives back, within bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.reconstruction import moments
from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.engine import NumpyEngine
from qcomp.reconstruction.fit import Fit, Method, fit
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments
from qcomp.reconstruction.problem import Problem, centred, corrected_later, eased
from qcomp.reconstruction.rows import Rows

F64 = NDArray[np.float64]
NEAREST = Method("nearest", search=False, iterations=0)


def problem(shrunk: float) -> Problem:
    """A layer whose float results are `shrunk` times those of its weights, and no bias."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 500, 12))
    weight = random.normal(size=(1, 5, 12))
    target = x @ weight.swapaxes(1, 2) * shrunk
    bound = np.full((1, 1, 1), np.inf, np.float32)
    rows = Rows(x.astype(np.float32), target.astype(np.float32))
    free = Activation(-bound, bound, np.ones((1, 1, 1), np.float32))
    return Problem(weight, np.zeros((1, 5)), rows, free)


def fitted(p: Problem) -> Fit:
    peaks = np.abs(p.weight).max(axis=2, keepdims=True)
    return fit(p, Levels(peaks / 3, 3), NEAREST, lambda factor: factor, NumpyEngine())


@pytest.mark.parametrize("shrunk", [0.9, 1.0, 1.1])
def test_the_results_have_the_size_of_the_float_ones(shrunk: float) -> None:
    p = problem(shrunk)
    found = fitted(p)
    assert_allclose(Moments.of(p).gains(found.weight), 1.0, rtol=1e-9)
    assert not np.allclose(found.factor, 1.0, atol=1e-3)


@pytest.mark.parametrize(("shrunk", "factor"), [(0.5, 1 / 1.25), (2.0, 1.25)])
def test_a_scale_moves_by_a_quarter_at_most(shrunk: float, factor: float) -> None:
    assert_allclose(fitted(problem(shrunk)).factor, factor)


def test_moments_of_eased_targets_need_no_rows() -> None:
    p = replace(problem(0.7), bias=np.linspace(-1.0, 1.0, 5)[None])
    rows, derived = Moments.of(eased(p)), Moments.of(p).eased(p.weight)
    assert_allclose(derived.products, rows.products, rtol=1e-4, atol=1e-5)
    assert_allclose(derived.inputs, rows.inputs)


def test_what_is_subtracted_of_centred_rows_changes_no_moments() -> None:
    p = problem(1.0)
    moved = Rows(p.rows.x + np.float32(3.0), p.rows.target + np.float32(5.0))
    before, after = (Moments.of(corrected_later(replace(p, rows=r))) for r in (p.rows, moved))
    assert_allclose(after.inputs, before.inputs, atol=1e-4)
    assert_allclose(after.products, before.products, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("together", [1, 7, 40, 1 << 20])
def test_moments_of_parts_are_those_of_centred_rows(
    groups: int, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "_TOGETHER", together)
    random = np.random.default_rng(1)
    x = random.normal(2.0, size=(groups, 50, 6)).astype(np.float32)
    target = random.normal(1.0, size=(groups, 50, 3)).astype(np.float32)
    bound = np.full((groups, 1, 3), np.inf, np.float32)
    free = Activation(-bound, bound, np.ones((groups, 1, 3), np.float32))
    p = Problem(np.zeros((groups, 3, 6)), np.ones((groups, 3)), Rows(x, target), free)
    asked = corrected_later(p)
    found, rows = Moments.of(asked), centred(asked).rows
    away = rows.target - asked.bias[:, None]
    assert_allclose(found.inputs, rows.x.swapaxes(1, 2) @ rows.x / 50, atol=1e-5)
    assert_allclose(found.products, away.swapaxes(1, 2) @ rows.x / 50, atol=1e-5)
    assert np.abs(rows.x.mean(axis=1)).max() < 1e-6
