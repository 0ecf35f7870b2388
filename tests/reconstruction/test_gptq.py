"""GPTQ against its definition, and coordinate descent from there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.reconstruction import gptq as module
from qcomp.reconstruction.gptq import descend, gptq
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments

F64 = NDArray[np.float64]


def layer(
    groups: int, outputs: int, size: int, bits: int, seed: int
) -> tuple[F64, Moments, Levels]:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(groups, outputs, size))
    mixed = random.normal(size=(groups, size, 3 * size)) @ random.normal(size=(3 * size, 3 * size))
    inputs = mixed @ mixed.swapaxes(1, 2) + 0.1 * np.eye(size)
    step = np.abs(weight).max(axis=2, keepdims=True) / max(2 ** (bits - 1) - 1, 1)
    return weight, Moments(inputs, weight @ inputs), Levels(step, bits)


def by_definition(weight: F64, inputs: F64, levels: Levels) -> F64:
    """The next input's best real weight, given those rounded, by solving for all that are left."""
    chosen = np.zeros_like(weight)
    for g, o in np.ndindex(weight.shape[:2]):
        own = Levels(levels.step[g : g + 1, o : o + 1], levels.bits)
        h, left, w = inputs[g], list(np.argsort(-np.diag(inputs[g]), kind="stable")), weight[g, o]
        values = w.copy()
        while left:
            done = [k for k in range(len(w)) if k not in left]
            pull = h[np.ix_(left, done)] @ (values[done] - w[done])
            best = w[left] - np.linalg.solve(h[np.ix_(left, left)], pull)
            k = left.pop(0)
            level = own.nearest(best[:1].reshape(1, 1, 1))
            chosen[g, o, k] = level.item()
            values[k] = own.value(level).item()
    return chosen


@pytest.mark.parametrize("shape", [(1, 4, 7), (3, 2, 5), (6, 1, 9)])
@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("block", [3, 128])
def test_gptq_is_what_its_definition_gives(
    shape: tuple[int, int, int], bits: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    weight, moments, levels = layer(*shape, bits, seed=bits)
    before = weight.copy()
    got = gptq(weight, moments, levels)
    assert_array_equal(got, by_definition(weight, moments.inputs, levels))
    assert_array_equal(weight, before)


def test_gptq_and_descent_change_the_results_less_than_rounding_to_nearest() -> None:
    weight, moments, levels = layer(2, 16, 24, 3, seed=0)
    nearest = levels.nearest(weight)
    compensated = gptq(weight, moments, levels)
    better = descend(moments, levels, compensated)
    errors = [moments.errors(levels.value(c)).sum() for c in (nearest, compensated, better)]
    assert errors[0] > errors[1] > errors[2]
    assert (moments.errors(levels.value(better)) <= moments.errors(levels.value(compensated))).all()


def test_descent_stops_where_no_single_weight_can_improve() -> None:
    weight, moments, levels = layer(1, 3, 6, 3, seed=5)
    chosen = descend(moments, levels, levels.nearest(weight), rounds=50)
    least = moments.errors(levels.value(chosen))
    for k, level in itertools.product(range(6), range(levels.count)):
        other = chosen.copy()
        other[:, :, k] = level
        assert (moments.errors(levels.value(other)) >= least - 1e-9).all()
