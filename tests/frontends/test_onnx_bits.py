"""With arithmetic="onnx" integers are those of ONNX Runtime's quantized kernels, in every bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from exact_sums import exact_session
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.errors import PassError, RecipeError
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import PairTable, QConv2d
from qcomp.quant.fixed_point import Form
from qcomp.quant.onnx_functions import dequantized
from qcomp.quantizer import Quantizer
from qcomp.recipes.choose import decide

ONNX = QuantizationConfig(arithmetic="onnx")
FEW, MANY = 4, 60
CONTRIB = "com.microsoft"
TYPES = (np.uint8, np.int8)

Array = np.ndarray[Any, Any]


@dataclass
class Net:
    """A quantized operator between QuantizeLinear of each input and DequantizeLinear."""

    dtype: Any
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)

    def constant(self, name: str, data: Any, dtype: Any = None) -> str:
        self.constants[name] = np.asarray(data, dtype)
        return name

    def grid(self, name: str, dtype: Any = None, channels: tuple[int, ...] = ()) -> list[str]:
        """A scale and a zero point, of this type unless said."""
        dtype = self.dtype if dtype is None else dtype
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        zero = self.rng.integers(low, high + 1, channels)
        return [
            self.constant(f"{name}.s", self.rng.uniform(0.01, 0.1, channels), np.float32),
            self.constant(f"{name}.z", np.zeros_like(zero) if channels else zero, dtype),
        ]

    def bytes(self, name: str, shape: Sequence[int], dtype: Any = None) -> str:
        dtype = self.dtype if dtype is None else dtype
        limits = np.iinfo(dtype)
        return self.constant(name, self.rng.integers(limits.min, limits.max + 1, shape), dtype)

    def activation(self, name: str, *shape: int) -> list[str]:
        """An input: its integers, scale and zero point."""
        self.inputs[name] = shape
        grid = self.grid(name)
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *grid], [f"{name}.q"]))
        return [f"{name}.q", *grid]

    def add(self, op: str, inputs: Sequence[str], result: str = "y.q", **attributes: Any) -> None:
        known = op in ("QLinearConv", "QLinearMatMul", "MaxPool", "QuantizeLinear")
        known = known or op in ("DequantizeLinear", "Relu", "Sub", "Div", "Exp", "Max")
        domain = "" if known else CONTRIB
        node = helper.make_node(op, inputs, [result], domain=domain, **attributes)
        self.nodes.append(node)

    def model(self, grid: Sequence[str]) -> bytes:
        """With the result y.q of that grid."""
        end = helper.make_node("DequantizeLinear", ["y.q", *grid], ["y"])
        kinds = {np.dtype(d): helper.np_dtype_to_tensor_dtype(np.dtype(d)) for d in
                 (np.uint8, np.int8, np.uint16, np.int32, np.float32)}  # fmt: skip
        graph = helper.make_graph(
            [*self.nodes, end],
            "g",
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
                for n, s in self.inputs.items()
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [
                helper.make_tensor(n, kinds[d.dtype], d.shape, d.tobytes(), raw=True)
                for n, d in self.constants.items()
            ],
        )
        opsets = [helper.make_opsetid("", 19), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


def conv(net: Net, *, groups: int = 1, bias: bool = True, kernel: tuple[int, ...] = (3, 3)) -> Any:
    x = net.activation("x", 1, 6, *(9 for _ in kernel))
    weight = net.bytes("w", (12, 6 // groups, *kernel), np.int8)
    grid = net.grid("w", np.int8, (12,) if net.rng.integers(2) else ())
    y = net.grid("y")
    net.constants["y.s"] = net.constants["y.s"] * np.float32(30)
    given = (
        [net.constant("b", net.rng.integers(-(2**26), 2**26, 12) >> 12, np.int32)] if bias else []
    )
    sides = len(kernel)
    net.add("QLinearConv", [*x, weight, *grid, *y, *given], group=groups, pads=[1] * 2 * sides,
            strides=[int(net.rng.integers(1, 3))] * sides)  # fmt: skip
    return y


def matmul(net: Net, *, constant: bool) -> Any:
    a = net.activation("a", 5, 40)
    per_channel = constant and bool(net.rng.integers(2))
    kind = np.int8 if constant else net.dtype
    if constant:
        b = [net.bytes("b", (40, 7), kind), *net.grid("b", kind, (7,) if per_channel else ())]
    else:
        b = net.activation("b", 40, 7)
    y = net.grid("y")
    net.constants["y.s"] = net.constants["y.s"] * np.float32(20)
    net.add("QLinearMatMul", [*a, *b, *y])
    return y


def gemm(net: Net) -> Any:
    a = net.activation("a", 5, 40)
    b = [net.bytes("b", (7, 40), np.int8), *net.grid("b", np.int8, (7,))]
    y = net.grid("y")
    net.constants["y.s"] = net.constants["y.s"] * np.float32(20)
    c = net.constant("c", net.rng.integers(-9999, 9999, 7), np.int32)
    net.add("QGemm", [*a, *b, c, *y], transB=1)
    return y


def pair(net: Net, op: str, *, constant: tuple[int, ...] | None = None, first: bool = False) -> Any:
    a = net.activation("a", 1, 4, 8, 64)
    if constant is None:
        b = net.activation("b", 1, 4, 8, 64)
    else:
        b = [net.bytes("b", constant), *net.grid("b")]
    y = net.grid("y")
    net.add(op, [*(b if first else a), *(a if first else b), *y])
    return y


def between(net: Net, op: str, *, operands: int = 1, **attributes: Any) -> Any:
    """Floats between DequantizeLinear and QuantizeLinear."""
    for name in "ab"[:operands]:
        net.add("DequantizeLinear", net.activation(name, 1, 3, 5, 64), f"{name}.f")
    y = net.grid("y")
    net.add(op, [f"{n}.f" for n in "ab"[:operands]], "y.f", **attributes)
    net.add("QuantizeLinear", ["y.f", *y])
    return y


def unary(net: Net, op: str, **attributes: Any) -> Any:
    y = net.grid("y")
    net.add(op, [*net.activation("x", 1, 3, 5, 64), *y], **attributes)
    return y


def concat(net: Net) -> Any:
    y = net.grid("y")
    parts = [*net.activation("a", 1, 3, 5, 7), *net.activation("b", 1, 4, 5, 7)]
    net.add("QLinearConcat", [*y, *parts], axis=1)
    return y


def max_pool(net: Net) -> Any:
    x = net.activation("x", 1, 3, 8, 9)
    net.add("MaxPool", x[:1], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    return x[1:]


EXACT: Mapping[str, Callable[[Net], Any]] = {
    "QLinearConv": conv,
    "QLinearConv without a bias": lambda net: conv(net, bias=False),
    "QLinearConv of groups": lambda net: conv(net, groups=2),
    "QLinearConv by depth": lambda net: conv(net, groups=6),
    "QLinearConv of one axis": lambda net: conv(net, kernel=(3,)),
    "QLinearMatMul": lambda net: matmul(net, constant=True),
    "QLinearMatMul of activations": lambda net: matmul(net, constant=False),
    "QGemm": gemm,
    "QLinearAdd": lambda net: pair(net, "QLinearAdd"),
    "QLinearAdd of channels": lambda net: pair(net, "QLinearAdd", constant=(4, 1, 1)),
    "QLinearAdd of a scalar": lambda net: pair(net, "QLinearAdd", constant=()),
    "QLinearAdd to channels": lambda net: pair(net, "QLinearAdd", constant=(4, 1, 1), first=True),
    "QLinearMul": lambda net: pair(net, "QLinearMul"),
    "QLinearMul by channels": lambda net: pair(net, "QLinearMul", constant=(4, 1, 1)),
    "QLinearConcat": concat,
    "QLinearSigmoid": lambda net: unary(net, "QLinearSigmoid"),
    "QLinearLeakyRelu": lambda net: unary(net, "QLinearLeakyRelu", alpha=0.07),
    "QLinearGlobalAveragePool": lambda net: unary(net, "QLinearGlobalAveragePool"),
    "MaxPool": max_pool,
    "Relu": lambda net: between(net, "Relu"),
    "Sub": lambda net: between(net, "Sub", operands=2),
    "Max": lambda net: between(net, "Max", operands=2),
    "Div": lambda net: between(net, "Div", operands=2),
    "Exp": lambda net: between(net, "Exp"),
}


def lowered(model: bytes, config: QuantizationConfig = ONNX) -> Graph:
    imported = import_model(model)
    quantizer = Quantizer(
        imported.graph,
        imported.form,
        Evidence(None, (-1.0, 1.0)),
        integers=imported.integers,
        rounds=config.arithmetic == "onnx",
    )
    chosen = decide(quantizer, config, lambda graph: 1.0)
    return quantizer.integer(chosen.config)


def reference(model: bytes, feeds: Mapping[str, Array], grid: tuple[Array, Array]) -> Array:
    """The integers of the result, those without a sign less 128."""
    scale, zero = grid
    (y,) = exact_session(model, signed=zero.dtype == np.int8).run(["y"], dict(feeds))
    less = 128 if zero.dtype == np.uint8 else 0
    return np.asarray(np.rint(y / scale).astype(np.int64) + int(zero) - less)


def compare(name: str, dtype: Any, seed: int) -> None:
    net = Net(dtype, np.random.default_rng(seed))
    assert_equal_integers(net, EXACT[name](net))


def assert_equal_integers(net: Net, grid: Sequence[str]) -> None:
    """On one random input."""
    model, (scale, zero) = net.model(grid), grid
    graph = lowered(model)
    integers, feeds = {}, {}
    for n, shape in net.inputs.items():
        q = graph.tensor(graph.inputs[n]).qparams
        assert q is not None
        integers[n] = net.rng.integers(-128, 128, shape).astype(np.int8)
        feeds[n] = dequantized(integers[n].astype(np.int64), q)
    (ours,) = evaluate(graph, integers).values()
    theirs = reference(model, feeds, (net.constants[scale], net.constants[zero]))
    assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: np.dtype(t).name)
@pytest.mark.parametrize("name", EXACT)
def test_integers(name: str, dtype: Any, request: pytest.FixtureRequest) -> None:
    """With --slow 60 sets of parameters."""
    for seed in range(MANY if request.config.getoption("--slow") else FEW):
        compare(name, dtype, seed)


def test_activations_are_rounded_to_each_of_their_scales() -> None:
    """A part of a concatenation has a scale of its own before that of the whole."""
    net = Net(np.uint8, np.random.default_rng(0))
    first, second = net.grid("p"), net.grid("y")
    a, b = net.activation("a", 1, 3, 5, 64), net.activation("b", 1, 3, 5, 64)
    net.add("QLinearAdd", [*a, *b, *first], "p.q")
    net.add("QLinearConcat", [*second, "p.q", *first, *a], axis=1)
    assert_equal_integers(net, second)


@pytest.mark.parametrize("largest", [1.0, 0.3, 0.02])
@pytest.mark.parametrize("arithmetic", ["native", "onnx"])
def test_a_softmax_with_a_scale_of_its_own_is_a_step_away_at_most(
    arithmetic: str, largest: float
) -> None:
    net = Net(np.uint8, np.random.default_rng(0))
    grid = [
        net.constant("y.s", largest / 255, np.float32),
        net.constant("y.z", 0, np.uint8),
    ]
    net.add("QLinearSoftmax", [*net.activation("x", 1, 5, 64), *grid], axis=-1, opset=13)
    model = net.model(grid)
    graph = lowered(model, QuantizationConfig(arithmetic=arithmetic))
    integers = net.rng.integers(-128, 128, (1, 5, 64)).astype(np.int8)
    q = graph.tensor(graph.inputs["x"]).qparams
    assert q is not None
    feeds = {"x": dequantized(integers.astype(np.int64), q)}
    (ours,) = evaluate(graph, {"x": integers}).values()
    theirs = reference(model, feeds, (net.constants["y.s"], net.constants["y.z"]))
    assert np.abs(ours - theirs).max() <= 1


def test_forms_and_tables() -> None:
    graphs = [
        lowered(net.model(EXACT[name](net)))
        for name in ("QLinearConv", "QLinearAdd of channels")
        for net in [Net(np.int8, np.random.default_rng(1))]
    ]
    (layer,) = (op for op in graphs[0].ops() if isinstance(op, QConv2d))
    assert layer.form is Form.ONNX
    assert any(isinstance(op, PairTable) for op in graphs[1].ops())


def test_a_model_without_scales_is_refused() -> None:
    net = Net(np.uint8, np.random.default_rng(0))
    net.inputs["a.f"] = (1, 3)
    net.add("Relu", ["a.f"], "y.q")
    grid = net.grid("y")
    model = onnx.load_from_string(net.model(grid))
    del model.graph.node[1:]
    model.graph.output[0].name = "y.q"
    with pytest.raises(RecipeError, match="the model has no scales of its own; expected an ONNX"):
        lowered(model.SerializeToString())


def test_activations_of_16_bits_are_refused() -> None:
    net = Net(np.uint8, np.random.default_rng(0))
    for name in "ab":
        net.add("DequantizeLinear", net.activation(name, 1, 3), f"{name}.f")
    y = net.grid("y")
    net.add("Sub", ["a.f", "b.f"], "y.f")
    net.add("QuantizeLinear", ["y.f", *y])
    for name in "aby":
        net.constant(f"{name}.z", 32768, np.uint16)
    with pytest.raises(PassError, match="ONNX Runtime computes sub of 16 bits in floats"):
        lowered(net.model(y))
