"""A model file is not trusted: whatever is wrong with it is a ModelError that says so."""

from __future__ import annotations

import contextlib
import functools
import random
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.helper import make_node, make_tensor, make_tensor_value_info
from onnx_mutations import mutated
from small_networks import NETWORKS

from qcomp.errors import CompileError, ModelError
from qcomp.frontends.onnx import import_onnx


@pytest.fixture
def conv(onnx_model: Any) -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    nodes = [
        make_node("Conv", ["x", "w"], ["a"]),
        make_node("Shape", ["a"], ["s"]),
        make_node("Slice", ["s", "zero", "one"], ["n"]),
        make_node("Concat", ["n", "rest"], ["t"], axis=0),
        make_node("Reshape", ["a", "t"], ["y"]),
    ]
    constants = {"w": weight, "zero": [0], "one": [1], "rest": [-1]}
    model: onnx.ModelProto = onnx_model(nodes, {"x": ["N", 2, 6, 6]}, ["y"], constants)
    return model


def test_a_missing_file_a_directory_and_an_empty_file_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    for path in (tmp_path / "none.onnx", tmp_path, empty):
        with pytest.raises(ModelError, match=str(path)):
            import_onnx(path)


def test_a_file_that_is_not_onnx_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content in (b"PK\x03\x04 a zip archive", b"\x80\x04\x95 a pickle", b"{}", b"\x08\x07"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=str(path)):
            import_onnx(path)


def test_a_truncated_file_is_a_model_error(conv: onnx.ModelProto, tmp_path: Path) -> None:
    data = conv.SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"model\.onnx|shape|initializer|reads|produced"):
            import_onnx(path)


@pytest.mark.parametrize("seed", range(4))
def test_corrupt_bytes_never_raise_anything_but_compile_errors(
    conv: onnx.ModelProto, seed: int
) -> None:
    data = conv.SerializeToString()
    generator = random.Random(seed)
    for _ in range(150):
        corrupt = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            corrupt[generator.randrange(len(corrupt))] = generator.randrange(256)
        with contextlib.suppress(CompileError):
            import_onnx(bytes(corrupt))


@functools.cache
def network(name: str) -> onnx.ModelProto:
    return NETWORKS[name].build()


@pytest.mark.sweep(600)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 1 << 32))
def test_changed_networks_give_a_graph_or_a_compile_error(name: str, seed: int) -> None:
    data = mutated(network(name), random.Random(seed))
    with warnings.catch_warnings(), contextlib.suppress(CompileError):
        warnings.simplefilter("ignore", RuntimeWarning)  # of constants that overflow
        import_onnx(data)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(onnx_model: Any, value: float) -> None:
    constants = {"good": np.ones(2, np.float32), "bad": np.array([1, value], np.float32)}
    nodes = [make_node("Add", ["x", "good"], ["a"]), make_node("Mul", ["a", "bad"], ["y"])]
    with pytest.raises(ModelError, match=r"NaN or infinity in the constants bad$"):
        import_onnx(onnx_model(nodes, {"x": [2]}, ["y"], constants))


MASK = np.triu(np.full((4, 4), -np.inf, np.float32), 1)


@pytest.mark.parametrize("op", ["Add", "Min"])
def test_a_mask_of_minus_infinity_before_a_softmax_becomes_finite(onnx_model: Any, op: str) -> None:
    nodes = [
        make_node(op, ["x", "mask"], ["a"]),
        make_node("Div", ["a", "d"], ["s"]),
        make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    constants = {"mask": MASK, "d": np.full(1, 4, np.float32)}
    graph = import_onnx(onnx_model(nodes, {"x": [4, 4]}, ["y"], constants)).graph
    lowest = graph.data("mask").min()
    assert np.isfinite(lowest)
    assert lowest < -1e20


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([make_node("Mul", ["x", "mask"], ["y"])], ["y"]),
        ([make_node("Add", ["x", "mask"], ["y"])], ["y"]),
        ([make_node("Add", ["x", "mask"], ["a"]), make_node("LogSoftmax", ["a"], ["y"])], ["y"]),
        ([make_node("Sub", ["mask", "x"], ["a"]), make_node("Softmax", ["a"], ["y"])], ["y", "a"]),
    ],
)
def test_minus_infinity_elsewhere_is_refused_by_the_constant_s_name(
    onnx_model: Any, nodes: list[onnx.NodeProto], outputs: list[str]
) -> None:
    model = onnx_model(nodes, {"x": [4, 4]}, outputs, {"mask": MASK})
    with pytest.raises(ModelError, match=r"-inf in the constant mask, which .* reads; accepted: "):
        import_onnx(model)


def test_a_double_beyond_float32_is_not_finite(onnx_model: Any) -> None:
    nodes = [make_node("Mul", ["x", "k"], ["y"])]
    with pytest.raises(ModelError, match="NaN or infinity in the constants k"):
        import_onnx(onnx_model(nodes, {"x": [1]}, ["y"], {"k": np.array([1e300])}))


def test_a_cycle_is_named(onnx_model: Any) -> None:
    nodes = [make_node("Add", ["x", "b"], ["a"]), make_node("Relu", ["a"], ["b"], name="back")]
    with pytest.raises(ModelError, match=r"cycle .*'back'"):
        import_onnx(onnx_model(nodes, {"x": [2]}, ["b"]))


def test_nodes_may_come_in_any_order(onnx_model: Any) -> None:
    nodes = [make_node("Relu", ["a"], ["y"]), make_node("Neg", ["x"], ["a"])]
    graph = import_onnx(onnx_model(nodes, {"x": [2]}, ["y"])).graph
    assert [op.id for op in graph.ops()] == ["a", "y"]


def test_a_dangling_value_is_named(onnx_model: Any) -> None:
    with pytest.raises(ModelError, match="'ghost', which nothing produces"):
        import_onnx(onnx_model([make_node("Add", ["x", "ghost"], ["y"])], {"x": [2]}, ["y"]))
    with pytest.raises(ModelError, match="output 'z' is produced by nothing"):
        import_onnx(onnx_model([make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y", "z"]))


def test_values_are_defined_once(onnx_model: Any) -> None:
    twice = [make_node("Relu", ["x"], ["y"]), make_node("Neg", ["x"], ["y"])]
    with pytest.raises(ModelError, match="'y', which is defined already"):
        import_onnx(onnx_model(twice, {"x": [2]}, ["y"]))
    over_input = [make_node("Relu", ["x"], ["x"])]
    with pytest.raises(ModelError, match="'x', which is defined already"):
        import_onnx(onnx_model(over_input, {"x": [2]}, ["x"]))
    with pytest.raises(ModelError, match="two graph outputs are named 'y'"):
        import_onnx(onnx_model(twice[:1], {"x": [2]}, ["y", "y"]))


def test_data_must_match_its_shape(conv: onnx.ModelProto) -> None:
    conv.graph.initializer[0].raw_data = b"\0" * 12
    with pytest.raises(ModelError, match="initializer 'w': 12 bytes of data"):
        import_onnx(conv)


@pytest.mark.parametrize("dims", [[-1, 2], [1 << 40, 1 << 40]])
def test_impossible_shapes_are_errors(conv: onnx.ModelProto, dims: list[int]) -> None:
    conv.graph.initializer[0].dims[:] = dims
    with pytest.raises(ModelError, match="initializer 'w': impossible shape"):
        import_onnx(conv)


@pytest.mark.parametrize("size", [0, -2, 1 << 40])
def test_impossible_input_dimensions_are_errors(conv: onnx.ModelProto, size: int) -> None:
    conv.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
    with pytest.raises(ModelError, match=f"input 'x': dimension 2 is {size}"):
        import_onnx(conv)


def test_a_rank_that_no_array_has_is_an_error(conv: onnx.ModelProto) -> None:
    conv.graph.input[0].CopyFrom(make_tensor_value_info("x", 1, [1] * 40))
    with pytest.raises(ModelError, match="input 'x' has rank 40; accepted: up to 32"):
        import_onnx(conv)
    conv.graph.initializer[0].dims[:] = [1] * 40
    with pytest.raises(ModelError, match="initializer 'w': rank 40; accepted: up to 32"):
        import_onnx(conv)


def test_strings_and_sparse_tensors_are_errors(onnx_model: Any) -> None:
    model = onnx_model([make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    model.graph.initializer.append(make_tensor("text", onnx.TensorProto.STRING, [1], [b"a"]))
    with pytest.raises(ModelError, match="'text': element type STRING"):
        import_onnx(model)
    model.graph.initializer.pop()
    model.graph.sparse_initializer.add().values.name = "sparse"
    with pytest.raises(ModelError, match="sparse"):
        import_onnx(model)


@pytest.fixture
def external(conv: onnx.ModelProto, tmp_path: Path) -> Path:
    """A model whose weight lies in weights.bin beside it."""
    weight = conv.graph.initializer[0]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"\0" * 16 + weight.raw_data)
    _set_external(weight, location="weights.bin", offset="16", length=str(len(weight.raw_data)))
    path = folder / "model.onnx"
    path.write_bytes(conv.SerializeToString())
    return path


def _set_external(weight: onnx.TensorProto, **entries: str) -> None:
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    del weight.external_data[:]
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)


def _with_external(path: Path, **entries: str) -> Path:
    model = onnx.load(path, load_external_data=False)
    _set_external(model.graph.initializer[0], **entries)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_is_read_from_the_models_folder(external: Path) -> None:
    weight = import_onnx(external).graph.data("w")
    expected = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(weight, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("location", ["../secret", "a/../../secret", "..\\secret", "C:\\x", ""])
def test_external_data_outside_the_folder_is_refused(external: Path, location: str) -> None:
    (external.parent.parent / "secret").write_bytes(b"\0" * 288)
    with pytest.raises(ModelError, match="inside the model's folder"):
        import_onnx(_with_external(external, location=location))


def test_absolute_external_data_is_refused(external: Path) -> None:
    location = str(external.parent / "weights.bin")
    with pytest.raises(ModelError, match="inside the model's folder"):
        import_onnx(_with_external(external, location=location))


def test_a_symbolic_link_out_of_the_folder_is_refused(external: Path) -> None:
    secret = external.parent.parent / "secret"
    secret.write_bytes(b"\0" * 288)
    (external.parent / "link").symlink_to(secret)
    with pytest.raises(ModelError, match="leads outside the model's folder"):
        import_onnx(_with_external(external, location="link"))


def test_missing_external_data_is_an_error(external: Path) -> None:
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'weights\.bin' is missing"):
        import_onnx(external)


@pytest.mark.parametrize(
    "place",
    [
        {"offset": "17"},
        {"offset": "-1"},
        {"offset": "0", "length": "287"},
        {"offset": "x"},
        {"offset": str(1 << 70)},
    ],
)
def test_external_offsets_are_checked_against_the_file(
    external: Path, place: dict[str, str]
) -> None:
    with pytest.raises(ModelError, match="initializer 'w'"):
        import_onnx(_with_external(external, location="weights.bin", **place))


def test_external_data_of_a_model_without_a_folder_is_an_error(external: Path) -> None:
    with pytest.raises(ModelError, match="give the model as a path"):
        import_onnx(external.read_bytes())


def _function(name: str, callee: str) -> onnx.FunctionProto:
    """A function that calls another one in both branches of an If."""
    output = [onnx.ValueInfoProto(name="q")]
    branches = [
        onnx.helper.make_graph([make_node(callee, ["a"], ["q"], domain="f")], "g", [], output)
        for _ in range(2)
    ]
    node = make_node("If", ["a"], ["b"], then_branch=branches[0], else_branch=branches[1])
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("f", 1)]
    return onnx.helper.make_function("f", name, ["a"], ["b"], [node], opsets)


@pytest.mark.parametrize(
    ("callees", "message"),
    [
        ([f"F{i - 1}" for i in range(1, 40)], "expand to"),  # 2^39 nodes
        (["F1"], "recursive functions f.F1"),
        ([f"F{i - 1}" for i in range(1, 300)], "more than 100 deep"),
    ],
)
def test_functions_are_counted_through_subgraphs_before_they_are_inlined(
    onnx_model: Any, callees: list[str], message: str
) -> None:
    names = [f"F{i + 1}" for i in range(len(callees))]
    model = onnx_model([make_node(names[-1], ["x"], ["y"], domain="f")], {"x": [1]}, ["y"])
    model.functions.extend(_function(*pair) for pair in zip(names, callees, strict=True))
    model.opset_import.append(onnx.helper.make_opsetid("f", 1))
    with pytest.raises(ModelError, match=message):
        import_onnx(model)


LONG = 1 << 20
SMALL_FILES = {
    "a rank of 2^20": [
        make_node("Range", ["zero", "many", "one"], ["r"]),
        make_node("Reshape", ["x", "r"], ["y"]),
    ],
    "2^28 constants": [
        make_node("ConstantOfShape", ["sizes"], ["c"]),
        make_node("LRN", ["c"], ["y"], size=1),
    ],
    "a constant that is made element by element": [
        make_node("ConstantOfShape", ["side"], ["c"]),
        make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3]),
        make_node("Add", ["x", "p"], ["y"]),
    ],
    "constants that double": [
        make_node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(40)
    ]
    + [make_node("Add", ["x", "c40"], ["y"])],
    "an ellipsis of two dots": [make_node("Einsum", ["x"], ["y"], equation="i..j")],
    "batches before the first": [make_node("GatherND", ["x", "many"], ["y"], batch_dims=-1)],
    "more outputs than parts": [make_node("Split", ["x"], ["y", "z"], num_outputs=1)],
    "an image of 10^38 pixels": [make_node("Resize", ["x", "", "scales"], ["y"])],
    "more parts than outputs": [make_node("Split", ["x"], ["y"], num_outputs=2)],
}


@pytest.mark.parametrize("name", SMALL_FILES)
def test_a_small_file_that_asks_for_much_is_refused(onnx_model: Any, name: str) -> None:
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "many": np.int64(LONG),
        "sizes": np.int64([1 << 28, 1]),
        "side": np.int64([1, 1, 1024, 1024]),
        "c0": np.ones(1, np.float32),
        "scales": np.float32([1e38]),
    }
    model = onnx_model(SMALL_FILES[name], {"x": [4]}, ["y"], constants, opset=18)
    tracemalloc.start()
    with pytest.raises(CompileError):
        import_onnx(model)
    assert tracemalloc.get_traced_memory()[1] < 1 << 27
    tracemalloc.stop()


def test_folding_is_bounded_by_what_the_model_has(onnx_model: Any) -> None:
    """The weights of a large model may be cast, one after the other."""
    weights = np.ones((1024, 1024), np.float16)
    names = [f"w{i}" for i in range(8)]
    nodes = [make_node("Cast", [n], [f"{n}.f"], to=1) for n in names]
    nodes.append(make_node("Sum", ["x", *(f"{n}.f" for n in names)], ["y"]))
    model = onnx_model(nodes, {"x": [1]}, ["y"], dict.fromkeys(names, weights))
    assert import_onnx(model).graph.outputs.keys() == {"y"}
