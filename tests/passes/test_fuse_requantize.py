"""Lowering to integers: graphs of odd shapes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lowered_graphs import (
    PLAIN,
    annotated,
    build,
    feed_of,
    integers,
    lowered,
    sample,
    steps_apart,
    weighted,
)
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import DType, Graph, Tensor, TensorType
from qcomp.ir import ops as o
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import RELU, Function, Op, Reduction
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.lib.integer_rules.linear import doublings_to_narrow
from qcomp.passes.snap_scales import SnapScales
from qcomp.quant.fixed_point import Form as RequantizeForm
from qcomp.quant.qparams import SOFTMAX, QParams

Array = NDArray[Any]
Feed = Mapping[str, Array]


def residual() -> Graph:
    graph = build(1, 6, 6, 4, name="residual")
    random = np.random.default_rng(1)
    w = graph.add_constant("w", sample(random, (4, 3, 3, 4)))
    b = graph.add_constant("b", sample(random, (4,)))
    conv = o.Conv2d(inputs=("x", w, b), output="conv", padding=(1, 1, 1, 1), clamp=RELU)
    graph.add_op(conv)
    graph.add_op(o.Add(inputs=("conv", "x"), output="sum"))
    graph.add_op(o.MaxPool2d(inputs=("sum",), output="pool", kernel=(2, 2), stride=(2, 2)))
    graph.add_op(o.Reduce(inputs=("pool",), output="mean", kind=Reduction.MEAN, axes=(1, 2)))
    graph.add_op(o.Reshape(inputs=("mean",), output="flat", shape=(1, 4)))
    graph.add_op(o.Unary(inputs=("flat",), output="act", function=Function.HARD_SWISH))
    graph.outputs["scores"] = graph.add_op(o.Softmax(inputs=("act",), output="scores", axis=1))
    graph.outputs["best"] = graph.add_op(o.ArgMax(inputs=("act",), output="best", axis=1))
    for i, tensor in enumerate(graph.tensors()):
        if not tensor.is_constant and tensor.type.dtype is DType.F32:
            graph.update_tensor(replace(tensor, range=(-0.5 * i, 1.0 + i)))
    return graph


def test_a_residual_network(golden: Any) -> None:
    graph = residual()
    qdq, _ = run_pass(graph, InsertQuantize(PLAIN))
    qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    golden(str(qdq), str(integer), log.text)


def test_lowering_twice_changes_nothing() -> None:
    qdq, _ = run_pass(residual(), InsertQuantize(PLAIN))
    integer, _ = run_pass(qdq, FuseRequantize())
    before, log = str(integer), PassLog()
    FuseRequantize().run(integer, log)
    integer.sweep()
    assert str(integer) == before
    assert log.lines == []


def test_an_output_that_other_ops_read_keeps_its_own_integers() -> None:
    graph = build(3, 4)
    random = np.random.default_rng(5)
    weighted(graph, "x", sample(random, (6, 4)), sample(random, (6,)))
    graph.add_op(o.Unary(inputs=("y",), output="z", function=Function.TANH))
    graph.outputs.update(y="y", z="z")
    feed = feed_of(graph)
    qdq, integer, _ = lowered(graph, feed)
    assert steps_apart(qdq, integer, feed) <= 1.0
    assert [op.mnemonic for op in integer.ops()] == ["q_dense", "table"]


def test_one_tensor_under_two_output_names() -> None:
    graph = build(3, 4)
    graph.add_op(o.Mul(inputs=("x", "x"), output="y"))
    graph.outputs.update(first="y", second="y")
    feed = feed_of(graph)
    qdq, integer, _ = lowered(graph, feed)
    assert list(integer.outputs) == ["first", "second"]
    assert len(set(integer.outputs.values())) == 1
    assert steps_apart(qdq, integer, feed) <= 1.0


def test_an_input_that_is_also_an_output() -> None:
    graph = build(3, 4)
    graph.outputs["same"] = "x"
    feed = feed_of(graph)
    _, integer, _ = lowered(graph, feed)
    assert integer.outputs == {"same": "x"}
    assert integer.ops() == []
    quantized = integers(integer, feed)
    assert_array_equal(evaluate(integer, quantized)["same"], quantized["x"])


def test_a_movement_from_an_input_to_an_output() -> None:
    graph = build(3, 4)
    graph.outputs["y"] = graph.add_op(o.Transpose(inputs=("x",), output="y", permutation=(1, 0)))
    feed = feed_of(graph)
    _, integer, _ = lowered(graph, feed)
    assert [op.mnemonic for op in integer.ops()] == ["transpose"]
    assert integer.tensor("x").qparams == integer.tensor(integer.outputs["y"]).qparams
    quantized = integers(integer, feed)
    assert_array_equal(evaluate(integer, quantized)["y"], quantized["x"].T)


def test_inputs_that_nothing_reads_stay() -> None:
    graph = build(3, 4)
    graph.add_input("unread", TensorType(DType.F32, (7,)))
    graph.outputs["y"] = graph.add_op(o.Add(inputs=("x", "x"), output="y"))
    _, integer, _ = lowered(graph, feed_of(graph))
    assert str(integer.type(integer.inputs["unread"])) == "i8[7]"
    assert integer.tensor("unread").qparams == QParams(1.0)


def test_argmax_reads_integers() -> None:
    graph = build(3, 40)
    graph.outputs["best"] = graph.add_op(o.ArgMax(inputs=("x",), output="best", axis=1))
    feed = feed_of(graph)
    _, integer, log = lowered(graph, feed)
    assert log.lines == ["did  best: reads integers"]
    expected = integers(integer, feed)["x"].argmax(axis=1, keepdims=True)
    assert_array_equal(evaluate(integer, integers(integer, feed))["best"], expected)


def test_operands_that_are_scalars() -> None:
    graph = build(3, 4)
    graph.add_op(
        o.Reduce(inputs=("x",), output="s", kind=Reduction.SUM, axes=(0, 1), keepdims=False)
    )
    k = graph.add_constant("k", np.array(0.3, np.float32))
    graph.outputs["y"] = graph.add_op(o.Mul(inputs=("s", k), output="y"))
    assert graph.type("y").shape == ()
    feed = feed_of(graph)
    qdq, integer, _ = lowered(graph, feed)
    assert integer.type(integer.outputs["y"]).shape == ()
    assert steps_apart(qdq, integer, feed) <= 1.0


def join(first: Op, shape: tuple[int, int] = (2, 8)) -> tuple[Graph, dict[str, Array]]:
    """softmax(x) and another tensor, concatenated."""
    graph = build(*shape)
    z = graph.add_input("z", TensorType(DType.F32, shape))
    graph.add_op(first)
    graph.add_op(o.Concat(inputs=(first.output, z), output="y", axis=1))
    graph.outputs["y"] = "y"
    return graph, feed_of(graph)


def test_softmax_joined_with_a_wider_tensor_is_rescaled_by_a_table() -> None:
    graph, feed = join(o.Softmax(inputs=("x",), output="p", axis=1))
    qdq, integer, log = lowered(graph, feed)
    kinds = [op.mnemonic for op in integer.ops()]
    assert kinds == ["q_softmax", "table", "concat"]
    softmax = next(op for op in integer.ops() if isinstance(op, o.QSoftmax))
    assert integer.tensor(softmax.output).qparams == SOFTMAX
    assert "dequantize to table" in log.text
    assert steps_apart(qdq, integer, feed) <= 1.0


def test_softmax_joined_with_what_fits_its_scale_needs_no_table() -> None:
    graph, feed = join(o.Softmax(inputs=("x",), output="p", axis=1))
    feed["z"] = np.clip(feed["z"], 0.0, 1.0)
    qdq, integer, _ = lowered(graph, feed)
    assert [op.mnemonic for op in integer.ops()] == ["q_softmax", "concat"]
    assert integer.tensor("z").qparams == SOFTMAX
    assert steps_apart(qdq, integer, feed) <= 1.0


def test_a_near_dead_channel_with_a_bias_keeps_its_bias() -> None:
    """onnxruntime issue 11415: at scale_x * scale_w the bias of this channel would need 2^43."""
    graph = build(4, 3)
    weight = np.array([[1.0, -0.5, 0.25], [1e-12, 0, -1e-12], [0, 0, 0]])
    weighted(graph, "x", weight, np.array([0.1, 2.0, -1.5]))
    graph.outputs["y"] = "y"
    feed = feed_of(graph)
    for snap in (False, True):
        qdq, integer, _ = lowered(graph, feed, snap=snap)
        step = next(t.qparams.scale for t in qdq.tensors() if t.id == "y.q" and t.qparams)
        got = evaluate(qdq, feed)["y"]
        assert np.abs(got[:, 1] - 2.0).max() <= step
        assert np.abs(got[:, 2] + 1.5).max() <= step
        assert steps_apart(qdq, integer, feed) <= 1.0
        (dense,) = [op for op in integer.ops() if isinstance(op, o.QDense)]
        assert dense.requantize.form is RequantizeForm.NARROW
        assert np.abs(integer.data(dense.bias).astype(np.int64)).max() < 2**30


def test_factors_of_one_and_above_take_the_wide_form() -> None:
    graph = build(4, 3)
    weighted(graph, "x", np.eye(3) * 500.0, np.zeros(3))
    graph.outputs["y"] = "y"
    feed = feed_of(graph)
    ranged = annotated(graph, feed)
    ranged.update_tensor(replace(ranged.tensor("y"), range=(-1.0, 1.0)))
    qdq, _ = run_pass(ranged, InsertQuantize(PLAIN))
    qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    assert "dense to q_dense, wide" in log.text
    assert steps_apart(qdq, integer, feed) <= 1.0


def test_small_integers_are_doubled_where_that_makes_the_factor_narrow() -> None:
    """The factors are 4.1 and 33, so 4 bits leave room for one of them."""
    weight = np.diag([7.0, -7.0, 7.0])
    for part, doublings in ((0.06, 3), (0.0075, None)):
        graph = build(4, 3)
        weighted(graph, "x", weight, np.full(3, 0.1))
        graph.outputs["y"] = "y"
        feed = feed_of(graph)
        ranged = annotated(graph, feed)
        low, high = ranged.tensor("x").range or (0.0, 0.0)
        ranged.update_tensor(replace(ranged.tensor("y"), range=(low * part * 4, high * part * 4)))
        qdq, _ = run_pass(
            ranged, InsertQuantize(replace(PLAIN, weight_bits=4, first_last_weight_bits=4))
        )
        integer, _ = run_pass(qdq, FuseRequantize())
        (dense,) = [op for op in integer.ops() if isinstance(op, o.QDense)]
        narrow = dense.requantize.form is RequantizeForm.NARROW
        assert narrow == (doublings is not None)
        assert_array_equal(integer.data(dense.weight), weight * 2 ** (doublings or 0))
        assert steps_apart(qdq, integer, feed) <= 1.0


@pytest.mark.parametrize(
    ("weight", "largest", "real", "expected"),
    [
        ([[7, -7], [3, 1]], 1000, [0.5, 8.5], [0, 4]),  # each channel by itself
        ([[64, 0], [1, 0]], 1000, [1.5, 0.5], [0, 0]),  # no room: all stay
        ([[7, 1]], 2**28 - 1, [3.0], [2]),
        ([[7, 1]], 2**28, [3.0], [0]),  # the sums would not
        ([[1, 1]], 1000, [2.0**-40], [0]),  # a factor that is too small
        ([[1, 1]], 1000, [1.0 - 2.0**-20], [1]),  # it rounds to 1
    ],
)
def test_doublings_have_room(
    weight: Any, largest: int, real: list[float], expected: list[int]
) -> None:
    found = doublings_to_narrow(np.array(weight, np.int64), largest, np.array(real))
    assert found.tolist() == expected


def test_snapped_scales_make_the_multiplier_exact() -> None:
    graph = build(4, 16)
    random = np.random.default_rng(2)
    weighted(graph, "x", sample(random, (8, 16)), sample(random, (8,)))
    graph.outputs["y"] = "y"
    qdq, integer, log = lowered(graph, feed_of(graph))
    assert "dense to q_dense, narrow" in log.text
    (dense,) = [op for op in integer.ops() if isinstance(op, o.QDense)]
    x, y = integer.tensor("x").qparams, integer.tensor(dense.output).qparams
    assert x is not None
    assert y is not None
    real = x.scale * qdq.data("y.w.scale") / y.scale
    m, k = integer.data(dense.multiplier), integer.data(dense.shift)
    np.testing.assert_allclose(m * 2.0 ** -(k + 15.0), real, rtol=1e-15)


def test_one_scale_for_all_channels() -> None:
    graph = build(4, 16)
    random = np.random.default_rng(2)
    weighted(graph, "x", sample(random, (8, 16)), sample(random, (8,)))
    graph.outputs["y"] = "y"
    feed = feed_of(graph)
    qdq, _ = run_pass(annotated(graph, feed), InsertQuantize(replace(PLAIN, per_channel=False)))
    qdq, _ = run_pass(qdq, SnapScales())
    integer, _ = run_pass(qdq, FuseRequantize())
    (dense,) = [op for op in integer.ops() if isinstance(op, o.QDense)]
    assert len(set(integer.data(dense.multiplier).tolist())) == 1
    assert steps_apart(qdq, integer, feed) <= 1.0


# ---------------------------------------------------------------- refusals


def refused(damage: Callable[[Graph], None], graph: Graph, message: str) -> None:
    qdq, _ = run_pass(annotated(graph, feed_of(graph)), InsertQuantize(PLAIN))
    damage(qdq)
    with pytest.raises(PassError, match=message):
        run_pass(qdq, FuseRequantize())


def squared() -> Graph:
    graph = build(3, 4)
    graph.outputs["y"] = graph.add_op(o.Mul(inputs=("x", "x"), output="y"))
    return graph


def test_an_input_in_two_scales_is_refused() -> None:
    def damage(graph: Graph) -> None:
        q = graph.add_op(o.Quantize(inputs=("x",), output="other.q"))
        graph.update_tensor(Tensor(q, graph.type(q), qparams=QParams(0.5)))
        graph.outputs["other"] = graph.add_op(o.Dequantize(inputs=(q,), output="other.dq"))

    refused(damage, squared(), "input %x is quantized in 2 ways; expected one")


def test_an_op_without_an_integer_form_is_refused_with_its_line() -> None:
    def damage(graph: Graph) -> None:
        ones = [graph.add_constant(f"c{i}", np.ones(4, np.float32)) for i in range(4)]
        y = graph.op("y")
        graph.replace_op(o.BatchNorm(inputs=(y.inputs[0], *ones), output="y"))

    refused(damage, squared(), r"%y = batch_norm\(.*\n  has no integer form")


def test_scales_without_an_integer_form_are_refused_with_the_reason() -> None:
    def damage(graph: Graph) -> None:
        graph.update_tensor(replace(graph.tensor("y.q"), qparams=QParams(1e-30)))

    refused(damage, squared(), r"%y = mul\(.*\n  has no integer form: multiplier .* is too large")


def test_a_constant_operand_with_a_scale_per_channel_is_refused() -> None:
    graph = build(3, 4)
    k = graph.add_constant("k", np.ones(4, np.float32))
    graph.outputs["y"] = graph.add_op(o.Mul(inputs=("x", k), output="y"))

    def damage(graph: Graph) -> None:
        scales = graph.add_constant("scales", np.ones(4))
        graph.replace_op(graph.op("k.fq").with_input(1, scales))

    refused(damage, graph, "%k.fq has a scale per channel; expected one for all")


def test_weights_that_were_not_rounded_are_refused() -> None:
    graph = build(3, 4)
    weighted(graph, "x", np.ones((2, 4)), np.zeros(2))
    graph.outputs["y"] = "y"

    def damage(graph: Graph) -> None:
        graph.replace_op(graph.op("y").with_input(1, "y.w"))

    refused(damage, graph, "y: weight and bias must be quantized constants")


@pytest.mark.parametrize("bits", [8, 16])
def test_rows_are_found_by_indices_of_any_step(bits: int) -> None:
    """Of 8 bits; those of 16 are whole numbers."""
    graph = build(1, 40, name="rows")
    table = graph.add_constant("t", sample(np.random.default_rng(0), (9, 3)))
    graph.outputs["y"] = graph.add_op(o.Embedding(inputs=("x", table), output="y"))
    feed = {"x": np.linspace(0, 8, 40, dtype=np.float32)[None]}
    config = replace(PLAIN, overrides={"x": {"activation_bits": bits}})
    if bits == 16:
        with pytest.raises(PassError, match=r"indices of 16 bits in steps of .* whole numbers"):
            lowered(graph, feed, config=config)
    else:
        qdq, integer, _ = lowered(graph, feed, config=config)
        assert steps_apart(qdq, integer, feed) == 0.0


@pytest.mark.parametrize("small", [1e-6, 1e-12, 1e6])
def test_a_branch_that_is_0_on_all_data_joins_one_of_any_size(small: float) -> None:
    graph = build(1, 4, 4, 4, name="dead")
    scale = graph.add_constant("k", np.full(4, small, np.float32))
    graph.add_op(o.Clamp(inputs=("x",), output="dead", clamp=o.ClampRange(0.0, 0.0)))
    graph.add_op(o.Mul(inputs=("x", scale), output="scaled"))
    graph.add_op(o.Add(inputs=("dead", "scaled"), output="sum"))
    graph.outputs["sum"] = "sum"
    feed = {"x": sample(np.random.default_rng(0), (1, 4, 4, 4))}
    qdq, integer, _ = lowered(graph, feed)
    assert steps_apart(qdq, integer, feed) <= 1.0
