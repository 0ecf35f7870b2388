"""Bias correction takes the mean error of rounded weights off each output channel."""

from __future__ import annotations

import numpy as np
import pytest

from qcomp.ir import DType, Form, Graph, TensorType, verify
from qcomp.ir.evaluate import evaluate, evaluate_all
from qcomp.ir.ops import RELU, Conv2d, Dense, Dequantize, FakeQuantConstant, Quantize, Weighted
from qcomp.ir.tensor import Array, Tensor
from qcomp.passes.base import run_pass
from qcomp.passes.correct_bias import CorrectBias, float_weights
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import rounding_grid
from qcomp.quant.qparams import QParams

COARSE = 0.1  # a weight scale so large that rounding visibly moves the output


def quantized(graph: Graph, tensor: str, low: float, high: float) -> str:
    """%t -> %t.q -> %t.dq, with steps so fine that only the weights' rounding matters."""
    q = graph.add_op(Quantize(inputs=(tensor,), output=f"{tensor}.q"))
    graph.update_tensor(Tensor(q, graph.type(q), qparams=QParams.from_range(low, high)))
    return graph.add_op(Dequantize(inputs=(q,), output=f"{tensor}.dq"))


def fake_quantized(graph: Graph, id: str, data: Array, scale: float, bits: int) -> str:
    constant = graph.add_constant(id, data.astype(np.float32))
    scales = graph.add_constant(f"{id}.scale", np.full(1, scale))
    return graph.add_op(
        FakeQuantConstant(inputs=(constant, scales), output=f"{id}.fq", axis=0, bits=bits)
    )


def weighted(graph: Graph, name: str, shape: tuple[int, ...], seed: int) -> tuple[str, str]:
    rng = np.random.default_rng(seed)
    weight = fake_quantized(graph, f"{name}.w", rng.normal(0, 0.3, shape), COARSE, 8)
    bias = fake_quantized(graph, f"{name}.b", rng.normal(0, 1, shape[0]), 1e-6, 32)
    return weight, bias


def dense_graph() -> Graph:
    graph = Graph("dense")
    x = quantized(graph, graph.add_input("x", TensorType(DType.F32, (64, 8))), 0.0, 4.0)
    y = graph.add_op(Dense(inputs=(x, *weighted(graph, "fc", (5, 8), 1)), output="y"))
    graph.outputs["y"] = quantized(graph, y, -8.0, 8.0)
    return graph


def conv_graph(groups: int, channels: int = 6) -> Graph:
    graph = Graph("conv")
    x = quantized(graph, graph.add_input("x", TensorType(DType.F32, (4, 9, 9, channels))), 0.0, 4.0)
    shape = (12, 3, 3, channels // groups)
    y = graph.add_op(
        Conv2d(inputs=(x, *weighted(graph, "conv", shape, 2)), output="y", groups=groups)
    )
    graph.outputs["y"] = quantized(graph, y, -12.0, 12.0)
    return graph


def sample(graph: Graph) -> dict[str, Array]:
    shape = graph.type("x").shape
    x = np.random.default_rng(0).gamma(2.0, 0.5, size=shape).clip(0, 4).astype(np.float32)
    return {"x": x}


def float_result(graph: Graph, x: dict[str, Array]) -> Array:
    """%y with unrounded weights."""
    plain = graph.clone()
    for op in plain.ops():
        if isinstance(op, FakeQuantConstant):
            plain.replace_uses(op.output, op.x)
    return evaluate_all(plain, x)["y"]


def correction(graph: Graph, means: dict[str, Array]) -> CorrectBias:
    """With the weights as they are before rounding."""
    weights = {}
    for op in graph.ops():
        if isinstance(op, Weighted):
            rounded = graph.producer(op.weight)
            exact = rounded.x if isinstance(rounded, FakeQuantConstant) else op.weight
            weights[op.id] = graph.data(exact)
    return CorrectBias(means, weights)


def mean_error(graph: Graph, x: dict[str, Array], reference: Array) -> Array:
    channels = reference.shape[-1]
    error = evaluate_all(graph, x)["y"].astype(np.float64) - reference
    return np.abs(error.reshape(-1, channels).mean(axis=0))


GRAPHS = {
    "dense": dense_graph,
    "conv": lambda: conv_graph(groups=1),
    "grouped conv": lambda: conv_graph(groups=3),
    "depthwise conv": lambda: conv_graph(groups=6),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_mean_of_each_output_channel_comes_back(name: str) -> None:
    graph = GRAPHS[name]()
    x = sample(graph)
    means = {"x": evaluate_all(graph, x)["x.dq"].mean(axis=tuple(range(graph.type("x").rank - 1)))}
    after, log = run_pass(graph, correction(graph, means))
    reference = float_result(graph, x)
    before_error, after_error = mean_error(graph, x, reference), mean_error(after, x, reference)
    assert before_error.max() > 0.05
    assert after_error.max() < 0.2 * before_error.max()
    assert log.count("did") == 1
    assert "output steps" in log.text


def test_dense_correction_is_exactly_the_weight_error_times_the_mean() -> None:
    graph = dense_graph()
    mean = np.linspace(-1.0, 2.0, 8)
    after, _ = run_pass(graph, correction(graph, {"x": mean}))
    weight = graph.data("fc.w").astype(np.float64)
    error = np.rint(weight / COARSE) * COARSE - weight
    expected = graph.data("fc.b") - error @ mean
    np.testing.assert_allclose(after.data("fc.b.corrected"), expected, rtol=1e-6)
    assert "fc.b" not in after


def test_running_twice_changes_neither_text_nor_numbers() -> None:
    means = {"x": np.ones(8)}
    once, _ = run_pass(dense_graph(), correction(dense_graph(), means))
    twice, log = run_pass(once, correction(once, means))
    assert str(once) == str(twice)
    np.testing.assert_array_equal(once.data("fc.b.corrected"), twice.data("fc.b.corrected"))
    assert "skip y: its bias %fc.b.corrected is corrected already" in log.text


def test_two_ops_that_share_a_bias_constant_are_corrected_apart() -> None:
    graph = Graph("shared")
    x = quantized(graph, graph.add_input("x", TensorType(DType.F32, (4, 8))), 0.0, 4.0)
    weight, bias = weighted(graph, "fc", (5, 8), 1)
    other = graph.add_op(
        FakeQuantConstant(inputs=("fc.b", "fc.b.scale"), output="other.fq", axis=0, bits=5)
    )
    for name, b in (("y", bias), ("z", other)):
        result = graph.add_op(Dense(inputs=(x, weight, b), output=name, clamp=RELU))
        graph.outputs[name] = quantized(graph, result, 0.0, 8.0)
    after, log = run_pass(graph, correction(graph, {"x": np.ones(8)}))
    assert log.count("did") == 2
    again, log = run_pass(after, correction(after, {"x": np.ones(8)}))
    assert log.count("did") == 0
    assert str(again) == str(after)


def test_a_bias_that_two_ops_read_quantized_is_left_alone() -> None:
    graph = dense_graph()
    z = graph.add_op(Dense(inputs=("x.dq", "fc.w.fq", "fc.b.fq"), output="z"))
    graph.outputs["z"] = quantized(graph, z, -8.0, 8.0)
    _, log = run_pass(graph, correction(graph, {"x": np.ones(8)}))
    assert "skip y: its bias %fc.b.fq has other users" in log.text


def test_means_that_are_missing_or_of_another_size_are_a_reason_to_skip() -> None:
    _, log = run_pass(dense_graph(), correction(dense_graph(), {}))
    assert log.text == "skip y: no channel means of %x"
    _, log = run_pass(dense_graph(), correction(dense_graph(), {"x": np.ones(3)}))
    assert log.text == "skip y: channel means of %x are (3,), expected (8,)"


def test_constants_that_are_not_quantized_are_a_reason_to_skip() -> None:
    graph = dense_graph()
    dense = graph.op("y")
    graph.replace_op(dense.with_input(1, "fc.w"))
    log = PassLog()
    correction(graph, {"x": np.ones(8)}).run(graph, log)
    assert log.text == "skip y: %fc.w is not quantized"
    graph.replace_op(dense.with_input(2, "fc.b"))
    log = PassLog()
    correction(graph, {"x": np.ones(8)}).run(graph, log)
    assert log.text == "skip y: %fc.b is not quantized"


def test_the_mean_is_found_through_a_rescaled_copy() -> None:
    graph = Graph("rescaled")
    once = quantized(graph, graph.add_input("x", TensorType(DType.F32, (4, 8))), 0.0, 4.0)
    twice = quantized(graph, once, 0.0, 5.0)
    y = graph.add_op(Dense(inputs=(twice, *weighted(graph, "fc", (5, 8), 1)), output="y"))
    graph.outputs["y"] = quantized(graph, y, -8.0, 8.0)
    verify(graph, Form.QDQ)
    after, log = run_pass(graph, correction(graph, {"x": np.ones(8)}))
    assert log.count("did") == 1
    assert set(evaluate(after, sample(graph))) == {"y"}


def test_a_weight_that_is_stored_as_rounded_is_compared_with_the_one_given() -> None:
    x = {"x": np.ones(8)}
    plain = dense_graph()
    expected, _ = run_pass(plain, correction(plain, x))
    stored = dense_graph()
    rounded = stored.producer(stored.op("y").inputs[1])
    assert isinstance(rounded, FakeQuantConstant)
    values = rounding_grid(stored, rounded).values(stored.data(rounded.x)).astype(np.float32)
    stored.replace_op(rounded.with_input(0, stored.add_constant("fc.w.rounded", values)))
    found, _ = run_pass(stored, correction(plain, x))
    np.testing.assert_allclose(found.data("fc.b.corrected"), expected.data("fc.b.corrected"))


def test_a_layer_whose_weight_is_not_known_is_left_alone() -> None:
    _, log = run_pass(dense_graph(), CorrectBias({"x": np.ones(8)}, {}))
    assert log.text == "skip y: its weight before rounding is not known"


def test_float_weights_are_those_of_the_layers() -> None:
    graph = conv_graph(groups=1)
    graph.set_inputs(graph.op("y"), ("x.dq", "conv.w", "conv.b"))
    assert list(float_weights(graph)) == ["y"]
    np.testing.assert_array_equal(float_weights(graph)["y"], graph.data("conv.w"))
