"""Every value knows the model's tensor that it stands for, and how to get one from the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.testing import assert_allclose
from onnx import helper, numpy_helper

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate_all
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d
from qcomp.ir.parse import parse
from qcomp.ir.tensor import Array, Mark, Origin, TensorId
from qcomp.ir.text import arrays_of
from qcomp.passes.base import run_pass
from qcomp.passes.correct_bias import CorrectBias, float_weights
from qcomp.quantizer import Quantizer
from qcomp.recipes.named import settled

RANDOM = np.random.default_rng(7)
FAST = settled(QuantizationConfig(recipe="fast"), calibrated=True)
CHANGED = (Mark.CLAMPED, Mark.FOLDED, Mark.ABSORBED, Mark.REORDERED)


def model() -> onnx.ModelProto:
    """Convolutions in NCHW, a residual, batch normalisation, pooling, flatten, dense."""

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        spread = np.exp(RANDOM.normal(size=(shape[0], *(1 for _ in shape[1:]))))
        data = RANDOM.normal(size=shape) * spread
        return numpy_helper.from_array(data.astype(np.float32), name)

    def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    positive = numpy_helper.from_array(np.array([0.5, 1.0, 2.0, 0.1], np.float32), "var")
    graph = helper.make_graph(
        [
            node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "a gamma beta mean var", "n"),
            node("Relu", "n", "r"),
            node("Conv", "r w2 b2", "b"),
            node("Conv", "b w3", "c"),
            node("Add", "c r", "d"),
            node("MaxPool", "d", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("Relu", "p", "q"),
            node("Flatten", "q", "f"),
            node("Relu", "f", "g"),
            node("Gemm", "g w4 b4", "y", transB=1),
        ],
        "net",
        [helper.make_tensor_value_info("x", 1, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", 1, [1, 5])],
        [
            weight("w1", 4, 3, 3, 3),
            weight("b1", 4),
            *(weight(name, 4) for name in ("gamma", "beta", "mean")),
            positive,
            weight("w2", 6, 4, 1, 1),
            weight("b2", 6),
            weight("w3", 4, 6, 1, 1),
            weight("w4", 5, 36),
            weight("b4", 5),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(scope="module")
def imported() -> Graph:
    return import_model(model()).graph


@pytest.fixture(scope="module")
def quantizer(imported: Graph) -> Quantizer:
    runs = [{"x": RANDOM.normal(size=(1, 3, 6, 6)).astype(np.float32)} for _ in range(4)]
    return Quantizer(imported, Form.FLOAT, Evidence(samples_of(imported, runs), (-1.0, 1.0)))


def expected(origin: Origin, value: Array, shape: tuple[int, ...]) -> Array:
    """The tensor of this origin, from the value of the model's tensor."""
    if origin.permutation is not None:
        value = value.transpose(origin.permutation)
    value = value.reshape(shape) if Mark.RESHAPED in origin.rewritten_by else value
    return value if origin.scale is None else value * origin.scale


@pytest.mark.parametrize(
    ("fields", "least"),
    [({}, 6), ({"equalize": True, "per_channel": False}, 6), ({"absorb_bias": True}, 5)],
)
def test_values_follow_from_the_model_s_as_their_origins_say(
    imported: Graph, quantizer: Quantizer, fields: dict[str, bool], least: int
) -> None:
    graph = quantizer.equalized(replace(FAST, **fields))
    feed = {"x": RANDOM.normal(size=(1, 3, 6, 6)).astype(np.float32)}
    before = evaluate_all(imported, feed)
    values = {name: before[id] for name, id in named(imported).items()}
    checked = 0
    for id, value in evaluate_all(graph, feed).items():
        origin = graph.tensor(id).origin
        if origin is not None and not set(CHANGED) & set(origin.rewritten_by):
            assert origin.name is not None
            wanted = expected(origin, values[origin.name], value.shape)
            assert_allclose(value, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
            checked += 1
    assert checked >= least


def named(graph: Graph) -> dict[str, TensorId]:
    """The activations that are the model's own, by the name there."""
    found = {}
    for tensor in graph.tensors():
        origin = tensor.origin
        own = origin is not None and origin.permutation is None and not origin.rewritten_by
        if origin is not None and origin.name is not None and own and not tensor.is_constant:
            found[origin.name] = tensor.id
    return found


def test_a_scale_of_equalization_is_told(quantizer: Quantizer) -> None:
    graph = quantizer.equalized(replace(FAST, equalize=True, per_channel=False))
    origin = graph.tensor("b.conv").origin
    assert origin is not None
    assert origin.name == "b"
    assert origin.permutation == (0, 2, 3, 1)
    assert origin.scale is not None
    assert origin.scale.shape == (6,)
    assert not np.allclose(origin.scale, 1.0)


def test_integers_still_know_their_origin(quantizer: Quantizer) -> None:
    graph = quantizer.integer(FAST)
    names = {t.origin.name for t in graph.tensors() if t.origin is not None}
    assert {"x", "r", "b", "c", "d", "q", "g", "y"} < names
    assert {"w1", "w2", "w3", "w4", "b1", "b2", "b4", None} < names  # the model has no bias of c


def test_marks_tell_what_was_done_to_weights(quantizer: Quantizer) -> None:
    graph = quantizer.integer(replace(FAST, rounding="gptq", weight_bits=4))
    marks = {t.origin.name: t.marks for t in graph.tensors() if t.origin is not None}
    assert marks["w1"] == (Mark.FOLDED, Mark.FITTED)
    assert marks["b1"] == (Mark.FOLDED, Mark.CORRECTED)
    assert marks["w4"] == (Mark.REORDERED,)  # 8 bits, as the last layer has, and few rows to fit


def test_what_was_corrected_is_known_from_the_text(quantizer: Quantizer) -> None:
    analytic = replace(FAST, bias_correction="analytic")
    graph, statistics = quantizer.equalized(FAST), quantizer.statistics(FAST)
    again = CorrectBias(statistics.channel_means, float_weights(graph))
    corrected = quantizer.quantized(analytic)
    read = parse(str(corrected), dict(arrays_of(corrected)))
    for qdq in (corrected, read):
        _, log = run_pass(qdq, again)
        assert log.text.count("is corrected already") == 4


def test_a_pointwise_weight_was_permuted_though_a_reshape_would_do() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    float_type = onnx.TensorProto.FLOAT
    x = helper.make_tensor_value_info("x", float_type, [1, 3, 4, 4])
    y = helper.make_tensor_value_info("y", float_type, [1, 5, 4, 4])
    weight = numpy_helper.from_array(np.ones((5, 3, 1, 1), np.float32), "w")
    graph = import_model(
        helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))
    ).graph
    (layer,) = (op for op in graph.ops() if isinstance(op, Conv2d))
    origin = graph.tensor(layer.weight).origin
    assert origin is not None
    assert (origin.name, origin.permutation, origin.rewritten_by) == ("w", (0, 2, 3, 1), ())
