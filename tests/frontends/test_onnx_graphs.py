"""Whole models: shapes, constants, names, notes, and every problem reported at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_function, make_node, make_opsetid, make_tensor_value_info

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.onnx import import_onnx, inspect_onnx
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import Conv2d, Reshape, ZeroStuff

SHAPE_ARITHMETIC = [
    make_node("Shape", ["x"], ["shape"]),
    make_node("Gather", ["shape", "zero"], ["n"], axis=0),
    make_node("Unsqueeze", ["n", "axis"], ["batch"]),
    make_node("Concat", ["batch", "rest"], ["target"], axis=0),
    make_node("Reshape", ["x", "target"], ["y"]),
]
SHAPE_CONSTANTS = {"zero": np.int64(0), "axis": [0], "rest": [-1]}


def _weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_shape_arithmetic_of_exporters_folds_into_a_reshape(onnx_model: Any) -> None:
    model = onnx_model(SHAPE_ARITHMETIC, {"x": ["N", 2, 3]}, ["y"], SHAPE_CONSTANTS)
    graph = import_onnx(model, bind={"N": 4}).graph
    assert str(graph) == (
        "graph @small(%x: f32[4,2,3] origin=x) {\n"
        "  %y = reshape(%x) {shape=(4, 6)} : f32[4,6] origin=y\n"
        "  return y=%y\n"
        "}"
    )


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_from_7_to_the_newest_is_read(onnx_model: Any, opset: int) -> None:
    """Operators whose operands moved from attributes to inputs over the years."""
    axes, bounds = {"axes": [1]}, {"starts": [0], "ends": [2], "axes": [1]}
    nodes = [
        make_node("Slice", ["x"], ["s"], **bounds)
        if opset < 10
        else make_node("Slice", ["x", "zero", "two", "one"], ["s"]),
        make_node("Squeeze", ["s"], ["q"], axes=[3])
        if opset < 13
        else make_node("Squeeze", ["s", "three"], ["q"]),
        make_node("ReduceSum", ["q"], ["r"], **axes)
        if opset < 13
        else make_node("ReduceSum", ["q", "one"], ["r"]),
        make_node("Clip", ["r"], ["c"], min=0.0)
        if opset < 11
        else make_node("Clip", ["r", "low"], ["c"]),
        make_node("Pad", ["c"], ["y"], pads=[0, 0, 1, 0, 0, 1])
        if opset < 11
        else make_node("Pad", ["c", "pads"], ["y"]),
    ]
    constants = {
        "zero": [0],
        "one": [1],
        "two": [2],
        "three": [3],
        "low": np.float32(0),
        "pads": [0, 0, 1, 0, 0, 1],
    }
    graph = import_onnx(onnx_model(nodes, {"x": [2, 3, 4, 1]}, ["y"], constants, opset)).graph
    x = _weight(2, 3, 4, 1)
    (y,) = evaluate(graph, {"x": x}).values()
    expected = np.maximum(x[:, :2, :, 0].sum(axis=1, keepdims=True), 0)
    np.testing.assert_allclose(y, np.pad(expected, ((0, 0), (0, 0), (1, 1))), rtol=1e-5)


@pytest.mark.parametrize("opset", [1, 6, onnx.defs.onnx_opset_version() + 1])
def test_other_opsets_are_rejected_by_number(onnx_model: Any, opset: int) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": [1]}, ["y"], opset=opset)
    with pytest.raises(ModelError, match=f"opset {opset}; accepted: 7 to"):
        import_onnx(model)


def test_the_leading_dimension_is_one_by_default_and_the_notes_say_so(onnx_model: Any) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, ["y"])
    imported = import_onnx(model)
    assert imported.graph.type("x").shape == (1, 3)
    assert imported.notes == ("dimension N of input x bound to 1 (default batch)",)
    assert import_onnx(model, bind={"N": 5}).graph.type("x").shape == (5, 3)
    assert import_onnx(model, bind={"x:0": 6}).notes == ()


def test_another_dynamic_dimension_must_be_bound(onnx_model: Any) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": ["N", "H", None]}, ["y"])
    with pytest.raises(ModelError, match=r"H, x:2 have no size; add, .* bind=\{\"H\""):
        import_onnx(model)
    assert import_onnx(model, bind={"H": 2, "x:2": 3}).graph.type("x").shape == (1, 2, 3)


@pytest.mark.parametrize("bind", [{"M": 1}, {"N": 0}, {"N": -3}, {"x:1": 3}])
def test_a_wrong_binding_is_an_error(onnx_model: Any, bind: dict[str, int]) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, ["y"])
    with pytest.raises(ModelError, match="dimension"):
        import_onnx(model, bind=bind)


def test_all_problems_of_a_model_are_reported_at_once(onnx_model: Any) -> None:
    nodes = [
        make_node("LRN", ["x"], ["a"], size=3, name="norm"),
        make_node("Conv", ["a", "x"], ["b"], name="conv"),
        make_node("NonZero", ["b"], ["c"], name="where"),
        make_node("TopK", ["c", "k"], ["d", "e"], name="top"),
        make_node("Custom", ["x"], ["f"], name="mine", domain="my.ops"),
        make_node("Relu", ["f"], ["g"], name="after"),
    ]
    model = onnx_model(nodes, {"x": [1, 2, 4, 4]}, ["d", "g"], {"k": [1]})
    model.opset_import.append(make_opsetid("my.ops", 1))
    with pytest.raises(UnsupportedOp) as caught:
        import_onnx(model)
    assert [p.split(":")[0] for p in caught.value.problems] == [
        "LRN node 'norm'",
        "Conv node 'conv'",
        "NonZero node 'where'",
        "TopK node 'top'",
        "Custom node 'mine'",
    ]
    assert all(p in str(caught.value) for p in caught.value.problems)


def _graph(nodes: list[onnx.NodeProto], outputs: list[str], **constants: Any) -> onnx.GraphProto:
    """A branch, which reads what is around it."""
    inits = [onnx.numpy_helper.from_array(np.asarray(c), n) for n, c in constants.items()]
    infos = [make_tensor_value_info(name, 1, None) for name in outputs]
    return onnx.helper.make_graph(nodes, "branch", [], infos, inits)


def _if(condition: str, then: onnx.GraphProto, other: onnx.GraphProto, out: str = "y") -> Any:
    return make_node("If", [condition], [out], then_branch=then, else_branch=other)


@pytest.mark.parametrize("taken", [True, False])
def test_a_constant_condition_takes_one_branch(onnx_model: Any, taken: bool) -> None:
    """Both branches use one name for different values, and read what is around them."""
    two = np.float32([2.0])
    then = _graph([make_node("Mul", ["a", "k"], ["t"])], ["t"], k=two)
    other = _graph(
        [make_node("Neg", ["k"], ["m"]), make_node("Mul", ["a", "m"], ["t"])], ["t"], k=two
    )
    nodes = [
        _if("c", then, other, "b"),
        make_node("Relu", ["x"], ["a"]),  # comes first, as the branches read it
        make_node("Add", ["b", "x"], ["y"]),
    ]
    graph = import_onnx(onnx_model(nodes, {"x": [3]}, ["y"], {"c": np.bool_(taken)})).graph
    x = np.float32([-1.0, 0.5, 2.0])
    factor = 2.0 if taken else -2.0
    (y,) = evaluate(graph, {"x": x}).values()
    np.testing.assert_allclose(y, factor * np.maximum(x, 0) + x)


def test_branches_nest_and_may_give_constants_or_what_is_around_them(onnx_model: Any) -> None:
    inner = _if("c", _graph([], ["x"]), _graph([], ["k"], k=np.float32([9.0])), "i")
    nodes = [
        _if("c", _graph([inner], ["i"]), _graph([], ["x"]), "same"),
        _if("d", _graph([], ["x"]), _graph([], ["k"], k=np.float32([3.0])), "three"),
        make_node("Mul", ["same", "three"], ["y"]),
    ]
    constants = {"c": np.bool_([True]), "d": np.bool_(False)}
    graph = import_onnx(onnx_model(nodes, {"x": [2]}, ["y"], constants)).graph
    (y,) = evaluate(graph, {"x": np.float32([1.0, 2.0])}).values()
    np.testing.assert_array_equal(y, np.float32([3.0, 6.0]))


def test_the_body_of_another_operator_is_refused_by_name(onnx_model: Any) -> None:
    branch = _graph([make_node("Relu", ["e"], ["t"])], ["t"])
    branch.input.append(make_tensor_value_info("e", onnx.TensorProto.FLOAT, [1]))
    nodes = [
        make_node("SequenceConstruct", ["x"], ["s"]),
        make_node("SequenceMap", ["s"], ["r"], body=branch),
        make_node("SequenceAt", ["r", "zero"], ["y"]),
    ]
    with pytest.raises(UnsupportedOp, match="SequenceMap"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"], {"zero": np.int64(0)}))


def test_a_computed_condition_chooses_between_both_branches(onnx_model: Any) -> None:
    """One of the branches gives a constant."""
    nodes = [
        make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        make_node("Greater", ["sum", "zero"], ["c"]),
        _if(
            "c",
            _graph([make_node("Neg", ["x"], ["n"])], ["n"]),
            _graph([], ["k"], k=np.ones(2, "f")),
        ),
    ]
    imported = import_onnx(onnx_model(nodes, {"x": [2]}, ["y"], {"zero": np.float32(0)}))
    for x, y in (([1, 2], [-1, -2]), ([1, -2], [1, 1])):
        assert evaluate(imported.graph, {"x": np.float32(x)})["y"].tolist() == y
    assert imported.notes == ("If node 'y': both branches are computed, and one is chosen",)


def test_computed_conditions_nest_a_few_levels_deep(onnx_model: Any) -> None:
    """Each level doubles what is computed."""
    nested = _graph([], ["x"])
    for level in range(5):
        nested = _graph([_if("c", nested, _graph([], ["x"]), f"v{level}")], [f"v{level}"])
    nodes = [make_node("Cast", ["x"], ["c"], to=9), _if("c", nested, _graph([], ["x"]))]
    with pytest.raises(UnsupportedOp, match="accepted: computed conditions up to 4 deep"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"]))


def test_branches_of_a_computed_condition_have_results_of_one_type(onnx_model: Any) -> None:
    nodes = [
        make_node("Cast", ["x"], ["c"], to=9),
        _if("c", _graph([], ["x"]), _graph([], ["k"], k=np.ones(2, "f"))),
    ]
    with pytest.raises(UnsupportedOp, match=r"branches give f32\[1\] and f32\[2\]"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"]))


def test_branches_of_a_computed_condition_give_tensors(onnx_model: Any) -> None:
    pair = make_node("SequenceConstruct", ["x", "x"], ["s"])
    nodes = [
        make_node("Cast", ["x"], ["c"], to=9),
        _if("c", _graph([pair], ["s"]), _graph([pair], ["s"])),
    ]
    with pytest.raises(UnsupportedOp, match="'s', which a branch gives, is a sequence"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"]))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (_if("c", _graph([], ["none"]), _graph([], ["x"])), "reads 'none', which nothing produces"),
        (_if("c", _graph([], ["x", "c"]), _graph([], ["x"])), "2 outputs; expected 0 and 1"),
        (_if("two", _graph([], ["x"]), _graph([], ["x"])), "a condition of 2 elements"),
        (make_node("If", ["c"], ["y"], then_branch=_graph([], ["x"])), "two branches"),
    ],
)
def test_a_broken_branch_is_a_model_error(onnx_model: Any, node: Any, message: str) -> None:
    constants = {"c": np.bool_(True), "two": np.bool_([True, False])}
    with pytest.raises(ModelError, match=message):
        import_onnx(onnx_model([node], {"x": [1]}, ["y"], constants))


@pytest.mark.parametrize("size", [-1, "?"])
def test_minus_one_and_a_question_mark_are_sizes_without_a_name(onnx_model: Any, size: Any) -> None:
    """Two of them are two sizes."""
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": [size, 3, size]}, ["y"])
    assert import_onnx(model, bind={"x:2": 5}).graph.type("x").shape == (1, 3, 5)
    with pytest.raises(ModelError, match="x:2 have no size"):
        import_onnx(model)


def test_functions_of_the_model_are_inlined(onnx_model: Any) -> None:
    function = make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [make_node("Add", ["a", "a"], ["t"]), make_node("Relu", ["t"], ["b"])],
        [make_opsetid("", 17)],
    )
    model = onnx_model([make_node("Twice", ["x"], ["y"], domain="mine")], {"x": [3]}, ["y"])
    model.opset_import.append(make_opsetid("mine", 1))
    model.functions.append(function)
    (y,) = evaluate(import_onnx(model).graph, {"x": np.float32([-1, 0, 2])}).values()
    np.testing.assert_array_equal(y, [0, 0, 4])


def test_recursive_functions_are_an_error(onnx_model: Any) -> None:
    call = make_node("Loopy", ["a"], ["b"], domain="mine")
    function = make_function("mine", "Loopy", ["a"], ["b"], [call], [make_opsetid("", 17)])
    model = onnx_model([make_node("Loopy", ["x"], ["y"], domain="mine")], {"x": [3]}, ["y"])
    model.opset_import.append(make_opsetid("mine", 1))
    model.functions.append(function)
    with pytest.raises(ModelError, match=r"recursive functions mine\.Loopy"):
        import_onnx(model)


def test_functions_that_expand_without_bound_are_an_error(onnx_model: Any) -> None:
    model = onnx_model([make_node("F20", ["x"], ["y"], domain="mine")], {"x": [3]}, ["y"])
    model.opset_import.append(make_opsetid("mine", 1))
    for i in range(21):
        operator, domain = (f"F{i - 1}", "mine") if i else ("Relu", "")
        calls = [make_node(operator, [f"v{j}"], [f"v{j + 1}"], domain=domain) for j in range(4)]
        opsets = [make_opsetid("", 17), make_opsetid("mine", 1)]
        model.functions.append(make_function("mine", f"F{i}", ["v0"], ["v4"], calls, opsets))
    with pytest.raises(ModelError, match="expand to"):
        import_onnx(model)


def test_public_names_stay_and_ids_are_sanitized(onnx_model: Any) -> None:
    model = onnx_model(
        [make_node("Relu", ["serving:0"], ["out put"])], {"serving:0": [2]}, ["out put"]
    )
    graph = import_onnx(model).graph
    assert graph.inputs == {"serving:0": "serving_0"}
    assert graph.outputs == {"out put": "out_put"}


def test_names_that_sanitize_alike_stay_apart(onnx_model: Any) -> None:
    nodes = [make_node("Relu", ["a:0"], ["b"]), make_node("Add", ["b", "a_0"], ["y"])]
    graph = import_onnx(onnx_model(nodes, {"a:0": [2], "a_0": [2]}, ["y"])).graph
    assert graph.inputs == {"a:0": "a_0", "a_0": "a_0.1"}


def test_an_unused_input_keeps_its_place(onnx_model: Any) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"unused": [4], "x": [2]}, ["y"])
    assert list(import_onnx(model).graph.inputs) == ["unused", "x"]


def test_an_output_that_is_an_input_becomes_a_reshape(onnx_model: Any) -> None:
    model = onnx_model([make_node("Identity", ["x"], ["y"])], {"x": [2, 3]}, ["y"])
    graph = import_onnx(model).graph
    assert isinstance(graph.op(graph.outputs["y"]), Reshape)


def test_initializers_listed_as_inputs_are_constants(onnx_model: Any) -> None:
    model = onnx_model(
        [make_node("Add", ["x", "k"], ["y"])], {"x": [2], "k": [2]}, ["y"], {"k": _weight(2)}
    )
    assert list(import_onnx(model).graph.inputs) == ["x"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_f32_and_the_notes_say_so(onnx_model: Any, dtype: type) -> None:
    nodes = [
        make_node("Cast", ["x"], ["h"], to=10),
        make_node("Mul", ["h", "k"], ["m"]),
        make_node("Cast", ["m"], ["y"], to=1),
    ]
    imported = import_onnx(onnx_model(nodes, {"x": [2]}, ["y"], {"k": np.ones(2, dtype)}))
    assert imported.notes == (f"1 constants converted from {np.dtype(dtype)} to float32",)
    assert imported.graph.type("k").dtype.value == "f32"


def test_a_shared_weight_is_one_constant_with_two_readers(onnx_model: Any) -> None:
    nodes = [
        make_node("Conv", ["x", "w"], ["a"]),
        make_node("Conv", ["a", "w"], ["y"]),
    ]
    graph = import_onnx(
        onnx_model(nodes, {"x": [1, 2, 5, 5]}, ["y"], {"w": _weight(2, 2, 3, 3)})
    ).graph
    assert len(graph.consumers("w")) == 2


def test_depthwise_and_one_dimensional_convolutions_become_conv2d(onnx_model: Any) -> None:
    nodes = [make_node("Conv", ["x", "w"], ["y"], group=4, strides=[2], pads=[0, 1])]
    graph = import_onnx(onnx_model(nodes, {"x": [1, 4, 9]}, ["y"], {"w": _weight(4, 1, 3)})).graph
    (conv,) = [op for op in graph.ops() if isinstance(op, Conv2d)]
    assert conv.groups == 4
    assert conv.padding == (0, 0, 0, 1)
    assert graph.type("y").shape == (1, 4, 4)


def test_a_transposed_convolution_is_zeros_and_a_convolution(onnx_model: Any) -> None:
    nodes = [make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])]
    graph = import_onnx(
        onnx_model(nodes, {"x": [1, 2, 4, 4]}, ["y"], {"w": _weight(2, 3, 4, 4)})
    ).graph
    kinds = [type(op) for op in graph.ops()]
    assert ZeroStuff in kinds
    assert Conv2d in kinds
    assert graph.type("y").shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (make_node("ConstantOfShape", ["s"], ["k"]), {"s": [1 << 20, 1 << 20]}),
        (make_node("Expand", ["one", "s"], ["k"]), {"one": np.ones(1), "s": [1 << 40]}),
        (make_node("Tile", ["one", "s"], ["k"]), {"one": np.ones(1), "s": [1 << 40]}),
        (
            make_node("Range", ["a", "b", "c"], ["k"]),
            {"a": np.int64(0), "b": np.int64(1 << 40), "c": np.int64(1)},
        ),
        (make_node("Pad", ["one", "p"], ["k"]), {"one": np.ones(1), "p": [1 << 40, 0]}),
        (
            make_node("Add", ["row", "column"], ["k"]),
            {"row": np.ones((1, 1 << 15)), "column": np.ones((1 << 15, 1))},
        ),
    ],
)
def test_huge_constants_are_refused_before_they_are_made(
    onnx_model: Any, node: Any, constants: dict[str, Any]
) -> None:
    nodes = [node, make_node("Cast", ["k"], ["f"], to=1), make_node("Add", ["x", "f"], ["y"])]
    with pytest.raises(UnsupportedOp, match=f"{node.op_type} node 'k'"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"], constants))


def test_inspect_lists_problems_and_does_not_raise(onnx_model: Any) -> None:
    nodes = [
        make_node("Conv", ["x", "w"], ["a"]),
        make_node("LRN", ["a"], ["b"], size=3),
        make_node("Relu", ["b"], ["y"]),
    ]
    model = onnx_model(nodes, {"x": ["N", 2, 5, 5]}, ["y"], {"w": _weight(4, 2, 3, 3)})
    seen = inspect_onnx(model)
    assert seen.name == "small"
    assert seen.version == "opset 17"
    assert str(seen.inputs["x"]) == "f32[1,2,5,5]"
    assert str(seen.outputs["y"]) == "f32[1,4,3,3]"
    assert seen.operators == {"Conv": 1, "LRN": 1, "Relu": 1}
    assert seen.parameters == 4 * 2 * 9 + 4
    assert seen.macs == 4 * 9 * 2 * 9
    assert len(seen.notes) == 1
    (problem,) = seen.problems
    assert problem.startswith("LRN node 'b'")


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name",
    [
        "fastestdet",
        "mnist-8",
        "mobilenetv1_025_224_bn",
        "mobilenetv2_tf",
        "resnet20_cifar10_bn",
        "squeezenet1_1",
        "yolox_nano",
    ],
)
def test_real_networks_agree_with_onnxruntime(zoo: Any, name: str) -> None:
    path = zoo / "models" / f"{name}.onnx"
    graph = import_onnx(path).graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    ((public, id),) = graph.inputs.items()
    x = np.random.default_rng(0).standard_normal(graph.type(id).shape).astype(np.float32)
    expected = onnxruntime.InferenceSession(path, options).run(None, {public: x})
    got = evaluate(graph, {public: x})
    for ours, theirs in zip(got.values(), expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
