"""Factors move between linear layers, ranges become equal, and the function stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from unequal_nets import F32, Net, assert_same_function, inputs_of

from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    Add,
    AveragePool2d,
    Clamp,
    ClampRange,
    Concat,
    Conv2d,
    Function,
    MaxPool2d,
    Minimum,
    Op,
    Pad,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Softmax,
    Unary,
)
from qcomp.ir.tensor import NormalStatistics, TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer, Relu6
from qcomp.passes.events import PassLog

EXACT = EqualizeCrossLayer(iterations=500, tolerance=1e-6)


def equalized(before: Graph, p: EqualizeCrossLayer = EXACT) -> tuple[Graph, PassLog]:
    after, log = run_pass(before, p)
    assert_same_function(before, after)
    return after, log


def output_ranges(graph: Graph, id: TensorId) -> F32:
    return output_ranges_of(graph, graph.op(id).inputs[1])


def output_ranges_of(graph: Graph, constant: TensorId) -> F32:
    weight = graph.data(constant)
    ranges: F32 = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return ranges


def input_ranges(graph: Graph, id: TensorId, groups: int = 1) -> F32:
    weight = np.abs(graph.data(graph.op(id).inputs[1]))
    ranges: F32 = weight.reshape(groups, -1, *weight.shape[1:]).max(axis=(1, 2, 3)).reshape(-1)
    return ranges


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([4, 8]),
    groups=st.sampled_from([1, 2, 4]),
    clamp=st.sampled_from([RELU, NO_CLAMP]),
    seed=st.integers(0, 999),
)
def test_a_pair_gets_the_same_range_on_both_sides_of_each_channel(
    channels: int, groups: int, clamp: ClampRange, seed: int
) -> None:
    net = Net(seed=seed).conv("a", channels, clamp=clamp).conv("b", 4, groups=groups)
    after, log = equalized(net.returning())
    assert_allclose(output_ranges(after, "a"), input_ranges(after, "b", groups), rtol=1e-5)
    assert "did  a -> b: max/min channel range" in log.text


@settings(max_examples=15, deadline=None)
@given(channels=st.sampled_from([4, 6]), seed=st.integers(0, 999))
def test_a_chain_through_a_depthwise_convolution_converges(channels: int, seed: int) -> None:
    net = Net(seed=seed).conv("expand", channels, kernel=1)
    net.conv("depthwise", channels, groups=channels).conv("project", 5, kernel=1)
    after, _ = equalized(net.returning())
    middle = output_ranges(after, "depthwise")
    assert_allclose(output_ranges(after, "expand"), middle, rtol=1e-4)
    assert_allclose(middle, input_ranges(after, "project"), rtol=1e-4)


def test_the_factors_are_those_of_the_paper() -> None:
    before = Net().conv("a", 8).conv("b", 4).returning()
    after, _ = equalized(before)
    r1, r2 = output_ranges(before, "a"), input_ranges(before, "b")
    assert_allclose(output_ranges(after, "a"), np.sqrt(r1 * r2), rtol=1e-5)
    s = np.sqrt(r1 * r2) / r2
    assert_allclose(after.data("a.b"), before.data("a.b") / s, rtol=1e-5)


def test_a_second_run_changes_nothing() -> None:
    net = Net().conv("a", 8).conv("d", 8, groups=8).conv("b", 4, kernel=1).dense("c", 3)
    p = EqualizeCrossLayer(iterations=100)
    once, _ = equalized(net.returning(), p)
    twice, log = equalized(once, p)
    assert str(twice) == str(once)
    assert "note 1 iterations" in log.text
    for op in once.ops():
        for constant in op.inputs[1:]:
            assert (twice.data(constant) == once.data(constant)).all()


def test_too_few_iterations_are_noted() -> None:
    net = Net().conv("a", 8).conv("d", 8, groups=8).conv("b", 4, kernel=1)
    _, log = equalized(net.returning(), EqualizeCrossLayer(iterations=1))
    assert "note 1 iterations; the last changed a channel by" in log.text


BETWEEN: dict[str, Callable[[Net], Op]] = {
    "leaky relu": lambda n: Unary(
        inputs=(n.last,), output="f", function=Function.LEAKY_RELU, alpha=0.1
    ),
    "prelu": lambda n: PRelu(inputs=(n.last, n.constant("p", [0.1, 2, -1, 0])), output="f"),
    "relu": lambda n: Clamp(inputs=(n.last,), output="f", clamp=RELU),
    "max pool": lambda n: MaxPool2d(inputs=(n.last,), output="f", kernel=(2, 2)),
    "average pool": lambda n: AveragePool2d(inputs=(n.last,), output="f", kernel=(2, 2)),
    "mean": lambda n: Reduce(inputs=(n.last,), output="f", kind=Reduction.MEAN, axes=(1, 2)),
    "maximum": lambda n: Reduce(inputs=(n.last,), output="f", kind=Reduction.MAX, axes=(1, 2)),
    "pad": lambda n: Pad(inputs=(n.last,), output="f", before=(0, 1, 2, 0), after=(0, 1, 0, 0)),
    "scale": lambda n: Unary(inputs=(n.last,), output="f", function=Function.AFFINE, alpha=-2.0),
    "pixels": lambda n: Reshape(inputs=(n.last,), output="f", shape=(1, 1, 36, 4)),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_factors_pass_homogeneous_ops(between: str) -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    net.then(BETWEEN[between](net)).conv("b", 5, kernel=1)
    after, log = equalized(net.returning())
    assert_allclose(output_ranges(after, "a"), input_ranges(after, "b"), rtol=1e-5)
    assert log.count("skip") == 1  # the last layer is an output


def test_factors_pass_a_flatten_into_a_dense_layer() -> None:
    net = Net().conv("a", 4)
    net.then(Reshape(inputs=("a",), output="flat", shape=(1, 144))).dense("b", 3)
    after, _ = equalized(net.returning())
    columns = input_ranges_of_dense(after, "b").reshape(36, 4).max(axis=0)
    assert_allclose(output_ranges(after, "a"), columns, rtol=1e-5)


def input_ranges_of_dense(graph: Graph, id: TensorId) -> F32:
    ranges: F32 = np.abs(graph.data(graph.op(id).inputs[1])).max(axis=0)
    return ranges


UNEVEN: dict[str, Callable[[Net], Op]] = {
    "sigmoid": lambda n: Unary(inputs=(n.last,), output="f", function=Function.SIGMOID),
    "shift": lambda n: Unary(inputs=(n.last,), output="f", function=Function.AFFINE, beta=1.0),
    "softmax": lambda n: Softmax(inputs=(n.last,), output="f", axis=3),
    "concat": lambda n: Concat(inputs=(n.last, "x"), output="f", axis=3),
    "add": lambda n: Add(inputs=(n.last, "x"), output="f"),
    "reduce": lambda n: Reduce(inputs=(n.last,), output="f", kind=Reduction.MEAN, axes=(3,)),
    "reshape": lambda n: Reshape(inputs=(n.last,), output="f", shape=(1, 6, 12, 2)),
    "pad": lambda n: Pad(
        inputs=(n.last,), output="f", before=(0, 1, 1, 0), after=(0, 0, 0, 0), value=1.0
    ),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_an_op_that_is_not_homogeneous_ends_the_chain(name: str) -> None:
    net = Net().conv("a", 4)
    op = UNEVEN[name](net)
    before = net.then(op).conv("b", 5).returning()
    after, log = equalized(before)
    assert f"skip a: %f ({op.mnemonic}) is not positive-homogeneous per channel" in log.text
    assert log.count("did") == 0
    assert (after.data("a.w") == before.data("a.w")).all()


def test_a_result_with_two_readers_ends_the_chain() -> None:
    net = Net().conv("a", 4).conv("b", 4)
    net.then(Add(inputs=("a", "b"), output="sum"))
    _, log = equalized(net.returning())
    assert log.text == (
        "skip a: %a is read by 2 ops\nskip b: %sum (add) is not positive-homogeneous per channel"
    )


def test_an_output_of_the_graph_ends_the_chain() -> None:
    _, log = equalized(Net().conv("a", 4).conv("b", 4).returning("a"))
    assert "skip a: %a is an output of the graph" in log.text


def test_a_clamp_that_is_not_homogeneous_ends_the_chain() -> None:
    net = Net().conv("a", 4, clamp=ClampRange(-1.0, 1.0)).conv("b", 4)
    _, log = equalized(net.returning())
    assert "skip a: %a clamps to (-1.0, 1.0)" in log.text


RELU6_IN_CHAIN = pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])


def relu6_chain(fused: bool) -> tuple[Graph, TensorId]:
    """A chain with a ReLU6 that many values reach, and the id of the clamped value."""
    net = Net().conv("a", 4, clamp=RELU6 if fused else NO_CLAMP)
    if not fused:
        net.then(Clamp(inputs=("a",), output="clamp", clamp=RELU6))
    id = net.last
    before = net.conv("b", 4).returning()
    reached = evaluate_all(before, inputs_of(before))[id] == 6.0
    assert 0 < reached.sum() < reached.size
    return before, id


@RELU6_IN_CHAIN
def test_relu6_can_become_an_exact_minimum_per_channel(fused: bool) -> None:
    before, id = relu6_chain(fused)
    p = replace(EXACT, relu6=Relu6.MINIMUM)
    after, log = equalized(before, p)
    minimum = after.op(id)
    assert isinstance(minimum, Minimum)
    s = before.data("a.b") / after.data("a.b")
    assert_allclose(after.data(minimum.b), 6.0 / s, rtol=1e-5)
    assert f"did  {id}: ReLU6 becomes ReLU and a minimum per channel" in log.text
    assert_allclose(output_ranges_of(after, "a.w"), input_ranges(after, "b"), rtol=1e-5)
    assert str(run_pass(after, p)[0]) == str(after)


@RELU6_IN_CHAIN
def test_relu6_can_become_relu_as_in_the_paper(fused: bool) -> None:
    before, id = relu6_chain(fused)
    after, log = run_pass(before, replace(EXACT, relu6=Relu6.REPLACE_WITH_RELU))
    assert f"did  {id}: ReLU6 becomes ReLU" in log.text
    plain = before.clone()
    op = plain.op(id)
    assert isinstance(op, Conv2d | Clamp)
    plain.replace_op(replace(op, clamp=RELU))
    assert after.ops() == plain.ops()
    assert_same_function(plain, after)


def test_relu6_is_kept_unless_asked_for() -> None:
    before = Net().conv("a", 4, clamp=RELU6).conv("b", 4).returning()
    after, log = equalized(before)
    assert str(after) == str(before)
    assert "skip a: %a clamps to (0.0, 6.0), to be kept" in log.text


def test_a_weak_channel_keeps_its_factor_of_one() -> None:
    net = Net().conv("a", 4).conv("b", 4)
    g = net.returning()
    weak = g.data("a.w").copy()
    weak[1] *= 1e-8
    g.set_inputs(g.op("a"), ("x", g.add_constant("weak", weak), "a.b"))
    after, log = equalized(g)
    assert (after.data("weak")[1] == weak[1]).all()
    assert after.data("a.b")[1] == g.data("a.b")[1]
    assert "dead" not in log.text


def test_factors_stay_within_their_bound() -> None:
    before = Net().conv("a", 8).conv("b", 4).returning()
    after, _ = equalized(before, EqualizeCrossLayer(largest=2.0))
    ratio = before.data("a.b") / after.data("a.b")
    assert ratio.max() <= 2.0 + 1e-6
    assert ratio.min() >= 0.5 - 1e-6
    assert (ratio == 0.5).any()


def test_weights_that_would_overflow_are_left_with_the_reason() -> None:
    net = Net().conv("a", 4).conv("b", 4)
    g = net.returning()
    op = g.op("a")
    tiny = (g.data(op.inputs[1]) * 1e-12).astype(np.float32)
    huge = np.full(4, 3e38, np.float32)
    g.set_inputs(op, ("x", g.add_constant("tiny", tiny), g.add_constant("huge", huge)))
    after, log = run_pass(g, EXACT)
    assert "skip a: weights equalized with %b are not finite in float32" in log.text
    assert (after.data("tiny") == tiny).all()


def test_statistics_of_the_values_between_are_divided() -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    net.then(Clamp(inputs=("a",), output="relu", clamp=RELU)).conv("b", 4)
    before = net.returning()
    normal = NormalStatistics(np.arange(4.0), np.arange(1.0, 5.0))
    for t in ("a", "relu", "b"):
        before.update_tensor(replace(before.tensor(t), normal=normal))
    after, _ = equalized(before)
    s = before.data("a.b").astype(np.float64) / after.data("a.b")
    for t in ("a", "relu"):
        changed = after.tensor(t).normal
        assert changed is not None
        assert_allclose(changed.mean, normal.mean / s, rtol=1e-5)
        assert_allclose(changed.std, normal.std / s, rtol=1e-5)
    assert after.tensor("b").normal is normal


def test_a_weight_that_another_layer_shares_is_copied() -> None:
    net = Net().conv("a", 4).conv("b", 4)
    net.then(Conv2d(inputs=("b", "a.w", "b.b"), output="c", padding=(1, 1, 1, 1)))
    before = net.returning()
    after, _ = equalized(before)
    assert after.op("a").inputs[1] != after.op("c").inputs[1]


def test_the_graph_given_to_the_pass_keeps_its_numbers() -> None:
    before = Net().conv("a", 4).conv("b", 4).returning()
    weight = before.data("a.w").copy()
    equalized(before)
    assert (before.data("a.w") == weight).all()
