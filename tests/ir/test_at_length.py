"""A quantized graph in the shapes of another length: what is carried over, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.errors import CompileError
from qcomp.ir.at_length import at_length, followed
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Reshape
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.conversion import Conversion


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


def rows(length: int, *, scale: float = 1.0, ids: str = "sum") -> Graph:
    """x[length, 2] + positions[length, 2], as [1, length, 2]."""
    graph = Graph("rows")
    x = graph.add_input("x", f32(length, 2))
    values = scale * np.arange(1, 2 * length + 1, dtype=np.float32)[::-1].reshape(length, 2)
    positions = graph.add_constant("positions", np.minimum(values, 3).astype(np.float32))
    y = graph.add_op(Add(inputs=(x, positions), output=ids))
    graph.outputs["y"] = graph.add_op(Reshape(inputs=(y,), output="y", shape=(1, length, 2)))
    return graph


@pytest.mark.parametrize("length", [1, 3, 7])
def test_the_float_graph_becomes_that_of_the_other_length(length: int) -> None:
    assert str(at_length(rows(8), rows(8), rows(length))) == str(rows(length))


def test_a_reshape_of_a_pass_follows() -> None:
    quantized = rows(8)
    made = quantized.add_op(Reshape(inputs=("y",), output="pixels", shape=(1, 1, 8, 2)))
    quantized.outputs["y"] = quantized.add_op(
        Reshape(inputs=(made,), output="back", shape=(1, 8, 2))
    )
    graph = at_length(quantized, rows(8), rows(4))
    assert graph.type("pixels") == f32(1, 1, 4, 2)
    assert graph.type("back") == f32(1, 4, 2)
    assert quantized.type("back") == f32(1, 8, 2)


def test_a_reshape_of_a_pass_that_splits_the_length_is_refused() -> None:
    quantized = rows(8)
    made = quantized.add_op(Reshape(inputs=("y",), output="halves", shape=(2, 4, 2)))
    quantized.outputs["y"] = quantized.add_op(
        Reshape(inputs=(made,), output="back", shape=(1, 8, 2))
    )
    with pytest.raises(CompileError, match=r"(?s)%halves = reshape.*is split to \[2, 4, 2\]"):
        at_length(quantized, rows(8), rows(4))


def changed_constant(graph: Graph) -> Graph:
    tensor = graph.tensor("positions")
    graph.update_tensor(replace(tensor, data=2 * graph.data("positions")))
    return graph


def changed_shape(graph: Graph) -> Graph:
    graph.outputs["y"] = "sum"
    graph.erase("y")
    graph.outputs["y"] = graph.add_op(Reshape(inputs=("sum",), output="y", shape=(8, 1, 2)))
    return graph


def with_conversion(graph: Graph) -> Graph:
    graph.conversions["x"] = Conversion(None, (2.0,), (0.0,))
    return graph


@pytest.mark.parametrize(
    ("quantized", "wanted", "message"),
    [
        (changed_constant(rows(8)), rows(4), "%positions follows the length, and was rewritten"),
        (rows(8, scale=0.1), rows(4, scale=2.0), "%positions follows the length, and has up to 3"),
        (changed_shape(rows(8)), rows(4), r"its shape is \(1, 4, 2\) at another length, and was"),
        (rows(8), rows(4, ids="total"), "%sum = add.*is another op, or none"),
        (rows(8), with_conversion(rows(4)), "what floats do to inputs or outputs is different"),
    ],
)
def test_what_cannot_be_carried_over_is_named(
    quantized: Graph, wanted: Graph, message: str
) -> None:
    with pytest.raises(CompileError, match=f"(?s){message}"):
        at_length(quantized, rows(8, scale=0.1 if "up to" in message else 1.0), wanted)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), min_size=0, max_size=2),
    st.integers(2, 9),
    st.data(),
)
def test_a_reshape_keeps_the_axes_that_it_only_moves(
    before: Sequence[int], inner: Sequence[int], length: int, data: st.DataObject
) -> None:
    """Axes beside the length are merged to one, and ones are put in anywhere."""
    long = 11 * 13  # no product of the others
    ones = st.lists(st.just(1), max_size=2)

    def shapes(n: int, front: Sequence[int], back: Sequence[int]) -> tuple[list[int], list[int]]:
        given_ = [*before, n, *inner]
        return given_, [*front, math.prod(before), *back, n, math.prod(inner)]

    front, back = data.draw(ones), data.draw(ones)
    old, result = shapes(long, front, back)
    new, expected = shapes(length, front, back)
    assert followed(result, f32(*old), f32(*new)) == tuple(expected)
