"""Generated movements equal their meaning, also between tensors with a border in memory."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.ops import (
    ArgMax,
    BlockOrder,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    PadMode,
    Reshape,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.emit.transpose import transpose_spec
from qcomp.targets.cpu.lower.graph import lower_graph

SHAPE = (2, 5, 6, 19)


@pytest.mark.parametrize("shape", [(60, 19), (1140,), (2, 30, 1, 19), (19, 6, 5, 2)], ids=str)
def test_reshape(kit: Any, shape: tuple[int, ...]) -> None:
    kit.check(partial(Reshape, shape=shape), kit.i8(*SHAPE), borders=True)


def test_a_reshape_of_a_result_is_a_view(kit: Any) -> None:
    graph, inputs = kit.one_op(partial(Pad, before=(0, 1), after=(2, 0), value=3), kit.i8(4, 7))
    graph.outputs["z"] = graph.add_op(Reshape(inputs=("y",), output="z", shape=(2, 24)))
    graph.outputs["w"] = graph.add_op(Reshape(inputs=("z",), output="w", shape=(48,)))
    for id in ("z", "w"):
        record = graph.tensor("y")
        graph.update_tensor(type(record)(id, graph.type(id), qparams=record.qparams))
    kit.check_graph(graph, inputs)


@pytest.mark.parametrize("permutation", list(permutations(range(4))), ids=str)
def test_transpose(kit: Any, permutation: tuple[int, ...]) -> None:
    op = partial(Transpose, permutation=permutation)
    kit.check(op, kit.i8(*SHAPE), borders=permutation[0] == 0)


@pytest.mark.parametrize("axis", range(4))
def test_concat(kit: Any, axis: int) -> None:
    parts = []
    for seed, extent in enumerate((3, 16, 1)):
        shape = list(SHAPE)
        shape[axis] = extent
        parts.append(kit.i8(*shape, seed=seed))
    kit.check(partial(Concat, axis=axis), *parts, borders=True)
    kit.check(partial(Concat, axis=axis), parts[0], kit.fixed(parts[1]))


@pytest.mark.parametrize(
    ("starts", "sizes", "steps"),
    [
        ((0, 1, 2, 3), (2, 3, 2, 16), (1, 1, 1, 1)),
        ((1, 4, 5, 18), (2, 5, 3, 19), (-1, -1, -2, -1)),
        ((1, 0, 0, 0), (1, 3, 2, 7), (1, 2, 3, 3)),
    ],
)
def test_slice(kit: Any, starts: Any, sizes: Any, steps: Any) -> None:
    op = partial(Slice, starts=starts, sizes=sizes, steps=steps)
    kit.check(op, kit.i8(*SHAPE), borders=True)


@pytest.mark.parametrize("mode", list(PadMode), ids=lambda m: m.value)
def test_pad(kit: Any, mode: PadMode) -> None:
    for before, after in (((0, 1, 2, 0), (0, 2, 1, 0)), ((1, 0, 0, 3), (0, 0, 5, 2))):
        op = partial(Pad, before=before, after=after, mode=mode, value=-7.0)
        kit.check(op, kit.i8(*SHAPE), borders=True)


@pytest.mark.parametrize("axis", range(4))
def test_gather(kit: Any, axis: int) -> None:
    indices = np.array([1, 0, 1, 1, SHAPE[axis] - 1], np.int64)
    kit.check(partial(Gather, axis=axis), kit.i8(*SHAPE), kit.fixed(indices), borders=True)


@pytest.mark.parametrize("source", [(1, 5, 1, 19), (19,), (1, 1, 1, 1), (5, 1, 1)], ids=str)
def test_broadcast_to(kit: Any, source: tuple[int, ...]) -> None:
    kit.check(partial(BroadcastTo, shape=SHAPE), kit.i8(*source), borders=True)


@pytest.mark.parametrize("repeats", [(1, 1, 1, 3), (2, 1, 3, 1), (1, 1, 1, 1)], ids=str)
def test_tile(kit: Any, repeats: tuple[int, ...]) -> None:
    kit.check(partial(Tile, repeats=repeats), kit.i8(*SHAPE), borders=True)


@pytest.mark.parametrize("order", list(BlockOrder), ids=lambda o: o.value)
@pytest.mark.parametrize("block", [1, 2, 3])
def test_depth_to_space_and_back(kit: Any, block: int, order: BlockOrder) -> None:
    deep, wide = kit.i8(2, 3, 2, 36), kit.i8(2, 6, 12, 5)
    kit.check(partial(DepthToSpace, block=block, order=order), deep, borders=True)
    kit.check(partial(SpaceToDepth, block=block, order=order), wide, borders=True)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)], ids=str)
def test_zero_stuff(kit: Any, stride: tuple[int, int]) -> None:
    kit.check(partial(ZeroStuff, stride=stride, value=-3.0), kit.i8(*SHAPE), borders=True)


@pytest.mark.parametrize(
    "move",
    [
        partial(Reshape, shape=(5, 12)),
        partial(Transpose, permutation=(2, 0, 1)),
        partial(Slice, starts=(1, 4, 3), sizes=(1, 3, 4), steps=(1, -2, -1)),
        partial(BroadcastTo, shape=(3, 2, 5, 6)),
        partial(Tile, repeats=(2, 1, 3)),
        partial(Pad, before=(0, 1, 2), after=(1, 0, 0), value=70000.0),
        partial(Pad, before=(0, 1, 2), after=(1, 0, 0), mode=PadMode.EDGE),
    ],
    ids=lambda move: move.func.mnemonic,
)
def test_movements_of_indices(kit: Any, move: Any) -> None:
    """The result of an argmax is i32."""
    graph, inputs = kit.one_op(partial(ArgMax, axis=3, keepdims=False), kit.i8(2, 5, 6, 19))
    graph.outputs["z"] = graph.add_op(move(inputs=("y",), output="z"))
    kit.check_graph(graph, inputs)


def test_indices_are_joined(kit: Any) -> None:
    graph, inputs = kit.one_op(partial(ArgMax, axis=1), kit.i8(3, 300))
    graph.outputs["z"] = graph.add_op(Concat(inputs=("y", "y"), output="z", axis=0))
    kit.check_graph(graph, inputs)


@pytest.mark.sweep(60)
@given(data=st.data())
def test_transposes_around_vectors(kit: Any, data: st.DataObject) -> None:
    few = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 19])
    many = st.sampled_from([15, 16, 17, 31, 33, 63, 64, 65, 100, 130])
    n, h = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    rows, columns = data.draw(few | many), data.draw(few | many)
    permutation, shape = data.draw(
        st.sampled_from(
            [
                ((0, 2, 3, 1), (n, columns, h, rows)),
                ((0, 3, 1, 2), (n, h, rows, columns)),
                ((0, 1, 3, 2), (n, h, rows, columns)),
            ]
        )
    )
    op, isa = partial(Transpose, permutation=permutation), data.draw(st.sampled_from(kit.isas))
    x = data.draw(st.sampled_from([kit.i8, kit.i16]))(*shape)
    kit.check(op, x, borders=data.draw(st.booleans()), isas=[isa])


@pytest.mark.parametrize("element", [1, 2])
def test_elements_of_both_widths_are_transposed_by_riffles(element: int) -> None:
    """22 x 22 pixels of 85 channels to channels first."""
    strides = ((element, 85 * element), (484 * element, element))
    spec = transpose_spec(Nest((85, 484), strides, (element, element)))
    assert spec is not None
    assert not spec.is_narrow
    words = ((4, 340), (1936, 4))
    assert transpose_spec(Nest((85, 484), words, (4, 4))) is None


@pytest.mark.sweep(40)
@given(data=st.data())
def test_random_slices_of_transposes(kit: Any, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    graph, inputs = kit.one_op(partial(Transpose, permutation=order), kit.i8(*shape))
    starts, sizes, steps = [], [], []
    for extent in (shape[i] for i in order):
        first, last = (data.draw(st.integers(0, extent - 1)) for _ in range(2))
        step = data.draw(st.integers(1, 3)) * (1 if last >= first else -1)
        starts.append(first)
        steps.append(step)
        sizes.append((last - first) // step + 1)
    graph.outputs["z"] = graph.add_op(
        Slice(
            inputs=("y",), output="z", starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps)
        )
    )
    record = graph.tensor("y")
    graph.update_tensor(type(record)("z", graph.type("z"), qparams=record.qparams))
    kit.check_graph(graph, inputs, [data.draw(st.sampled_from(kit.isas))])


_AROUND = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130])


def _stepped(draw: Any, shape: tuple[int, ...], steps: tuple[int, ...]) -> dict[str, Any]:
    """A slice of all that the steps reach from a start within the first of them."""
    starts, sizes = [], []
    for extent, step in zip(shape, steps, strict=True):
        first = draw(st.integers(0, min(abs(step), extent) - 1))
        starts.append(first if step > 0 else extent - 1 - first)
        sizes.append((extent - 1 - first) // abs(step) + 1)
    return {"starts": tuple(starts), "sizes": tuple(sizes), "steps": steps}


@pytest.mark.sweep(120)
@given(data=st.data())
def test_slices_in_small_steps(kit: Any, data: st.DataObject) -> None:
    few, step = st.integers(1, 12), st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, -1, -2, -3])
    pixels, channels = data.draw(st.sampled_from([(_AROUND, few), (few, _AROUND)]))
    shape = (data.draw(st.integers(1, 2)), 3, data.draw(pixels), data.draw(channels))
    steps = (1, data.draw(st.sampled_from([1, 2])), data.draw(step), data.draw(step))
    op = partial(Slice, **_stepped(data.draw, shape, steps))
    isa = data.draw(st.sampled_from(kit.isas))
    kit.check(op, kit.i8(*shape), borders=data.draw(st.booleans()), isas=[isa])


@pytest.mark.sweep(80)
@given(data=st.data())
def test_concatenations_of_few_channels(kit: Any, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 3)), data.draw(_AROUND)
    few = st.lists(st.integers(1, 9) | st.sampled_from([16, 24]), min_size=1, max_size=5)
    parts = [kit.i8(1, rows, columns, c, seed=n) for n, c in enumerate(data.draw(few))]
    constant = data.draw(st.integers(0, len(parts)))
    operands = [kit.fixed(part) if n == constant else part for n, part in enumerate(parts)]
    if all(part is not operand for part, operand in zip(parts, operands, strict=True)):
        operands = parts
    isa = data.draw(st.sampled_from(kit.isas))
    kit.check(partial(Concat, axis=3), *operands, borders=data.draw(st.booleans()), isas=[isa])


@pytest.mark.sweep(60)
@given(data=st.data())
def test_slices_that_are_joined_again(kit: Any, data: st.DataObject) -> None:
    """They are views of what is in the arena, in any steps; one of them may be read elsewhere."""
    shape = (1, data.draw(st.integers(2, 6)), data.draw(_AROUND), data.draw(st.integers(1, 7)))
    graph, inputs = kit.one_op(partial(Transpose, permutation=(0, 1, 3, 2)), kit.i8(*shape))
    axis = data.draw(st.integers(1, 3))
    steps = tuple(data.draw(st.integers(1, 3)) if i else 1 for i in range(4))
    qparams, of = graph.tensor("y").qparams, graph.type("y").shape
    cut = _stepped(data.draw, of, steps)
    ids = []
    for n in range(data.draw(st.integers(2, 5))):
        again = _stepped(data.draw, of, steps)
        starts = tuple(
            min(start, of[i] - 1 - (size - 1) * steps[i])
            for i, (start, size) in enumerate(zip(again["starts"], cut["sizes"], strict=True))
        )
        ids.append(graph.add_op(Slice(inputs=("y",), output=f"s{n}", **{**cut, "starts": starts})))
    graph.outputs["z"] = graph.add_op(Concat(inputs=tuple(ids), output="z", axis=axis))
    if data.draw(st.booleans()):
        graph.outputs["s"] = ids[0]
    for id in (*ids, "z"):
        graph.update_tensor(type(graph.tensor(id))(id, graph.type(id), qparams=qparams))
    kit.check_graph(graph, inputs, [data.draw(st.sampled_from(kit.isas))])


@pytest.mark.sweep(40)
@given(data=st.data())
def test_blocks_of_few_channels(kit: Any, data: st.DataObject) -> None:
    block, channels = data.draw(st.sampled_from([2, 3, 4])), data.draw(st.integers(1, 6))
    order, width = data.draw(st.sampled_from(list(BlockOrder))), data.draw(_AROUND)
    isas, borders = [data.draw(st.sampled_from(kit.isas))], data.draw(st.booleans())
    deep = kit.i8(1, 2, width, channels * block**2)
    wide = kit.i8(1, 2 * block, width * block, channels)
    kit.check(partial(DepthToSpace, block=block, order=order), deep, borders=borders, isas=isas)
    kit.check(partial(SpaceToDepth, block=block, order=order), wide, borders=borders, isas=isas)


def test_space_to_depth_of_slices_is_one_copy(kit: Any) -> None:
    """The Focus layer of YOLO: the slices are views, one kernel reads all of them."""
    graph, inputs = kit.one_op(partial(Transpose, permutation=(0, 2, 3, 1)), kit.i8(1, 3, 12, 40))
    ids = [
        graph.add_op(
            Slice(
                inputs=("y",), output=f"s{n}", starts=(0, n % 2, n // 2, 0), sizes=(1, 6, 20, 3),
                steps=(1, 2, 2, 1),
            )
        )
        for n in range(4)
    ]  # fmt: skip
    graph.outputs = {"z": graph.add_op(Concat(inputs=tuple(ids), output="z", axis=3))}
    for id in (*ids, "z"):
        record = graph.tensor("y")
        graph.update_tensor(type(record)(id, graph.type(id), qparams=record.qparams))
    kit.check_graph(graph, inputs, kit.isas)
    calls = lower_graph(graph, kit.isas[-1], "net").calls
    assert [call.op for call in calls] == ["y", "z"]
