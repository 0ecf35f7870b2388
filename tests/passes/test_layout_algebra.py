"""Permutations, twists and views agree with numpy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Concat, Gather, Op, Reshape, Slice, Transpose
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.passes.events import PassLog
from qcomp.passes.lib.layout.dense import column_order
from qcomp.passes.lib.layout.moves import finish_moves, simplify_moves
from qcomp.passes.lib.layout.permutation import (
    after,
    carried,
    covered,
    equivalent,
    held,
    inverse,
    keeps_order,
    refinement,
)
from qcomp.passes.lib.layout.view import View

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5).map(tuple)


def numbered(shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.arange(math.prod(shape)).reshape(shape)


@given(shape=SHAPES, data=st.data())
def test_two_transposes_compose_as_numpy_does(shape: tuple[int, ...], data: st.DataObject) -> None:
    p = tuple(data.draw(st.permutations(range(len(shape)))))
    q = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbered(shape)
    np.testing.assert_array_equal(x.transpose(p).transpose(q), x.transpose(after(p, q)))
    np.testing.assert_array_equal(x.transpose(p).transpose(inverse(p)), x)


@given(shape=SHAPES, data=st.data())
def test_order_is_kept_iff_a_reshape_does_the_same(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    p = tuple(data.draw(st.permutations(range(len(shape)))))
    x = numbered(shape)
    same = np.array_equal(x.transpose(p).reshape(-1), x.reshape(-1))
    assert keeps_order(shape, p) == same


@given(shape=SHAPES, data=st.data())
def test_equivalent_twists_hold_the_same_sequence(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    a = tuple(data.draw(st.permutations(range(len(shape)))))
    b = tuple(data.draw(st.permutations(range(len(shape)))))
    v = numbered(shape)
    same = np.array_equal(v.transpose(inverse(a)).reshape(-1), v.transpose(inverse(b)).reshape(-1))
    assert equivalent(shape, a, b) == same


@given(shape=SHAPES, data=st.data())
def test_a_carried_twist_is_that_of_the_reshaped_value(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    twist = tuple(data.draw(st.permutations(range(len(shape)))))
    flat = [e for e in shape if e > 1]
    cut = data.draw(st.integers(0, len(flat)))
    targets = [(*flat[:cut], 1, *flat[cut:]), (math.prod(flat[:cut]), *flat[cut:]), shape]
    target = tuple(data.draw(st.sampled_from(targets)))
    carried_twist = carried(shape, twist, target)
    v = numbered(shape)
    sequence = v.transpose(inverse(twist)).reshape(-1)
    orders = itertools.permutations(range(len(target)))
    possible = any(
        np.array_equal(v.reshape(target).transpose(order).reshape(-1), sequence) for order in orders
    )
    assert possible == (not isinstance(carried_twist, str))
    if not isinstance(carried_twist, str):
        assert held(target, carried_twist) == tuple(
            v.reshape(target).transpose(inverse(carried_twist)).shape
        )
        moved = v.reshape(target).transpose(inverse(carried_twist)).reshape(-1)
        np.testing.assert_array_equal(moved, sequence)


def test_a_reshape_that_tears_axes_apart_says_which() -> None:
    reason = carried((1, 6, 4, 5), (0, 3, 1, 2), (1, 120))
    assert reason == (
        "its axes (1, 2, 3) make up (1,) of the result, "
        "and the permutation does not keep them together"
    )


@given(data=st.data())
def test_a_view_moves_elements_as_its_ops_do(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    x = numbered(shape)
    view: View | None = View.of(shape)
    y = x
    for _ in range(data.draw(st.integers(1, 4))):
        op: Op
        if data.draw(st.booleans()):
            p = tuple(data.draw(st.permutations(range(y.ndim))))
            op, y = Transpose(inputs=("x",), output="y", permutation=p), y.transpose(p)
        else:
            cut = data.draw(st.integers(0, y.ndim))
            target = (math.prod(y.shape[:cut]), *y.shape[cut:])
            op, y = Reshape(inputs=("x",), output="y", shape=target), y.reshape(target)
        assert view is not None
        view = view.then(op)
        if view is None:
            return
        assert view.shape == y.shape
        extents, permutation = view.blocks()
        np.testing.assert_array_equal(x.reshape(extents).transpose(permutation).reshape(y.shape), y)
        if (shuffle := view.shuffle()) is not None:
            axis, indices = shuffle
            np.testing.assert_array_equal(np.take(x, indices, axis), y)


def test_a_view_can_not_split_across_atoms() -> None:
    view = View.of((2, 3)).then(Transpose(inputs=("x",), output="y", permutation=(1, 0)))
    assert view is not None
    assert view.then(Reshape(inputs=("x",), output="y", shape=(2, 3))) is None


def test_columns_of_a_flatten_follow_the_twist() -> None:
    order = column_order((2, 3, 4, 5), (0, 3, 1, 2), (2, 60))
    assert order is not None
    y = numbered((2, 3, 4, 5))
    held_flat = y.transpose(0, 2, 3, 1).reshape(2, 60)
    np.testing.assert_array_equal(held_flat, y.reshape(2, 60)[:, order])
    assert column_order((2, 3, 4, 5), (1, 0, 2, 3), (2, 60)) is None


def simplified(graph: Graph, output: TensorId) -> str:
    graph.outputs["y"] = output
    log = PassLog()
    simplify_moves(graph, log)
    finish_moves(graph, log)
    return " ".join(op.mnemonic for op in graph.ops())


def moves(shape: tuple[int, ...], *steps: tuple[int, ...] | list[int]) -> tuple[Graph, TensorId]:
    """A chain: a tuple permutes, a list reshapes."""
    graph = Graph("moves")
    t = graph.add_input("x", TensorType(DType.F32, shape))
    for i, step in enumerate(steps):
        if isinstance(step, tuple):
            t = graph.add_op(Transpose(inputs=(t,), output=f"t{i}", permutation=step))
        else:
            t = graph.add_op(Reshape(inputs=(t,), output=f"t{i}", shape=tuple(step)))
    return graph, t


def test_chains_of_moves_become_the_fewest() -> None:
    assert simplified(*moves((2, 3, 4), [6, 4], [24])) == "reshape"
    assert simplified(*moves((2, 3, 4), (1, 0, 2), (2, 0, 1))) == "transpose"
    assert simplified(*moves((1, 3, 4), (1, 0, 2))) == "reshape"
    assert simplified(*moves((2, 3, 4), (1, 2, 0), [12, 2], (1, 0))) == "reshape"
    assert simplified(*moves((2, 12), (1, 0), [3, 4, 2], (1, 0, 2))) == "reshape transpose"


def test_the_only_move_to_an_output_stays_an_op() -> None:
    assert simplified(*moves((2, 3), (1, 0), (1, 0))) == "transpose"


def test_selections_of_one_axis_merge_and_prefer_slices() -> None:
    graph = Graph("selections")
    x = graph.add_input("x", TensorType(DType.F32, (2, 6)))
    first = graph.add_constant("first", np.array([5, 3, 1, 0], np.int64))
    t = graph.add_op(Gather(inputs=(x, first), output="a", axis=1))
    for name, indices in (("even", [2, 1]), ("uneven", [0, 3, 2])):
        second = graph.add_constant(f"{name}.indices", np.array(indices, np.int64))
        graph.outputs[name] = graph.add_op(Gather(inputs=(t, second), output=name, axis=1))
    simplify_moves(graph, PassLog())
    even, uneven = graph.op("even"), graph.op("uneven")
    assert isinstance(even, Slice)
    assert (even.starts, even.sizes, even.steps) == ((0, 1), (2, 2), (1, 2))
    assert isinstance(uneven, Gather)
    np.testing.assert_array_equal(graph.data(uneven.indices), [5, 0, 1])
    assert graph.op("even").inputs[0] == graph.op("uneven").inputs[0] == "x"


def test_slices_merge_unless_the_inner_one_is_read_by_others() -> None:
    graph = Graph("slices")
    x = graph.add_input("x", TensorType(DType.F32, (4, 9)))
    t = graph.add_op(Slice(inputs=(x,), output="a", starts=(1, 8), sizes=(3, 4), steps=(1, -2)))
    a = graph.add_op(Slice(inputs=(t,), output="b", starts=(2, 0), sizes=(1, 2), steps=(1, 3)))
    assert simplified(graph, a) == "slice"
    merged = graph.op("b")
    assert isinstance(merged, Slice)
    assert (merged.starts, merged.steps) == ((3, 8), (1, -6))

    graph = Graph("shared")
    x = graph.add_input("x", TensorType(DType.F32, (4, 9)))
    t = graph.add_op(Slice(inputs=(x,), output="a", starts=(1, 0), sizes=(3, 4), steps=(1, 2)))
    a = graph.add_op(Slice(inputs=(t,), output="b", starts=(0, 0), sizes=(3, 2), steps=(1, 1)))
    assert simplified(graph, graph.add_op(Concat(inputs=(a, t), output="c", axis=1))) == (
        "slice slice concat"
    )


@given(fine=SHAPES, data=st.data())
def test_shapes_are_merged_from_the_axes_of_their_refinement(
    fine: tuple[int, ...], data: st.DataObject
) -> None:
    """Of any two ways to merge axes; it may be coarser than what they were merged from."""

    def merged() -> tuple[int, ...]:
        cuts = [i for i in range(1, len(fine)) if data.draw(st.booleans())]
        bounds = itertools.pairwise([0, *cuts, len(fine)])
        return tuple(math.prod(fine[i:j]) for i, j in bounds)

    shapes = merged(), merged()
    found = refinement(*shapes)
    assert found is not None
    for shape in shapes:
        groups = covered(shape, found)
        assert [i for axes in groups for i in axes] == [i for i, e in enumerate(found) if e > 1]
        assert tuple(math.prod(found[i] for i in axes) for axes in groups) == shape


@pytest.mark.parametrize(("a", "b"), [((6, 4), (4, 6)), ((5, 24), (4, 6, 5)), ((2, 3), (2, 2))])
def test_shapes_whose_axes_overlap_in_part_have_no_refinement(
    a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    assert refinement(a, b) is None
