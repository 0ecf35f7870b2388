"""Clamps merge into the ops above them, and the function stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    Add,
    AveragePool2d,
    Binary,
    Clamp,
    ClampRange,
    Conv2d,
    Dense,
    Div,
    Maximum,
    MaxPool2d,
    Minimum,
    Mul,
    Op,
    Reduce,
    Reduction,
    Reshape,
    Sub,
    Transpose,
    Weighted,
)
from qcomp.ir.tensor import DType, NormalStatistics, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.fuse_activation import FuseActivation

IMAGE = TensorType(DType.F32, (1, 4, 4, 3))


def net(*ops: Op, outputs: tuple[str, ...]) -> Graph:
    """Two images as inputs, seeded weights, and the given ops."""
    graph = Graph("net")
    rng = np.random.default_rng(0)
    graph.add_input("x", IMAGE)
    graph.add_input("z", IMAGE)
    graph.add_constant("w", rng.normal(size=(3, 1, 1, 3)).astype(np.float32))
    graph.add_constant("m", rng.normal(size=(5, 3)).astype(np.float32))
    graph.add_constant("b", rng.normal(size=3).astype(np.float32))
    graph.add_constant("b5", rng.normal(size=5).astype(np.float32))
    for op in ops:
        graph.add_op(op)
    graph.outputs = {t: t for t in outputs}
    return graph


def fused(before: Graph) -> tuple[Graph, PassLog]:
    """The graph after the pass, which gives the same bits and which the pass leaves alone."""
    after, log = run_pass(before, FuseActivation())
    rng = np.random.default_rng(1)
    x = {name: rng.normal(size=IMAGE.shape).astype(np.float32) * 4 for name in ("x", "z")}
    expected = evaluate(before, x)
    for name, y in evaluate(after, x).items():
        assert_array_equal(y, expected[name])
    assert str(run_pass(after, FuseActivation())[0]) == str(after)
    return after, log


def mnemonics(graph: Graph) -> list[str]:
    return [op.mnemonic for op in graph.ops()]


CONV = Conv2d(inputs=("x", "w", "b"), output="conv")
RELU_OF_CONV = Clamp(inputs=("conv",), output="relu", clamp=RELU)


@pytest.mark.parametrize(
    "op",
    [
        CONV,
        Dense(inputs=("x", "m", "b5"), output="conv"),
        *(cls(inputs=("x", "z"), output="conv") for cls in (Add, Sub, Mul, Div, Minimum, Maximum)),
    ],
    ids=lambda op: op.mnemonic,
)
def test_relu_fuses_into_each_op_that_clamps(op: Weighted | Binary) -> None:
    after, log = fused(net(op, RELU_OF_CONV, outputs=("relu",)))
    assert after.ops() == [replace(op, output="relu", clamp=RELU)]
    assert log.text == "did  relu into conv"


def test_the_fused_op_keeps_the_statistics_of_its_result() -> None:
    before = net(CONV, RELU_OF_CONV, outputs=("relu",))
    normal = NormalStatistics(np.zeros(3), np.ones(3))
    before.update_tensor(replace(before.tensor("conv"), normal=normal))
    after, _ = fused(before)
    assert after.tensor("relu").normal is normal


@given(
    first=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted),
    second=st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(sorted),
)
def test_clamps_in_a_row_become_their_intersection(first: list[float], second: list[float]) -> None:
    a, b = (ClampRange(*(float(np.float32(v)) for v in c)) for c in (first, second))
    ops = (
        Clamp(inputs=("x",), output="inner", clamp=a),
        Clamp(inputs=("inner",), output="outer", clamp=b),
    )
    after, _ = fused(net(*ops, outputs=("outer",)))
    assert after.ops() == [Clamp(inputs=("x",), output="outer", clamp=a.intersect(b))]


def test_a_clamp_goes_through_maxima_and_movements() -> None:
    ops = (
        CONV,
        MaxPool2d(inputs=("conv",), output="pool", kernel=(2, 2)),
        Transpose(inputs=("pool",), output="turned", permutation=(0, 2, 1, 3)),
        Reduce(inputs=("turned",), output="max", kind=Reduction.MAX, axes=(1, 2)),
        Reshape(inputs=("max",), output="flat", shape=(1, 3)),
        Clamp(inputs=("flat",), output="relu6", clamp=RELU6),
    )
    after, log = fused(net(*ops, outputs=("relu6",)))
    assert mnemonics(after) == ["conv2d", "max_pool2d", "transpose", "reduce", "reshape"]
    assert after.op("conv") == replace(CONV, clamp=RELU6)
    assert after.op("relu6").mnemonic == "reshape"
    assert log.text == "did  relu6 into conv"


@pytest.mark.parametrize(
    "op",
    [
        AveragePool2d(inputs=("conv",), output="mean", kernel=(2, 2)),
        Reduce(inputs=("conv",), output="mean", kind=Reduction.MEAN, axes=(1, 2)),
    ],
    ids=lambda op: op.mnemonic,
)
def test_a_clamp_does_not_go_through_a_mean(op: Op) -> None:
    clamp = Clamp(inputs=("mean",), output="relu", clamp=RELU)
    after, log = fused(net(CONV, op, clamp, outputs=("relu",)))
    assert mnemonics(after)[-1] == "clamp"
    assert log.text == f"skip relu: %mean is the result of a {op.mnemonic}, which can't clamp"


@pytest.mark.parametrize("outputs", [("relu", "conv"), ("relu", "other")])
def test_a_value_with_other_users_is_not_clamped(outputs: tuple[str, str]) -> None:
    other = Add(inputs=("conv", "z"), output="other")
    before = net(CONV, RELU_OF_CONV, other, outputs=outputs)
    after, log = fused(before)
    assert after.op("conv") == replace(CONV, clamp=NO_CLAMP)
    assert log.text == "skip relu: %conv has other users"


def test_a_clamp_of_an_input_stays() -> None:
    _, log = fused(net(Clamp(inputs=("x",), output="relu", clamp=RELU), outputs=("relu",)))
    assert log.text == "skip relu: %x is not the result of an op"
