"""ONNX models that are quantized already: their scales are kept, their integers are the network's.

Each is compared with ONNX Runtime, which computes the same integers or floats between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from exact_sums import exact_session
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from onnx.helper import make_node, make_opsetid

import qcomp
from qcomp.errors import CalibrationError, CompileError, UnsupportedOp
from qcomp.frontends.onnx import import_onnx
from qcomp.frontends.onnx.quantized import QUANTIZED
from qcomp.frontends.onnx.tensors import PACKED
from qcomp.ir.evaluate import evaluate
from qcomp.ir.ops import QWeighted, Weighted
from qcomp.quant.qparams import QParams

RNG = np.random.default_rng(17)
F32 = np.float32
X, Y = (F32(0.02), np.uint8(120)), (F32(0.05), np.uint8(0))
DATA = RNG.uniform(-2, 2, (4, 1, 4, 6, 6)).astype(F32)
WEIGHT = RNG.integers(-100, 101, (5, 4, 3, 3)).astype(np.int8)
W_SCALE = RNG.uniform(0.002, 0.01, 5).astype(F32)
CONSTANTS: dict[str, Any] = {
    "xs": X[0], "xz": X[1], "ys": Y[0], "yz": Y[1], "w": WEIGHT, "ws": W_SCALE,
    "wz": np.zeros(5, np.int8), "b": RNG.integers(-500, 500, 5).astype(np.int32),
    "one": F32(1.0), "bs": X[0] * W_SCALE, "bz": np.zeros(5, np.int32),
}  # fmt: skip


def q(x: str, y: str, s: str = "x") -> onnx.NodeProto:
    return make_node("QuantizeLinear", [x, f"{s}s", f"{s}z"], [y])


def dq(x: str, y: str, s: str = "x", **given: Any) -> onnx.NodeProto:
    return make_node("DequantizeLinear", [x, f"{s}s", f"{s}z"], [y], **given)


def contributed(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import.append(make_opsetid("com.microsoft", 1))
    return model


def reference(model: onnx.ModelProto, x: NDArray[Any]) -> NDArray[Any]:
    session = exact_session(model.SerializeToString())
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def steps_apart(model: onnx.ModelProto, step: float, data: Any = DATA, **given: Any) -> float:
    """How many steps of the result the compiled network and ONNX Runtime differ by, at most."""
    net = qcomp.compile(model, **given)
    apart = [np.abs(np.asarray(net(x)) - reference(model, x)).max() / step for x in data]
    assert max(np.ptp(reference(model, x)) for x in data) > 20 * step
    return float(max(apart))


def conv(*between: onnx.NodeProto, last: str = "c", bias: str = "bd") -> list[onnx.NodeProto]:
    return [
        q("x", "xq"), dq("xq", "xd"), dq("w", "wd", "w", axis=0), dq("b", "bd", "b", axis=0),
        make_node("Conv", ["xd", "wd", *([bias] if bias else [])], ["c"]), *between,
        q(last, "yq", "y"), dq("yq", "y", "y"),
    ]  # fmt: skip


SHAPES = {"x": [1, 4, 6, 6]}


@pytest.mark.parametrize("bias", ["bd", "fb", ""])
def test_a_quantized_convolution(onnx_model: Any, bias: str) -> None:
    """A ReLU is left out where the zero point is the lowest integer."""
    constants = {**CONSTANTS, "fb": RNG.normal(size=5).astype(F32)}
    model = onnx_model(conv(bias=bias), SHAPES, ["y"], constants)
    assert steps_apart(model, 0.05) <= 1.01


@pytest.mark.parametrize(
    "between",
    [
        [make_node("Relu", ["c"], ["r"])],
        [make_node("Clip", ["c", "", "one"], ["r"])],
        [make_node("LeakyRelu", ["c"], ["r"], alpha=0.25)],
        [make_node("Identity", ["c"], ["r"])],
    ],
)
def test_functions_between_a_convolution_and_its_integers(
    onnx_model: Any, between: list[onnx.NodeProto]
) -> None:
    constants = {**CONSTANTS, "yz": np.uint8(128)}
    model = onnx_model(conv(*between, last="r"), SHAPES, ["y"], constants)
    calibration = {"calibration": list(DATA)} if between[0].op_type == "LeakyRelu" else {}
    assert steps_apart(model, 0.05, **calibration) <= 1.01


def test_weights_of_a_file_stay_the_integers_that_they_are(onnx_model: Any) -> None:
    net = qcomp.compile(onnx_model(conv(), SHAPES, ["y"], CONSTANTS))
    (layer,) = [op for op in net.graph.ops() if isinstance(op, QWeighted)]
    assert_array_equal(net.graph.data(layer.weight), WEIGHT.transpose(0, 2, 3, 1))
    assert_array_equal(net.graph.data(layer.bias), CONSTANTS["b"])
    assert net.graph.tensor(layer.x).qparams == QParams(float(X[0]), int(X[1]) - 128)
    assert "4 of 4 activations have the model's own scales" in net.notes


def test_batch_normalization_behind_quantized_weights_is_folded(onnx_model: Any) -> None:
    names = ("gamma", "beta", "mean", "var")
    statistics = [RNG.uniform(0.5, 2, 5) * [1, -1, 1, 1, -1], *RNG.uniform(0.2, 1, (3, 5))]
    norm = make_node("BatchNormalization", ["c", *names], ["r"])
    constants = {**CONSTANTS, "yz": np.uint8(100)}
    constants |= {n: v.astype(F32) for n, v in zip(names, statistics, strict=True)}
    model = onnx_model(conv(norm, last="r", bias=""), SHAPES, ["y"], constants)
    assert steps_apart(model, 0.05) <= 1.01


def test_weights_that_the_file_quantizes(onnx_model: Any) -> None:
    nodes = [q("wf", "w", "w"), *conv()]
    nodes[0].attribute.extend(make_node("X", [], [], axis=0).attribute)
    scale = W_SCALE.reshape(-1, 1, 1, 1)
    constants = {k: v for k, v in CONSTANTS.items() if k != "w"} | {"wf": WEIGHT * scale}
    assert steps_apart(onnx_model(nodes, SHAPES, ["y"], constants), 0.05) <= 1.01


def test_an_input_of_integers_has_the_scale_of_what_reads_it(onnx_model: Any) -> None:
    model = onnx_model(conv()[1:], {"xq": [1, 4, 6, 6]}, ["y"], CONSTANTS)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    graph = import_onnx(model).graph
    assert graph.tensor("xq").qparams == QParams(float(X[0]), int(X[1]) - 128)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_activations_of_16_bits(onnx_model: Any, dtype: Any) -> None:
    zero = 32768 if dtype == np.uint16 else 0
    constants = {**CONSTANTS, "xs": F32(1e-4), "ys": F32(2e-4)}
    constants |= {"xz": np.array(zero, dtype), "yz": np.array(zero, dtype), "bs": 1e-4 * W_SCALE}
    nodes = conv(bias="")
    for node in (nodes[0], nodes[1], nodes[-2], nodes[-1]):
        node.domain = "com.microsoft"
    model = contributed(onnx_model(nodes, SHAPES, ["y"], constants))
    assert steps_apart(model, 2e-4) <= 3.0


def test_what_is_quantized_several_times_is_one_tensor(onnx_model: Any) -> None:
    nodes = conv()[:5]
    for i in range(3):
        nodes += [q("c", f"q{i}", "y"), dq(f"q{i}", f"d{i}", "y")]
    nodes += [make_node("Add", ["d0", "d1"], ["s"]), q("s", "sq", "s"), dq("sq", "sd", "s")]
    nodes += [make_node("Add", ["sd", "d2"], ["t"]), q("t", "tq", "s"), dq("tq", "y", "s")]
    constants = {**CONSTANTS, "ss": F32(0.2), "sz": np.uint8(0)}
    model = onnx_model(nodes, SHAPES, ["y"], constants)
    assert [op.mnemonic for op in qcomp.compile(model).graph.ops()].count("q_add") == 2
    assert steps_apart(model, 0.2) <= 1.51


def test_copies_between_two_scales(onnx_model: Any) -> None:
    """A slice and a pad in floats: the integers change their scale once."""
    nodes = conv()[:-1]
    nodes += [dq("yq", "yd", "y")]
    nodes += [make_node("Slice", ["yd", "from", "to", "axis"], ["cut"])]
    nodes += [make_node("Pad", ["cut", "pads"], ["padded"]), q("padded", "pq", "p")]
    nodes += [dq("pq", "y", "p")]
    constants = {**CONSTANTS, "ps": F32(0.06), "pz": np.uint8(3)}
    lists = {"from": [0], "to": [2], "axis": [2], "pads": [0, 1, 0, 0, 0, 2, 0, 0]}
    constants |= {k: np.array(v, np.int64) for k, v in lists.items()}
    assert steps_apart(onnx_model(nodes, SHAPES, ["y"], constants), 0.06) <= 1.51


def test_copies_of_floats_to_two_scales(onnx_model: Any) -> None:
    """Two slices of an image that nothing quantizes, as in front of YOLO's first convolution."""
    nodes = [make_node("Slice", ["x", "zero", "all", "axis", "two"], ["a"])]
    nodes += [make_node("Slice", ["x", "one", "all", "axis", "two"], ["b"])]
    nodes += [q("a", "aq"), dq("aq", "ad"), q("b", "bq", "e"), dq("bq", "bd", "e")]
    nodes += [make_node("Concat", ["ad", "bd"], ["j"], axis=1), q("j", "jq", "j")]
    nodes += [dq("jq", "y", "j")]
    lists = {"zero": [0], "one": [1], "all": [6], "axis": [2], "two": [2]}
    constants = {k: np.array(v, np.int64) for k, v in lists.items()}
    constants |= {"xs": X[0], "xz": X[1], "es": F32(0.017), "ez": np.uint8(125)}
    constants |= {"js": F32(0.021), "jz": np.uint8(122)}
    model = onnx_model(nodes, SHAPES, ["y"], constants)
    assert steps_apart(model, 0.021, calibration=list(DATA)) <= 2.01


def test_a_part_without_a_scale_does_not_get_that_of_another(onnx_model: Any) -> None:
    """Probabilities joined with pixels, as at the end of a detector: the range is that of all."""
    nodes = [q("x", "xq"), dq("xq", "xd"), make_node("Sigmoid", ["xd"], ["s"]), q("s", "sq", "u")]
    nodes += [dq("sq", "sd", "u"), make_node("Mul", ["xd", "many"], ["b"])]
    nodes += [make_node("Concat", ["sd", "b"], ["y"], axis=1)]
    constants = {"xs": X[0], "xz": X[1], "us": F32(1 / 256), "uz": np.uint8(0), "many": F32(90)}
    model = onnx_model(nodes, SHAPES, ["y"], constants)
    with pytest.raises(CalibrationError, match="the model has no scales for %b"):
        qcomp.compile(model)
    assert steps_apart(model, 90 * 4 / 255, calibration=list(DATA)) <= 1.51


WORDS = RNG.integers(0, 30, (6, 1, 7)).astype(np.int64)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("table", [np.uint8, np.int8])
def test_rows_of_a_table_of_integers(onnx_model: Any, table: Any, moved: bool) -> None:
    """With a movement in front of the scale too."""
    limits = np.iinfo(table)
    constants = {
        "t": RNG.integers(limits.min, int(limits.max) + 1, (30, 4)).astype(table),
        "ts": F32(0.03), "tz": table(5),
    }  # fmt: skip
    nodes = [make_node("Gather", ["t", "x"], ["r"])]
    nodes += [make_node("Transpose", ["r"], ["m"], perm=[1, 0, 2])] if moved else []
    nodes += [dq("m" if moved else "r", "y", "t")]
    model = onnx_model(nodes, {"x": [1, 7]}, ["y"], constants)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    assert steps_apart(model, 0.03, WORDS, calibration=list(WORDS)) <= 1.01


def test_scales_per_row_of_a_table_are_refused(onnx_model: Any) -> None:
    constants = {
        "t": np.ones((30, 4), np.int8), "ts": np.ones(4, F32), "tz": np.zeros(4, np.int8),
    }  # fmt: skip
    nodes = [make_node("Gather", ["t", "x"], ["r"]), dq("r", "y", "t", axis=2)]
    model = onnx_model(nodes, {"x": [1, 7]}, ["y"], constants)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedOp, match="4 scales behind rows of a table; accepted: one"):
        import_onnx(model)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT2", "UINT2"])
@pytest.mark.parametrize("raw", [False, True])
def test_weights_of_few_bits(onnx_model: Any, kind: str, raw: bool) -> None:
    """Several in a byte, of an odd number, with and without floats before them."""
    number = getattr(onnx.TensorProto, kind)
    low, high = PACKED[number]
    codes = RNG.integers(low, high + 1, (5, 4, 3, 3))
    real = (codes * W_SCALE.reshape(-1, 1, 1, 1) * 10).astype(F32)
    nodes = [dq("w", "wd", "w", axis=0), make_node("Conv", ["x", "wd"], ["y"])]
    nodes += [q("f", "fq", "w"), dq("fq", "fd", "w", axis=0), make_node("Conv", ["x", "fd"], ["z"])]
    nodes[2].attribute.extend(nodes[0].attribute)
    constants = {"ws": W_SCALE * 10, "f": 2 * real}
    model = onnx_model(nodes, SHAPES, ["y", "z"], constants, opset=25)
    for name, values in (("w", codes), ("wz", np.zeros(5, int))):
        tensor = onnx.helper.make_tensor(name, number, values.shape, values.reshape(-1))
        if raw:
            tensor.raw_data = bytes(tensor.int32_data)
            del tensor.int32_data[:]
        model.graph.initializer.append(tensor)
    graph = import_onnx(model).graph
    found = [graph.data(op.weight).transpose(0, 3, 1, 2) for op in graph.ops()
             if isinstance(op, Weighted)]  # fmt: skip
    steps = np.clip(2 * codes, low, high) * W_SCALE.reshape(-1, 1, 1, 1) * 10
    np.testing.assert_allclose(found[0], real, rtol=1e-6)
    np.testing.assert_allclose(found[1], steps, rtol=1e-6)


def test_parts_of_a_concatenation_have_scales_of_their_own(onnx_model: Any) -> None:
    nodes = conv()[:5]
    nodes += [q("c", "a", "y"), dq("a", "ad", "y"), q("c", "e", "e"), dq("e", "ed", "e")]
    nodes += [make_node("Concat", ["ad", "ed"], ["j"], axis=1), q("j", "jq", "j")]
    nodes += [dq("jq", "y", "j")]
    constants = {**CONSTANTS, "es": F32(0.03), "ez": np.uint8(128)}
    constants |= {"js": F32(0.07), "jz": np.uint8(90)}
    model = onnx_model(nodes, SHAPES, ["y"], constants)
    with pytest.raises(CalibrationError, match="the model has no scales for %c"):
        qcomp.compile(model)  # the convolution itself is quantized in two ways
    assert steps_apart(model, 0.07, calibration=list(DATA)) <= 1.51


def test_a_tensor_without_a_scale_is_calibrated_or_named(onnx_model: Any) -> None:
    nodes = [*conv()[:-2], make_node("Sigmoid", ["c"], ["y"])]
    model = onnx_model(nodes, SHAPES, ["y"], CONSTANTS)
    with pytest.raises(CalibrationError, match=r"the model has no scales for %c.*; .*calibration"):
        qcomp.compile(model)
    net = qcomp.compile(model, calibration=list(DATA))
    told = "activations have the model's own scales; the others are calibrated on 4 samples"
    assert told in "; ".join(net.notes)


def test_scales_per_channel_of_activations_are_calibrated_anew(onnx_model: Any) -> None:
    constants = {**CONSTANTS, "ys": W_SCALE * 9, "yz": np.zeros(5, np.uint8)}
    nodes = conv()
    for node in nodes[-2:]:
        node.attribute.extend(make_node("X", [], [], axis=1).attribute)
    imported = import_onnx(onnx_model(nodes, SHAPES, ["y"], constants))
    assert any("per channel: its range is calibrated instead" in note for note in imported.notes)


def test_another_scale_than_the_one_quantized_with_is_refused(onnx_model: Any) -> None:
    nodes = [q("x", "xq"), dq("xq", "y", "y")]
    with pytest.raises(UnsupportedOp, match=r"scale 0\.05.* which was made with 0\.0199"):
        import_onnx(onnx_model(nodes, SHAPES, ["y"], CONSTANTS))


@pytest.mark.parametrize(
    ("constants", "told"),
    [
        ({"xs": F32(0.0)}, "a scale that is not positive"),
        ({"xs": F32(np.nan)}, "a scale that is not positive"),
        ({"xz": np.int32(0)}, "integers of type INT32; accepted: UINT8, INT8"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    onnx_model: Any, constants: dict[str, Any], told: str
) -> None:
    model = onnx_model([q("x", "y")], SHAPES, ["y"], {**CONSTANTS, **constants})
    with pytest.raises(UnsupportedOp, match=told):
        import_onnx(model)


# ------------------------------------------------------------- operators of integers

Nodes = list[onnx.NodeProto]
MATRIX = RNG.integers(-100, 101, (6, 3)).astype(np.int8)
IN, OUT = [q("x", "a")], [dq("o", "y", "y")]
MORE: dict[str, Any] = {
    "m": MATRIX, "ms": F32(0.01), "mz": np.int8(0), "mt": MATRIX.T.copy(),
    "mss": RNG.uniform(0.005, 0.02, 3).astype(F32), "mzs": np.zeros(3, np.int8),
    "mb": RNG.integers(-100, 100, 3).astype(np.int32), "fb": RNG.normal(size=3).astype(F32),
    "us": F32(1 / 256), "uz": np.uint8(0), "ys": F32(0.05), "yz": np.uint8(110),
    "lw": RNG.integers(-99, 99, (2, 6, 20)).astype(np.int8), "ls": np.full(2, 0.003, F32),
    "lwz": np.full(2, 5, np.int8), "lr": RNG.integers(-99, 99, (2, 5, 20)).astype(np.int8),
    "lrs": RNG.uniform(0.002, 0.006, (2, 20)).astype(F32), "lrz": np.zeros((2, 20), np.int8),
    "lb": RNG.normal(size=(2, 40)).astype(F32) / 5, "steps": np.array([24, 1, 6], np.int64),
    "w8": (WEIGHT.astype(np.int16) + 128).clip(0, 255).astype(np.uint8), "w8z": np.uint8(128),
}  # fmt: skip


def quantized(op: str, inputs: list[str], domain: str = "com.microsoft", **given: Any) -> Nodes:
    return [*IN, make_node(op, inputs, ["o"], domain=domain, **given), *OUT]


def dynamic(*nodes: onnx.NodeProto) -> Nodes:
    return [make_node("DynamicQuantizeLinear", ["x"], ["a", "as", "az"]), *nodes]


OPERATORS: dict[str, Callable[[], Nodes]] = {
    "QLinearConv": lambda: quantized(
        "QLinearConv", ["a", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ""),
    "QLinearMatMul": lambda: quantized(
        "QLinearMatMul", ["a", "xs", "xz", "m", "ms", "mz", "ys", "yz"], ""),
    "QLinearAdd": lambda: quantized("QLinearAdd", ["a", "xs", "xz", "a", "xs", "xz", "ys", "yz"]),
    "QLinearMul": lambda: quantized("QLinearMul", ["a", "xs", "xz", "a", "xs", "xz", "ys", "yz"]),
    "QLinearConcat": lambda: quantized(
        "QLinearConcat", ["ys", "yz", "a", "xs", "xz", "a", "xs", "xz"], axis=1),
    "QLinearAveragePool": lambda: quantized(
        "QLinearAveragePool", ["a", "xs", "xz", "ys", "yz"], kernel_shape=[2, 2]),
    "QLinearGlobalAveragePool": lambda: quantized(
        "QLinearGlobalAveragePool", ["a", "xs", "xz", "ys", "yz"], channels_last=0),
    "QLinearLeakyRelu": lambda: quantized(
        "QLinearLeakyRelu", ["a", "xs", "xz", "ys", "yz"], alpha=0.25),
    "QLinearSigmoid": lambda: [
        *IN, make_node("QLinearSigmoid", ["a", "xs", "xz", "us", "uz"], ["o"],
                       domain="com.microsoft"), dq("o", "y", "u")],
    "QLinearSoftmax": lambda: [
        *IN, make_node("QLinearSoftmax", ["a", "xs", "xz", "us", "uz"], ["o"], axis=-1, opset=13,
                       domain="com.microsoft"), dq("o", "y", "u")],
    "QGemm": lambda: [
        q("x", "a4"), make_node("Reshape", ["a4", "rows"], ["a"]),
        make_node("QGemm", ["a", "xs", "xz", "mt", "mss", "mzs", "mb", "ys", "yz"], ["o"],
                  transB=1, domain="com.microsoft"), *OUT],
    "ConvInteger": lambda: dynamic(
        make_node("ConvInteger", ["a", "w8", "az", "w8z"], ["i"]),
        make_node("Cast", ["i"], ["f"], to=1), make_node("Mul", ["as", "ms"], ["s"]),
        make_node("Mul", ["f", "s"], ["y"])),
    "MatMulInteger": lambda: dynamic(
        make_node("MatMulInteger", ["a", "m", "az", "mz"], ["i"]),
        make_node("Cast", ["i"], ["f"], to=1), make_node("Mul", ["as", "ms"], ["s"]),
        make_node("Mul", ["f", "s"], ["y"])),
    "DynamicQuantizeLinear": lambda: dynamic(
        make_node("DequantizeLinear", ["a", "as", "az"], ["d"]),
        make_node("Add", ["d", "d"], ["y"])),
    "DynamicQuantizeLSTM": lambda: [
        make_node("Reshape", ["x", "steps"], ["t"]),
        make_node("DynamicQuantizeLSTM",
                  ["t", "lw", "lr", "lb", "", "", "", "", "ls", "lwz", "lrs", "lrz"], ["y"],
                  hidden_size=5, direction="bidirectional", domain="com.microsoft")],
    "DynamicQuantizeMatMul": lambda: [
        make_node("DynamicQuantizeMatMul", ["x", "m", "ms", "mz", "fb"], ["y"],
                  domain="com.microsoft")],
    "MatMulIntegerToFloat": lambda: [
        *IN, make_node("MatMulIntegerToFloat", ["a", "m", "xs", "ms", "xz", "mz", "fb"], ["y"],
                       domain="com.microsoft")],
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_integers_are_those_of_floats_between_scales(
    onnx_model: Any, name: str
) -> None:
    constants = {**CONSTANTS, **MORE, "rows": np.array([24, 6], np.int64)}
    model = contributed(onnx_model(OPERATORS[name](), SHAPES, ["y"], constants, opset=13))
    graph = import_onnx(model).graph
    for x in DATA:
        (got,) = evaluate(graph, {"x": x}).values()
        expected = reference(model, x)
        assert got.shape == expected.shape
        step = max(float(np.abs(expected).max()) / 50, 0.04)  # operands are not rounded here
        assert np.abs(np.clip(got, expected.min(), expected.max()) - expected).max() <= step
        assert np.ptp(expected) > step


def test_every_operator_of_integers_has_a_case() -> None:
    assert {op for _, op in QUANTIZED} == set(OPERATORS)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_that_lack_operands_or_results_are_refused_by_name(
    onnx_model: Any, name: str
) -> None:
    """Of every count: what is taken nevertheless lacks optional ones."""
    nodes = OPERATORS[name]()
    (place,) = (n for n, node in enumerate(nodes) if node.op_type == name)
    constants = {**CONSTANTS, **MORE, "rows": np.array([24, 6], np.int64)}
    refused: list[str] = []
    for field in ("input", "output"):
        for count in range(len(getattr(nodes[place], field))):
            cut = [*nodes]
            cut[place] = onnx.NodeProto()
            cut[place].CopyFrom(nodes[place])
            del getattr(cut[place], field)[count:]
            model = contributed(onnx_model(cut, SHAPES, ["y"], constants, opset=13))
            try:
                import_onnx(model)
            except CompileError as error:
                refused.append(str(error))
    assert any(name in message for message in refused)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_more_zero_points_than_the_axis_has_are_refused(
    onnx_model: Any, shape: tuple[int, ...]
) -> None:
    constants = {
        "q": np.zeros(shape, np.int8),
        "s": np.float32(0.5),
        "z": np.zeros(4, np.int8),
    }
    nodes = [
        make_node("DequantizeLinear", ["q", "s", "z"], ["w"]),
        make_node("Add", ["x", "w"], ["y"]),
    ]
    model = onnx_model(nodes, {"x": [3, 2]}, ["y"], constants, opset=13)
    with pytest.raises(UnsupportedOp, match=r"4 scales or zero points along axis"):
        import_onnx(model)
