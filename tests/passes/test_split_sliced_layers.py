"""Layers that are read in parts with ranges far apart become a layer for each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from qcomp.calibration.moments import measured_moments
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Clamp,
    ClampRange,
    Conv2d,
    Dense,
    Function,
    Gather,
    Reshape,
    Slice,
    Transpose,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import DType, NormalStatistics, TensorId, TensorType
from qcomp.passes.base import run_pass
from qcomp.passes.events import PassLog
from qcomp.passes.split_sliced_layers import SplitSlicedLayers

RANDOM = np.random.default_rng(3)
SHAPE = (1, 5, 5, 4)
HALVES = ((0, 4), (4, 8))


class Net:
    """Adds layers whose last channels have thirty times the range of the first four."""

    def __init__(self, shape: Sequence[int] = SHAPE) -> None:
        self.graph = Graph("g")
        self.graph.add_input("x", TensorType(DType.F32, tuple(shape)))

    def layer(self, kind: type[Weighted], x: TensorId, weight: Sequence[int], **how: int) -> str:
        factors = np.where(np.arange(weight[0]) < weight[0] // 2, 1.0, 30.0)
        data = RANDOM.normal(size=weight) * factors.reshape(-1, *(1,) * (len(weight) - 1))
        id = self.graph.fresh_id("layer")
        constants = (
            self.graph.add_constant(f"{id}.w", data.astype(np.float32)),
            self.graph.add_constant(f"{id}.b", RANDOM.normal(size=weight[0]).astype(np.float32)),
        )
        return self.graph.add_op(kind(inputs=(x, *constants), output=id, **how))

    def conv(self, x: TensorId = "x", channels: int = 8) -> str:
        return self.layer(Conv2d, x, (channels, 3, 3, 4))

    def cut(self, x: TensorId, *spans: tuple[int, int]) -> None:
        """Slices of channels [start, stop), as outputs."""
        shape = self.graph.type(x).shape
        for start, stop in spans:
            name = f"channels.{start}.{stop}"
            op = Slice(
                inputs=(x,),
                output=self.graph.fresh_id(name),
                starts=(*(0 for _ in shape[1:]), start),
                sizes=(*shape[:-1], stop - start),
                steps=tuple(1 for _ in shape),
            )
            self.graph.outputs[op.output] = self.graph.add_op(op)

    def split(self) -> tuple[Graph, PassLog]:
        """After the pass, with the same results."""
        x = RANDOM.normal(size=(3, *self.graph.type("x").shape)).astype(np.float32)
        runs = [{"x": one} for one in x]
        given = SplitSlicedLayers(lambda graph: measured_moments(graph, runs))
        after, log = run_pass(self.graph, given)
        expected, found = evaluate(self.graph, runs[0]), evaluate(after, runs[0])
        for name, value in expected.items():
            assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)
        return after, log


def layers(graph: Graph) -> list[int]:
    """Output channels of each layer."""
    return [graph.type(op.output).shape[-1] for op in graph.ops() if isinstance(op, Weighted)]


def slices(graph: Graph) -> int:
    return sum(isinstance(op, Slice | Gather) for op in graph.ops())


@pytest.mark.parametrize(
    "spans", [HALVES, ((0, 2), (2, 8)), ((0, 1), (1, 4), (4, 7)), ((4, 8), (0, 4))]
)
def test_a_convolution_of_slices_is_one_for_each(spans: tuple[tuple[int, int], ...]) -> None:
    net = Net()
    net.cut(net.conv(), *spans)
    after, log = net.split()
    assert sorted(layers(after)) == sorted(b - a for a, b in spans)
    assert slices(after) == 0
    assert "did  layer: channels " in log.text


def test_a_dense_layer_is_split_as_well() -> None:
    net = Net((3, 4))
    net.cut(net.layer(Dense, "x", (6, 4)), (0, 3), (3, 6))
    after, _ = net.split()
    assert (layers(after), slices(after)) == ([3, 3], 0)


def test_a_gather_of_neighbours_is_a_slice() -> None:
    net = Net()
    y = net.conv()
    net.cut(y, (0, 4))
    indices = net.graph.add_constant("indices", np.arange(4, 8))
    gathered = Gather(inputs=(y, indices), output="gathered", axis=3)
    net.graph.outputs["gathered"] = net.graph.add_op(gathered)
    after, _ = net.split()
    assert (layers(after), slices(after)) == ([4, 4], 0)


def test_slices_that_overlap_read_one_part() -> None:
    net = Net()
    net.cut(net.conv(), (0, 3), (4, 7), (5, 8), (1, 4))
    after, _ = net.split()
    assert (sorted(layers(after)), slices(after)) == ([4, 4], 4)


def test_two_readers_of_the_same_channels_share_a_part() -> None:
    net = Net()
    net.cut(net.conv(), (0, 4), (4, 8), (4, 8))
    after, _ = net.split()
    assert (sorted(layers(after)), slices(after)) == ([4, 4], 0)


def test_functions_of_one_value_move_behind_the_slices() -> None:
    net = Net()
    clamped = Clamp(inputs=(net.conv(),), output="clamped", clamp=ClampRange(-20.0, 900.0))
    silu = Unary(inputs=(net.graph.add_op(clamped),), output="silu", function=Function.SILU)
    net.cut(net.graph.add_op(silu), *HALVES)
    after, _ = net.split()
    assert (sorted(layers(after)), slices(after)) == ([4, 4], 0)


def test_a_depthwise_layer_and_the_one_before_are_split() -> None:
    net = Net()
    net.cut(net.layer(Conv2d, net.conv(), (8, 3, 3, 1), groups=8), *HALVES)
    after, _ = net.split()
    assert (sorted(layers(after)), slices(after)) == ([4, 4, 4, 4], 0)


def test_queries_keys_and_values_of_one_dense_layer_are_layers_of_their_own() -> None:
    """[1, 5, 3 * 2 * 4] to [3, 1, 2, 5, 4], of which each third is gathered."""
    net = Net((1, 5, 4))
    graph = net.graph
    y = net.layer(Dense, "x", (24, 4))
    y = graph.add_op(Reshape(inputs=(y,), output="heads", shape=(1, 5, 3, 2, 4)))
    y = graph.add_op(Transpose(inputs=(y,), output="first", permutation=(2, 0, 3, 1, 4)))
    for i in range(3):
        index = graph.add_constant("i", np.array([i]))
        third = graph.add_op(Gather(inputs=(y, index), output=f"third{i}", axis=0))
        shape = Reshape(inputs=(third,), output=f"out{i}", shape=(1, 2, 5, 4))
        graph.outputs[f"out{i}"] = graph.add_op(shape)
    after, _ = net.split()
    assert (layers(after), slices(after)) == ([8, 8, 8], 0)


def test_a_reshape_that_cuts_channels_apart_keeps_a_layer_whole() -> None:
    net = Net((1, 5, 4))
    y = net.layer(Dense, "x", (8, 4))
    y = net.graph.add_op(Reshape(inputs=(y,), output="flat", shape=(1, 40)))
    net.cut(y, (0, 20), (20, 40))
    assert layers(net.split()[0]) == [8]


def test_a_slice_that_turns_another_axis_around_stays() -> None:
    net = Net()
    y = net.conv()
    net.cut(y, (4, 8))
    turned = Slice(
        inputs=(y,), output="turned", starts=(0, 2, 0, 0), sizes=(1, 3, 3, 4), steps=(1, -1, 1, 1)
    )
    net.graph.outputs["turned"] = net.graph.add_op(turned)
    after, _ = net.split()
    assert (sorted(layers(after)), slices(after)) == ([4, 4], 1)


def test_groups_are_not_cut_apart() -> None:
    net = Net()
    net.cut(net.layer(Conv2d, "x", (8, 3, 3, 2), groups=2), (0, 3), (3, 8))
    after, log = net.split()
    assert layers(after) == [8]
    assert "skip layer: its parts do not end between groups" in log.text


def test_parts_with_ranges_alike_stay_together() -> None:
    net = Net()
    net.cut(net.conv(), (0, 8), (4, 8))
    net.cut(net.conv(), (2, 6), (6, 8))
    after, log = net.split()
    assert layers(after) == [8, 8]
    assert "skip layer.1: its parts have ranges within" in log.text


@pytest.mark.parametrize("is_output", [True, False])
def test_who_takes_all_channels_keeps_a_layer_whole(is_output: bool) -> None:
    net = Net()
    y = net.conv()
    net.cut(y, *HALVES)
    net.graph.outputs["all"] = (
        y if is_output else net.graph.add_op(Clamp(inputs=(y,), output="all"))
    )
    after, _ = net.split()
    assert layers(after) == [8]


def test_nothing_is_measured_where_no_layer_is_read_in_parts() -> None:
    net = Net()
    net.graph.outputs["y"] = net.conv()

    def moments(graph: Graph) -> dict[TensorId, object]:
        raise AssertionError("asked")

    run_pass(net.graph, SplitSlicedLayers(moments))  # type: ignore[arg-type]


def test_parts_keep_their_share_of_what_is_known() -> None:
    net = Net()
    y = net.conv()
    mean, std = np.arange(8.0), np.arange(1.0, 9.0)
    normal = NormalStatistics(mean, std)
    net.graph.update_tensor(replace(net.graph.tensor(y), normal=normal))
    net.cut(y, *HALVES)
    after, _ = net.split()
    found = [after.tensor(op.output).normal for op in after.ops() if isinstance(op, Weighted)]
    assert [list(n.mean) for n in found if n] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_reads_only_a_part_leaves_the_rest_out() -> None:
    net = Net()
    net.cut(net.conv(), (0, 2), (6, 8))
    after, _ = net.split()
    assert layers(after) == [2, 2]
