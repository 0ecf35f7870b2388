"""The noise model of equalization: its gradient, its optimum, and what the pass makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize
from unequal_nets import Net, assert_same_function, inputs_of, moments_of

from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, RELU, RELU6, Clamp, Conv2d, Minimum, Reshape, Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer, LeastNoise, Relu6
from qcomp.passes.events import PassLog
from qcomp.passes.lib.linear_pairs import LinearPair, linear_pair
from qcomp.passes.lib.quantization_noise import NoiseProblem, Precision, least_noise_factors
from qcomp.quant.moments import Moments

PRECISIONS = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


def pairs_of(graph: Graph) -> list[LinearPair]:
    linear = (linear_pair(graph, op) for op in graph.ops() if isinstance(op, Weighted))
    return [pair for pair in linear if isinstance(pair, LinearPair)]


def chain(seed: int = 0) -> Graph:
    net = Net(seed=seed).conv("a", 6).conv("d", 6, groups=6).conv("b", 4, groups=2)
    net.then(Reshape(inputs=("b",), output="flat", shape=(1, 144))).dense("c", 3)
    return net.returning()


def problem(graph: Graph, precision: Precision) -> NoiseProblem:
    return NoiseProblem.of(graph, pairs_of(graph), moments_of(graph), precision)


@PRECISIONS
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_the_noise(per_channel: bool, seed: int) -> None:
    f = problem(chain(seed), Precision(per_channel))
    at = np.random.default_rng(seed).normal(0.0, 1.0, 16)
    _, gradient = f(at)
    numeric = optimize.approx_fprime(at, lambda u: f(u)[0], 1e-6)
    assert_allclose(gradient, numeric, atol=1e-5)


@PRECISIONS
def test_the_noise_is_convex(per_channel: bool) -> None:
    f = problem(chain(), Precision(per_channel))
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(0.0, 2.0, (2, 16))
        assert f((a + b) / 2)[0] <= (f(a)[0] + f(b)[0]) / 2 + 1e-9


@PRECISIONS
def test_no_other_factors_make_less_noise(per_channel: bool) -> None:
    graph, precision = chain(), Precision(per_channel)
    factors, before, after = least_noise_factors(
        graph, pairs_of(graph), moments_of(graph), precision, largest=1e8
    )
    assert after < before
    f = problem(graph, precision)
    found = np.log(np.concatenate(factors))
    least = f(found)[0]
    assert least == pytest.approx(after * np.log(10) / 10)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert f(found + rng.normal(0.0, 0.3, found.size))[0] > least


def test_the_same_factor_for_all_channels_changes_nothing() -> None:
    f = problem(chain(), Precision())
    shift = np.repeat([0.7, -1.0, 2.0], [6, 6, 4])
    assert f(shift)[0] == pytest.approx(f(np.zeros(16))[0])


def test_scales_per_channel_leave_only_the_inputs_side_of_weights_to_gain() -> None:
    """The outputs' factors cancel against the steps that each channel has for itself."""
    graph = Net().conv("a", 4).conv("b", 4).returning()
    (layer, _) = problem(graph, Precision(per_channel=True)).layers
    at = np.random.default_rng(0).normal(size=(1, 4))
    _, _, by_outputs = layer.noise(np.zeros((1, 4)), at, Precision(per_channel=True))
    assert_allclose(by_outputs, 0.0, atol=1e-12)


def simulated_noise(graph: Graph, precision: Precision) -> float:
    """Error power at the outputs, relative, with weights and the values between rounded."""
    exact = evaluate_all(graph, inputs_of(graph))
    rounded = graph.clone()
    for op in rounded.ops():
        if isinstance(op, Conv2d):
            w = graph.data(op.weight).astype(np.float64)
            axes = (1, 2, 3) if precision.per_channel else None
            step = np.abs(w).max(axis=axes, keepdims=True) / precision.weight_levels
            weight = rounded.add_constant("rounded", (np.rint(w / step) * step).astype(np.float32))
            rounded.set_inputs(op, (op.x, weight, op.bias))
    values = evaluate_all(rounded, inputs_of(graph))
    (last,) = graph.outputs.values()
    error = values[last] - exact[last]
    error = error - error.mean(axis=(0, 1, 2))
    return float(np.sum(error**2) / np.sum(exact[last] ** 2))


def equalizer(
    per_channel: bool = False, moments: Mapping[TensorId, Moments] | None = None
) -> EqualizeCrossLayer:
    known = moments_of if moments is None else lambda _: moments
    return EqualizeCrossLayer(Relu6.MINIMUM, LeastNoise(known, Precision(per_channel)))


def equalized(before: Graph, p: EqualizeCrossLayer) -> tuple[Graph, PassLog]:
    after, log = run_pass(before, p)
    assert_same_function(before, after)
    return after, log


def test_rounded_weights_make_less_noise_and_the_function_stays() -> None:
    net = Net(seed=3).conv("a", 8).conv("d", 8, groups=8)
    before = net.conv("b", 4, kernel=1, clamp=NO_CLAMP).returning()
    after, log = equalized(before, equalizer())
    assert simulated_noise(after, Precision()) < 0.3 * simulated_noise(before, Precision())
    assert "note noise expected:" in log.text
    assert "did  a -> d: max/min channel range" in log.text


@PRECISIONS
def test_a_second_run_changes_nothing(per_channel: bool) -> None:
    p = equalizer(per_channel)
    once, _ = equalized(chain(), p)
    twice, log = equalized(once, p)
    assert str(twice) == str(once)
    assert log.count("did") == 0
    assert "is equal already" in log.text
    for op in once.ops():
        for constant in op.inputs[1:]:
            assert (twice.data(constant) == once.data(constant)).all()


def test_factors_are_powers_of_the_sixteenth_root_of_two() -> None:
    before = chain()
    after, _ = equalized(before, equalizer())
    s = before.data("a.b").astype(np.float64) / after.data("a.b")
    assert_allclose(16 * np.log2(s), np.rint(16 * np.log2(s)), atol=1e-4)
    assert s.max() / s.min() > 1.5


def test_relu6_that_is_reached_becomes_a_minimum_and_one_that_is_not_a_relu() -> None:
    before = Net().conv("a", 4, clamp=RELU6).conv("b", 4).returning()
    measured = moments_of(before)
    assert measured["a"].range[1] == 6.0
    after, _ = equalized(before, equalizer())
    assert isinstance(after.op("a"), Minimum)
    below = replace(measured["a"], high=np.full(4, 5.9))
    after, log = run_pass(before, equalizer(moments={**measured, "a": below}))
    op = after.op("a")
    assert isinstance(op, Conv2d)
    assert op.clamp == RELU
    assert "did  a: ReLU6 becomes ReLU" in log.text


def test_relu6_apart_from_its_layer_is_told_by_its_own_moments() -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    net.then(Clamp(inputs=("a",), output="six", clamp=RELU6)).conv("b", 4)
    after, _ = equalized(net.returning(), equalizer())
    assert isinstance(after.op("six"), Minimum)


def test_a_network_without_pairs_is_left_alone() -> None:
    before = Net().conv("a", 4).returning()
    after, log = equalized(before, equalizer())
    assert str(after) == str(before)
    assert log.text == "skip a: %a is an output of the graph"


def test_values_that_never_change_make_no_noise() -> None:
    before = Net().conv("a", 4).conv("b", 4).returning()
    still = {id: replace(m, std=0.0 * m.std) for id, m in moments_of(before).items()}
    after, log = equalized(before, equalizer(moments=still))
    assert str(after) == str(before)
    assert "note a -> b is equal already" in log.text
