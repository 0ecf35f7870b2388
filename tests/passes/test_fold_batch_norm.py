"""Batch norms and per-channel constants go into linear ops, and the function stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    Add,
    BatchNorm,
    Clamp,
    Conv2d,
    Dense,
    Div,
    Function,
    MaxPool2d,
    Mul,
    Reshape,
    Sub,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.fold_batch_norm import FoldBatchNorm

F32 = NDArray[np.float32]


class Net:
    """A float graph under construction, with constants from one seeded generator."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.graph = Graph("net")
        self.rng = np.random.default_rng(seed)
        self.x = self.graph.add_input("x", TensorType(DType.F32, shape))

    def channels(self, id: TensorId) -> int:
        return self.graph.type(id).shape[-1]

    def constant(self, hint: str, *shape: int) -> TensorId:
        data = self.rng.uniform(0.25, 2, shape) * self.rng.choice([-1, 1], shape)
        return self.graph.add_constant(hint, data.astype(np.float32))

    def array(self, hint: str, values: object) -> TensorId:
        return self.graph.add_constant(hint, np.array(values, np.float32))

    def conv(
        self,
        x: TensorId,
        outputs: int,
        kernel: int = 3,
        groups: int = 1,
        stride: int = 1,
        relu: bool = False,
        output: str = "conv",
    ) -> TensorId:
        weight = self.constant("w", outputs, kernel, kernel, self.channels(x) // groups)
        return self.graph.add_op(
            Conv2d(
                inputs=(x, weight, self.constant("b", outputs)),
                output=self.graph.fresh_id(output),
                padding=(kernel // 2,) * 4,
                groups=groups,
                stride=(stride, stride),
                **({"clamp": RELU} if relu else {}),
            )
        )

    def dense(self, x: TensorId, outputs: int) -> TensorId:
        weight = self.constant("w", outputs, self.channels(x))
        inputs = (x, weight, self.constant("b", outputs))
        return self.graph.add_op(Dense(inputs=inputs, output=self.graph.fresh_id("dense")))

    def batch_norm(self, x: TensorId, output: str = "bn") -> TensorId:
        c = self.channels(x)
        var = self.graph.add_constant("var", self.rng.uniform(0.1, 3, c).astype(np.float32))
        parameters = (*(self.constant(n, c) for n in ("gamma", "beta", "mean")), var)
        return self.graph.add_op(
            BatchNorm(inputs=(x, *parameters), output=self.graph.fresh_id(output), eps=1e-3)
        )

    def pool(self, x: TensorId) -> TensorId:
        return self.graph.add_op(MaxPool2d(inputs=(x,), output="pool", kernel=(2, 2)))

    def returning(self, *outputs: TensorId) -> Graph:
        self.graph.outputs = {f"y{i}": t for i, t in enumerate(outputs)}
        return self.graph


def mnemonics(graph: Graph) -> list[str]:
    return [op.mnemonic for op in graph.ops()]


def folded(before: Graph) -> tuple[Graph, PassLog]:
    """The graph after the pass, which computes the same and which the pass leaves alone."""
    after, log = run_pass(before, FoldBatchNorm())
    rng = np.random.default_rng(1)
    x = {
        n: rng.normal(size=before.type(t).shape).astype(np.float32)
        for n, t in before.inputs.items()
    }
    expected = evaluate(before, x)
    for name, y in evaluate(after, x).items():
        assert_allclose(y, expected[name], rtol=1e-5, atol=1e-5 * np.abs(expected[name]).max())
    again, _ = run_pass(after, FoldBatchNorm())
    assert str(again) == str(after)
    return after, log


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    per_group=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_batch_norm_folds_into_any_convolution_before_it(
    groups: int, per_group: int, stride: int, kernel: int, seed: int
) -> None:
    net = Net(1, 5, 6, 4, seed=seed)
    y = net.batch_norm(net.conv(net.x, groups * per_group, kernel, groups, stride))
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d"]
    assert after.outputs == {"y0": "bn"}
    assert log.text == "did  bn into conv"


@settings(max_examples=20, deadline=None)
@given(groups=st.sampled_from([1, 2, 4]), per_group=st.integers(1, 3), seed=st.integers(0, 99))
def test_batch_norm_folds_into_any_unpadded_convolution_behind_it(
    groups: int, per_group: int, seed: int
) -> None:
    net = Net(1, 5, 6, 4, seed=seed)
    y = net.conv(net.batch_norm(net.x), groups * per_group, kernel=1, groups=groups)
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d"]
    assert log.text == "did  bn into conv behind it"


def test_batch_norm_folds_into_dense_before_and_behind() -> None:
    net = Net(3, 5)
    y = net.batch_norm(net.dense(net.x, 4))
    assert mnemonics(folded(net.returning(y))[0]) == ["dense"]
    net = Net(3, 5)
    y = net.dense(net.batch_norm(net.x), 4)
    assert mnemonics(folded(net.returning(y))[0]) == ["dense"]


def test_a_chain_of_batch_norm_and_constants_folds_whole() -> None:
    net = Net(1, 5, 5, 3)
    g = net.graph
    y = net.batch_norm(net.conv(net.x, 4))
    y = g.add_op(Mul(inputs=(net.constant("k", 1, 1, 1, 4), y), output="mul"))
    y = g.add_op(Add(inputs=(y, net.constant("k", 1, 1, 4)), output="add"))
    y = g.add_op(Sub(inputs=(net.constant("k", 4), y), output="from"))
    y = g.add_op(Div(inputs=(y, net.constant("k")), output="div", clamp=RELU))
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d"]
    assert log.count("did") == 5
    assert after.op("div").clamp == RELU  # type: ignore[attr-defined]


def test_a_scalar_affine_folds_into_a_convolution() -> None:
    net = Net(1, 5, 5, 3)
    y = net.conv(net.x, 4)
    y = net.graph.add_op(
        Unary(inputs=(y,), output="y", function=Function.AFFINE, alpha=0.5, beta=-1.0)
    )
    assert mnemonics(folded(net.returning(y))[0]) == ["conv2d"]


def test_batch_norm_folds_through_a_reshape_that_keeps_the_channels() -> None:
    net = Net(1, 1, 6, 3)
    y = net.conv(net.x, 4, kernel=1)
    y = net.graph.add_op(Reshape(inputs=(y,), output="sequence", shape=(1, 6, 4)))
    after, log = folded(net.returning(net.batch_norm(y)))
    assert mnemonics(after) == ["conv2d", "reshape"]
    assert after.outputs == {"y0": "bn"}
    assert log.text == "did  bn into conv"


def test_the_result_knows_the_statistics_that_the_batch_norm_imposed() -> None:
    net = Net(1, 5, 5, 3)
    y = net.batch_norm(net.conv(net.x, 4))
    net.graph.add_op(Mul(inputs=(y, net.array("k", [2, -1, 3, 4])), output="mul"))
    y = net.graph.add_op(Add(inputs=("mul", net.array("k", [1, 0, 0, 5])), output="add"))
    before = net.returning(y)
    after, _ = folded(before)
    normal = after.tensor("add").normal
    assert normal is not None
    assert_allclose(normal.mean, before.data("beta") * [2, -1, 3, 4] + [1, 0, 0, 5], rtol=1e-6)
    assert_allclose(normal.std, np.abs(before.data("gamma")) * [2, 1, 3, 4], rtol=1e-6)


def test_a_constant_after_a_plain_convolution_imposes_no_statistics() -> None:
    net = Net(1, 5, 5, 3)
    y = net.graph.add_op(
        Add(inputs=(net.conv(net.x, 4), net.constant("k", 1, 1, 1, 4)), output="y")
    )
    after, _ = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d"]
    assert after.tensor("y").normal is None


def test_a_weight_that_two_convolutions_share_is_copied() -> None:
    net = Net(1, 5, 5, 3)
    first = net.conv(net.x, 4)
    second = net.graph.add_op(
        Conv2d(inputs=(net.x, "w", "b"), output="second", padding=(1, 1, 1, 1))
    )
    before = net.returning(net.batch_norm(first), second)
    after, log = folded(before)
    assert log.text == "did  bn into conv"
    assert mnemonics(after) == ["conv2d", "conv2d"]
    assert after.op("second").inputs == ("x", "w", "b")
    assert (after.data("w") == before.data("w")).all()


def test_the_graph_given_to_the_pass_keeps_its_numbers() -> None:
    net = Net(1, 5, 5, 3)
    before = net.returning(net.batch_norm(net.conv(net.x, 4)))
    weight, text = before.data("w").copy(), str(before)
    folded(before)
    assert (before.data("w") == weight).all()
    assert str(before) == text


@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (2, 6, 3), (4, 70), (5,)])
def test_batch_norm_alone_becomes_a_depthwise_convolution_in_any_rank(
    shape: tuple[int, ...],
) -> None:
    net = Net(*shape)
    y = net.graph.add_op(Clamp(inputs=(net.batch_norm(net.x),), output="relu", clamp=RELU))
    after, log = folded(net.returning(y))
    assert "batch_norm" not in mnemonics(after)
    assert mnemonics(after).count("conv2d") == 1
    assert "did  bn into a depthwise 1x1 convolution: %x does not come from a" in log.text
    assert after.tensor("bn").normal is not None


def test_a_chain_that_meets_no_linear_op_becomes_one_depthwise_convolution() -> None:
    net = Net(1, 5, 5, 3)
    y = net.batch_norm(net.batch_norm(net.pool(net.x)), output="second")
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["max_pool2d", "conv2d"]
    assert "did  second into bn" in log.text


def test_a_scalar_constant_alone_is_left_for_a_table() -> None:
    net = Net(1, 5, 5, 3)
    y = net.graph.add_op(Mul(inputs=(net.x, net.constant("k")), output="y"))
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["mul"]
    assert "one value in all channels needs no convolution" in log.text


def test_a_per_channel_constant_alone_becomes_a_depthwise_convolution() -> None:
    net = Net(1, 5, 5, 3)
    y = net.graph.add_op(Mul(inputs=(net.x, net.constant("k", 3)), output="y", clamp=RELU))
    after, _ = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d"]


def test_a_constant_that_varies_over_pixels_is_no_affine_function_of_a_channel() -> None:
    net = Net(1, 5, 5, 3)
    y = net.graph.add_op(
        Add(inputs=(net.conv(net.x, 3), net.constant("k", 1, 5, 5, 3)), output="y")
    )
    after, log = folded(net.returning(y))
    assert mnemonics(after) == ["conv2d", "add"]
    assert log.text == ""


def test_a_convolution_with_other_users_is_not_changed() -> None:
    net = Net(1, 5, 5, 3)
    conv = net.conv(net.x, 4)
    after, log = folded(net.returning(net.batch_norm(conv), net.pool(conv)))
    assert sorted(mnemonics(after)) == ["conv2d", "conv2d", "max_pool2d"]
    assert "bn into a depthwise 1x1 convolution: %conv has other users" in log.text


def test_a_convolution_that_is_an_output_is_not_changed() -> None:
    net = Net(1, 5, 5, 3)
    conv = net.conv(net.x, 4)
    _, log = folded(net.returning(net.batch_norm(conv), conv))
    assert "%conv has other users" in log.text


def test_a_clamp_of_the_convolution_keeps_the_batch_norm_out() -> None:
    net = Net(1, 5, 5, 3)
    after, log = folded(net.returning(net.batch_norm(net.conv(net.x, 4, relu=True))))
    assert mnemonics(after) == ["conv2d", "conv2d"]
    assert "a clamp stands behind %conv" in log.text


def test_a_padded_convolution_does_not_take_in_a_shift_before_it() -> None:
    net = Net(1, 5, 5, 3)
    after, log = folded(net.returning(net.conv(net.batch_norm(net.x), 4)))
    assert mnemonics(after) == ["conv2d", "conv2d"]
    assert "%conv pads with zeros and the shift is not zero" in log.text


def test_a_padded_convolution_takes_in_a_scale_before_it() -> None:
    net = Net(1, 5, 5, 3)
    scaled = net.graph.add_op(Mul(inputs=(net.x, net.constant("k", 3)), output="scaled"))
    after, _ = folded(net.returning(net.conv(scaled, 4)))
    assert mnemonics(after) == ["conv2d"]


def test_a_batch_norm_with_two_readers_does_not_go_ahead() -> None:
    net = Net(1, 5, 5, 3)
    bn = net.batch_norm(net.x)
    _, log = folded(net.returning(net.conv(bn, 4, kernel=1), net.conv(bn, 4, kernel=1)))
    assert "%bn is not read by one op alone" in log.text


def test_a_clamp_between_keeps_a_constant_from_going_ahead() -> None:
    net = Net(1, 5, 5, 3)
    scaled = net.graph.add_op(
        Mul(inputs=(net.x, net.constant("k", 3)), output="scaled", clamp=RELU)
    )
    _, log = folded(net.returning(net.conv(scaled, 4, kernel=1)))
    assert "a clamp stands between it and %conv" in log.text


def test_a_variance_near_zero_is_folded() -> None:
    net = Net(1, 5, 5, 3)
    conv = net.conv(net.x, 2)
    var = net.array("var", [0.0, 1e-20])
    parameters = (*(net.constant(n, 2) for n in ("gamma", "beta", "mean")), var)
    y = net.graph.add_op(BatchNorm(inputs=(conv, *parameters), output="bn", eps=1e-5))
    assert mnemonics(folded(net.returning(y))[0]) == ["conv2d"]


@pytest.mark.parametrize("var", [-1.0, 0.0])
def test_a_batch_norm_that_is_not_finite_is_left_with_the_reason(var: float) -> None:
    net = Net(1, 5, 5, 3)
    conv = net.conv(net.x, 2)
    parameters = (
        *(net.constant(n, 2) for n in ("gamma", "beta", "mean")),
        net.array("v", [1, var]),
    )
    y = net.graph.add_op(BatchNorm(inputs=(conv, *parameters), output="bn", eps=0.0))
    after, log = run_pass(net.returning(y), FoldBatchNorm())
    assert mnemonics(after) == ["conv2d", "batch_norm"]
    assert log.text == "skip bn: the scale or shift of a channel is not finite in float32"


def test_weights_that_would_overflow_stay_apart() -> None:
    net = Net(1, 5, 5, 1)
    conv = net.graph.add_op(
        Conv2d(inputs=(net.x, net.array("w", [[[[3e38]]]]), net.array("b", [0])), output="conv")
    )
    y = net.graph.add_op(Mul(inputs=(conv, net.array("k", [[[[100]]]])), output="y"))
    _, log = run_pass(net.returning(y), FoldBatchNorm())
    assert "the folded weights of %conv are not finite in float32" in log.text
