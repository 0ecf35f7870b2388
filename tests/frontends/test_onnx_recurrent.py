"""LSTM, GRU and RNN: the graph equals onnxruntime; and what is refused, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.backend.test.case import node as onnx_cases
from onnx.backend.test.case.node import gru, lstm, rnn
from recurrent_models import LAYERS, Layer

from qcomp.errors import UnsupportedOp
from qcomp.execute.session import FloatSession
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def floats(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float32) for name, array in feed.items()}


def agrees(layer: Layer) -> None:
    """The graph, and the graph as it is exported, give what onnxruntime gives for the model."""
    model = layer.model()
    graph = import_onnx(model).graph
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for seed in range(2):
        feed = layer.feed(seed)
        expected = dict(zip(graph.outputs, session.run(list(graph.outputs), feed), strict=True))
        found = evaluate(graph, floats(feed))
        exported = FloatSession(graph, threads=1).run(floats(feed))
        for name, y in expected.items():
            np.testing.assert_allclose(found[name], y, **CLOSE)
            np.testing.assert_allclose(exported[name], y, **CLOSE)


@pytest.mark.parametrize("name", LAYERS)
def test_onnxruntime_gives_the_same(name: str) -> None:
    agrees(LAYERS[name])


@given(
    st.sampled_from(sorted(LAYERS)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
)
@pytest.mark.sweep(15)
def test_onnxruntime_gives_the_same_for_any_shape(
    name: str, steps: int, batch: int, size: int, hidden: int
) -> None:
    agrees(replace(LAYERS[name], steps=steps, batch=batch, size=size, hidden=hidden))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_batch_first_is_the_same_with_axes_turned(kind: str) -> None:
    """onnxruntime has no layout 1."""
    states = ("B", "h0", "c0") if kind == "LSTM" else ("B", "h0")
    attributes: dict[str, Any] = {"direction": "bidirectional"}
    first = Layer(kind, states, batch=3, attributes=attributes)
    graph = import_onnx(first.model()).graph
    turned = replace(first, attributes={**attributes, "layout": 1})
    other = import_onnx(turned.model()).graph
    feed = first.feed(0)
    expected = evaluate(graph, feed)
    found = evaluate(other, {name: a.swapaxes(0, 1).copy() for name, a in feed.items()})
    np.testing.assert_allclose(found["Y"], expected["Y"].transpose(2, 0, 1, 3), **CLOSE)
    for name in found.keys() - {"Y"}:
        np.testing.assert_allclose(found[name], expected[name].swapaxes(0, 1), **CLOSE)


MODULES = (gru, lstm, rnn)  # whose import makes the cases; those of all operators take seconds
NODES = {
    case.name: case
    for case in onnx_cases._NodeTestCases
    if any(kind in case.name for kind in ("gru", "lstm", "rnn"))
}


@pytest.mark.parametrize("name", NODES)
def test_the_cases_of_onnx(name: str) -> None:
    """Their weights are inputs, which become constants here."""
    case = NODES[name]
    ((inputs, outputs),) = case.data_sets
    given = dict(zip([i.name for i in case.model.graph.input], inputs, strict=True))
    kept = [n for n in given if n in ("X", "x")]
    constants = {n: a for n, a in given.items() if n not in kept}
    graph = import_onnx(case.model, bind_values=constants).graph
    found = evaluate(graph, {n: given[n] for n in kept})
    assert len(NODES) >= 6 * len(MODULES)
    for output, y in zip(case.model.graph.output, outputs, strict=True):
        np.testing.assert_allclose(found[output.name], y, rtol=1e-3, atol=1e-5)


REFUSED = {
    "activation ThresholdedRelu; accepted: Affine, Elu": {
        "activations": ["Sigmoid", "ThresholdedRelu", "Tanh"]
    },
    "2 activations; accepted: 3": {"activations": ["Sigmoid", "Tanh"]},
    "direction 'sideways'; accepted: forward, reverse, bidirectional": {"direction": "sideways"},
    "clip=-1.0; accepted: a positive number": {"clip": -1.0},
    "layout=2; accepted: 0 or 1": {"layout": 2},
    "parameters of Affine": {
        "activations": ["Affine", "Tanh", "Tanh"],
        "activation_alpha": [float("inf")],
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_is_named(message: str) -> None:
    model = Layer("LSTM", attributes=REFUSED[message]).model()
    with pytest.raises(UnsupportedOp, match=f"LSTM node 'layer': {message}"):
        import_onnx(model)


MISSHAPEN = {
    r"weights \[\(1, 21, 5\), \(1, 21, 6\)\]": ("R", (1, 21, 6)),
    r"weights \[\(1, 21, 5\), \(\)\]; accepted: of rank 3": ("R", ()),
    r"weights \[\(2, 21, 5\), \(1, 21, 7\)\]": ("W", (2, 21, 5)),
    r"operand 3 \(1, 21\); accepted: \(1, 42\)": ("B", (1, 21)),
    r"an initial state \(1, 2, 7\); accepted: \(1, 1, 7\)": ("h0", (1, 2, 7)),
    r"sequence_lens \(3,\); accepted: \(1,\)": ("lengths", (3,)),
}


@pytest.mark.parametrize("message", MISSHAPEN)
def test_shapes_that_do_not_fit_are_refused(message: str) -> None:
    name, shape = MISSHAPEN[message]
    model = Layer("GRU", ("B", "h0", "lengths"), constant=("h0", "lengths")).model()
    tensor = next(t for t in model.graph.initializer if t.name == name)
    dtype = np.int32 if name == "lengths" else np.float32
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, dtype), name))
    with pytest.raises(UnsupportedOp, match=message):
        import_onnx(model)


def test_a_constant_input_is_refused() -> None:
    layer = Layer("GRU", ("B", "h0"))
    model = layer.model()
    with pytest.raises(UnsupportedOp, match="a constant input; accepted: a computed one"):
        import_onnx(model, bind_values={"x": layer.feed(0)["x"]})


def test_constant_lengths_beyond_the_steps_are_refused() -> None:
    layer = Layer("GRU", ("B", "lengths"), constant=("lengths",))
    model = layer.model()
    lengths = next(t for t in model.graph.initializer if t.name == "lengths")
    lengths.CopyFrom(onnx.numpy_helper.from_array(np.int32([7]), "lengths"))
    with pytest.raises(UnsupportedOp, match=r"sequence_lens \[7\]; accepted: 0 to 6"):
        import_onnx(model)
