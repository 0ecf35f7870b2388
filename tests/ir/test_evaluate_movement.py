"""Movement ops give the same answer for every element type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    Concat,
    Coordinates,
    DepthToSpace,
    Gather,
    NearestRounding,
    Op,
    Pad,
    PadMode,
    Reshape,
    Resize2d,
    ResizeMode,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.tensor import DType, TensorType

RNG = np.random.default_rng(1)
X = RNG.integers(-128, 128, (2, 4, 6, 4)).astype(np.int8)


def run(op: Op, x: np.ndarray, constants: Sequence[tuple[str, np.ndarray]] = ()) -> np.ndarray:
    graph = Graph("movement")
    graph.add_input("x", TensorType(DType.of(x.dtype), x.shape))
    for name, data in constants:
        graph.add_constant(name, data)
    graph.outputs["y"] = graph.add_op(op)
    y = evaluate(graph, {"x": x})["y"]
    assert (DType.of(y.dtype), y.shape) == (graph.type("y").dtype, graph.type("y").shape)
    return y


MOVEMENTS: list[tuple[Op, np.ndarray]] = [
    (Reshape(inputs=("x",), output="y", shape=(8, 24)), X.reshape(8, 24)),
    (Transpose(inputs=("x",), output="y", permutation=(0, 3, 1, 2)), X.transpose(0, 3, 1, 2)),
    (Concat(inputs=("x", "x"), output="y", axis=2), np.concatenate([X, X], axis=2)),
    (
        Slice(
            inputs=("x",), output="y", starts=(0, 3, 1, 0), sizes=(2, 4, 2, 4), steps=(1, -1, 3, 1)
        ),
        X[:, ::-1, 1::3],
    ),
    (
        Pad(inputs=("x",), output="y", before=(0, 1, 0, 0), after=(0, 0, 2, 0), value=-7),
        np.pad(X, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=-7),
    ),
    (
        Pad(
            inputs=("x",), output="y", before=(0, 3, 1, 0), after=(0, 0, 5, 0), mode=PadMode.REFLECT
        ),
        np.pad(X, ((0, 0), (3, 0), (1, 5), (0, 0)), mode="reflect"),
    ),
    (
        BroadcastTo(inputs=("x",), output="y", shape=(3, 2, 4, 6, 4)),
        np.stack([X, X, X]),
    ),
    (Tile(inputs=("x",), output="y", repeats=(1, 2, 1, 3)), np.tile(X, (1, 2, 1, 3))),
    (
        Resize2d(inputs=("x",), output="y", size=(8, 12), scale=(2.0, 2.0)),
        X.repeat(2, axis=1).repeat(2, axis=2),
    ),
]


@pytest.mark.parametrize(("op", "expected"), MOVEMENTS, ids=lambda v: getattr(v, "mnemonic", ""))
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_values_only_move(op: Op, expected: np.ndarray, dtype: type) -> None:
    assert_array_equal(run(op, X.astype(dtype)), expected.astype(dtype))


def test_gather_takes_rows_by_index() -> None:
    op = Gather(inputs=("x", "i"), output="y", axis=2)
    indices = np.array([5, 0, 0], np.int64)
    assert_array_equal(run(op, X, [("i", indices)]), X[:, :, [5, 0, 0]])


def test_zero_stuff_puts_its_value_between_pixels() -> None:
    y = run(ZeroStuff(inputs=("x",), output="y", stride=(2, 3), value=-5), X)
    assert_array_equal(y[:, ::2, ::3], X)
    y[:, ::2, ::3] = -5
    assert (y == -5).all()


@pytest.mark.parametrize("order", list(BlockOrder))
def test_space_to_depth_is_undone_by_depth_to_space(order: BlockOrder) -> None:
    deep = run(SpaceToDepth(inputs=("x",), output="y", block=2, order=order), X)
    assert_array_equal(run(DepthToSpace(inputs=("x",), output="y", block=2, order=order), deep), X)


def test_block_orders_differ_in_where_the_depth_lies() -> None:
    x = np.arange(8, dtype=np.int8).reshape(1, 1, 1, 8)
    dcr = run(DepthToSpace(inputs=("x",), output="y", block=2, order=BlockOrder.DCR), x)
    crd = run(DepthToSpace(inputs=("x",), output="y", block=2, order=BlockOrder.CRD), x)
    assert dcr[0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert crd[0].tolist() == [[[0, 4], [1, 5]], [[2, 6], [3, 7]]]


@given(
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    coordinates=st.sampled_from(Coordinates),
    seed=st.integers(0, 99),
)
def test_bilinear_on_integers_is_within_half_a_step_of_the_real_one(
    size: tuple[int, int], coordinates: Coordinates, seed: int
) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, (1, 5, 4, 2)).astype(np.int8)
    op = Resize2d(
        inputs=("x",),
        output="y",
        size=size,
        scale=(size[0] / 5, size[1] / 4),
        mode=ResizeMode.LINEAR,
        coordinates=coordinates,
    )
    real = run(op, x.astype(np.float32))
    assert_allclose(run(op, x), real, atol=0.5 + 2 * 255 / 4096)


def test_bilinear_on_integers_rounds_half_up() -> None:
    x = np.array([0, 1, -1, -2], np.int8).reshape(1, 1, 4, 1)
    op = Resize2d(
        inputs=("x",),
        output="y",
        size=(1, 7),
        scale=(1.0, 7 / 4),
        mode=ResizeMode.LINEAR,
        coordinates=Coordinates.ALIGN_CORNERS,
    )
    assert run(op, x)[0, 0, :, 0].tolist() == [0, 1, 1, 0, -1, -1, -2]


@pytest.mark.parametrize("rounding", list(NearestRounding))
@pytest.mark.parametrize("coordinates", list(Coordinates))
def test_a_scale_of_one_is_the_identity(
    rounding: NearestRounding, coordinates: Coordinates
) -> None:
    op = Resize2d(
        inputs=("x",),
        output="y",
        size=(4, 6),
        scale=(1.0, 1.0),
        coordinates=coordinates,
        rounding=rounding,
    )
    assert_array_equal(run(op, X), X)
