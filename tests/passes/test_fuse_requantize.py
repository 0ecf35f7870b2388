"""Lowering to integers: every rule is within one step of the QDQ form; graphs of odd shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import DType, Form, Graph, Tensor, TensorType, verify
from qcomp.ir import ops as o
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.ops import RELU, RELU6, ClampRange, Function, Op, Reduction
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import PassLog, run_pass
from qcomp.passes.fuse_requantize import FuseRequantize
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.passes.integer_rules import RULES
from qcomp.passes.snap_scales import SnapScales
from qcomp.quant.fixed_point import Form as RequantizeForm
from qcomp.quant.qparams import SOFTMAX, QParams, quantize

Array = NDArray[Any]
Feed = Mapping[str, Array]
IMAGE = (2, 6, 5, 4)
DCR, ALIGN = o.BlockOrder.DCR, o.Coordinates.ALIGN_CORNERS


@dataclass(frozen=True)
class Case:
    """One float op: its type, attributes, shapes of activations, shapes of constants after them."""

    op: type[Op]
    attributes: Mapping[str, Any]
    activations: tuple[tuple[int, ...], ...] = (IMAGE,)
    constants: tuple[tuple[int, ...], ...] = ()
    positive: bool = False

    def __str__(self) -> str:
        values = [getattr(v, "value", v) for v in self.attributes.values()]
        shapes = [*self.activations, *self.constants][1:]
        return f"{self.op.mnemonic}-{values}-{shapes}".replace(" ", "")


def case(op: type[Op], *activations: tuple[int, ...], **attributes: Any) -> Case:
    return Case(op, attributes, activations or (IMAGE,))


CONV = ((7, 3, 2, 4), (7,))
CASES = [
    Case(o.Conv2d, {"stride": (2, 1), "padding": (1, 0, 1, 2)}, constants=CONV),
    Case(o.Conv2d, {"dilation": (1, 2), "clamp": RELU6}, constants=CONV),
    Case(o.Conv2d, {"groups": 2}, constants=((6, 3, 3, 2), (6,))),
    Case(o.Conv2d, {"groups": 4, "clamp": RELU}, constants=((4, 3, 3, 1), (4,))),
    Case(o.Dense, {}, constants=((9, 4), (9,))),
    Case(o.Dense, {"clamp": ClampRange(-0.25, 0.5)}, ((3, 8),), ((5, 8), (5,))),
    case(o.MatMul, (2, 3, 4), (4, 5)),
    Case(o.MatMul, {}, ((2, 3, 4),), ((4, 5),)),
    *(
        Case(op, {"clamp": clamp}, (IMAGE, other))
        for op in (o.Add, o.Sub, o.Mul, o.Minimum, o.Maximum)
        for clamp, other in [(o.NO_CLAMP, IMAGE), (RELU, (5, 1)), (ClampRange(-0.1, 0.3), IMAGE)]
    ),
    *(
        Case(op, {}, (IMAGE,), (other,))
        for op in (o.Add, o.Sub, o.Mul, o.Minimum, o.Maximum)
        for other in [(4,), ()]
    ),
    Case(o.Div, {}, (IMAGE, IMAGE), positive=True),
    Case(o.Div, {}, (IMAGE,), ((4,),), positive=True),
    *(Case(o.Unary, {"function": f}) for f in Function),
    Case(o.Unary, {"function": Function.AFFINE, "alpha": -0.5, "beta": 0.2}),
    Case(o.Unary, {"function": Function.POW, "alpha": 2.0}),
    Case(o.Clamp, {"clamp": ClampRange(-0.3, 0.7)}),
    Case(o.PRelu, {}, constants=((4,),)),
    Case(o.PRelu, {}, constants=((1,),)),
    case(o.AveragePool2d, kernel=(3, 2), stride=(2, 1), padding=(1, 1, 1, 0)),
    case(o.AveragePool2d, kernel=(3, 3), padding=(1, 1, 1, 1), count_include_pad=True),
    *(
        case(o.Reduce, kind=kind, axes=axes, keepdims=keepdims)
        for kind in Reduction
        for axes, keepdims in [((1, 2), True), ((0, 3), False)]
    ),
    case(o.Softmax, (3, 10), axis=1),
    case(o.Softmax, axis=1),
    case(o.LogSoftmax, (3, 10), axis=1),
    case(o.MaxPool2d, kernel=(3, 2), stride=(1, 2), padding=(1, 0, 1, 1)),
    case(o.Reshape, shape=(4, 60)),
    case(o.Transpose, permutation=(3, 1, 0, 2)),
    case(o.Concat, IMAGE, (2, 6, 5, 3), axis=3),
    Case(o.Concat, {"axis": 0}, (IMAGE,), ((1, 6, 5, 4),)),
    case(o.Slice, starts=(0, 5, 0, 1), sizes=(2, 3, 5, 2), steps=(1, -2, 1, 2)),
    case(o.Pad, before=(0, 1, 2, 0), after=(0, 0, 1, 1), value=0.25),
    case(o.Pad, before=(0, 1, 2, 0), after=(0, 0, 1, 1), mode=o.PadMode.REFLECT),
    case(o.BroadcastTo, (1, 4), shape=(3, 5, 4)),
    case(o.Tile, (2, 3), repeats=(2, 3)),
    case(o.Resize2d, size=(12, 7), scale=(2.0, 7 / 5)),
    case(o.Resize2d, size=(9, 9), scale=(1.5, 9 / 5), mode=o.ResizeMode.LINEAR, coordinates=ALIGN),
    case(o.DepthToSpace, block=2, order=DCR),
    case(o.SpaceToDepth, (1, 4, 6, 3), block=2),
    case(o.ZeroStuff, stride=(2, 3)),
    Case(o.Gather, {"axis": 3}, constants=((6,),)),
]


def float_graph(case: Case, random: np.random.Generator, spread: float, shift: float) -> Graph:
    graph = Graph("g")
    inputs: list[TensorId] = [
        graph.add_input(f"x{i}", TensorType(DType.F32, shape))
        for i, shape in enumerate(case.activations)
    ]
    for i, shape in enumerate(case.constants):
        data = sample(random, shape, spread, shift, case.positive)
        if case.op is o.Gather:
            data = random.integers(0, 4, shape)
        inputs.append(graph.add_constant(f"k{i}", data))
    graph.outputs["y"] = graph.add_op(case.op(inputs=tuple(inputs), output="y", **case.attributes))
    return graph


def sample(
    random: np.random.Generator,
    shape: tuple[int, ...],
    spread: float = 1.0,
    shift: float = 0.0,
    positive: bool = False,
) -> Array:
    data = random.normal(shift, 1.0, shape) * spread
    data = np.abs(data) + 0.3 * spread if positive else data
    return np.asarray(data, np.float32)


def annotated(graph: Graph, feed: Feed) -> Graph:
    """A copy whose ranges are those of one run, finite and not absurd."""
    graph = graph.clone()
    for id, value in evaluate_all(graph, feed).items():
        tensor = graph.tensor(id)
        if tensor.type.dtype is DType.F32:
            finite = value[np.isfinite(value)]
            low, high = (
                float(np.clip(f(finite, initial=0.0), -1e4, 1e4)) for f in (np.min, np.max)
            )
            graph.update_tensor(replace(tensor, range=(low, high)))
    return graph


def lowered(graph: Graph, feed: Feed, *, snap: bool = True) -> tuple[Graph, Graph, PassLog]:
    """The QDQ form and the integer form."""
    qdq, _ = run_pass(annotated(graph, feed), InsertQuantize())
    if snap:
        qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    return qdq, integer, log


def integers(graph: Graph, feed: Feed) -> dict[str, Array]:
    quantized = {}
    for name, id in graph.inputs.items():
        qparams = graph.tensor(id).qparams
        assert qparams is not None
        quantized[name] = quantize(feed[name], qparams)
    return quantized


def steps_apart(qdq: Graph, integer: Graph, feed: Feed) -> float:
    """The largest distance of the two forms' outputs, in steps of the output."""
    expected, got = evaluate(qdq, feed), evaluate(integer, integers(integer, feed))
    largest = 0.0
    for name, id in integer.outputs.items():
        q = integer.tensor(id).qparams
        if q is None:
            assert_array_equal(got[name], expected[name])
        else:
            steps = expected[name].astype(np.float64) / q.scale + q.zero_point
            largest = max(largest, float(np.abs(got[name] - np.rint(steps)).max()))
    return largest


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([2.0**-8, 0.3, 1.0, 5.0]),
    shift=st.sampled_from([-2.0, 0.0, 0.7]),
    snap=st.booleans(),
)
def test_integers_are_within_one_step_of_the_qdq_form(
    case: Case, seed: int, spread: float, shift: float, snap: bool
) -> None:
    random = np.random.default_rng(seed)
    graph = float_graph(case, random, spread, shift)
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    feed = {n: sample(random, t.shape, spread, shift, case.positive) for n, t in types.items()}
    qdq, integer, _ = lowered(graph, feed, snap=snap)
    assert steps_apart(qdq, integer, feed) <= 1.0


@pytest.mark.parametrize(
    "op",
    [o.MaxPool2d, o.Reshape, o.Transpose, o.Concat, o.Slice, o.Tile, o.Minimum, o.Maximum],
)
def test_copies_are_exact(op: type[Op]) -> None:
    for case in (c for c in CASES if c.op is op and not c.constants):
        random = np.random.default_rng(3)
        graph = float_graph(case, random, 1.0, 0.0)
        feed = {n: sample(random, graph.type(t).shape) for n, t in graph.inputs.items()}
        qdq, integer, _ = lowered(graph, feed)
        assert steps_apart(qdq, integer, feed) == 0.0


def test_every_rule_has_a_case() -> None:
    assert {c.op for c in CASES} == set(RULES)


# ------------------------------------------------------------------- graphs


def build(*shape: int, name: str = "g") -> Graph:
    graph = Graph(name)
    graph.add_input("x", TensorType(DType.F32, shape))
    return graph


def weighted(graph: Graph, x: TensorId, weight: Array, bias: Array, y: TensorId = "y") -> TensorId:
    w = graph.add_constant(f"{y}.w", np.asarray(weight, np.float32))
    b = graph.add_constant(f"{y}.b", np.asarray(bias, np.float32))
    return graph.add_op(o.Dense(inputs=(x, w, b), output=y))


def feed_of(graph: Graph, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {n: sample(random, graph.type(t).shape) for n, t in graph.inputs.items()}


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
    qdq, _ = run_pass(graph, InsertQuantize())
    qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    golden(str(qdq), str(integer), log.text)


def test_lowering_twice_changes_nothing() -> None:
    qdq, _ = run_pass(residual(), InsertQuantize())
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
    qdq, _ = run_pass(ranged, InsertQuantize())
    qdq, _ = run_pass(qdq, SnapScales())
    integer, log = run_pass(qdq, FuseRequantize())
    assert "dense to q_dense, wide" in log.text
    assert steps_apart(qdq, integer, feed) <= 1.0


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
    qdq, _ = run_pass(annotated(graph, feed), InsertQuantize(per_channel=False))
    qdq, _ = run_pass(qdq, SnapScales())
    integer, _ = run_pass(qdq, FuseRequantize())
    (dense,) = [op for op in integer.ops() if isinstance(op, o.QDense)]
    assert len(set(integer.data(dense.multiplier).tolist())) == 1
    assert steps_apart(qdq, integer, feed) <= 1.0


# ---------------------------------------------------------------- refusals


def refused(damage: Callable[[Graph], None], graph: Graph, message: str) -> None:
    qdq, _ = run_pass(annotated(graph, feed_of(graph)), InsertQuantize())
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


def test_the_result_is_in_integer_form() -> None:
    for case in CASES:
        graph = float_graph(case, np.random.default_rng(0), 1.0, 0.0)
        feed = {n: np.abs(a) + 0.1 for n, a in feed_of(graph).items()}
        verify(lowered(graph, feed)[1], Form.INTEGER)
