"""What exporters leave in float graphs: triangles, running sums, index rows, Einsum, sequences and
functions of the model; the numbers are onnxruntime's, and each goes on to integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.verify import verify
from qcomp.quantizer import Quantizer
from qcomp.recipes.named import settled

RANDOM = np.random.default_rng(0)


def agrees(model: onnx.ModelProto, **feed: np.ndarray) -> list[str]:
    """Outputs are onnxruntime's, and near them in integers; the mnemonics of the float graph."""
    imported = import_onnx(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    found = evaluate(imported.graph, feed)
    for name, expected in zip(found, session.run([*found], feed), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    evidence = Evidence(samples_of(imported.graph, [feed]), (-1.0, 1.0))
    config = settled(QuantizationConfig(recipe="fast"), calibrated=True)
    integer = Quantizer(imported.graph, imported.form, evidence).integer(config)
    verify(integer, Form.INTEGER)
    assert integer.is_integer_only
    return [op.mnemonic for op in imported.graph.ops()]


def normal(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


TRIANGLES = {"upper": {}, "lower": {"upper": 0}}


@pytest.mark.parametrize("k", [-1, 0, 2])
@pytest.mark.parametrize("name", TRIANGLES)
def test_triangles(onnx_model: Any, name: str, k: int) -> None:
    node = make_node("Trilu", ["x", "k"], ["y"], **TRIANGLES[name])
    model = onnx_model([node], {"x": [2, 4, 5]}, ["y"], {"k": np.int64(k)})
    assert agrees(model, x=normal(2, 4, 5)) == ["mul"]


SUMS = {
    "plain": (1, {}),
    "before each": (1, {"exclusive": 1}),
    "from the end": (-1, {"reverse": 1}),
    "from the end, behind each": (0, {"exclusive": 1, "reverse": 1}),
}


@pytest.mark.parametrize("name", SUMS)
def test_running_sums_are_products_with_a_triangle(onnx_model: Any, name: str) -> None:
    axis, attributes = SUMS[name]
    node = make_node("CumSum", ["x", "axis"], ["y"], **attributes)
    model = onnx_model([node], {"x": [2, 4, 5]}, ["y"], {"axis": np.int64(axis)})
    assert "dense" in agrees(model, x=normal(2, 4, 5))


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_indices_become_rows(onnx_model: Any, axis: int) -> None:
    nodes = [
        make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        make_node("OneHot", ["i", "depth", "values"], ["y"], axis=axis),
    ]
    constants = {"depth": np.int64(6), "values": np.float32([-1, 3])}
    model = onnx_model(nodes, {"x": [2, 3]}, ["y"], constants)
    x = np.float32([[0, 5, -2], [-1, -6, 4]])
    assert "embedding" in agrees(model, x=x)
    beyond = evaluate(import_onnx(model).graph, {"x": np.float32([[6, -7, 100], [0, 0, -100]])})
    assert (beyond["y"] == 3).sum() == 2


EQUATIONS = {
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "bhid,bhjd->bhij": ((1, 2, 3, 4), (1, 2, 5, 4)),
    "bchw,bdhw->bcd": ((1, 3, 2, 2), (1, 4, 2, 2)),
    "ij,ij->ij": ((3, 4), (3, 4)),
    "i,j->ij": ((3,), (4,)),
    "...ij,...jk->...ik": ((2, 3, 4), (2, 4, 5)),
    "bij,jk": ((2, 3, 4), (4, 5)),
    "bij,bkj->ikb": ((2, 3, 4), (2, 5, 4)),
    "bic,bjd->bij": ((2, 3, 4), (2, 5, 6)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_is_a_product(onnx_model: Any, equation: str) -> None:
    shapes = dict(zip("xz", EQUATIONS[equation], strict=True))
    node = make_node("Einsum", ["x", "z"], ["y"], equation=equation)
    model = onnx_model([node], shapes, ["y"])
    agrees(model, **{name: normal(*shape) for name, shape in shapes.items()})


@pytest.mark.parametrize("equation", ["bij->bji", "bij->b", "bij->", "bij->ij", "...j->j..."])
def test_einsum_of_one_operand_is_a_sum_and_a_transpose(onnx_model: Any, equation: str) -> None:
    node = make_node("Einsum", ["x"], ["y"], equation=equation)
    model = onnx_model([node], {"x": [2, 3, 4]}, ["y"])
    assert set(agrees(model, x=normal(2, 3, 4))) <= {"reduce", "transpose", "reshape"}


def test_einsum_with_weights_is_a_layer(onnx_model: Any) -> None:
    node = make_node("Einsum", ["x", "w"], ["y"], equation="bthd,hdo->bto")
    model = onnx_model([node], {"x": [1, 3, 2, 4]}, ["y"], {"w": normal(2, 4, 5)}, 12)
    assert agrees(model, x=normal(1, 3, 2, 4)).count("dense") == 1


def test_einsum_of_three_operands(onnx_model: Any) -> None:
    node = make_node("Einsum", ["x", "w", "v"], ["y"], equation="bi,ij,jk->bk")
    constants = {"w": normal(4, 3), "v": normal(3, 2)}
    model = onnx_model([node], {"x": [2, 4]}, ["y"], constants)
    assert agrees(model, x=normal(2, 4)).count("dense") == 2


@pytest.mark.parametrize("equation", ["bii->bi", "bij->bijj", "bij,bjk->bik"])
def test_einsum_of_a_diagonal_is_refused_by_name(onnx_model: Any, equation: str) -> None:
    node = make_node("Einsum", ["x"], ["y"], name="e", equation=equation)
    with pytest.raises(UnsupportedOp, match=r"Einsum node 'e': equation"):
        import_onnx(onnx_model([node], {"x": [2, 3, 3]}, ["y"]))


def element(sequence: str, place: int, output: str) -> list[onnx.NodeProto]:
    value = helper.make_tensor("p", TensorProto.INT64, [], [place])
    constant = make_node("Constant", [], [f"{output}.place"], value=value)
    return [constant, make_node("SequenceAt", [sequence, f"{output}.place"], [output])]


SPLITS = {
    "in equal parts": (np.int64(2), {"axis": 1}),
    "in given parts": (np.int64([1, 4]), {"axis": -1}),
    "in ones": (None, {"axis": 1, "keepdims": 0}),
    "in ones that keep the axis": (None, {"axis": 1}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_parts_of_a_sequence(onnx_model: Any, name: str) -> None:
    size, attributes = SPLITS[name]
    inputs, constants = (["x", "n"], {"n": size}) if size is not None else (["x"], {})
    nodes = [
        make_node("SplitToSequence", inputs, ["s"], **attributes),
        *element("s", 0, "a"),
        *element("s", -1, "b"),
        make_node("Relu", ["a"], ["y"]),
        make_node("Neg", ["b"], ["z"]),
    ]
    model = onnx_model(nodes, {"x": [2, 5]}, ["y", "z"], constants)
    assert "slice" in agrees(model, x=normal(2, 5))


@pytest.mark.parametrize("attributes", [{"axis": 1}, {"axis": 1, "new_axis": 1}], ids=str)
def test_sequences_are_built_and_joined(onnx_model: Any, attributes: dict[str, int]) -> None:
    nodes = [
        make_node("Relu", ["x"], ["r"]),
        make_node("SequenceConstruct", ["x", "r"], ["s"]),
        make_node("SequenceInsert", ["s", "r"], ["t"]),
        make_node("SequenceErase", ["t"], ["u"]),
        make_node("SequenceInsert", ["u", "x"], ["v"]),
        make_node("ConcatFromSequence", ["v"], ["y"], **attributes),
    ]
    model = onnx_model(nodes, {"x": [2, 3]}, ["y"])
    assert "concat" in agrees(model, x=normal(2, 3))


def test_an_element_at_a_computed_place_is_refused(onnx_model: Any) -> None:
    nodes = [
        make_node("SequenceConstruct", ["x", "x"], ["s"]),
        make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        make_node("Cast", ["m"], ["i"], to=TensorProto.INT64),
        make_node("SequenceAt", ["s", "i"], ["y"], name="at"),
    ]
    with pytest.raises(UnsupportedOp, match="node 'at': the position must be a constant"):
        import_onnx(onnx_model(nodes, {"x": [2, 3]}, ["y"]))


NONSENSE = {
    "a sequence of sequences": [make_node("SequenceConstruct", ["s"], ["y"], name="bad")],
    "parts of a sequence": [make_node("SplitToSequence", ["s"], ["y"], name="bad")],
    "a function of a sequence": [make_node("Relu", ["s"], ["y"], name="bad")],
    "sizes that are no integers": [make_node("SplitToSequence", ["x", "i"], ["y"], name="bad")],
    "no depth": [make_node("OneHot", ["x", "i", "x"], ["y"], name="bad")],
    "no axis": [make_node("CumSum", ["x", "i"], ["y"], name="bad")],
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_by_name(onnx_model: Any, name: str) -> None:
    nodes = [make_node("SequenceConstruct", ["x", "x"], ["s"]), *NONSENSE[name]]
    model = onnx_model(nodes, {"x": [2, 3]}, ["y"], {"i": np.float32(np.inf)})
    with pytest.raises(UnsupportedOp, match="node 'bad': "):
        import_onnx(model)


def test_what_a_sequence_of_refused_values_gives_is_no_other_problem(onnx_model: Any) -> None:
    nodes = [
        make_node("Det", ["x"], ["d"], name="first"),
        make_node("SequenceConstruct", ["d", "d"], ["s"]),
        *element("s", 0, "y"),
    ]
    with pytest.raises(UnsupportedOp) as caught:
        import_onnx(onnx_model(nodes, {"x": [3, 3]}, ["y"]))
    assert len(caught.value.problems) == 1


def test_functions_of_the_model_are_inlined(onnx_model: Any) -> None:
    model = onnx_model([make_node("Twice", ["x"], ["y"], domain="mine")], {"x": [2, 3]}, ["y"])
    body = [make_node("Add", ["a", "a"], ["b"]), make_node("Relu", ["b"], ["c"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["c"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert agrees(model, x=normal(2, 3)) == ["add", "clamp"]


def test_the_error_of_dynamic_dimensions_has_the_line_to_add_for_all(onnx_model: Any) -> None:
    shapes = {"x": [1, "height", "?"], "z": [1, "a b"]}
    model = onnx_model([make_node("Relu", ["x"], ["y"])], shapes, ["y"])
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelError) as caught:
        import_onnx(model)
    told = str(caught.value)
    assert 'bind={"height": 224, "x:2": 224, "a b": 224} in Python' in told
    assert "--bind height=224 --bind x:2=224 --bind 'a b=224' on the command line" in told
    assert "input 'z': element type STRING; accepted:" in told


def test_a_list_of_texts_is_named_as_one(onnx_model: Any) -> None:
    node = make_node("LabelEncoder", ["x"], ["y"], name="l")
    model = onnx_model(
        [node, make_node("Relu", ["y"], ["z"], name="r", kinds=["a", "b"])], {"x": [2]}, ["z"]
    )
    del model.graph.node[0]
    model.graph.node[0].input[0] = "x"
    schema = "attribute kinds is unknown"
    with pytest.raises(UnsupportedOp, match=schema):
        import_onnx(model)
    constant = make_node("Constant", [], ["c"], name="c", value_strings=["a", "b"])
    model = onnx_model([constant, make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    with pytest.raises(UnsupportedOp, match="constant given as value_strings"):
        import_onnx(model)
