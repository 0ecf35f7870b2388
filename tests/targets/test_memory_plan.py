"""The memory plan: what lives together lies apart, aligned, in an arena near its lower bound."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Slice, Tile
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.qparams import QParams
from qcomp.targets.catalog import target
from qcomp.targets.cpu.memory import Halo, bordered_layout, contiguous, dense_layout
from qcomp.targets.memory import ALIGN, Lifetime, plan_memory


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    buffers = []
    for i in range(draw(st.integers(0, 25))):
        first = draw(st.integers(0, 20))
        size = draw(st.one_of(st.integers(1, 300), st.sampled_from([64, 4096, 100_000])))
        buffers.append(Lifetime(f"b{i}", size, first, first + draw(st.integers(0, 8))))
    return buffers


@settings(max_examples=200, deadline=None)
@given(lifetimes())
def test_buffers_that_live_together_do_not_overlap(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers, tries=20)
    assert set(plan.offsets) == {b.name for b in buffers}
    for a, b in itertools.combinations(buffers, 2):
        if a.overlaps(b):
            low, high = sorted((a, b), key=lambda t: plan.offsets[t.name])
            assert plan.offsets[low.name] + low.bytes <= plan.offsets[high.name]


@settings(max_examples=200, deadline=None)
@given(lifetimes())
def test_every_buffer_is_aligned_and_inside_the_arena(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers, tries=20)
    assert plan.arena_bytes >= ALIGN
    assert plan.arena_bytes % ALIGN == 0
    for b in buffers:
        assert plan.offsets[b.name] % ALIGN == 0
        assert 0 <= plan.offsets[b.name] <= plan.arena_bytes - b.bytes


@settings(max_examples=100, deadline=None)
@given(lifetimes())
def test_the_arena_lies_between_the_live_bytes_and_all_bytes(buffers: list[Lifetime]) -> None:
    plan = plan_memory(buffers, tries=20)
    alive = [sum(b.bytes for b in buffers if b.first <= t <= b.last) for t in range(30)]
    padded = sum(-(-b.bytes // ALIGN) * ALIGN for b in buffers)
    assert max(alive) <= plan.lower_bound <= plan.arena_bytes <= max(padded, ALIGN)


@settings(max_examples=20, deadline=None)
@given(lifetimes())
def test_the_plan_is_the_same_each_time(buffers: list[Lifetime]) -> None:
    assert plan_memory(buffers) == plan_memory(list(buffers))


@given(st.integers(1, 40), st.integers(1, 5000))
def test_a_chain_takes_two_buffers(length: int, size: int) -> None:
    plan = plan_memory([Lifetime(f"b{i}", size, i, i + 1) for i in range(length)])
    assert plan.arena_bytes == plan.lower_bound


def test_the_search_finds_what_placing_by_size_misses() -> None:
    """A skip connection around a chain of growing buffers."""
    chain = [Lifetime(f"b{i}", 64 * (i + 1), i, i + 1) for i in range(6)]
    plan = plan_memory([Lifetime("skip", 128, 0, 6), *chain])
    assert plan.arena_bytes == plan.lower_bound


def test_no_buffers_take_one_line() -> None:
    assert plan_memory([]).arena_bytes == ALIGN


def test_a_dense_layout_is_row_major() -> None:
    layout = dense_layout((2, 3, 4), 4)
    assert layout.strides == (48, 16, 4)
    assert layout.bytes == 96
    assert layout.is_contiguous
    assert dense_layout(()).bytes == 1


@given(st.tuples(*[st.integers(0, 3)] * 4), st.tuples(*[st.integers(1, 4)] * 4))
def test_a_bordered_layout_leaves_room_on_each_side(
    sides: tuple[int, int, int, int], shape: tuple[int, int, int, int]
) -> None:
    top, left, bottom, right = sides
    n, h, w, c = shape
    layout = bordered_layout(shape, Halo(*sides))
    whole = (n, top + h + bottom, left + w + right, c)
    assert layout.strides == contiguous(whole)
    assert layout.offset == top * layout.strides[1] + left * layout.strides[2]
    last = sum((e - 1) * s for e, s in zip(shape, layout.strides, strict=True))
    tail = bottom * layout.strides[1] + right * layout.strides[2]
    assert layout.offset + last + 1 + tail == layout.bytes


def test_halos_unite_side_by_side() -> None:
    assert Halo(1, 0, 2, 0).union(Halo(0, 3, 1, 0)) == Halo(1, 3, 2, 0)
    assert Halo().is_none
    assert not Halo(right=1).is_none


def test_an_arena_beyond_the_int_of_c_is_refused() -> None:
    graph = Graph("large")
    x = graph.add_input("x", TensorType(DType.I8, (1, 8)))
    graph.update_tensor(replace(graph.tensor(x), qparams=QParams(0.5, 0)))
    large = Tile(inputs=(x,), output="large", repeats=(1 << 28, 1))
    first = Slice(inputs=("large",), output="y", starts=(0, 0), sizes=(1, 8), steps=(1, 1))
    for op in (large, first):
        graph.add_op(op)
        graph.update_tensor(replace(graph.tensor(op.id), qparams=QParams(0.5, 0)))
    graph.outputs["y"] = "y"
    with pytest.raises(TargetError, match=r"large needs an arena of 2147483712 bytes"):
        target("x86-64").emit(graph, "large")
