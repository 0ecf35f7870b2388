"""The structure of exported models: names, transposes, refusals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.errors import CompileError, UnsupportedOp
from qcomp.execute.session import FloatSession
from qcomp.exporters.onnx.model import export_onnx
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU6,
    Add,
    AveragePool2d,
    Clamp,
    ClampRange,
    Concat,
    Conv2d,
    Dense,
    Function,
    MaxPool2d,
    Mul,
    Pad,
    Reduce,
    Reduction,
    Reshape,
    Table,
    Tile,
    Transpose,
    Unary,
)
from qcomp.ir.tensor import DType, TensorId, TensorType

RNG = np.random.default_rng(3)
X = RNG.normal(size=(1, 8, 8, 3)).astype(np.float32)


def conv(graph: Graph, x: TensorId, name: TensorId, clamp: ClampRange = RELU6) -> TensorId:
    channels = graph.type(x).shape[3]
    w = graph.add_constant(f"{name}.w", RNG.normal(size=(8, 3, 3, channels)).astype(np.float32))
    b = graph.add_constant(f"{name}.b", RNG.normal(size=8).astype(np.float32))
    op = Conv2d(inputs=(x, w, b), output=name, padding=(1, 1, 1, 1), clamp=clamp)
    return graph.add_op(op)


def network() -> Graph:
    """Residual, squeeze-and-excite, concatenation, and a classifier at the end."""
    graph = Graph("net")
    x = graph.add_input("image", TensorType(DType.F32, X.shape))
    a = conv(graph, x, "a")
    b = conv(graph, a, "b", NO_CLAMP)
    graph.add_op(Add(inputs=(a, b), output="sum"))
    graph.add_op(Reduce(inputs=("sum",), output="squeeze", kind=Reduction.MEAN, axes=(1, 2)))
    graph.add_op(Unary(inputs=("squeeze",), output="gate", function=Function.SIGMOID))
    graph.add_op(Mul(inputs=("sum", "gate"), output="gated"))
    scale = graph.add_constant("scale", RNG.normal(size=8).astype(np.float32))
    graph.add_op(Mul(inputs=("gated", scale), output="scaled"))
    graph.add_op(Concat(inputs=("scaled", "a"), output="both", axis=3))
    c = conv(graph, "both", "c")
    graph.add_op(MaxPool2d(inputs=(c,), output="pooled", kernel=(8, 8)))
    graph.add_op(Reshape(inputs=("pooled",), output="flat", shape=(1, 8)))
    fc = graph.add_constant("fc", RNG.normal(size=(5, 8)).astype(np.float32))
    bias = graph.add_constant("fc.b", RNG.normal(size=5).astype(np.float32))
    graph.outputs["logits"] = graph.add_op(Dense(inputs=("flat", fc, bias), output="dense"))
    return graph


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_one_transpose_serves_a_whole_network() -> None:
    model = export_onnx(network())
    onnx.checker.check_model(model, full_check=True)
    assert kinds(model)["Transpose"] == 1
    assert kinds(model)["Identity"] == 0


def test_an_nchw_network_has_no_transpose_at_all() -> None:
    graph = Graph("nchw")
    x = graph.add_input("x", TensorType(DType.F32, (1, 3, 8, 8)))
    graph.add_op(Transpose(inputs=(x,), output="nhwc", permutation=(0, 2, 3, 1)))
    conv(graph, "nhwc", "y")
    graph.outputs["y"] = graph.add_op(
        Transpose(inputs=("y",), output="back", permutation=(0, 3, 1, 2))
    )
    model = export_onnx(graph)
    assert kinds(model)["Transpose"] == 0
    x_value = X.transpose(0, 3, 1, 2).copy()
    got = FloatSession(graph, threads=1).run({"x": x_value})["y"]
    assert_allclose(got, evaluate(graph, {"x": x_value})["y"], atol=1e-5)


@pytest.mark.parametrize("pool", [MaxPool2d, AveragePool2d])
@pytest.mark.parametrize("after", [1, 3])
def test_zeros_before_a_pool_are_values_and_no_padding(
    pool: type[MaxPool2d | AveragePool2d], after: int
) -> None:
    graph = Graph("padded")
    x = graph.add_input("x", TensorType(DType.F32, (1, 4, 4, 1)))
    grown = graph.add_op(
        Pad(inputs=(x,), output="grown", before=(0, 0, 0, 0), after=(0, after, after, 0))
    )
    graph.outputs["y"] = graph.add_op(pool(inputs=(grown,), output="y", kernel=(2, 2)))
    value = np.full((1, 4, 4, 1), -1, np.float32)
    got = FloatSession(graph, threads=1).run({"x": value})["y"]
    assert_array_equal(got, evaluate(graph, {"x": value})["y"])


def test_what_onnxruntime_can_not_run_is_a_compile_error() -> None:
    graph = Graph("large")
    x = graph.add_input("x", TensorType(DType.F32, (1,)))
    graph.outputs["y"] = graph.add_op(Tile(inputs=(x,), output="y", repeats=(1 << 46,)))
    with pytest.raises(CompileError, match="onnxruntime can't run @large"):
        FloatSession(graph, threads=1).run({"x": np.zeros(1, np.float32)})


def test_every_activation_can_be_an_extra_output_in_our_layout() -> None:
    graph = network()
    expected = evaluate_all(graph, {"image": X})
    got = FloatSession(graph, extra_outputs=list(expected), threads=1).run({"image": X})
    assert set(got) == {*expected, "logits"}
    for id, value in expected.items():
        assert_allclose(got[id], value, rtol=1e-4, atol=1e-4, err_msg=id)
    assert_array_equal(got["logits"], got["dense"])


def test_outputs_may_be_inputs_constants_or_named_twice() -> None:
    graph = Graph("aliases")
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    c = graph.add_constant("c", np.ones(2, np.float32))
    graph.add_op(Add(inputs=(x, c), output="y"))
    graph.outputs.update({"same": x, "one": c, "y": "y", "again": "y"})
    session = FloatSession(graph, extra_outputs=["x", "c"], threads=1)
    got = session.run({"x": np.zeros(2, np.float32)})
    assert {name: value.tolist() for name, value in got.items()} == {
        "same": [0, 0],
        "one": [1, 1],
        "y": [1, 1],
        "again": [1, 1],
        "x": [0, 0],
        "c": [1, 1],
    }


def test_a_public_name_may_be_the_id_of_another_tensor() -> None:
    graph = Graph("names")
    graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.add_op(Clamp(inputs=("x",), output="y", clamp=RELU6))
    graph.outputs["y"] = graph.add_op(Add(inputs=("y", "y"), output="z"))
    got = FloatSession(graph, threads=1).run({"x": np.array([-1, 2], np.float32)})
    assert got["y"].tolist() == [0, 4]
    with pytest.raises(ValueError, match="%y can't be an extra output: another tensor is output y"):
        export_onnx(graph, extra_outputs=["y"])


def test_a_name_that_is_input_and_another_output_is_refused() -> None:
    graph = Graph("clash")
    graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.outputs["x"] = graph.add_op(Clamp(inputs=("x",), output="y", clamp=RELU6))
    with pytest.raises(ValueError, match="%y can't be output x: another tensor is input x"):
        export_onnx(graph)


def test_integer_ops_are_refused_by_name() -> None:
    graph = Graph("integer")
    graph.add_input("x", TensorType(DType.I8, (2,)))
    table = graph.add_constant("t", np.zeros(256, np.int8))
    graph.outputs["y"] = graph.add_op(Table(inputs=("x", table), output="y"))
    with pytest.raises(UnsupportedOp, match=r"%y = table\(%x, %t\)(.|\n)*has no ONNX form"):
        export_onnx(graph)


def test_a_session_checks_its_inputs() -> None:
    session = FloatSession(network(), threads=1)
    with pytest.raises(ValueError, match=r"input image must be f32\[1,8,8,3\], not f32\[1,3,8,8\]"):
        session.run({"image": X.reshape(1, 3, 8, 8)})


def test_a_shared_weight_is_stored_once() -> None:
    graph = Graph("shared")
    graph.add_input("x", TensorType(DType.F32, (1, 4, 4, 8)))
    w = graph.add_constant("w", RNG.normal(size=(8, 1, 1, 8)).astype(np.float32))
    b = graph.add_constant("b", np.zeros(8, np.float32))
    graph.add_op(Conv2d(inputs=("x", w, b), output="y"))
    graph.outputs["z"] = graph.add_op(Conv2d(inputs=("y", w, b), output="z"))
    model = export_onnx(graph)
    assert len(model.graph.initializer) == 2


def test_exports_are_the_same_on_each_run() -> None:
    graph = network()
    first, second = (export_onnx(graph).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
