"""Loop and Scan with a known number of trips, against onnxruntime; others refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_node, make_tensor_value_info
from onnx.numpy_helper import from_array

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
TRUE = np.bool_(True)


def body(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int]]],
    outputs: dict[str, tuple[int, list[int]]],
    **constants: Any,
) -> onnx.GraphProto:
    def infos(given: dict[str, tuple[int, list[int]]]) -> list[onnx.ValueInfoProto]:
        return [make_tensor_value_info(name, *type) for name, type in given.items()]

    initializers = [from_array(np.asarray(a), n) for n, a in constants.items()]
    return make_graph(nodes, "body", infos(inputs), infos(outputs), initializers)


def step(condition: list[onnx.NodeProto] | None = None) -> onnx.GraphProto:
    """h = tanh(h + x[trip] w), and h as it was."""
    nodes = [
        make_node("Gather", ["x", "trip"], ["slice"], axis=0),
        make_node("Mul", ["slice", "w"], ["scaled"]),
        make_node("Add", ["h", "scaled"], ["sum"]),
        make_node("Tanh", ["sum"], ["next"]),
        make_node("Identity", ["h"], ["was"]),
        *(condition or [make_node("Identity", ["go"], ["still"])]),
    ]
    inputs = {"trip": (INT, []), "go": (BOOL, []), "h": (FLOAT, [3])}
    outputs = {"still": (BOOL, []), "next": (FLOAT, [3]), "was": (FLOAT, [3])}
    return body(nodes, inputs, outputs, w=np.float32([0.5, -1, 2]), two=np.int64(2))


def loop(onnx_model: Any, inner: onnx.GraphProto, trips: int = 4) -> onnx.ModelProto:
    nodes = [
        make_node("Loop", ["n", "c", "h0"], ["hn", "all"], body=inner, name="loop"),
        make_node("Add", ["all", "hn"], ["y"]),
    ]
    return onnx_model(nodes, {"x": [4, 3], "h0": [3]}, ["y"], {"n": np.int64(trips), "c": TRUE})


def compare(model: onnx.ModelProto) -> tuple[str, ...]:
    """Against onnxruntime; the notes."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    feed = {i.name: rng.normal(size=i.shape).astype(np.float32) for i in session.get_inputs()}
    imported = import_onnx(model)
    found = evaluate(imported.graph, feed)
    expected = session.run(list(found), feed)
    for one, other in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    return imported.notes


def test_a_loop_is_its_trips(onnx_model: Any) -> None:
    assert compare(loop(onnx_model, step())) == ("Loop node 'loop': unrolled, 4 trips of 6 nodes",)


def test_a_condition_that_counts_ends_it(onnx_model: Any) -> None:
    compare(loop(onnx_model, step([make_node("Less", ["trip", "two"], ["still"])])))


@pytest.mark.parametrize("turned", [0, 1])
def test_a_scan_goes_along_its_inputs(onnx_model: Any, turned: int) -> None:
    nodes = [
        make_node("Add", ["h", "slice"], ["sum"]),
        make_node("Tanh", ["sum"], ["next"]),
        make_node("Mul", ["next", "two"], ["out"]),
    ]
    inner = body(
        nodes,
        {"h": (FLOAT, [3]), "slice": (FLOAT, [3])},
        {"next": (FLOAT, [3]), "out": (FLOAT, [3])},
        two=np.float32(2),
    )
    ways = {
        "num_scan_inputs": 1,
        "scan_input_axes": [1],
        "scan_input_directions": [turned],
        "scan_output_axes": [-1],
        "scan_output_directions": [1 - turned],
    }
    nodes = [make_node("Scan", ["h0", "x"], ["hn", "y"], body=inner, **ways)]
    compare(onnx_model(nodes, {"x": [3, 5], "h0": [3]}, ["hn", "y"]))


def test_loops_of_unknown_trips_are_refused(onnx_model: Any) -> None:
    computed = [
        make_node("ReduceSum", ["next"], ["total"], keepdims=0),
        make_node("Less", ["total", "w0"], ["still"]),
        make_node("Constant", [], ["w0"], value=from_array(np.float32(1))),
    ]
    with pytest.raises(
        UnsupportedOp, match="its condition depends on an input; accepted: a number"
    ):
        import_onnx(loop(onnx_model, step(computed)))
    with pytest.raises(UnsupportedOp, match="5000 trips of 6 nodes would be 30000 nodes"):
        import_onnx(loop(onnx_model, step(), trips=5000))
    with pytest.raises(UnsupportedOp, match="no trip, which stacks up nothing"):
        import_onnx(loop(onnx_model, step(), trips=0))


def test_a_node_that_is_refused_is_told_of_once(onnx_model: Any) -> None:
    inner = step([make_node("Det", ["x"], ["d"]), make_node("Identity", ["go"], ["still"])])
    with pytest.raises(UnsupportedOp) as found:
        import_onnx(loop(onnx_model, inner))
    assert str(found.value).count("Det") == 2  # the node and its name


def test_a_body_that_does_not_fit_is_a_broken_model(onnx_model: Any) -> None:
    inner = step()
    del inner.output[-1]
    with pytest.raises(ModelError):
        import_onnx(loop(onnx_model, inner))
