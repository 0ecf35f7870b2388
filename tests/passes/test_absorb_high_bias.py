"""What all values of a channel have in common goes into the next layer's bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from unequal_nets import F32, Net, assert_same_function, inputs_of, moments_of

from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    Add,
    Conv2d,
    Function,
    Minimum,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import NormalStatistics, TensorId, constant
from qcomp.passes.absorb_high_bias import AbsorbHighBias
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog


def raised(net: Net, id: TensorId, by: object) -> None:
    """A bias so high that no value of these channels comes near zero."""
    op = net.graph.op(id)
    assert isinstance(op, Weighted)
    bias: F32 = net.graph.data(op.bias) + np.array(by, np.float32)
    net.graph.update_tensor(constant(op.bias, bias))


def pair(by: object = (0, 500, 900, 0), groups: int = 1) -> Graph:
    net = Net().conv("a", 4, kernel=1)
    raised(net, "a", by)
    return net.conv("b", 4, groups=groups, kernel=1, clamp=NO_CLAMP).returning()


def absorbed(before: Graph, deviations: float = 3.0) -> tuple[Graph, PassLog]:
    return run_pass(before, AbsorbHighBias(moments_of, deviations))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_high_channels_lose_c_and_the_function_stays(groups: int) -> None:
    before = pair(groups=groups)
    after, log = absorbed(before)
    assert_same_function(before, after)
    known = moments_of(before)["a"]
    c = before.data("a.b").astype(np.float64) - after.data("a.b")
    assert_allclose(c[[1, 2]], (known.mean - 3 * known.std)[[1, 2]], rtol=1e-5)
    assert_array_equal(c[[0, 3]], 0.0)
    assert f"did  a -> b: 2 of 4 channels, at most {c.max():.4g}" in log.text
    assert moments_of(after)["a"].range[1] < 0.2 * known.range[1]


def test_values_below_c_become_c() -> None:
    before = pair()
    after, _ = absorbed(before, deviations=1.0)
    c = before.data("a.b") - after.data("a.b")
    x = inputs_of(before)
    expected = np.maximum(evaluate_all(before, x)["a"], c) - c
    assert_allclose(evaluate_all(after, x)["a"], expected, atol=1e-3)
    assert (expected == 0.0).any()


def test_a_second_run_changes_nothing() -> None:
    once, _ = absorbed(pair())
    twice, log = absorbed(once)
    assert str(twice) == str(once)
    assert log.count("did") == 0
    assert_array_equal(twice.data("a.b"), once.data("a.b"))


def test_a_bound_per_channel_is_lowered_too() -> None:
    net = Net().conv("a", 4, kernel=1)
    raised(net, "a", (0, 500, 900, 0))
    bound = net.constant("bound", [9.0, 499.7, 1e4, 9.0])
    net.then(Minimum(inputs=("a", bound), output="m")).conv("b", 3, kernel=1, clamp=NO_CLAMP)
    before = net.returning()
    assert (evaluate_all(before, inputs_of(before))["m"] == np.float32(499.7)).any()
    after, _ = absorbed(before, deviations=9.0)
    assert_same_function(before, after)
    c = before.data("a.b").astype(np.float64) - after.data("a.b")
    minimum = after.op("m")
    assert_allclose(after.data(minimum.inputs[1]), before.data("bound") - c, rtol=1e-5)
    assert c[1] > 100


def test_statistics_of_the_first_result_are_shifted() -> None:
    before = pair()
    normal = NormalStatistics(np.arange(4.0), np.ones(4))
    before.update_tensor(replace(before.tensor("a"), normal=normal))
    after, _ = absorbed(before)
    c = before.data("a.b").astype(np.float64) - after.data("a.b")
    changed = after.tensor("a").normal
    assert changed is not None
    assert_allclose(changed.mean, normal.mean - c, rtol=1e-5)
    assert_array_equal(changed.std, normal.std)


def padded(net: Net) -> Net:
    return net.conv("a", 4, kernel=1).conv("b", 4, kernel=3)


def read_twice(net: Net) -> Net:
    net.conv("a", 4, kernel=1).conv("b", 4, kernel=1, clamp=NO_CLAMP)
    return net.then(Add(inputs=("a", "b"), output="sum"))


def bounded_and_read_twice(net: Net) -> Net:
    net.conv("a", 4, kernel=1)
    net.then(Minimum(inputs=("a", net.constant("bound", [900.0] * 4)), output="m"))
    net.conv("b", 4, kernel=1, clamp=NO_CLAMP)
    return net.then(Add(inputs=("m", "b"), output="sum"))


def sigmoid(net: Net) -> Net:
    net.conv("a", 4, kernel=1)
    net.then(Unary(inputs=("a",), output="f", function=Function.SIGMOID))
    return net.conv("b", 4, kernel=1)


DECLINED: dict[str, tuple[Callable[[Net], Net], str]] = {
    "padded": (padded, "%b pads with zeros"),
    "read twice": (read_twice, "%a is not read by one op alone"),
    "bounded and read twice": (bounded_and_read_twice, "%m is not read by one op alone"),
    "sigmoid": (sigmoid, "its reader %f (unary) is no convolution or dense layer"),
    "relu6": (
        lambda n: n.conv("a", 4, kernel=1, clamp=RELU6).conv("b", 4, kernel=1),
        "it clamps to (0.0, 6.0), not to (0.0, inf)",
    ),
    "no clamp": (
        lambda n: n.conv("a", 4, kernel=1, clamp=NO_CLAMP).conv("b", 4, kernel=1),
        "it clamps to (-inf, inf), not to (0.0, inf)",
    ),
}


@pytest.mark.parametrize("name", DECLINED)
def test_what_can_not_absorb_says_why(name: str) -> None:
    build, reason = DECLINED[name]
    net = build(Net())
    if name not in ("relu6", "no clamp"):
        raised(net, "a", (0, 500, 900, 0))
    before = net.returning()
    after, log = absorbed(before)
    assert f"skip a: {reason}" in log.text
    assert str(after) == str(before)


def test_low_biases_stay() -> None:
    before = pair(by=(0, 0, 0, 0))
    after, log = absorbed(before)
    assert "skip a: no channel's values stay away from zero" in log.text
    assert str(after) == str(before)


def test_biases_that_would_overflow_stay() -> None:
    net = Net().conv("a", 4, kernel=1)
    raised(net, "a", (3e38, 3e38, 0, 0))
    before = net.conv("b", 4, kernel=1, clamp=NO_CLAMP).returning()
    huge = {
        id: replace(m, mean=np.full(4, 3e38), std=np.zeros(4))
        for id, m in moments_of(pair()).items()
    }
    after, log = run_pass(before, AbsorbHighBias(lambda _: huge))
    assert "skip a: the biases absorbed by %b are not finite in float32" in log.text
    assert_array_equal(after.data("a.b"), before.data("a.b"))


def test_a_dense_layer_absorbs_too() -> None:
    net = Net().conv("a", 4, kernel=1)
    raised(net, "a", (700, 0, 0, 300))
    net.dense("b", 3)
    before = net.returning()
    after, log = absorbed(before)
    assert_same_function(before, after)
    assert log.count("did") == 1
    assert after.op("b").inputs[2] != "b.b" or (after.data("b.b") != before.data("b.b")).any()


def test_first_layers_clamp_is_relu_in_all_that_is_absorbed() -> None:
    after, _ = absorbed(pair())
    op = after.op("a")
    assert isinstance(op, Conv2d)
    assert op.clamp == RELU
