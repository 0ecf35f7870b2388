"""A minimum with a constant per channel is part of the convolution's kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kept import kept_objects
from numpy.testing import assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d, QDense, QMinimum, QWeighted
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.isa import X86_64
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.process.jit import aligned_arena, load_objects

REQUANTIZE = {
    8: Requantize(Form.NARROW, 3),
    16: Requantize(Form.WIDE, 0, -(2**15), 2**15 - 1, bits=16),
}
ISAS = [native(), X86_64] if native().triple == X86_64.triple else [native()]


def network(kind: str, bound: np.ndarray, bits: int = 8) -> Graph:
    """x -> (convolution, depthwise or dense) -> min(result, bound); results of so many bits."""
    random = np.random.default_rng(0)
    channels = 21
    graph = Graph("g")
    shape = (1, 9, 11, channels) if kind != "dense" else (5, channels)
    x = graph.add_input("x", TensorType(DType.I8, shape))
    requantize = REQUANTIZE[bits]
    factors = {8: (257, 1024, 0, 4), 16: (2**30, 2**31, 30, 32)}[bits]
    tables = [
        random.integers(-4000, 4000, channels).astype(np.int32),
        random.integers(*factors[:2], channels).astype(np.int32),
        random.integers(*factors[2:], channels).astype(np.int32),
    ]
    weight_shape = {
        "conv": (channels, 3, 3, channels),
        "depthwise": (channels, 3, 3, 1),
        "dense": (channels, channels),
    }[kind]
    weight = random.integers(-127, 128, weight_shape).astype(np.int8)
    inputs = (x, *(graph.add_constant("c", a) for a in (weight, *tables)))
    if kind == "dense":
        op: QWeighted = QDense(inputs=inputs, output="y", x_zero_point=4, requantize=requantize)
    else:
        op = QConv2d(
            inputs=inputs,
            output="y",
            x_zero_point=4,
            requantize=requantize,
            padding=(1, 1, 1, 1),
            groups=channels if kind == "depthwise" else 1,
        )
    graph.add_op(op)
    operands = (graph.add_constant("bound", bound), "y")
    graph.add_op(
        QMinimum(inputs=operands, output="z", qmin=-(1 << (bits - 1)), qmax=requantize.qmax)
    )
    y = QParams(0.2, 3) if bits == 8 else QParams(0.001, 0, -(2**15), 2**15 - 1)
    for id, q in (("x", QParams(0.1, 4)), ("y", y), ("z", y)):
        graph.update_tensor(replace(graph.tensor(id), qparams=q))
    graph.outputs["z"] = "z"
    return graph


def run(graph: Graph, isa: Isa, x: np.ndarray) -> tuple[np.ndarray, int]:
    """The result, and the number of kernel calls after the copy of the input."""
    program = lower_graph(graph, isa, "net")
    objects = build_objects([program], "net", generate=kept_objects()).values()
    entry = load_objects(objects, "net", 3 if "y" not in graph.outputs else 4)
    types = {DType.I8: np.int8, DType.I16: np.int16}
    outputs = [
        np.empty(graph.type(t).shape, types[graph.type(t).dtype]) for t in graph.outputs.values()
    ]
    entry([x], outputs, aligned_arena(program.memory.arena_bytes))
    preparing = ("border", "copy")
    computing = [c for c in program.calls if not any(kind in c.kernel for kind in preparing)]
    return outputs[0], len(computing)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
@pytest.mark.parametrize("size", [1, 21])
def test_the_minimum_is_fused_and_exact(kind: str, size: int, isa: Isa) -> None:
    random = np.random.default_rng(1)
    graph = network(kind, random.integers(-60, 60, size).astype(np.int8))
    x = random.integers(-128, 128, graph.type("x").shape).astype(np.int8)
    got, calls = run(graph, isa, x)
    assert calls == 1
    assert_array_equal(got, evaluate(graph, {"x": x})["z"])


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_the_minimum_of_16_bits_is_fused_and_exact(kind: str, isa: Isa) -> None:
    random = np.random.default_rng(1)
    graph = network(kind, random.integers(-15000, 15000, 21).astype(np.int16), bits=16)
    x = random.integers(-128, 128, graph.type("x").shape).astype(np.int8)
    got, calls = run(graph, isa, x)
    assert calls == 1
    assert_array_equal(got, evaluate(graph, {"x": x})["z"])


def test_a_result_with_another_reader_is_written_and_then_bounded() -> None:
    random = np.random.default_rng(2)
    graph = network("conv", random.integers(-60, 60, 21).astype(np.int8))
    graph.outputs["y"] = "y"
    x = random.integers(-128, 128, graph.type("x").shape).astype(np.int8)
    got, calls = run(graph, native(), x)
    assert calls == 2
    assert_array_equal(got, evaluate(graph, {"x": x})["z"])


def test_bounds_that_vary_over_pixels_are_not_fused() -> None:
    random = np.random.default_rng(3)
    graph = network("conv", random.integers(-60, 60, (9, 11, 21)).astype(np.int8))
    x = random.integers(-128, 128, graph.type("x").shape).astype(np.int8)
    got, calls = run(graph, native(), x)
    assert calls == 2
    assert_array_equal(got, evaluate(graph, {"x": x})["z"])
