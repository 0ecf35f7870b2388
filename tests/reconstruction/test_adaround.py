"""AdaRound: its gradients, its engines, and that it does what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.adaround import LayerError, Schedule, SoftWeights, adaround
from qcomp.reconstruction.engine import Engine, NumpyEngine
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.problem import Problem
from qcomp.reconstruction.rows import Rows

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Double(NumpyEngine):
    """In double precision, for differences."""

    def array(self, x: NDArray[Any]) -> Any:
        return np.array(x, np.float64)


def activation(low: float = 0.0, high: float = 1.5, slope: float = 1.0) -> Activation:
    return Activation(*(np.full((1, 1, 1), v, np.float32) for v in (low, high, slope)))


def problem(groups: int = 2, outputs: int = 6, size: int = 9, rows: int = 400) -> Problem:
    """Inputs that hang together, so that errors can make up for each other."""
    random = np.random.default_rng(1)
    mix = random.normal(size=(groups, 4, size))
    x = random.normal(size=(groups, rows, 4)) @ mix + random.normal(0, 0.2, (groups, rows, size))
    weight = random.normal(0, 0.5, size=(groups, outputs, size))
    bias = random.normal(0, 0.3, size=(groups, outputs))
    target = x @ weight.swapaxes(1, 2) + bias[:, None]
    return Problem(
        weight, bias, Rows(x.astype(np.float32), target.astype(np.float32)), activation()
    )


def levels_of(p: Problem, bits: int = 3) -> Levels:
    peaks = np.abs(p.weight).max(axis=2, keepdims=True)
    return Levels(peaks / (2 ** (bits - 1) - 1), bits)


def error(p: Problem, weight: F64) -> float:
    y = p.rows.x @ weight.swapaxes(1, 2) + p.bias[:, None]
    low, high = p.activation.low, p.activation.high
    return float(np.mean((np.clip(y, low, high) - np.clip(p.rows.target, low, high)) ** 2))


@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_the_gradient_of_the_error_is_the_slope_of_differences(slope: float) -> None:
    p = problem(rows=40)
    p = Problem(p.weight, p.bias, p.rows, activation(-0.4, 1.5, slope))
    layer = LayerError(p, Double(), rows=40)
    weight = p.weight + 0.1
    got = layer.gradient(weight.copy(), 0)
    expected = np.zeros_like(weight)
    for i in np.ndindex(*weight.shape):
        ends = []
        for sign in (1, -1):
            moved = weight.copy()
            moved[i] += sign * 1e-6
            ends.append(layer.whole(moved).sum())
        expected[i] = (ends[0] - ends[1]) / 2e-6
    assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [None, 7.0])
def test_the_gradient_by_v_has_the_slope_of_the_soft_weight_and_of_the_regulariser(
    beta: float | None,
) -> None:
    random = np.random.default_rng(2)
    size = random.uniform(0.1, 1, (1, 3, 4))
    soft = SoftWeights.on(Double(), random.normal(size=(1, 3, 4)), size)
    v, by_weight = random.normal(0, 3, (1, 3, 4)), random.normal(size=(1, 3, 4))

    def value(v: F64) -> F64:
        h = soft.part(v)
        pull = 0.0 if beta is None else 0.5 * (1 - np.abs(2 * h - 1) ** beta)
        return np.asarray(by_weight * soft.weight(h) + pull)

    got = soft.chain(by_weight.copy(), v, soft.part(v), beta, 0.5)
    assert_allclose(got, (value(v + 1e-6) - value(v - 1e-6)) / 2e-6, rtol=1e-4, atol=1e-6)


def test_learned_rounding_changes_the_results_less_than_rounding_to_nearest() -> None:
    p = problem()
    levels = levels_of(p)
    nearest = levels.nearest(p.weight)
    learned = adaround(p, levels, nearest, Schedule(1000), NumpyEngine())
    assert error(p, levels.value(learned)) < 0.6 * error(p, levels.value(nearest))
    assert np.abs(learned - levels.position(p.weight)).max() < 1.0
    assert learned.min() >= 0
    assert learned.max() <= levels.count - 1


def test_no_channel_is_worse_than_at_the_start() -> None:
    p = problem()
    levels = levels_of(p)
    start = levels.nearest(p.weight)
    learned = adaround(p, levels, start, Schedule(100, weight=0.01, rate=0.1), NumpyEngine())
    layer = LayerError(p, NumpyEngine(), rows=40)
    before, after = (layer.whole(levels.value(c).astype(np.float32)) for c in (start, learned))
    assert (after <= before).all()
    assert (after < before).any()


def test_the_same_bits_on_each_run() -> None:
    p = problem()
    levels = levels_of(p)
    start = levels.nearest(p.weight)
    first, second = (adaround(p, levels, start, Schedule(60), NumpyEngine()) for _ in range(2))
    assert_array_equal(first, second)


def test_torch_and_numpy_agree() -> None:
    pytest.importorskip("torch")
    from qcomp.reconstruction.torch_engine import TorchEngine

    engines: list[Engine] = [NumpyEngine(), TorchEngine("cpu")]
    p = problem()
    levels = levels_of(p)
    start = levels.nearest(p.weight)
    ours, theirs = (adaround(p, levels, start, Schedule(1000), e) for e in engines)
    assert np.mean(ours != theirs) < 0.02
    assert_allclose(
        error(p, levels.value(ours)), error(p, levels.value(theirs)), rtol=0.05, atol=1e-5
    )


def test_a_rounding_without_error_stays() -> None:
    p = problem()
    levels = levels_of(p)
    exact = levels.value(levels.nearest(p.weight))
    target = (p.rows.x @ exact.swapaxes(1, 2) + p.bias[:, None]).astype(np.float32)
    q = Problem(exact, p.bias, Rows(p.rows.x, target), activation())
    start = levels.nearest(exact)
    assert_array_equal(adaround(q, levels, start, Schedule(50), NumpyEngine()), start)
