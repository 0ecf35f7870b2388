"""Comparisons, logic, Where, casts and computed bounds equal onnxruntime; constants fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx.helper import make_node

from qcomp.errors import UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import BroadcastTo, Compare, Select

X = np.float32([[-2.6, -1.0, 0.0], [0.4, 1.0, 2.5]])
Y = np.float32([[-1.0, -1.0, 0.5], [0.4, 0.0, 3.0]])
MASK = np.array([[True, False, True], [False, False, True]])
LESS, GREATER = (make_node(kind, ["x", "y"], [kind]) for kind in ("Less", "Greater"))
AS_FLOAT = make_node("Cast", ["b"], ["z"], to=1)

CASES = {
    kind: [make_node(kind, ["x", "y"], ["b"]), AS_FLOAT]
    for kind in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
}
CASES |= {
    kind: [LESS, GREATER, make_node(kind, ["Less", "Greater"], ["b"]), AS_FLOAT]
    for kind in ("And", "Or", "Xor", "Equal")
}
CASES |= {
    "not": [LESS, make_node("Not", ["Less"], ["b"]), AS_FLOAT],
    "with a constant": [make_node("GreaterOrEqual", ["x", "one"], ["b"]), AS_FLOAT],
    "constant first": [make_node("Less", ["one", "x"], ["b"]), AS_FLOAT],
    "logic with a constant": [LESS, make_node("Or", ["Less", "mask"], ["b"]), AS_FLOAT],
    "where": [LESS, make_node("Where", ["Less", "x", "ten"], ["z"])],
    "where of a constant condition": [make_node("Where", ["mask", "x", "y"], ["z"])],
    "where of constants": [LESS, make_node("Where", ["Less", "one", "ten"], ["z"])],
    "to bool": [make_node("Cast", ["x"], ["b"], to=9), AS_FLOAT],
    "bool to bool": [LESS, make_node("Cast", ["Less"], ["b"], to=9), AS_FLOAT],
    "to integers": [make_node("Cast", ["x"], ["b"], to=7), AS_FLOAT],
    "integers to bool": [
        make_node("Cast", ["x"], ["i"], to=6),
        make_node("Cast", ["i"], ["b"], to=9),
        AS_FLOAT,
    ],
    "like a truth value": [LESS, make_node("CastLike", ["x", "Less"], ["b"]), AS_FLOAT],
    "clip at a computed minimum": [make_node("Clip", ["x", "low"], ["z"])],
    "clip at a computed maximum": [make_node("Clip", ["x", "", "low"], ["z"])],
    "clip between": [make_node("Clip", ["x", "one", "low"], ["z"])],
}
LOW = make_node("ReduceMean", ["y"], ["low"], keepdims=0)
CONSTANTS = {"one": np.float32(1), "ten": np.float32(10), "mask": MASK}


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_gives_the_same(onnx_model: Any, name: str) -> None:
    nodes = [LOW, *CASES[name]]
    model = onnx_model(nodes, {"x": [2, 3], "y": [2, 3]}, ["z"], CONSTANTS)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"x": X, "y": Y}
    (expected,) = session.run(["z"], feed)
    np.testing.assert_array_equal(evaluate(import_onnx(model).graph, feed)["z"], expected)


@pytest.mark.parametrize("taken", [True, False])
def test_a_condition_that_is_the_same_everywhere_takes_one_operand(
    onnx_model: Any, taken: bool
) -> None:
    """Whose shape may have to grow."""
    nodes = [make_node("Where", ["c", "x", "row"], ["y"])]
    constants = {"c": np.full((2, 3), taken), "row": np.float32([1, 2, 3])}
    graph = import_onnx(onnx_model(nodes, {"x": [1, 3]}, ["y"], constants)).graph
    kinds = {type(op) for op in graph.ops()}
    assert kinds == {BroadcastTo}
    (y,) = evaluate(graph, {"x": np.float32([[7, 8, 9]])}).values()
    np.testing.assert_array_equal(y, [[7, 8, 9] if taken else [1, 2, 3]] * 2)


def test_what_is_constant_folds(onnx_model: Any) -> None:
    """A causal mask as exporters write it."""
    nodes = [
        make_node("Trilu", ["ones"], ["lower"], upper=0),
        make_node("Equal", ["lower", "zero"], ["hidden"]),
        make_node("Where", ["hidden", "low", "zero"], ["mask"]),
        make_node("Add", ["x", "mask"], ["y"]),
    ]
    constants = {"ones": np.ones((3, 3), np.float32), "zero": np.float32(0), "low": np.float32(-9)}
    graph = import_onnx(onnx_model(nodes, {"x": [3, 3]}, ["y"], constants)).graph
    assert [op.mnemonic for op in graph.ops()] == ["add"]


def test_results_of_comparisons_are_known_to_be_truth_values(onnx_model: Any) -> None:
    """A cast of one to a truth value is no comparison with 0."""
    nodes = [*CASES["bool to bool"][:2], make_node("Where", ["b", "x", "y"], ["z"])]
    graph = import_onnx(onnx_model(nodes, {"x": [3], "y": [3]}, ["z"])).graph
    assert [type(op) for op in graph.ops()] == [Compare, Select]


def test_a_cast_to_text_is_refused(onnx_model: Any) -> None:
    model = onnx_model([make_node("Cast", ["x"], ["y"], to=8)], {"x": [1]}, ["y"])
    with pytest.raises(UnsupportedOp, match="a cast of FLOAT to STRING; accepted: FLOAT, "):
        import_onnx(model)
