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

REQUANTIZE = Requantize(Form.NARROW, 3)
ISAS = [native(), X86_64] if native().triple == X86_64.triple else [native()]


def network(kind: str, bound: np.ndarray) -> Graph:
    """x -> (convolution, depthwise or dense) -> min(result, bound)."""
    random = np.random.default_rng(0)
    channels = 21
    graph = Graph("g")
    shape = (1, 9, 11, channels) if kind != "dense" else (5, channels)
    x = graph.add_input("x", TensorType(DType.I8, shape))
    tables = [
        random.integers(-4000, 4000, channels).astype(np.int32),
        random.integers(257, 1024, channels).astype(np.int32),
        random.integers(0, 4, channels).astype(np.int32),
    ]
    weight_shape = {
        "conv": (channels, 3, 3, channels),
        "depthwise": (channels, 3, 3, 1),
        "dense": (channels, channels),
    }[kind]
    weight = random.integers(-127, 128, weight_shape).astype(np.int8)
    inputs = (x, *(graph.add_constant("c", a) for a in (weight, *tables)))
    if kind == "dense":
        op: QWeighted = QDense(inputs=inputs, output="y", x_zero_point=4, requantize=REQUANTIZE)
    else:
        op = QConv2d(
            inputs=inputs,
            output="y",
            x_zero_point=4,
            requantize=REQUANTIZE,
            padding=(1, 1, 1, 1),
            groups=channels if kind == "depthwise" else 1,
        )
    graph.add_op(op)
    graph.add_op(QMinimum(inputs=(graph.add_constant("bound", bound), "y"), output="z"))
    for id, q in (("x", QParams(0.1, 4)), ("y", QParams(0.2, 3)), ("z", QParams(0.2, 3))):
        graph.update_tensor(replace(graph.tensor(id), qparams=q))
    graph.outputs["z"] = "z"
    return graph


def run(graph: Graph, isa: Isa, x: np.ndarray) -> tuple[np.ndarray, int]:
    """The result, and the number of kernel calls after the copy of the input."""
    program = lower_graph(graph, isa, "net")
    objects = build_objects([program], "net", generate=kept_objects()).values()
    entry = load_objects(objects, "net", 3 if "y" not in graph.outputs else 4)
    outputs = [np.empty(graph.type(t).shape, np.int8) for t in graph.outputs.values()]
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
