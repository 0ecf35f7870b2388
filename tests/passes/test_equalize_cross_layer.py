"""Factors move between layers, the noise becomes less, and the function stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from unequal_nets import Net, assert_same_function, inputs_of, moments_of

from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    Add,
    Clamp,
    Concat,
    Conv2d,
    Function,
    Minimum,
    Mul,
    PRelu,
    Sub,
    Unary,
)
from qcomp.ir.tensor import NormalStatistics, TensorId
from qcomp.passes.base import run_pass
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer
from qcomp.passes.events import PassLog
from qcomp.passes.lib.quantization_noise import Precision
from qcomp.quant.moments import Moments

F64 = NDArray[np.float64]

PRECISIONS = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


def equalizer(
    per_channel: bool = False,
    moments: Mapping[TensorId, Moments] | None = None,
    opens_gates: bool = False,
) -> EqualizeCrossLayer:
    known = moments_of if moments is None else lambda _: moments
    return EqualizeCrossLayer(known, Precision(per_channel), opens_gates)


def equalized(before: Graph, p: EqualizeCrossLayer | None = None) -> tuple[Graph, PassLog]:
    after, log = run_pass(before, p or equalizer())
    assert_same_function(before, after)
    return after, log


def factors(before: Graph, after: Graph, id: TensorId) -> F64:
    """By which the outputs of a layer were divided."""
    unbounded = f"{id}.relu"
    moved = after.op(unbounded if unbounded in after else id)
    ratio: F64 = before.data(before.op(id).inputs[2]).astype(np.float64) / after.data(
        moved.inputs[2]
    )
    return ratio


BETWEEN: dict[str, Callable[[Net], Net]] = {
    "nothing": lambda n: n,
    "relu6": lambda n: n.then(Clamp(inputs=("a",), output="f", clamp=RELU6)),
    "prelu": lambda n: n.then(PRelu(inputs=("a", n.constant("p", [0.1, 2, -1, 0])), output="f")),
    "bias apart": lambda n: n.then(
        Add(inputs=("a", n.constant("k", [1, 2, 3, 4])), output="f")
    ).then(Sub(inputs=(n.constant("m", 2.0), "f"), output="g")),
    "factors": lambda n: n.then(
        Mul(inputs=("a", n.constant("k", [1, -2, 3, 4])), output="f", clamp=RELU6)
    ),
    "residual": lambda n: n.conv("r", 4).then(Add(inputs=("a", "r"), output="f", clamp=RELU)),
    "dense blocks": lambda n: n.conv("r", 3).then(Concat(inputs=("r", "a"), output="f", axis=3)),
    "squeeze": lambda n: n.then(Unary(inputs=("x",), output="g", function=Function.SIGMOID)).then(
        Mul(inputs=("a", "g"), output="f")
    ),
}


@PRECISIONS
@pytest.mark.parametrize("between", BETWEEN)
def test_the_function_stays_and_factors_move(between: str, per_channel: bool) -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    before = BETWEEN[between](net).conv("b", 5, kernel=1).returning()
    after, log = equalized(before, equalizer(per_channel))
    s = factors(before, after, "a")
    assert (s != s[0]).any()
    assert "note noise expected:" in log.text
    assert "did  a: inputs times s in [1, 1], outputs over s in [" in log.text
    assert "skip b: %b is an output of the graph" in log.text


def test_factors_are_powers_of_the_sixteenth_root_of_two() -> None:
    before = Net().conv("a", 6).conv("d", 6, groups=6).conv("b", 4).returning()
    after, _ = equalized(before)
    s = factors(before, after, "a")
    assert_allclose(16 * np.log2(s), np.rint(16 * np.log2(s)), atol=1e-4)


@PRECISIONS
def test_a_second_run_changes_nothing(per_channel: bool) -> None:
    p = equalizer(per_channel)
    before = Net().conv("a", 6).conv("d", 6, groups=6).conv("b", 4).returning()
    once, _ = equalized(before, p)
    twice, log = equalized(once, p)
    assert str(twice) == str(once)
    assert log.count("did") == 0
    for op in once.ops():
        for constant in op.inputs[1:]:
            assert (twice.data(constant) == once.data(constant)).all()


def test_a_reason_is_told_for_each_layer_that_keeps_its_channels() -> None:
    net = Net().conv("a", 4)
    before = net.then(Unary(inputs=("a",), output="f", function=Function.TANH)).conv("b", 5)
    after, log = equalized(before.returning())
    assert "skip a: %f (unary) is not positive-homogeneous per channel" in log.text
    assert log.count("did") == 0
    assert (after.data("a.w") == before.graph.data("a.w")).all()


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "apart"])
def test_a_bound_that_is_reached_becomes_an_exact_minimum_per_channel(fused: bool) -> None:
    net = Net().conv("a", 4, clamp=RELU6 if fused else NO_CLAMP)
    if not fused:
        net.then(Clamp(inputs=("a",), output="clamp", clamp=RELU6))
    id = net.last
    before = net.conv("b", 4).returning()
    reached = evaluate_all(before, inputs_of(before))[id] == 6.0
    assert 0 < reached.sum() < reached.size
    after, log = equalized(before)
    minimum = after.op(id)
    assert isinstance(minimum, Minimum)
    assert_allclose(after.data(minimum.b), 6.0 / factors(before, after, "a"), rtol=1e-5)
    assert f"did  {id}: its bound of 6 becomes a minimum per channel" in log.text


def test_a_bound_that_no_value_reaches_is_left_out() -> None:
    before = Net().conv("a", 4, clamp=RELU6).conv("b", 4).returning()
    measured = moments_of(before)
    below = replace(measured["a"], high=np.full(4, 5.9))
    after, log = run_pass(before, equalizer(moments={**measured, "a": below}))
    op = after.op("a")
    assert isinstance(op, Conv2d)
    assert op.clamp == RELU
    assert "did  a: its bound of 6, which no value reaches, is left out" in log.text


def silu_net() -> Graph:
    """Two SiLUs between layers whose channels differ by 1000."""
    net = Net(seed=1)
    for name, groups in (("a", 1), ("d", 4)):
        net.conv(name, 4, groups=groups, clamp=NO_CLAMP)
        net.then(Unary(inputs=(name,), output=f"{name}.silu", function=Function.SILU))
    return net.conv("b", 3, kernel=1, clamp=NO_CLAMP).returning()


def test_gates_are_opened_where_that_spares_noise() -> None:
    before = silu_net()
    closed, log = equalized(before)
    assert log.count("did") == 0
    after, log = equalized(before, equalizer(opens_gates=True))
    assert "did  a.silu: silu is opened" in log.text
    assert isinstance(after.op("a.silu"), Mul)
    s = factors(before, after, "a")
    assert s.max() / s.min() > 1.5
    assert isinstance(closed.op("a.silu"), Unary)


@pytest.mark.parametrize("function", [Function.SILU, Function.HARD_SWISH, Function.GELU])
def test_each_gate_opens_to_the_same_function(function: Function) -> None:
    net = Net(seed=1).conv("a", 4, clamp=NO_CLAMP)
    net.then(Unary(inputs=("a",), output="f", function=function))
    before = net.conv("b", 3, kernel=1, clamp=NO_CLAMP).returning()
    after, log = equalized(before, equalizer(opens_gates=True))
    assert f"did  f: {function.value} is opened" in log.text
    assert isinstance(after.op("f"), Mul)


def test_a_gate_of_even_channels_stays_closed() -> None:
    net = Net(seed=1)
    net.unequal = lambda *shape: net.rng.normal(size=shape).astype(np.float32)  # type: ignore[method-assign]
    net.conv("a", 4, clamp=NO_CLAMP)
    net.then(Unary(inputs=("a",), output="f", function=Function.SILU))
    before = net.conv("b", 3, kernel=1, clamp=NO_CLAMP).returning()
    even = {t: _evened(m) for t, m in moments_of(before).items()}
    after, log = run_pass(before, equalizer(moments=even, opens_gates=True))
    assert "skip f: not worth opening" in log.text
    assert isinstance(after.op("f"), Unary)


def _evened(m: Moments) -> Moments:
    return Moments(*(np.full_like(v, v.mean()) for v in (m.mean, m.std, m.low, m.high)))


def test_factors_stay_within_their_bound() -> None:
    before = Net().conv("a", 8).conv("b", 4).returning()
    after, _ = equalized(before, replace(equalizer(), largest=2.0))
    s = factors(before, after, "a")
    assert s.max() <= 2.0 + 1e-6
    assert s.min() >= 0.5 - 1e-6
    assert (s == 2.0).any()


def test_weights_that_would_overflow_are_left_with_the_reason() -> None:
    g = Net().conv("a", 4).conv("b", 4).returning()
    huge = np.full(4, 3e38, np.float32)
    g.set_inputs(g.op("a"), ("x", "a.w", g.add_constant("huge", huge)))
    tiny = g.add_constant("tiny", (g.data("a.w") * 1e-3).astype(np.float32))
    measured = moments_of(Net().conv("a", 4).conv("b", 4).returning())
    g.set_inputs(g.op("a"), ("x", tiny, "huge"))
    after, log = run_pass(g, equalizer(moments=measured))
    assert "skip a: its scaled weights are not finite in float32" in log.text
    assert (after.data("tiny") == g.data("tiny")).all()


def test_statistics_of_the_values_between_are_divided() -> None:
    net = Net().conv("a", 4, clamp=NO_CLAMP)
    net.then(Clamp(inputs=("a",), output="relu", clamp=RELU)).conv("b", 4)
    before = net.returning()
    normal = NormalStatistics(np.arange(4.0), np.arange(1.0, 5.0))
    for t in ("a", "relu", "b"):
        before.update_tensor(replace(before.tensor(t), normal=normal))
    after, _ = equalized(before)
    s = factors(before, after, "a")
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


def test_values_that_never_change_make_no_noise() -> None:
    before = Net().conv("a", 4).conv("b", 4).returning()
    still = {id: replace(m, std=0.0 * m.std) for id, m in moments_of(before).items()}
    after, log = equalized(before, equalizer(moments=still))
    assert str(after) == str(before)
    assert log.count("did") == 0
