"""Channels that say next to nothing lose their numbers, and the function stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from unequal_nets import moments_of

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, Conv2d, MaxPool2d
from qcomp.ir.tensor import DType, NormalStatistics, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.equalize_cross_layer import EqualizeCrossLayer
from qcomp.passes.events import PassLog
from qcomp.passes.lib.quantization_noise import Precision

F32 = NDArray[np.float32]
TINY = 1e-20


def net(
    w1: F32, b1: F32, w2: F32, *, padding: int = 0, groups: int = 1, pool: bool = False
) -> Graph:
    """conv 1x1 "a", maybe a pool, conv "b"; weights are named for the op."""
    graph = Graph("net")
    x = graph.add_input("x", TensorType(DType.F32, (1, 4, 4, w1.shape[1])))
    graph.add_constant("a.w", w1.reshape(len(w1), 1, 1, -1).astype(np.float32))
    graph.add_constant("a.b", b1.astype(np.float32))
    graph.add_constant("b.w", w2.reshape(len(w2), 1, 1, -1).astype(np.float32))
    graph.add_constant("b.b", np.linspace(-1, 1, len(w2), dtype=np.float32))
    y = graph.add_op(Conv2d(inputs=(x, "a.w", "a.b"), output="a", clamp=RELU))
    if pool:
        y = graph.add_op(MaxPool2d(inputs=(y,), output="pool", kernel=(2, 2)))
    b = Conv2d(inputs=(y, "b.w", "b.b"), output="b", padding=(padding,) * 4, groups=groups)
    graph.outputs = {"y": graph.add_op(b)}
    return graph


def silenced(before: Graph) -> tuple[Graph, PassLog]:
    after, log = run_pass(before, EqualizeCrossLayer(moments_of, Precision()))
    x = {"x": np.random.default_rng(1).normal(size=before.type("x").shape).astype(np.float32)}
    expected = evaluate(before, x)["y"]
    assert_allclose(
        evaluate(after, x)["y"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )
    again, _ = run_pass(after, EqualizeCrossLayer(moments_of, Precision()))
    assert str(again) == str(after)
    return after, log


def weights(dead: int, by: float) -> tuple[F32, F32]:
    """W1 [4, 3], one row nearly zero; W2 [2, 4], the column that reads it 700 times the others."""
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    w1[dead] *= by
    w2[:, dead] *= 700.0
    return w1.astype(np.float32), w2.astype(np.float32)


@pytest.mark.parametrize("by", [TINY, 0.0])
@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5])
def test_a_dead_channel_becomes_a_constant_of_the_next_bias(by: float, bias: float) -> None:
    w1, w2 = weights(2, by)
    before = net(w1, np.array([0.5, 1, bias, -1]), w2)
    after, log = silenced(before)
    assert (after.data("a.w")[2] == 0.0).all()
    assert after.data("a.b")[2] == 0.0
    assert (after.data("b.w")[..., 2] == 0.0).all()
    added = after.data("b.b") - before.data("b.b")
    assert_allclose(added, w2[:, 2] * max(bias, 0.0), rtol=1e-6)
    assert "did  a: 1 dead channels become constants in b" in log.text


def test_a_channel_that_nothing_reads_loses_its_numbers() -> None:
    w1, w2 = weights(2, 1.0)
    w2[:, 2] = 0.0
    after, log = silenced(net(w1, np.ones(4), w2))
    assert (after.data("a.w")[2] == 0.0).all()
    assert "1 dead channels" in log.text


def test_a_dead_channel_of_a_depthwise_convolution_dies_in_the_next_pair_too() -> None:
    w1, _ = weights(2, TINY)
    before = net(w1, np.array([0.5, 1, -2, -1]), np.full((4, 1), 3.0), groups=4, padding=1)
    rng = np.random.default_rng(3)
    before.add_constant("c.w", rng.normal(size=(2, 1, 1, 4)).astype(np.float32))
    before.add_constant("c.b", np.zeros(2, np.float32))
    before.add_op(Conv2d(inputs=("b", "c.w", "c.b"), output="c"))
    before.outputs = {"y": "c"}
    after, log = silenced(before)
    assert log.text.count("1 dead channels") == 2
    assert after.data("b.w")[2] == 0.0
    assert (after.data("c.w")[..., 2] == 0.0).all()


@pytest.mark.parametrize(("padding", "pool"), [(1, False), (0, True)], ids=["padding", "pool"])
def test_a_constant_that_does_not_reach_the_whole_window_stays(padding: int, pool: bool) -> None:
    w1, w2 = weights(2, TINY)
    before = net(w1, np.array([0.5, 1, 1.5, -1]), w2, padding=padding, pool=pool)
    after, log = silenced(before)
    assert "dead" not in log.text
    assert after.data("b.w")[..., 2].all()
    assert after.data("a.b")[2] > 0.0


@pytest.mark.parametrize(("padding", "pool"), [(1, False), (0, True)], ids=["padding", "pool"])
def test_a_constant_zero_reaches_everywhere(padding: int, pool: bool) -> None:
    w1, w2 = weights(2, TINY)
    after, _ = silenced(net(w1, np.array([0.5, 1, -1.5, -1]), w2, padding=padding, pool=pool))
    assert (after.data("b.w")[..., 2] == 0.0).all()


def test_a_weak_channel_is_not_dead() -> None:
    w1, w2 = weights(2, 1e-6)
    _, log = silenced(net(w1, np.ones(4), w2))
    assert "dead" not in log.text


def test_the_statistics_of_a_dead_channel_become_zero() -> None:
    w1, w2 = weights(2, TINY)
    before = net(w1, np.array([0.5, 1, 2, -1]), w2)
    normal = NormalStatistics(np.full(4, 2.0), np.ones(4))
    before.update_tensor(replace(before.tensor("a"), normal=normal))
    after, _ = silenced(before)
    changed = after.tensor("a").normal
    assert changed is not None
    assert (changed.mean[2], changed.std[2]) == (0.0, 0.0)
