"""Each op of a QDQ graph as TFLite: LiteRT's reference kernels give its integers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from exported_ops import CASES, SHAPE, X, graph_of
from operator_cases import BOTH, Net
from tflite_models import reference

from qcomp.config import QuantizationConfig
from qcomp.errors import UnsupportedOp
from qcomp.exporters.tflite.model import export_tflite
from qcomp.formats.flatbuffer import Reader
from qcomp.formats.tflite import OPERATORS, SCHEMA
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    RELU,
    AbsMax,
    Add,
    ArgMax,
    Attention,
    AveragePool2d,
    BatchNorm,
    ClampRange,
    Compare,
    Conv2d,
    Coordinates,
    DepthToSpace,
    Dequantize,
    Embedding,
    Function,
    LogPower,
    MaxPool2d,
    Mul,
    NearestRounding,
    Normalize,
    Op,
    Relation,
    Resize2d,
    ResizeMode,
    ScaleUp,
    Select,
    SpaceToDepth,
    Unary,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, TensorType
from qcomp.ir.verify import verify
from qcomp.passes.annotate_ranges import AnnotateRanges
from qcomp.passes.base import run_pass
from qcomp.passes.insert_quantize import InsertQuantize
from qcomp.recipes.named import settled

SAYABLE = [
    op
    for op in CASES
    if not isinstance(op, AbsMax | Attention | BatchNorm | LogPower | Normalize | ScaleUp)
    and not (isinstance(op, ArgMax) and op.last)
    and not (isinstance(op, MaxPool2d) and (op.dilation != (1, 1) or op.kernel == (2, 3)))
]
ROUNDED_TWICE = {"log_softmax": 2, "prelu": 2, "div": 2}


def quantized(graph: Graph, x: np.ndarray, **choices: object) -> Graph:
    """In form QDQ, with the ranges that the values of x have."""
    values = evaluate_all(graph, {"x": x})
    floats = {t.id for t in graph.tensors() if t.type.dtype is DType.F32 and not t.is_constant}
    ranges = {id: (float(values[id].min()), float(values[id].max())) for id in floats}
    config = settled(QuantizationConfig(recipe="fast", **choices), calibrated=True)
    annotated, _ = run_pass(graph, AnnotateRanges(ranges))
    result, _ = run_pass(annotated, InsertQuantize(config))
    verify(result, Form.QDQ)
    return result


def steps(graph: Graph, x: np.ndarray) -> int:
    """The largest difference of an output, in steps of it."""
    model = export_tflite(graph).model
    values = evaluate_all(graph, {"x": x})
    (reader,) = graph.consumers("x")
    expected = [values[_integers(graph, t)] for t in graph.outputs.values()]
    got = reference(model, values[reader.output])
    for a, b in zip(got, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
    both = zip(got, expected, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in both)


def _integers(graph: Graph, output: str) -> str:
    producer = graph.producer(output)
    return producer.x if isinstance(producer, Dequantize) else output


def operators(model: bytes) -> list[str]:
    """By name, in their order."""
    record = Reader(model, SCHEMA).root("Model")
    codes = [OPERATORS[c["builtin_code"]] for c in record["operator_codes"]]
    return [codes[o["opcode_index"]] for o in record["subgraphs"][0]["operators"]]


def values(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("op", SAYABLE, ids=lambda op: op.mnemonic)
def test_the_reference_gives_the_integers_of(op: Op) -> None:
    x = values()
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), x)
    assert steps(graph, x) <= ROUNDED_TWICE.get(op.mnemonic, 1)


@pytest.mark.parametrize("function", list(Function), ids=lambda f: f.value)
def test_the_reference_gives_the_integers_of_function(function: Function) -> None:
    """Those without an operator that rounds once are tables, and equal."""
    positive = function in (Function.LOG, Function.SQRT, Function.POW, Function.RECIPROCAL)
    x = values() if not positive else np.abs(values()) + np.float32(0.1)
    op = Unary(inputs=X, output="y", function=function, alpha=1.0, beta=0.25)
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), x)
    by_table = "GATHER" in operators(export_tflite(graph).model)
    assert steps(graph, x) <= (0 if by_table else 2)


@pytest.mark.parametrize("clamp", [RELU, ClampRange(-np.inf, 0.0)], ids=["relu", "negative"])
@pytest.mark.parametrize("bits", [8, 16])
def test_activations_of_16_bits_meet_those_of_8(bits: int, clamp: ClampRange) -> None:
    """A layer between both widths is computed in 16, of which its operands keep every value."""
    op = Conv2d(inputs=("x", "w", "b"), output="y", padding=(1, 1, 1, 1), clamp=clamp)
    x = values()
    graph = quantized(
        graph_of(op, SHAPE, spatial_first=False),
        x,
        activation_bits=8,
        overrides={"x" if bits == 16 else "y": {"activation_bits": 16}},
    )
    names = operators(export_tflite(graph).model)
    assert names.count("QUANTIZE") == 1
    assert steps(graph, x) <= 2


WIDE_OPS = [
    Conv2d(inputs=("x", "w", "b"), output="y", padding=(1, 1, 1, 1)),
    Add(inputs=("x", "x"), output="y", clamp=RELU),
    DepthToSpace(inputs=X, output="y", block=2),
    SpaceToDepth(inputs=X, output="y", block=1),
    Unary(inputs=X, output="y", function=Function.MISH),
]


@pytest.mark.parametrize("op", WIDE_OPS, ids=lambda op: op.mnemonic)
def test_a_network_of_16_bits(op: Op) -> None:
    x = values()
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), x, activation_bits=16)
    assert steps(graph, x) <= 1


AVERAGES = {
    "plain": {"kernel": (2, 2), "stride": (2, 1)},
    "padding that counts": {"kernel": (3, 2), "padding": (1, 0, 2, 1), "count_include_pad": True},
    "same padding": {"kernel": (3, 3), "padding": (1, 1, 1, 1)},
    "dilated": {"kernel": (2, 2), "dilation": (2, 3)},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_the_reference_gives_the_integers_of_average_pooling(name: str) -> None:
    x = values()
    op = AveragePool2d(inputs=X, output="y", **AVERAGES[name])
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), x)
    assert steps(graph, x) <= (2 if name == "same padding" else 1)


@pytest.mark.parametrize("mode", list(ResizeMode), ids=lambda m: m.value)
@pytest.mark.parametrize(
    "coordinates", [Coordinates.HALF_PIXEL, Coordinates.ALIGN_CORNERS, Coordinates.ASYMMETRIC]
)
def test_the_reference_gives_the_integers_of_resize(
    mode: ResizeMode, coordinates: Coordinates
) -> None:
    x = values()
    op = Resize2d(
        inputs=X,
        output="y",
        size=(12, 15),
        scale=(2.0, 3.0),
        mode=mode,
        coordinates=coordinates,
        rounding=NearestRounding.FLOOR,
    )
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), x)
    assert steps(graph, x) <= (0 if mode is ResizeMode.NEAREST else 1)


@pytest.mark.parametrize("relation", list(Relation), ids=lambda r: r.value)
def test_comparisons_and_choices(relation: Relation) -> None:
    x = values()
    graph = Graph("choice")
    graph.add_input("x", TensorType(DType.F32, SHAPE))
    graph.add_constant("half", np.array([0.5], np.float32))
    graph.add_op(Compare(inputs=("x", "half"), output="c", relation=relation))
    graph.outputs["y"] = graph.add_op(Select(inputs=("c", "x", "half"), output="y"))
    assert steps(quantized(graph, x), x) == 0


def test_rows_of_a_table() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    graph = Graph("rows")
    graph.add_input("x", TensorType(DType.F32, x.shape))
    graph.add_constant("table", values(shape=(20, 3)))
    graph.outputs["y"] = graph.add_op(Embedding(inputs=("x", "table"), output="y"))
    assert steps(quantized(graph, x), x) == 0


TRANSPOSED = {
    "all of it": ((2, 2, 2, 2), "TRANSPOSE_CONV"),
    "cut": ((1, 2, 2, 1), "TRANSPOSE_CONV STRIDED_SLICE"),
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_is_one_operator(name: str) -> None:
    padding, expected = TRANSPOSED[name]
    x = values(shape=(1, 4, 5, 8))
    graph = _transposed(x.shape, padding, (3, 3, 3, 8))
    assert " ".join(operators(export_tflite(graph).model)) == expected
    assert steps(graph, x) <= 1


def test_zeros_that_are_no_half_of_a_transposed_convolution_are_written_out() -> None:
    x = values(shape=(1, 4, 5, 8))
    graph = _transposed(x.shape, (4, 1, 0, 0), (3, 3, 3, 8))
    assert "TRANSPOSE_CONV" not in operators(export_tflite(graph).model)
    assert steps(graph, x) <= 1


def _transposed(
    shape: tuple[int, ...], padding: tuple[int, int, int, int], weight: tuple[int, ...]
) -> Graph:
    graph = Graph("transposed")
    graph.add_input("x", TensorType(DType.F32, shape))
    graph.add_constant("w", values(1, weight))
    graph.add_constant("b", values(2, weight[:1]))
    graph.add_op(ZeroStuff(inputs=("x",), output="z", stride=(2, 3)))
    op = Conv2d(inputs=("z", "w", "b"), output="y", padding=padding)
    graph.outputs["y"] = graph.add_op(op)
    return quantized(graph, values(shape=shape))


WIDE = {"DEPTH_TO_SPACE", "HARD_SWISH", "PRELU", "RELU_N1_TO_1", "SPACE_TO_DEPTH"}
"""Operators of which LiteRT has no kernels of 16 bits, or wrong ones."""


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize("name", BOTH)
def test_a_file_that_was_imported_leaves_with_its_own_integers(name: str, dtype: Any) -> None:
    operator = re.split("[, ]", name)[0]
    net = Net(dtype)
    BOTH[name](net)
    model = export_tflite(import_model(net.model).graph).model
    if dtype == np.int16 and operator in WIDE:
        return
    feeds, moved = net.feeds(), 128 if dtype == np.uint8 else 0
    stored = np.int16 if dtype == np.int16 else np.int8
    given = [(f.astype(np.int32) - moved).astype(stored) for f in feeds]
    for theirs, ours in zip(reference(net.model, *feeds), reference(model, *given), strict=True):
        assert (theirs.astype(np.int64) - moved == ours).all()


def test_a_result_that_two_outputs_share_has_two_names() -> None:
    x = values()
    graph = graph_of(Mul(inputs=("x", "c"), output="y"), SHAPE, spatial_first=False)
    graph.outputs["again"] = graph.outputs["y"]
    result = quantized(graph, x)
    assert steps(result, x) <= 1
    record = Reader(export_tflite(result).model, SCHEMA).root("Model")["subgraphs"][0]
    names = [record["tensors"][i]["name"] for i in record["outputs"]]
    assert names == ["y", "again"]


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (ArgMax(inputs=X, output="y", axis=3, last=True), "the last of equal values"),
        (MaxPool2d(inputs=X, output="y", kernel=(2, 2), dilation=(2, 1)), "dilation"),
        (LogPower(inputs=("x", "x"), output="y", added=0.5, least=0.75), "logarithm of a sum"),
        (
            Normalize(inputs=("x", "c", "c"), output="y", axes=(3,), centered=True, epsilon=1e-5),
            "no normalisation of groups",
        ),
        (Attention(inputs=("x", "x", "x"), output="y", scale=1.0, ahead=1), "no such operator"),
    ],
    ids=lambda v: v.mnemonic if isinstance(v, Op) else None,
)
def test_what_cannot_be_said_is_named(op: Op, reason: str) -> None:
    graph = quantized(graph_of(op, SHAPE, spatial_first=False), values())
    with pytest.raises(UnsupportedOp, match=rf"%y = {op.mnemonic}(.|\n)*{reason}"):
        export_tflite(graph)


def test_every_op_that_cannot_be_said_is_named_at_once() -> None:
    graph = Graph("two")
    graph.add_input("x", TensorType(DType.F32, SHAPE))
    for name in ("a", "b"):
        graph.outputs[name] = graph.add_op(ArgMax(inputs=X, output=name, axis=3, last=True))
    with pytest.raises(UnsupportedOp) as caught:
        export_tflite(quantized(graph, values()))
    assert len(caught.value.problems) == 2


def test_sums_of_32_bits_are_refused_by_name() -> None:
    graph = Graph("sum")
    graph.add_input("x", TensorType(DType.F32, SHAPE))
    square = graph.add_op(Mul(inputs=("x", "x"), output="s"))
    root = Unary(inputs=(square,), output="y", function=Function.SQRT)
    graph.outputs["y"] = graph.add_op(root)
    wide = quantized(graph, values(), overrides={"s": {"activation_bits": 32}})
    with pytest.raises(UnsupportedOp, match="no activations of 32 bits; expected activation_bits"):
        export_tflite(wide)


def test_the_form_before_qdq_is_refused_by_name() -> None:
    graph = graph_of(replace(CASES[0], clamp=RELU), SHAPE, spatial_first=False)
    with pytest.raises(UnsupportedOp, match="%x is not quantized; expected a graph in form qdq"):
        export_tflite(graph)
