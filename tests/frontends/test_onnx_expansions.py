"""Normalisations, and operators that become several ops: scattering and gathering at known places,
and parts without elements; the numbers are onnxruntime's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_node, make_opsetid

from qcomp.errors import UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.ir.evaluate import evaluate

RANDOM = np.random.default_rng(0)
SCALE, BIAS = RANDOM.uniform(0.5, 1.5, 4).astype("f"), RANDOM.normal(size=4).astype("f")
PARAMETERS = {
    "s": SCALE,
    "b": BIAS,
    "s2": SCALE[:2],
    "b2": BIAS[:2],
    "s34": RANDOM.uniform(0.5, 1.5, (3, 4)).astype("f"),
    "b34": RANDOM.normal(size=(3, 4)).astype("f"),
}


def agrees(model: onnx.ModelProto, x: np.ndarray, **more: np.ndarray) -> list[str]:
    """Every output is onnxruntime's; the mnemonics of the graph."""
    graph = import_onnx(model).graph
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    feed = {"x": x, **more}
    found = evaluate(graph, feed)
    for name, expected in zip(found, session.run([*found], feed), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    return [op.mnemonic for op in graph.ops()]


NORMS = {
    "instance": (17, [2, 4, 5, 3], "InstanceNormalization", ["s", "b"], {"epsilon": 0.01}),
    "instance of sequences": (17, [2, 4, 7], "InstanceNormalization", ["s", "b"], {}),
    "layer": (17, [2, 3, 4], "LayerNormalization", ["s", "b"], {}),
    "layer of some axes": (17, [2, 3, 4], "LayerNormalization", ["s34", "b34"], {"axis": -2}),
    "layer without bias": (17, [2, 3, 4], "LayerNormalization", ["s"], {"axis": 1}),
    "older group": (18, [2, 4, 3, 5], "GroupNormalization", ["s2", "b2"], {"num_groups": 2}),
    "group of sequences": (21, [2, 4, 3], "GroupNormalization", ["s", "b"], {"num_groups": 1}),
    "group": (21, [2, 4, 3, 5], "GroupNormalization", ["s", "b"], {"num_groups": 2}),
    "mean and variance": (13, [2, 3, 4, 5], "MeanVarianceNormalization", [], {}),
    "of rows": (13, [3, 4], "MeanVarianceNormalization", [], {"axes": [-1]}),
    "Euclidean length": (13, [2, 3, 4], "LpNormalization", [], {"axis": 1}),
    "root mean square": (23, [2, 3, 4], "RMSNormalization", ["s"], {}),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalisations_are_one_op(onnx_model: Any, name: str) -> None:
    opset, shape, kind, parameters, attributes = NORMS[name]
    node = make_node(kind, ["x", *parameters], ["y"], **attributes)
    model = onnx_model([node], {"x": shape}, ["y"], PARAMETERS, opset)
    x = RANDOM.normal(3.0, 2.0, shape).astype("f")
    ops = agrees(model, x)
    assert ops.count("normalize") == 1
    assert set(ops) <= {"normalize", "reshape"}


REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "SumSquare")


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize(
    ("axes", "attributes"),
    [([-1], {"keepdims": 0}), ([0, 2], {}), (None, {}), (None, {"noop_with_empty_axes": 1})],
)
def test_reductions_of_functions_are_written_out(
    onnx_model: Any, kind: str, axes: list[int] | None, attributes: dict[str, int]
) -> None:
    inputs, constants = ["x"], {}
    if axes is not None:
        inputs, constants = ["x", "axes"], {"axes": np.int64(axes)}
    node = make_node(f"Reduce{kind}", inputs, ["y"], **attributes)
    model = onnx_model([node], {"x": [2, 3, 4]}, ["y"], constants, 18)
    agrees(model, RANDOM.uniform(0.1, 3.0, (2, 3, 4)).astype("f"))


def test_powers_of_large_numbers_do_not_overflow(onnx_model: Any) -> None:
    model = onnx_model([make_node("ReduceLogSumExp", ["x"], ["y"])], {"x": [2, 3]}, ["y"], {}, 17)
    agrees(model, RANDOM.uniform(80.0, 100.0, (2, 3)).astype("f"))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3), "3 groups of"),
        (make_node("InstanceNormalization", ["s", "s", "b"], ["y"]), "rank 1; accepted: rank 3"),
    ],
)
def test_other_normalisations_are_refused(onnx_model: Any, node: Any, reason: str) -> None:
    nodes = [make_node("Add", ["x", "row"], ["z"]), node]
    outputs = [*node.output, "z"]
    constants = {**PARAMETERS, "row": BIAS}
    if node.op_type == "InstanceNormalization":
        nodes[1] = make_node("InstanceNormalization", ["flat", "s", "b"], ["y"])
        nodes.insert(1, make_node("Reshape", ["x", "eight"], ["flat"]))
        constants["eight"] = np.int64([8])
    with pytest.raises(UnsupportedOp, match=reason):
        import_onnx(onnx_model(nodes, {"x": [2, 4]}, outputs, constants, 21))


def places(*ranges: list[int]) -> np.ndarray:
    """Coordinates of the product of ranges, [..., depth]."""
    return np.stack(np.meshgrid(*ranges, indexing="ij"), -1).astype(np.int64)


# (shape of the data, coordinates, whether it is a box)
SCATTERED = {
    "rows": ([5, 3], places([1, 2]), True),
    "columns of all rows": ([2, 4, 3], places([0, 1], [0, 1, 2, 3], [0, 1]), True),
    "a box in the middle": ([4, 5, 2], places([1, 2], [2, 3]), True),
    "the last row, from behind": ([5, 3], places([-1]), True),
    "everything": ([2, 3], places([0, 1]), True),
    "every other row": ([5, 3], places([0, 2, 4]), False),
    "backwards": ([5, 3], places([2, 1]), False),
    "some elements": ([4, 3], np.int64([[0, 1], [3, 2], [1, 1]]), False),
    "single elements of one row": ([3], np.int64([[2], [0]]), False),
}


@pytest.mark.parametrize("name", SCATTERED)
def test_scattering_at_known_places(onnx_model: Any, name: str) -> None:
    shape, where, box = SCATTERED[name]
    updates = [*where.shape[:-1], *shape[where.shape[-1] :]]
    node = make_node("ScatterND", ["x", "where", "u"], ["y"])
    model = onnx_model([node], {"x": shape, "u": updates}, ["y"], {"where": where})
    x, u = RANDOM.normal(size=shape).astype("f"), RANDOM.normal(size=updates).astype("f")
    ops = agrees(model, x, u=u)
    assert ("gather" in ops) is not box


ELEMENTS = np.int64([[0, 2, 1], [-1, 0, 0]])


@pytest.mark.parametrize(
    ("kind", "where", "attributes"),
    [
        ("GatherElements", ELEMENTS, {"axis": 0}),
        ("GatherElements", ELEMENTS, {"axis": -1}),
        ("GatherND", np.int64([[0, 1], [2, -1]]), {}),
        ("GatherND", np.int64([[1], [2]]), {}),
        ("GatherND", np.int64([[[1], [2]], [[0], [0]], [[3], [1]]]), {"batch_dims": 1}),
    ],
)
def test_gathering_from_known_places(
    onnx_model: Any, kind: str, where: np.ndarray, attributes: dict[str, int]
) -> None:
    node = make_node(kind, ["x", "where"], ["y"], **attributes)
    model = onnx_model([node], {"x": [3, 4]}, ["y"], {"where": where})
    assert "gather" in agrees(model, RANDOM.normal(size=(3, 4)).astype("f"))


def test_scattering_single_elements(onnx_model: Any) -> None:
    node = make_node("ScatterElements", ["x", "where", "u"], ["y"], axis=0)
    model = onnx_model([node], {"x": [3, 4], "u": [2, 3]}, ["y"], {"where": ELEMENTS})
    x, u = RANDOM.normal(size=(3, 4)).astype("f"), RANDOM.normal(size=(2, 3)).astype("f")
    agrees(model, x, u=u)


@pytest.mark.parametrize(
    ("where", "attributes", "reason"),
    [
        (np.int64([[7]]), {}, "indices leave the shape"),
        (np.int64([[0]]), {"reduction": "add"}, "reduction=add; accepted: none"),
        (np.int64([[0], [1]]), {}, r"updates of \[1, 3\]; expected \[2, 3\]"),
    ],
)
def test_other_scattering_is_refused(
    onnx_model: Any, where: np.ndarray, attributes: dict[str, str], reason: str
) -> None:
    node = make_node("ScatterND", ["x", "where", "u"], ["y"], **attributes)
    model = onnx_model([node], {"x": [4, 3], "u": [1, 3]}, ["y"], {"where": where}, 16)
    with pytest.raises(UnsupportedOp, match=reason):
        import_onnx(model)


def test_parts_without_elements_join_as_nothing(onnx_model: Any) -> None:
    """Also after ops that do nothing to them."""
    nodes = [
        make_node("Slice", ["x", "four", "four", "one"], ["e"]),
        make_node("Relu", ["e"], ["r"]),
        make_node("Add", ["r", "r"], ["s"]),
        make_node("Concat", ["x", "s"], ["k"], axis=1),
        make_node("Split", ["k", "parts"], ["none", "p", "rest"], axis=1),
        make_node("Concat", ["p", "rest", "none"], ["y"], axis=1),
    ]
    constants = {"four": [4], "one": [1], "parts": [0, 4, 0]}
    ops = agrees(onnx_model(nodes, {"x": [1, 4, 3]}, ["y"], constants), np.ones((1, 4, 3), "f"))
    assert ops == ["slice"]  # of all


def test_parameters_that_are_computed_are_applied_behind(onnx_model: Any) -> None:
    nodes = [
        make_node("Relu", ["u"], ["scale"]),
        make_node("LayerNormalization", ["x", "scale", "b"], ["y"]),
    ]
    model = onnx_model(nodes, {"x": [2, 3, 4], "u": [4]}, ["y"], PARAMETERS, 17)
    x, u = RANDOM.normal(size=(2, 3, 4)).astype("f"), RANDOM.normal(size=4).astype("f")
    assert agrees(model, x, u=u) == ["clamp", "normalize", "mul", "add"]


def test_the_mean_and_the_deviation_of_a_layer_normalisation(onnx_model: Any) -> None:
    node = make_node("LayerNormalization", ["x", "s", "b"], ["y", "mean", "inverse"])
    model = onnx_model([node], {"x": [2, 3, 4]}, ["y", "mean", "inverse"], PARAMETERS, 17)
    assert "normalize" in agrees(model, RANDOM.normal(size=(2, 3, 4)).astype("f"))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (make_node("LpNormalization", ["x"], ["y"], p=1), "p=1; accepted: p=2"),
        (make_node("LayerNormalization", ["x", "s"], ["y"], epsilon=-1.0), "epsilon=-1"),
        (make_node("GroupNormalization", ["x", "s2", "b2"], ["y"], num_groups=2), "accepted: 4"),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_attributes_that_mean_nothing_here_are_refused(
    onnx_model: Any, node: Any, reason: str
) -> None:
    with pytest.raises(UnsupportedOp, match=reason):
        import_onnx(onnx_model([node], {"x": [2, 4]}, ["y"], PARAMETERS, 21))


FUSED = {
    "with a residual": ("SkipLayerNormalization", ["x", "u", "s", "b"], ["y"]),
    "without beta": ("SkipLayerNormalization", ["x", "u", "s"], ["y"]),
    "with a bias": ("SkipLayerNormalization", ["x", "u", "s", "b", "s"], ["y"]),
    "and the sum": ("SkipLayerNormalization", ["x", "u", "s", "b", ""], ["y", "", "", "total"]),
    "root mean square": ("SkipSimplifiedLayerNormalization", ["x", "u", "s"], ["y"]),
    "with its bias": (
        "SkipSimplifiedLayerNormalization", ["x", "u", "s", "b"], ["y", "", "", "total"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "results"), FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("attributes", [{}, {"epsilon": 0.25}], ids=str)
def test_normalisations_that_onnx_runtime_fuses(
    onnx_model: Any, kind: str, inputs: list[str], results: list[str], attributes: dict[str, float]
) -> None:
    node = make_node(kind, inputs, results, domain="com.microsoft", **attributes)
    shapes, named = {"x": [2, 3, 4], "u": [2, 3, 4]}, [name for name in results if name]
    model = onnx_model([node], shapes, named, PARAMETERS, 17)
    model.opset_import.append(make_opsetid("com.microsoft", 1))
    x, u = RANDOM.normal(size=(2, 2, 3, 4)).astype("f")
    ops = agrees(model, x, u=u)
    assert ops[-1] == "normalize"
    assert set(ops) == {"add", "normalize"}


@pytest.mark.parametrize("opset", [12, 17])
def test_normalisations_that_onnx_runtime_has_in_every_opset(onnx_model: Any, opset: int) -> None:
    nodes = [
        make_node("LayerNormalization", ["x", "s", "b"], ["z"], axis=-1),
        make_node("SimplifiedLayerNormalization", ["z", "s34"], ["y"], axis=1, epsilon=0.5),
    ]
    model = onnx_model(nodes, {"x": [2, 3, 4]}, ["y"], PARAMETERS, opset)
    assert agrees(model, RANDOM.normal(size=(2, 3, 4)).astype("f")) == ["normalize"] * 2


@pytest.mark.parametrize(
    ("kind", "inputs", "reason"),
    [
        ("SkipLayerNormalization", ["x", "x", "s"], "the mean and the deviation are results"),
        ("SimplifiedLayerNormalization", ["x", "s"], "the deviation is a result"),
    ],
)
def test_statistics_of_what_is_fused_are_refused(
    onnx_model: Any, kind: str, inputs: list[str], reason: str
) -> None:
    node = make_node(kind, inputs, ["y", "mean"], domain="com.microsoft")
    model = onnx_model([node], {"x": [2, 3, 4]}, ["y"], PARAMETERS, 17)
    model.opset_import.append(make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedOp, match=f"{kind} node .*{reason}"):
        import_onnx(model)
