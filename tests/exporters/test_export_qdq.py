"""QDQ graphs become QuantizeLinear and DequantizeLinear, and run to the same integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import numpy_helper

from qcomp.errors import UnsupportedOp
from qcomp.execute.session import FloatSession
from qcomp.exporters.onnx.model import export_onnx
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, Conv2d, Dequantize, FakeQuantConstant, Quantize, Reshape
from qcomp.ir.tensor import DType, TensorType
from qcomp.ir.verify import verify
from qcomp.quant.qparams import QParams
from qcomp.quant.weights import BIAS_BITS

RNG = np.random.default_rng(4)
SHAPE = (1, 6, 5, 3)
X = RNG.normal(size=SHAPE).astype(np.float32)


def quantized(graph: Graph, x: str, name: str, q: QParams) -> str:
    graph.add_op(Quantize(inputs=(x,), output=f"{name}.q", bits=q.bits))
    graph.update_tensor(replace(graph.tensor(f"{name}.q"), qparams=q))
    return graph.add_op(Dequantize(inputs=(f"{name}.q",), output=f"{name}.dq"))


def rounded(graph: Graph, name: str, data: np.ndarray, scale: np.ndarray, bits: int) -> str:
    x = graph.add_constant(f"{name}.float", data.astype(np.float32))
    s = graph.add_constant(f"{name}.scale", scale)
    op = FakeQuantConstant(inputs=(x, s), output=name, axis=0, bits=bits)
    return graph.add_op(op)


def convolution(input_q: QParams, output_q: QParams) -> Graph:
    graph = Graph("qdq")
    graph.add_input("x", TensorType(DType.F32, SHAPE))
    x = quantized(graph, "x", "x", input_q)
    weight = RNG.normal(size=(4, 3, 2, 3))
    scale = np.abs(weight).max(axis=(1, 2, 3)) / 127
    w = rounded(graph, "w", weight, scale, 8)
    bias_bits = BIAS_BITS[input_q.bits]
    b = rounded(graph, "b", RNG.normal(size=4), scale * input_q.scale, bias_bits)
    op = Conv2d(inputs=(x, w, b), output="y", padding=(1, 0, 1, 1), stride=(2, 1), clamp=RELU)
    graph.add_op(op)
    y = quantized(graph, "y", "y", output_q)
    graph.add_op(Reshape(inputs=(y,), output="flat", shape=(1, 60)))
    graph.outputs["out"] = quantized(graph, "flat", "out", output_q)
    verify(graph, Form.QDQ)
    return graph


@pytest.mark.parametrize(
    ("input_q", "output_q"),
    [
        (QParams(0.02, 3), QParams(0.05, -128)),
        (QParams(0.02, 0, -127, 127), QParams(0.05, -7, -7, 7)),
        (QParams(1e-4, 0, -32768, 32767), QParams(3e-4, 0, -32768, 32767)),
        (QParams(1e-4, 0, -32768, 32767), QParams(0.05, -128)),
    ],
)
def test_onnxruntime_gives_the_same_integers(input_q: QParams, output_q: QParams) -> None:
    """Up to one step where the float sums differ in the last bit before rounding."""
    graph = convolution(input_q, output_q)
    expected = evaluate_all(graph, {"x": X})
    got = FloatSession(graph, extra_outputs=["x.q", "y", "y.q", "w"], threads=1).run({"x": X})
    assert (got["x.q"] == expected["x.q"]).all()
    assert_allclose(got["w"], expected["w"], rtol=1e-6)
    assert_allclose(got["y"], expected["y"], rtol=1e-4, atol=1e-4)
    steps = np.abs(got["y.q"].astype(int) - expected["y.q"].astype(int))
    assert steps.max() <= 1
    assert (steps == 0).mean() > 0.97


def test_weights_and_biases_are_stored_as_integers() -> None:
    model = export_onnx(convolution(QParams(0.02, 3), QParams(0.05, -128)))
    onnx.checker.check_model(model, full_check=True)
    stored = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    kinds = Counter((a.dtype.name, a.shape) for a in stored.values())
    assert kinds["int8", (4, 3, 3, 2)] == 1
    assert kinds["int32", (4,)] == 1
    assert not any(a.dtype == np.float32 and a.ndim == 4 for a in stored.values())
    (axis,) = {
        attribute.i
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and stored.get(node.input[0], X).ndim == 4
        for attribute in node.attribute
        if attribute.name == "axis" and node.input[0] in stored
    }
    assert axis == 0


def test_a_single_scale_serves_a_whole_weight() -> None:
    graph = Graph("per-tensor")
    graph.add_input("x", TensorType(DType.F32, SHAPE))
    x = quantized(graph, "x", "x", QParams(0.02))
    w = rounded(graph, "w", RNG.normal(size=(4, 1, 1, 3)), np.array([0.02]), 8)
    b = rounded(graph, "b", RNG.normal(size=4), np.array([0.0004]), 32)
    graph.add_op(Conv2d(inputs=(x, w, b), output="y"))
    graph.outputs["out"] = quantized(graph, "y", "out", QParams(0.05))
    got = FloatSession(graph, threads=1).run({"x": X})["out"]
    assert np.abs(got - evaluate(graph, {"x": X})["out"]).max() <= 0.051


def test_a_quantize_without_parameters_is_refused() -> None:
    graph = Graph("bare")
    graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.outputs["y"] = graph.add_op(Quantize(inputs=("x",), output="y"))
    with pytest.raises(UnsupportedOp, match="%y has no qparams; expected a graph in form qdq"):
        export_onnx(graph)
