"""The noise model of equalization: its gradient, its optimum, and what the pass makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import optimize
from unequal_nets import Net, inputs_of, moments_of

from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import NO_CLAMP, Conv2d, Reshape
from qcomp.passes.base import run_pass
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer
from qcomp.passes.lib.channel_classes import channel_classes
from qcomp.passes.lib.quantization_noise import NoiseProblem, Precision, least_noise_factors

PRECISIONS = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


def chain(seed: int = 0) -> Graph:
    net = Net(seed=seed).conv("a", 6).conv("d", 6, groups=6).conv("b", 4, groups=2)
    net.then(Reshape(inputs=("b",), output="flat", shape=(1, 144))).dense("c", 3)
    return net.returning()


def problem(graph: Graph, precision: Precision) -> NoiseProblem:
    return NoiseProblem.of(graph, channel_classes(graph, ()), moments_of(graph), precision)


@PRECISIONS
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_the_noise(per_channel: bool, seed: int) -> None:
    f = problem(chain(seed), Precision(per_channel))
    at = np.random.default_rng(seed).normal(0.0, 1.0, f.classes)
    at[0] = 0.0
    _, gradient = f(at)
    numeric = optimize.approx_fprime(at, lambda u: f(u)[0], 1e-6)
    assert gradient[0] == 0.0
    numeric[0] = 0.0
    assert_allclose(gradient, numeric, atol=1e-5)


@PRECISIONS
def test_the_noise_is_convex(per_channel: bool) -> None:
    f = problem(chain(), Precision(per_channel))
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(0.0, 2.0, (2, f.classes))
        assert f((a + b) / 2)[0] <= (f(a)[0] + f(b)[0]) / 2 + 1e-9


@PRECISIONS
def test_no_other_factors_make_less_noise(per_channel: bool) -> None:
    f = problem(chain(), Precision(per_channel))
    least_noise = least_noise_factors(f, largest=1e8)
    assert least_noise.after < least_noise.before
    found = np.log(least_noise.factors)
    assert found[0] == 0.0
    least = f(found)[0]
    assert least == pytest.approx(least_noise.after * np.log(10) / 10)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert f(found + rng.normal(0.0, 0.3, found.size) * (found != 0.0))[0] > least


def test_the_same_factor_for_all_channels_changes_nothing() -> None:
    graph = chain()
    f, of = problem(graph, Precision()), channel_classes(graph, ()).of
    shift = np.zeros(f.classes)
    for id, by in (("a", 0.7), ("d", -1.0), ("b", 2.0)):
        shift[of[id]] = by
    assert f(shift)[0] == pytest.approx(f(np.zeros(f.classes))[0])


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


def test_rounded_weights_make_less_noise_and_the_function_stays() -> None:
    net = Net(seed=3).conv("a", 8).conv("d", 8, groups=8)
    before = net.conv("b", 4, kernel=1, clamp=NO_CLAMP).returning()
    after, _ = run_pass(before, EqualizeCrossLayer(moments_of, Precision()))
    assert simulated_noise(after, Precision()) < 0.3 * simulated_noise(before, Precision())
