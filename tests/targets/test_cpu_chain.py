"""Chains of layers in strips of rows: the same bits, smaller buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QAdd, QConv2d
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams
from qcomp.targets.cpu.isa import AVX2, AVX512_VNNI
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.lower.schedule import CHAINING, Chaining
from qcomp.targets.cpu.program import Program
from qcomp.targets.cpu.x86.machine import with_tiles
from qcomp.targets.cpu.x86.tiles import Tiles
from tests.targets.conftest import Kit, host_isas

Inputs = Mapping[str, NDArray[np.int8]]

ALL = Chaining(far=0, near=0)
NONE = replace(CHAINING, far=1 << 60)


@dataclass(frozen=True)
class Layer:
    """A convolution of the chain; `outputs` is None for a depthwise one."""

    outputs: int | None
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


def expand(outputs: int) -> Layer:
    return Layer(outputs)


def depthwise(kernel: int = 3, stride: int = 1, dilation: int = 1) -> Layer:
    pad = (kernel - 1) * dilation // 2
    return Layer(None, (kernel, kernel), stride, dilation, (pad, pad, pad, pad))


INVERTED_RESIDUAL = (expand(96), depthwise(), expand(16))


def network(
    kit: Kit, size: tuple[int, int], channels: int, layers: Sequence[Layer], *, residual: bool
) -> tuple[Graph, Inputs]:
    """x -> 1x1 convolution -> layers, (+ the first result); that one has another reader."""
    graph, random = Graph("chain"), np.random.default_rng(0)
    shape = (1, *size, channels)
    x = graph.add_input("x", TensorType(DType.I8, shape))
    start = last = add_layer(graph, x, expand(channels), random)
    for layer in layers:
        last = add_layer(graph, last, layer, random)
    graph.outputs["y"] = last
    graph.outputs["start"] = add_layer(graph, start, expand(3), random)
    if residual:
        add = QAdd(
            inputs=(last, start), output="sum", a_zero_point=-3, b_zero_point=-3,
            a_multiplier=9000, b_multiplier=12000, fraction_bits=6, zero_point=-3, qmin=-128,
        )  # fmt: skip
        graph.outputs["y"] = graph.add_op(add)
    for tensor in graph.tensors():
        if not tensor.is_constant and tensor.type.dtype is DType.I8:
            graph.update_tensor(replace(tensor, qparams=QParams(0.5, -3)))
    return graph, {"x": kit.i8(*shape)}


def add_layer(graph: Graph, x: TensorId, layer: Layer, random: np.random.Generator) -> TensorId:
    depth = graph.type(x).shape[3]
    outputs = layer.outputs or depth
    groups = 1 if layer.outputs else depth
    arrays = (
        random.integers(-9999, 9999, outputs),
        random.integers(300, 2**15, outputs),
        random.integers(4, 12, outputs),
    )
    shape = (outputs, *layer.kernel, depth // groups)
    constants = [graph.add_constant("w", random.integers(-127, 128, shape, np.int8))]
    constants += [graph.add_constant("k", a.astype(np.int32)) for a in arrays]
    op = QConv2d(
        inputs=(x, *constants), output=graph.fresh_id("conv"), x_zero_point=-3,
        requantize=Requantize(Form.NARROW, -3), stride=(layer.stride, layer.stride),
        padding=layer.padding, dilation=(layer.dilation, layer.dilation), groups=groups,
    )  # fmt: skip
    return graph.add_op(op)


def chained(program: Program) -> set[TensorId]:
    """The ops that run in bands."""
    return {call.op for call in program.calls if call.band is not None}


layers = st.one_of(
    st.builds(expand, st.sampled_from([3, 16, 24, 40])),
    st.builds(depthwise, st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(1, 2)),
    st.builds(
        Layer,
        st.sampled_from([None, 8]),
        st.tuples(st.integers(1, 3), st.integers(1, 3)),
        st.integers(1, 3),
        padding=st.tuples(*[st.integers(0, 2)] * 4),
    ),
)


@pytest.mark.sweep(100)
@given(
    size=st.tuples(st.integers(9, 40), st.integers(9, 20)),
    channels=st.sampled_from([1, 8, 16, 17, 33]),
    layers=st.lists(layers, min_size=2, max_size=4),
    bands=st.integers(1, 4),
    steps=st.integers(1, 9),
)
def test_random_chains_equal_the_specification(
    kit: Kit,
    size: tuple[int, int],
    channels: int,
    layers: Sequence[Layer],
    bands: int,
    steps: int,
) -> None:
    graph, inputs = network(kit, size, channels, layers, residual=False)
    kit.check_graph(graph, inputs, chaining=Chaining(0, 0, bands, steps))


@pytest.mark.parametrize(
    ("kernel", "stride"),
    [(3, 1), (5, 2), *(pytest.param(k, s, marks=pytest.mark.slow) for k, s in [(3, 2), (5, 1)])],
)
def test_inverted_residuals_on_every_instruction_set(kit: Kit, kernel: int, stride: int) -> None:
    layers = (expand(96), depthwise(kernel, stride), expand(16))
    graph, inputs = network(kit, (61, 22), 16, layers, residual=stride == 1)
    for isa in (kit.isas[0], kit.isas[-1]):
        assert len(chained(lower_graph(graph, isa, "net", chaining=ALL))) == 3
    kit.check_graph(graph, inputs, kit.isas, ALL)


def test_emulated_tiles(kit: Kit) -> None:
    """Blocks of AMX tiles are units of other shapes."""
    isa = replace(AVX2, machine=with_tiles(AVX2.machine, Tiles.EMULATED))
    layers = (expand(256), depthwise(), expand(64), Layer(96, (3, 3), padding=(1, 1, 1, 1)))
    graph, inputs = network(kit, (65, 20), 128, layers, residual=False)
    assert len(chained(lower_graph(graph, isa, "net", chaining=ALL))) == 4
    kit.check_graph(graph, inputs, [isa], ALL)


def test_chains_need_less_memory(kit: Kit) -> None:
    graph, _ = network(kit, (112, 112), 16, INVERTED_RESIDUAL, residual=True)
    whole = lower_graph(graph, AVX512_VNNI, "net", chaining=NONE)
    program = lower_graph(graph, AVX512_VNNI, "net")
    assert not chained(whole)
    assert len(chained(program)) == 3
    assert program.live_bytes <= program.memory.arena_bytes < whole.live_bytes // 2


def test_no_unit_is_computed_twice_in_a_band(kit: Kit) -> None:
    graph, _ = network(kit, (64, 64), 16, INVERTED_RESIDUAL, residual=False)
    program = lower_graph(graph, AVX512_VNNI, "net", chaining=replace(ALL, bands=1))
    whole = {
        call.op: call
        for call in lower_graph(graph, AVX512_VNNI, "net", chaining=NONE).calls
        if call.reach is not None
    }
    for op in chained(program):
        parts = [c for c in program.calls if c.op == op and c.reach is not None]
        done = 0
        for part in parts:
            assert part.first == done
            done += part.units
        assert done == whole[op].units
        assert len(parts) > 1


@pytest.mark.parametrize(
    ("size", "layers"),
    [
        ((20, 20), INVERTED_RESIDUAL),  # stays in the near caches as it is
        ((300, 1), (expand(1024), Layer(16, (300, 1)))),  # the last layer has one row, of all rows
    ],
)
def test_other_layers_run_whole(kit: Kit, size: tuple[int, int], layers: Sequence[Layer]) -> None:
    graph, _ = network(kit, size, 16, layers, residual=False)
    assert not chained(lower_graph(graph, AVX512_VNNI, "net"))


def test_a_tensor_that_others_read_is_whole(kit: Kit) -> None:
    graph, inputs = network(kit, (30, 30), 16, INVERTED_RESIDUAL, residual=False)
    expanded = next(op for op in graph.ops() if graph.type(op.output).shape[3] == 96)
    graph.outputs["expanded"] = expanded.output
    program = lower_graph(graph, AVX512_VNNI, "net", chaining=ALL)
    assert expanded.output not in chained(program)
    kit.check_graph(graph, inputs, chaining=ALL)


@pytest.mark.parametrize("above", [1, 2])
def test_a_first_window_may_hold_nothing_but_padding(kit: Kit, above: int) -> None:
    """Steps of one row, kernels of one row: the first reads the padding above the image."""
    layers = [Layer(None), Layer(None, padding=(above, 0, 0, 1))]
    graph, inputs = network(kit, (9, 9), 1, layers, residual=False)
    every = [isa for isa in (AVX512_VNNI, AVX2) if isa in host_isas()]
    kit.check_graph(graph, inputs, every, chaining=Chaining(0, 0, 3, 3))
