"""Rows over the size of their results: what is asked of a layer whose results are normalised."""

from __future__ import annotations

import numpy as np

from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.engine import NumpyEngine
from qcomp.reconstruction.fit import Method, fit
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.problem import Problem, evened
from qcomp.reconstruction.rows import Rows


def activation(high: float = np.inf) -> Activation:
    low, top, slope = (np.float32([[[v]]]) for v in (-np.inf, high, 1.0))
    return Activation(low, top, slope)


def problem(high: float = np.inf) -> Problem:
    """A few rows, all of one direction, are a thousand times as large as the others."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 600, 12)).astype(np.float32)
    x[:, ::60] = 1000.0 * random.normal(size=(1, 1, 12))
    weight, bias = random.normal(size=(1, 8, 12)), random.normal(size=(1, 8))
    target = (x @ weight.swapaxes(1, 2) + bias[:, None]).astype(np.float32)
    return Problem(weight, bias, Rows(x, target), activation(high))


def test_the_weights_of_the_float_network_still_have_no_error() -> None:
    found = evened(problem())
    assert not found.bias.any()
    np.testing.assert_allclose(
        found.rows.x @ found.weight.swapaxes(1, 2), found.rows.target, atol=1e-3
    )
    sizes = np.sqrt(np.mean(found.rows.target**2, axis=(0, 2)))
    assert sizes.max() < 10 * np.median(sizes)


def test_a_clamp_keeps_rows_as_they_are() -> None:
    """It would be at another value for each row."""
    given = problem(high=6.0)
    assert evened(given) is given


def test_ordinary_rows_have_less_error_than_where_the_largest_decide() -> None:
    given = problem()
    step = np.abs(given.weight).max(axis=2, keepdims=True) / 7
    method = Method("gptq", search=False, iterations=0)

    def error(asked: Problem) -> float:
        found = fit(asked, Levels(step, 4), method, lambda factor: factor, NumpyEngine()).weight
        ordinary = np.arange(600) % 60 != 0
        moved = given.rows.x[:, ordinary] @ (found - given.weight).swapaxes(1, 2)
        return float(np.mean(moved**2))

    assert error(evened(given)) < 0.8 * error(given)
