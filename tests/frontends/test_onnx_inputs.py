"""Inputs of any element type, inputs that are bound to values, and outputs that are constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.onnx import import_onnx, inspect_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.quant.qparams import QParams

DOUBLED = [make_node("Cast", ["x"], ["f"], to=1), make_node("Add", ["f", "f"], ["y"])]


def typed(model: onnx.ModelProto, element_type: int) -> onnx.ModelProto:
    """The model with a first input of this element type."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    model.graph.input[0].CopyFrom(make_tensor_value_info("x", element_type, shape))
    return model


@pytest.mark.parametrize(
    ("element_type", "qparams"),
    [
        (TensorProto.UINT8, QParams(1.0, -128)),
        (TensorProto.INT8, QParams(1.0, 0)),
        (TensorProto.BOOL, QParams(1.0, 0)),
        (TensorProto.FLOAT, None),
    ],
)
def test_inputs_of_a_byte_are_integers_already(
    onnx_model: Any, element_type: int, qparams: QParams | None
) -> None:
    imported = import_onnx(typed(onnx_model(DOUBLED, {"x": [3]}, ["y"]), element_type))
    assert imported.graph.tensor("x").qparams == qparams
    assert imported.notes == ()
    (y,) = evaluate(imported.graph, {"x": np.float32([0, 1, 1])}).values()
    assert y.tolist() == [0, 2, 2]


def test_any_number_but_0_is_true(onnx_model: Any) -> None:
    model = typed(onnx_model(DOUBLED, {"x": [2]}, ["y"]), TensorProto.BOOL)
    (y,) = evaluate(import_onnx(model).graph, {"x": np.float32([0, 255])}).values()
    assert y.tolist() == [0, 2]


@pytest.mark.parametrize("name", ["FLOAT16", "DOUBLE", "BFLOAT16", "INT64", "INT32", "UINT16"])
def test_other_numbers_are_taken_as_floats_and_the_notes_say_so(onnx_model: Any, name: str) -> None:
    model = typed(onnx_model(DOUBLED, {"x": [3]}, ["y"]), TensorProto.DataType.Value(name))
    assert import_onnx(model).notes == (f"input x of {name} is taken as float32",)


def test_a_model_of_doubles_computes_as_one_of_floats(onnx_model: Any) -> None:
    nodes = [make_node("MatMul", ["x", "w"], ["m"]), make_node("Relu", ["m"], ["y"])]
    w = np.random.default_rng(0).normal(size=(3, 2))
    for dtype, kind in ((np.float64, TensorProto.DOUBLE), (np.float16, TensorProto.FLOAT16)):
        model = typed(onnx_model(nodes, {"x": [1, 3]}, ["y"], {"w": w.astype(dtype)}), kind)
        imported = import_onnx(model)
        (y,) = evaluate(imported.graph, {"x": np.ones((1, 3), np.float32)}).values()
        np.testing.assert_allclose(y, np.maximum(w.sum(0, keepdims=True), 0), rtol=1e-2)
        assert f"1 constants converted from {np.dtype(dtype)} to float32" in imported.notes


@pytest.mark.parametrize(
    ("rows", "kind", "bits"),
    [(127, "INT64", 8), (128, "INT32", 16), (9, "UINT8", 8), (256, "UINT8", 8)],
)
def test_indices_of_a_table_have_the_bits_that_it_needs(
    onnx_model: Any, rows: int, kind: str, bits: int
) -> None:
    nodes = [make_node("Gather", ["table", "x"], ["y"])]
    table = np.random.default_rng(0).normal(size=(rows, 3)).astype("f")
    model = onnx_model(nodes, {"x": [2, 2]}, ["y"], {"table": table})
    imported = import_onnx(typed(model, TensorProto.DataType.Value(kind)))
    found = imported.graph.tensor("x").qparams
    assert found is not None
    assert (found.scale, found.bits) == (1.0, bits)
    assert imported.notes == ()
    (y,) = evaluate(imported.graph, {"x": np.float32([[0, rows - 1], [1, 2]])}).values()
    np.testing.assert_array_equal(y, table[[[0, rows - 1], [1, 2]]])


def test_what_indices_are_computed_from_is_integers_too(onnx_model: Any) -> None:
    """It may be beyond what the table has rows for."""
    nodes = [
        make_node("Sub", ["x", "thousand"], ["i"]),
        make_node("Gather", ["table", "i"], ["y"]),
    ]
    constants = {"thousand": np.int64(1000), "table": np.ones((9, 2), np.float32)}
    model = typed(onnx_model(nodes, {"x": [3]}, ["y"], constants), TensorProto.INT64)
    graph = import_onnx(model).graph
    found = [graph.tensor(t).qparams for t in ("x", "i")]
    assert [(q.scale, q.bits) for q in found if q is not None] == [(1.0, 16), (1.0, 8)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_table_may_be_read_along_any_axis(onnx_model: Any, axis: int) -> None:
    """By floats that are cast too: they are whole numbers."""
    nodes = [
        make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        make_node("Gather", ["table", "i"], ["y"], axis=axis),
    ]
    table = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("f")
    graph = import_onnx(onnx_model(nodes, {"x": [2, 2]}, ["y"], {"table": table})).graph
    (y,) = evaluate(graph, {"x": np.float32([[0, 2], [1, 1]])}).values()
    np.testing.assert_array_equal(y, np.take(table, [[0, 2], [1, 1]], axis))
    assert {op.mnemonic for op in graph.ops()} <= {"embedding", "transpose"}


def test_a_table_with_more_rows_than_16_bits_count_is_refused(onnx_model: Any) -> None:
    nodes = [make_node("Gather", ["table", "x"], ["y"])]
    model = onnx_model(nodes, {"x": [2]}, ["y"], {"table": np.zeros(40000, np.float32)})
    with pytest.raises(UnsupportedOp, match="a table of 40000 rows; accepted: up to 32767"):
        import_onnx(typed(model, TensorProto.INT64))


def test_text_is_no_input(onnx_model: Any) -> None:
    model = typed(onnx_model(DOUBLED, {"x": [3]}, ["y"]), TensorProto.STRING)
    with pytest.raises(UnsupportedOp, match="element type STRING; accepted: FLOAT, UINT8, "):
        import_onnx(model)


def test_inputs_that_are_bound_to_values_are_constants(onnx_model: Any) -> None:
    """What follows from them alone folds."""
    nodes = [
        make_node("GreaterOrEqual", ["freq", "low"], ["ok"]),
        make_node("Where", ["ok", "x", "zero"], ["y"]),
    ]
    constants = {"freq": np.float32([10, 20, 30]), "zero": np.float32(0)}
    model = onnx_model(nodes, {"x": [2, 3], "low": ["N"]}, ["y"], constants)
    graph = import_onnx(model, bind_values={"low": 15.0}).graph
    assert list(graph.inputs) == ["x"]
    assert [op.mnemonic for op in graph.ops()] == ["select"]
    (y,) = evaluate(graph, {"x": np.ones((2, 3), np.float32)}).values()
    assert y.tolist() == [[0, 1, 1]] * 2
    assert inspect_onnx(model, bind_values={"low": 15.0}).inputs.keys() == {"x"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"z": 1.0}, "no input is named 'z'; the model has: x"),
        ({"x": [1.0, 2.0]}, r"'x' can't be bound to \[1.0, 2.0\]: "),
        ({"x": "high"}, "'x' can't be bound to 'high': could not convert"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error(
    onnx_model: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        import_onnx(onnx_model(DOUBLED, {"x": [3]}, ["y"]), bind_values=values)


def test_an_output_may_be_a_constant(onnx_model: Any) -> None:
    nodes = [*DOUBLED, make_node("Identity", ["k"], ["c"])]
    imported = import_onnx(onnx_model(nodes, {"x": [2]}, ["y", "c"], {"k": np.int64([3, 4])}))
    found = evaluate(imported.graph, {"x": np.ones(2, np.float32)})
    assert found["c"].tolist() == [3, 4]
    assert "output c is a constant" in imported.notes


def test_something_must_depend_on_an_input(onnx_model: Any) -> None:
    model = onnx_model([make_node("Identity", ["k"], ["y"])], {"x": [1]}, ["y"], {"k": [1.0]})
    with pytest.raises(UnsupportedOp, match="output y: nothing depends on an input"):
        import_onnx(model)
