"""Files as they come: inputs, batches, constants of every width; what is refused, or broken."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from operator_cases import BOTH, Net, conv, lstm, x_scale
from tflite_models import ModelBuilder, reference

import qcomp
from qcomp.errors import CompileError, ModelError, UnsupportedOp
from qcomp.frontends import import_model, inspect_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form


def dense(weights: Any = None, **given: Any) -> tuple[ModelBuilder, int, int]:
    """A dense layer of 4 to 2; the builder, x and y."""
    b = ModelBuilder()
    x = b.input("x", (1, 4))
    data = np.arange(8, dtype=np.float32).reshape(2, 4) if weights is None else weights
    w, y = b.constant("w", data, **given), b.tensor("y", (1, 2))
    b.op("FULLY_CONNECTED", [x, w, -1], [y], table="FullyConnectedOptions")
    return b, x, y


def run(model: bytes, x: Any) -> Any:
    (y,) = evaluate(import_model(model).graph, {"x": np.asarray(x, np.float32)}).values()
    return y


X = np.float32([[1, -2, 3, 0.5]])


def test_a_file_is_known_by_its_mark(tmp_path: Path) -> None:
    b, _, y = dense()
    path = tmp_path / "net.anything"
    path.write_bytes(b.build(y))
    assert_allclose(
        evaluate(import_model(path).graph, {"x": X})["y"], reference(b.build(y), X)[0], rtol=1e-6
    )


def test_a_dynamic_batch_is_bound_by_place() -> None:
    b, x, y = dense()
    for t in (x, y):
        b.tensors[t].shapeSignature = [-1, b.tensors[t].shape[1]]
    imported = import_model(b.build(y))
    assert imported.notes == ("input x: axis 0 is dynamic, and taken as 1",)
    bound = import_model(b.build(y), bind={"x:0": 3})
    assert bound.notes == ()
    assert bound.graph.type(bound.graph.outputs["y"]).shape == (3, 2)
    with pytest.raises(ModelError, match=r"no dynamic axis is named 'N'; the model has: x:0"):
        import_model(b.build(y), bind={"N": 3})


def test_inputs_can_be_bound_to_values() -> None:
    b = ModelBuilder()
    x, z, y = b.input("x", (1, 4)), b.input("z", (4,)), b.tensor("y", (1, 4))
    b.op("ADD", [x, z], [y], table="AddOptions")
    graph = import_model(b.build(y), bind_values={"z": 2.0}).graph
    assert list(graph.inputs) == ["x"]
    assert_array_equal(evaluate(graph, {"x": X})["y"], X + 2)


@pytest.mark.parametrize(
    ("bits", "packed"), [(4, bytes([0x21, 0xF8, 0x70, 0x9E])), (2, bytes([0b11_10_01_00, 0x1B]))]
)
def test_weights_of_few_bits_are_packed_from_the_lowest(bits: int, packed: bytes) -> None:
    fields = [(b >> s) % (1 << bits) for b in packed for s in range(0, 8, bits)]
    wanted = np.array([f - (1 << bits) if f >= 1 << bits - 1 else f for f in fields])
    b, _, y = dense(
        np.zeros((2, 4), np.int8),
        scale=(0.5, 0),
        kind=getattr(schema.TensorType, f"INT{bits}"),
        raw=packed,
    )
    assert_allclose(run(b.build(y), X), X @ (0.5 * wanted.reshape(2, 4)).T, rtol=1e-6)


def test_weights_of_a_dynamic_range_file_are_taken_as_floats() -> None:
    w = np.random.default_rng(0).integers(-127, 128, (2, 4)).astype(np.int8)
    b, _, y = dense(w, scale=([0.5, 0.25], [0, 0], 0))
    assert import_model(b.build(y)).form is Form.FLOAT
    assert_allclose(run(b.build(y), X), X @ (w * [[0.5], [0.25]]).T, rtol=1e-6)


def csr(b: ModelBuilder, index: int, order: list[int], block: list[int], dims: list[Any]) -> None:
    """Mark a constant as sparse; a dimension is a size, or (segments, indices)."""
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap, sparsity.dimMetadata = order, block, []
    for dim in dims:
        meta = schema.DimensionMetadataT()
        if isinstance(dim, int):
            meta.format, meta.denseSize = schema.DimensionType.DENSE, dim
        else:
            meta.format = schema.DimensionType.SPARSE_CSR
            for name, values in zip(("arraySegments", "arrayIndices"), dim, strict=True):
                vector = schema.Int32VectorT()
                vector.values = values
                setattr(meta, name, vector)
                setattr(meta, f"{name}Type", schema.SparseIndexVector.Int32Vector)
        sparsity.dimMetadata.append(meta)
    b.tensors[index].sparsity = sparsity


def test_sparse_weights_are_decoded() -> None:
    b, _, y = dense(raw=np.float32([5, 6, 7]).tobytes())
    csr(b, 1, [0, 1], [], [2, ([0, 1, 3], [2, 0, 3])])
    assert_allclose(run(b.build(y), X), X @ np.float32([[0, 0, 5, 0], [6, 0, 0, 7]]).T)


def test_sparse_weights_in_blocks_are_decoded() -> None:
    b, _, y = dense(raw=np.float32([1, 2, 3, 4]).tobytes())
    csr(b, 1, [0, 1, 2], [1], [2, ([0, 1, 2], [1, 0]), 2])
    assert_allclose(run(b.build(y), X), X @ np.float32([[0, 0, 1, 2], [3, 4, 0, 0]]).T)


@pytest.mark.parametrize(
    "dims",
    [
        [2, ([0, 1, 9], [2, 0, 3])],
        [2, ([0, 1, 3], [2, 0, 4])],
        [2, ([0, 2, 1], [2, 0, 3])],
        [7, ([0, 1, 3], [2, 0, 3])],
        [2, ([0, 1, 2], [2, 0])],
    ],
)
def test_a_broken_sparsity_is_an_error(dims: list[Any]) -> None:
    b, _, y = dense(raw=np.float32([5, 6, 7]).tobytes())
    csr(b, 1, [0, 1], [], dims)
    with pytest.raises(UnsupportedOp, match=r"tensor 'w' of shape \[2, 4\] has"):
        import_model(b.build(y))


def test_shapes_that_the_file_computes_are_constants() -> None:
    b = ModelBuilder()
    x = b.input("x", (2, 6))
    shape, cut, row = b.tensor("s", (2,), np.int32), b.tensor("n", (), np.int32), None
    b.op("SHAPE", [x], [shape], table="ShapeOptions")
    ends = [b.constant(f"k{v}", np.array([v], np.int32)) for v in (0, 1, 1)]
    b.op("STRIDED_SLICE", [shape, *ends], [cut], table="StridedSliceOptions", shrinkAxisMask=1)
    three = [b.constant(f"d{v}", np.array(v, np.int32)) for v in (3, 2)]
    row = b.tensor("p", (3,), np.int32)
    b.op("PACK", [cut, *three], [row], table="PackOptions", valuesCount=3)
    y = b.tensor("y", (2, 3, 2))
    b.op("RESHAPE", [x, row], [y], table="ReshapeOptions")
    graph = import_model(b.build(y)).graph
    assert [op.mnemonic for op in graph.ops()] == ["reshape"]
    assert graph.type(graph.outputs["y"]).shape == (2, 3, 2)


def test_all_that_is_refused_is_told_at_once() -> None:
    b = ModelBuilder()
    x, a, c, y = b.input("x", (1, 4)), *(b.tensor(n, (1, 4)) for n in "acy")
    b.op("CUSTOM", [x], [a], custom="TFLite_Detection_PostProcess")
    b.op("ADD", [x, x], [c], table="AddOptions", fusedActivationFunction=4)
    b.op("BIDIRECTIONAL_SEQUENCE_LSTM", [x], [y])
    with pytest.raises(UnsupportedOp) as refused:
        import_model(b.build(y))
    told = str(refused.value)
    assert "operator 0 (custom 'TFLite_Detection_PostProcess'): this operator is not supp" in told
    assert "operator 1 (ADD): the fused activation TANH; accepted: NONE, RELU" in told
    assert "operator 2 (BIDIRECTIONAL_SEQUENCE_LSTM): this operator is not supported" in told


def test_floats_among_integers_are_refused_by_name() -> None:
    net = Net(np.int8)
    x = net.x(1, 4)
    f, y = net.builder.tensor("f", (1, 4)), net.builder.tensor("y", (1, 4))
    quantized = net.same(x, 1, 4)
    net.op("RELU", [x], quantized)
    net.op("DEQUANTIZE", [quantized], f)
    net.op("EXP", [f], y)
    with pytest.raises(UnsupportedOp, match=r"\(EXP\): it computes floats, 'y', in a network of"):
        import_model(net.builder.build(y))


def test_inspection_tells_what_is_there_and_what_is_refused() -> None:
    b, x, y = dense()
    z = b.tensor("z", (1, 4))
    b.op("WHERE", [x], [z])
    inspection = inspect_model(b.build(y))
    assert inspection.version == "TFLite schema 3"
    assert inspection.operators == {"FULLY_CONNECTED": 1, "WHERE": 1}
    assert (inspection.macs, inspection.problems) == (
        8,
        (
            "operator 1 (WHERE): this operator is not supported; accepted: those of "
            "docs/tflite-operators.md",
        ),
    )


def test_options_of_another_operator_are_an_error() -> None:
    b, _, y = dense()
    b.operators[0].builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    b.operators[0].builtinOptions = schema.SoftmaxOptionsT()
    with pytest.raises(UnsupportedOp, match="its options lack weights_format; they are SoftmaxOp"):
        import_model(b.build(y))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda b: b.operators[0].inputs.__setitem__(1, 99), "reads tensor 99"),
        (lambda b: b.operators[0].outputs.__setitem__(0, 0), "makes tensor 0, which is made"),
        (lambda b: setattr(b.operators[0], "opcodeIndex", 7), "operator 0 has code 7 of 1"),
        (lambda b: setattr(b.tensors[1], "buffer", 9), "'w' has buffer 9 of 2"),
        (lambda b: setattr(b.tensors[1], "shape", [2, -4]), "impossible shape"),
        (lambda b: setattr(b.tensors[1], "shape", [1 << 20] * 2), "impossible shape"),
        (lambda b: setattr(b.tensors[1], "shape", [1] * 40), "rank 40"),
        (lambda b: setattr(b.tensors[1], "type", 77), "the unknown element type 77"),
        (lambda b: b.inputs.__setitem__(0, 44), "input 44 of 3 tensors"),
    ],
)
def test_indices_and_shapes_that_make_no_sense_are_errors(change: Any, told: str) -> None:
    b, _, y = dense()
    change(b)
    with pytest.raises(ModelError, match=told):
        import_model(b.build(y))


@pytest.mark.parametrize("name", ["ADD", "PACK", "CONCATENATION", "RESHAPE", "SPLIT", "CONV_2D"])
def test_an_operator_without_operands_is_refused(name: str) -> None:
    b, _, y = dense()
    z = b.tensor("z", (1, 4))
    b.op(name, [], [z])
    with pytest.raises(UnsupportedOp, match=rf"operator 1 \({name}\): "):
        import_model(b.build(y))


@pytest.mark.parametrize(
    ("name", "table"),
    [("CONV_2D", "Conv2D"), ("DEPTHWISE_CONV_2D", "DepthwiseConv2D"), ("MAX_POOL_2D", "Pool2D")],
)
def test_an_image_without_axes_is_refused(name: str, table: str) -> None:
    b = ModelBuilder()
    x, y = b.input("x", ()), b.tensor("y", (1, 1, 1, 1))
    w = b.constant("w", np.ones((1, 1, 1, 1), np.float32))
    b.op(name, [x, w], [y], table=f"{table}Options")
    with pytest.raises(UnsupportedOp, match="an operand of rank 0; accepted: NHWC"):
        import_model(b.build(y))


def test_a_constant_of_another_size_is_an_error() -> None:
    b, _, y = dense(raw=bytes(12))
    with pytest.raises(UnsupportedOp, match="has 12 bytes for 8 elements"):
        import_model(b.build(y))


def whole(dtype: Any, softmax: bool = True) -> bytes:
    """Convolution, pooling, a dense layer, softmax."""
    net = Net(dtype)
    conv(0, stride=2)(net)
    (y,) = net.outputs
    pooled = net.builder.tensor("p", (1, 6), dtype, net.scale(-4, 4))
    net.op("MEAN", [y, net.ints(1, 2)], pooled, table="ReducerOptions")
    w, b = net.weights(5, 6, x=8 / 255 if net.quantized else 1.0)
    logits = net.builder.tensor("l", (1, 5), dtype, net.scale(-6, 6))
    net.op("FULLY_CONNECTED", [pooled, w, b], logits, table="FullyConnectedOptions")
    if not softmax:
        return net.builder.build(logits)
    net.op("SOFTMAX", [logits], net.y(1, 5, scale=net.unit), table="SoftmaxOptions", beta=1.0)
    return net.builder.build(net.outputs[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_a_network_is_compiled_and_its_code_computes_what_the_specification_says(
    dtype: Any,
) -> None:
    rng = np.random.default_rng(5)
    data = [rng.uniform(-2, 2, (1, 7, 6, 4)).astype(np.float32) for _ in range(8)]
    net = qcomp.compile(whole(dtype), calibration=data)
    for x in data:
        ours, specified = net(x), net.specification(x)
        assert_array_equal(ours, specified)
    told = "the model comes in form qdq" in " ".join(net.notes)
    assert told == (dtype == np.int8)


def test_a_quantized_file_gives_what_litert_gives_but_for_steps_of_rounding() -> None:
    model, rng = whole(np.int8, softmax=False), np.random.default_rng(5)
    net = qcomp.compile(model)
    step, zero = 4 / 255, round(-128 + 2 / (4 / 255))
    for _ in range(20):
        x = rng.integers(-128, 128, (1, 7, 6, 4)).astype(np.int8)
        theirs = reference(model, x)[0].astype(int)
        ours = np.asarray(net((x.astype(np.float32) - zero) * np.float32(step)))
        integers = np.rint(ours / (12 / 255)).astype(int) + round(-128 + 6 / (12 / 255))
        assert np.abs(integers - theirs).max() <= 2
        assert np.ptp(theirs) > 20


MUTATED = [whole(np.float32), whole(np.int8)]


@pytest.mark.sweep(150)
@given(
    st.sampled_from(MUTATED),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    st.floats(0.9, 1.0),
)
def test_mutated_files_give_a_graph_or_a_compile_error(
    model: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(model)
    for place, value in changes:
        data[int(place * len(data))] = value
    with suppress(CompileError):
        import_model(bytes(data[: int(kept * len(data))]))


def test_the_scale_of_the_first_input_is_that_of_the_file() -> None:
    net = Net(np.int8)
    BOTH["CONV_2D"](net)
    imported = import_model(net.model)
    (q,) = [t.qparams for t in imported.graph.tensors() if t.id == "x0.q"]
    assert q is not None
    assert q.scale == pytest.approx(x_scale(net))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cellClip": 2.0}, r"cell_clip=2\.0; accepted: 0, which is none"),
        ({"fusedActivationFunction": 3}, "the activation RELU6; accepted: TANH, RELU"),
    ],
)
def test_what_an_lstm_can_not_be_is_refused_by_name(options: Any, message: str) -> None:
    net = Net()
    lstm()(net)
    for name, value in options.items():
        setattr(net.builder.operators[-1].builtinOptions, name, value)
    with pytest.raises(UnsupportedOp, match=message):
        import_model(net.model)
