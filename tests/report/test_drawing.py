"""Drawings of random graphs: layers, room between boxes, edges that lead down."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcomp.report.drawing import GAP, drawn

SIZE = (100.0, 30.0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 14))
    every = [(a, b) for b in range(count) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(every), max_size=24, unique=True)) if every else []
    return count, edges


@given(graph=graphs())
def test_boxes_of_a_layer_keep_their_distance_and_edges_lead_down(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    count, edges = graph
    found = drawn([SIZE] * count, edges)
    assert len(found.nodes) == count
    by_layer: dict[float, list[float]] = {}
    for x, y in found.nodes:
        by_layer.setdefault(y, []).append(x)
        assert SIZE[0] / 2 - 1e-6 <= x <= found.width - SIZE[0] / 2 + 1e-6
        assert SIZE[1] / 2 - 1e-6 <= y <= found.height - SIZE[1] / 2 + 1e-6
    for xs in by_layer.values():
        for a, b in itertools.pairwise(sorted(xs)):
            assert b - a >= SIZE[0] + GAP - 1e-6
    for (a, b), points in zip(edges, found.edges, strict=True):
        ys = [y for _, y in points]
        assert ys == sorted(ys)
        assert points[0] == (found.nodes[a][0], found.nodes[a][1] + SIZE[1] / 2)
        assert points[-1] == (found.nodes[b][0], found.nodes[b][1] - SIZE[1] / 2)


@given(graph=graphs())
def test_the_same_graph_is_drawn_the_same(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    assert drawn([SIZE] * count, edges) == drawn([SIZE] * count, edges)


def test_a_chain_is_straight_and_a_long_edge_leads_around_it() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (0, 3)]
    found = drawn([SIZE] * 4, edges)
    assert [y for _, y in found.nodes] == sorted(y for _, y in found.nodes)
    around = [x for x, _ in found.edges[3][1:-1]]
    for x in around:
        assert all(abs(x - nx) >= SIZE[0] / 2 for nx, _ in found.nodes[1:3])


def test_two_crossing_pairs_are_put_in_order() -> None:
    found = drawn([SIZE] * 4, [(0, 3), (1, 2)])
    (a, b, c, d) = (x for x, _ in found.nodes)
    assert (a < b) == (d < c)


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        drawn([SIZE] * 2, [(0, 1), (1, 0)])


def test_nothing_is_drawn_of_nothing() -> None:
    assert drawn([], []).nodes == []
