"""CanonicalizeLayout: what networks around NHWC ops become, and that they compute the same.

The graphs are written as the ONNX importer writes them: NCHW, with transposes around spatial ops.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    Add,
    BroadcastTo,
    Clamp,
    Concat,
    Conv2d,
    Dense,
    Function,
    Gather,
    MaxPool2d,
    Mul,
    Op,
    Pad,
    PRelu,
    Reduce,
    Reduction,
    Reshape,
    Slice,
    Softmax,
    Tile,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.canonicalize_layout import CanonicalizeLayout
from qcomp.passes.events import PassLog
from qcomp.passes.fold_constants import FoldConstants

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Net:
    """A graph under construction; every method adds an op and gives its result."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph("net")
        self.rng = np.random.default_rng(0)
        self.x = self.graph.add_input("x", TensorType(DType.F32, shape))

    def shape(self, t: TensorId) -> tuple[int, ...]:
        return self.graph.type(t).shape

    def id(self, name: str) -> TensorId:
        return self.graph.fresh_id(name)

    def constant(self, *shape: int) -> TensorId:
        return self.graph.add_constant("c", self.rng.normal(size=shape).astype(np.float32))

    def transpose(self, t: TensorId, *permutation: int) -> TensorId:
        op = Transpose(inputs=(t,), output=self.id("transpose"), permutation=permutation)
        return self.graph.add_op(op)

    def conv(self, t: TensorId, channels: int, name: str) -> TensorId:
        x = self.transpose(t, *TO_NHWC)
        weight, bias = self.constant(channels, 1, 1, self.shape(t)[1]), self.constant(channels)
        y = self.graph.add_op(Conv2d(inputs=(x, weight, bias), output=self.id(f"{name}.nhwc")))
        op = Transpose(inputs=(y,), output=self.id(name), permutation=TO_NCHW)
        return self.graph.add_op(op)

    def relu(self, t: TensorId) -> TensorId:
        return self.graph.add_op(Clamp(inputs=(t,), output=self.id("relu"), clamp=RELU))

    def add(self, a: TensorId, b: TensorId) -> TensorId:
        return self.graph.add_op(Add(inputs=(a, b), output=self.id("add")))

    def mul(self, a: TensorId, b: TensorId) -> TensorId:
        return self.graph.add_op(Mul(inputs=(a, b), output=self.id("mul")))

    def reshape(self, t: TensorId, *shape: int) -> TensorId:
        return self.graph.add_op(Reshape(inputs=(t,), output=self.id("reshape"), shape=shape))

    def concat(self, axis: int, *ts: TensorId) -> TensorId:
        return self.graph.add_op(Concat(inputs=ts, output=self.id("concat"), axis=axis))

    def dense(self, t: TensorId, outputs: int) -> TensorId:
        inputs = (t, self.constant(outputs, self.shape(t)[-1]), self.constant(outputs))
        return self.graph.add_op(Dense(inputs=inputs, output=self.id("dense")))

    def mean(self, t: TensorId, *axes: int, keepdims: bool = True) -> TensorId:
        op = Reduce(
            inputs=(t,),
            output=self.id("mean"),
            kind=Reduction.MEAN,
            axes=axes,
            keepdims=keepdims,
        )
        return self.graph.add_op(op)

    def gather(self, t: TensorId, axis: int, *indices: int) -> TensorId:
        constant = self.graph.add_constant("indices", np.array(indices, np.int64))
        op = Gather(inputs=(t, constant), output=self.id("gather"), axis=axis)
        return self.graph.add_op(op)

    def returns(self, *outputs: TensorId) -> Graph:
        self.graph.outputs = {f"y{i}": t for i, t in enumerate(outputs)}
        return self.graph


def canonicalized(before: Graph) -> tuple[Graph, PassLog]:
    """The graph after the pass, which must compute the same and be stable under the pass."""
    after, log = run_pass(before, CanonicalizeLayout())
    again, _ = run_pass(after, CanonicalizeLayout())
    assert str(again) == str(after)
    rng = np.random.default_rng(1)
    inputs = {
        name: rng.normal(size=before.type(t).shape).astype(np.float32)
        for name, t in before.inputs.items()
    }
    expected, actual = evaluate(before, inputs), evaluate(after, inputs)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-5)
    return after, log


def ops(graph: Graph) -> str:
    return " ".join(op.mnemonic for op in graph.ops())


def inner_transposes(graph: Graph) -> list[Op]:
    """Transposes that neither read a graph input nor are a graph output without other readers."""
    return [
        op
        for op in graph.ops()
        if isinstance(op, Transpose)
        and op.x not in graph.inputs.values()
        and (graph.consumers(op.output) or not graph.is_output(op.output))
    ]


def test_a_residual_block_works_in_nhwc_throughout() -> None:
    net = Net(1, 3, 4, 5)
    a = net.relu(net.conv(net.x, 6, "a"))
    b = net.conv(net.relu(net.conv(a, 8, "b")), 6, "c")
    after, _ = canonicalized(net.returns(net.conv(net.relu(net.add(a, b)), 2, "d")))
    assert ops(after) == ("transpose conv2d clamp conv2d clamp conv2d add clamp conv2d transpose")
    assert not inner_transposes(after)


def test_ops_keep_their_ids_and_outputs_their_names() -> None:
    net = Net(1, 3, 4, 5)
    r = net.relu(net.conv(net.x, 6, "a"))
    after, _ = canonicalized(net.returns(net.conv(r, 6, "b"), r))
    assert after.type(r).shape == (1, 4, 5, 6)
    assert after.type(after.outputs["y1"]).shape == (1, 6, 4, 5)
    assert list(after.outputs) == ["y0", "y1"]


def test_each_op_with_axes_gets_them_permuted() -> None:
    net = Net(1, 4, 6, 6)
    t = net.conv(net.x, 4, "a")
    t = net.graph.add_op(
        Slice(inputs=(t,), output="s", starts=(0, 0, 1, 0), sizes=(1, 4, 2, 3), steps=(1, 1, 2, 2))
    )
    t = net.graph.add_op(
        Pad(inputs=(t,), output="p", before=(0, 1, 2, 3), after=(0, 1, 0, 0), value=1.0)
    )
    t = net.gather(t, 1, 5, 0, 0, 2)
    t = net.graph.add_op(Tile(inputs=(t,), output="t", repeats=(1, 2, 1, 3)))
    t = net.concat(1, t, net.constant(*net.shape(t)))
    t = net.graph.add_op(Softmax(inputs=(t,), output="m", axis=1))
    t = net.graph.add_op(Unary(inputs=(t,), output="u", function=Function.EXP))
    t = net.graph.add_op(PRelu(inputs=(t, net.constant(16, 1, 1)), output="r"))
    t = net.add(net.mul(t, net.constant(16, 1, 1)), net.constant(1))
    after, _ = canonicalized(net.returns(net.conv(t, 2, "b")))
    assert ops(after) == (
        "transpose conv2d slice pad gather tile concat softmax unary prelu mul add conv2d transpose"
    )
    assert not inner_transposes(after)


def test_a_mean_that_drops_its_axes_needs_no_transpose() -> None:
    net = Net(1, 3, 4, 5)
    t = net.mean(net.conv(net.x, 6, "a"), 2, 3, keepdims=False)
    after, _ = canonicalized(net.returns(net.dense(t, 2)))
    assert ops(after) == "transpose conv2d reduce dense"
    reduce = after.ops()[2]
    assert isinstance(reduce, Reduce)
    assert reduce.axes == (1, 2)


def test_a_squeeze_and_excite_gate_joins_without_a_transpose() -> None:
    net = Net(1, 3, 4, 5)
    t = net.conv(net.x, 6, "a")
    gate = net.dense(net.mean(t, 2, 3, keepdims=False), 6)
    t = net.mul(t, net.reshape(gate, 1, 6, 1, 1))
    after, _ = canonicalized(net.returns(net.conv(t, 2, "b")))
    assert ops(after) == "transpose conv2d reduce dense reshape mul conv2d transpose"


def test_broadcasting_an_activation_of_lower_rank_is_extended() -> None:
    net = Net(1, 3, 4, 5)
    t = net.conv(net.x, 6, "a")
    row = net.mean(net.mean(t, 0, 1, keepdims=False), 0, keepdims=False)
    after, _ = canonicalized(net.returns(net.conv(net.add(t, row), 2, "b")))
    assert not inner_transposes(after)


def test_flatten_before_dense_moves_the_order_into_the_weights() -> None:
    net = Net(1, 3, 4, 5)
    t = net.reshape(net.conv(net.x, 6, "a"), 1, 120)
    after, _ = canonicalized(net.returns(net.dense(net.relu(t), 2), net.dense(net.relu(t), 3)))
    assert ops(after) == "transpose conv2d reshape clamp clamp dense dense"


def test_flatten_that_something_else_reads_keeps_its_transpose_and_says_why() -> None:
    net = Net(1, 3, 4, 5)
    t = net.reshape(net.relu(net.conv(net.x, 6, "a")), 1, 120)
    after, log = canonicalized(net.returns(net.dense(t, 2), net.dense(net.add(t, t), 2)))
    assert len(inner_transposes(after)) == 1
    assert "the permutation does not keep them together" in log.text


def test_a_channel_shuffle_becomes_a_gather_of_channels() -> None:
    net = Net(2, 3, 4, 5)
    t = net.reshape(net.conv(net.x, 6, "a"), 2, 2, 3, 4, 5)
    t = net.reshape(net.transpose(t, 0, 2, 1, 3, 4), 2, 6, 4, 5)
    after, _ = canonicalized(net.returns(net.conv(t, 2, "b")))
    assert ops(after) == "transpose conv2d gather conv2d transpose"
    gather = after.ops()[2]
    assert isinstance(gather, Gather)
    assert gather.axis == 3
    np.testing.assert_array_equal(after.data(gather.indices), [0, 3, 1, 4, 2, 5])


def test_the_shuffle_and_split_of_shufflenet_v2_becomes_strided_slices() -> None:
    net = Net(1, 3, 4, 5)
    t = net.concat(1, net.conv(net.x, 3, "a"), net.relu(net.conv(net.x, 3, "b")))
    t = net.transpose(net.reshape(t, 3, 2, 20), 1, 0, 2)
    t = net.reshape(t, 2, 1, 3, 4, 5)
    halves = [net.reshape(net.gather(t, 0, i), 1, 3, 4, 5) for i in (0, 1)]
    joined = net.concat(1, halves[0], net.conv(halves[1], 3, "c"))
    after, _ = canonicalized(net.returns(net.conv(joined, 2, "d")))
    assert not inner_transposes(after)
    assert "reshape" not in ops(after)
    slices = [op for op in after.ops() if isinstance(op, Slice)]
    assert [(s.starts[3], s.steps[3], s.sizes[3]) for s in slices] == [(0, 2, 3), (1, 2, 3)]


def test_a_detection_head_is_a_reshape_and_concat_in_nhwc() -> None:
    net = Net(1, 3, 4, 5)
    heads = [net.reshape(net.conv(net.x, 6, n), 1, 6, 20) for n in "abc"]
    after, _ = canonicalized(net.returns(net.transpose(net.concat(2, *heads), 0, 2, 1)))
    kinds = ops(after).split()
    assert kinds.count("transpose") == 1
    assert kinds[-1] == "concat"
    assert after.type(after.outputs["y0"]).shape == (1, 60, 6)


def test_space_to_depth_by_slices_of_the_input_leaves_the_transpose_at_the_input() -> None:
    net = Net(1, 3, 4, 6)
    parts = [
        net.graph.add_op(
            Slice(
                inputs=(net.x,),
                output=f"s{i}{j}",
                starts=(0, 0, i, j),
                sizes=(1, 3, 2, 3),
                steps=(1, 1, 2, 2),
            )
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    after, _ = canonicalized(net.returns(net.conv(net.concat(1, *parts), 2, "a")))
    assert ops(after) == "transpose slice slice slice slice concat conv2d transpose"


def test_transposes_of_unit_axes_become_reshapes_that_stay_out_of_fused_chains() -> None:
    net = Net(1, 3, 4, 5)
    t = net.relu(net.conv(net.x, 1, "a"))
    after, _ = canonicalized(net.returns(net.reshape(t, 1, 20)))
    assert ops(after) == "transpose conv2d clamp reshape"


def test_equal_transposes_are_shared() -> None:
    net = Net(1, 3, 4, 5)
    after, _ = canonicalized(
        net.returns(net.conv(net.x, 2, "a"), net.conv(net.x, 2, "b"), net.conv(net.x, 2, "c"))
    )
    assert ops(after).split().count("transpose") == 4


def test_broadcast_to_works_on_the_held_shape() -> None:
    net = Net(1, 3, 1, 1)
    t = net.conv(net.x, 6, "a")
    t = net.graph.add_op(BroadcastTo(inputs=(t,), output="e", shape=(1, 6, 4, 5)))
    after, _ = canonicalized(net.returns(net.conv(t, 2, "b")))
    broadcast = next(op for op in after.ops() if isinstance(op, BroadcastTo))
    assert broadcast.shape == (1, 4, 5, 6)
    assert not inner_transposes(after)


def test_softmax_over_swapped_axes_meets_the_layout() -> None:
    net = Net(1, 3, 4, 5)
    t = net.transpose(net.conv(net.x, 6, "a"), 0, 3, 2, 1)
    t = net.graph.add_op(Softmax(inputs=(t,), output="m", axis=3))
    t = net.concat(1, net.transpose(t, 0, 3, 2, 1), net.conv(net.x, 2, "b"))
    after, _ = canonicalized(net.returns(t))
    assert ops(after) == "transpose conv2d softmax conv2d concat transpose"


def test_an_input_that_is_transposed_straight_to_the_output_stays_an_op() -> None:
    net = Net(1, 3, 4, 5)
    back = net.transpose(net.transpose(net.x, *TO_NHWC), *TO_NCHW)
    after, _ = canonicalized(net.returns(back))
    assert after.producer(after.outputs["y0"]) is not None


def test_transposes_at_the_border_are_logged_as_such() -> None:
    net = Net(1, 3, 4, 5)
    _, log = canonicalized(net.returns(net.conv(net.x, 2, "a")))
    assert "moves a graph input" in log.text
    assert "moves a graph output" in log.text


def test_a_transpose_between_two_layouts_names_the_ops_that_hold_it() -> None:
    net = Net(1, 4, 4, 4)
    t = net.relu(net.conv(net.x, 4, "a"))
    pool = MaxPool2d(inputs=(t,), output="pool", kernel=(2, 2))
    after, log = canonicalized(net.returns(net.conv(net.graph.add_op(pool), 2, "b")))
    assert len(inner_transposes(after)) == 2
    assert "%pool: max_pool2d is defined for one layout" in log.text


@pytest.mark.zoo
@pytest.mark.parametrize(
    "model",
    [
        "mobilenetv2_tf",
        "mobilenetv1_025_224_bn",
        "squeezenet1_1",
        "resnet20_cifar10_bn",
        "yolox_nano",
        "fastestdet",
        "mnist-8",
    ],
)
def test_real_networks_keep_transposes_only_at_their_border(model: str, zoo: Path) -> None:
    imported = import_onnx(zoo / "models" / f"{model}.onnx").graph
    folded, _ = run_pass(imported, FoldConstants())
    after, _ = run_pass(folded, CanonicalizeLayout())
    assert not inner_transposes(after)
    again, _ = run_pass(after, CanonicalizeLayout())
    assert str(again) == str(after)
