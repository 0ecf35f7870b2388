"""A drawing of an acyclic graph from top to bottom, in layers (Sugiyama, Tagawa and Toda, 1981).

    layers       each node below all that it reads, as far down as its nearest reader allows
    order        nodes of a layer by the mean place of their neighbours, swept down and up
    places       least squares of the distances to neighbours, which nodes of a layer keep apart

Edges that pass layers have a bend in each, so they lead around nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Edge = tuple[int, int]
Point = tuple[float, float]

GAP, DROP = 24.0, 34.0  # between neighbours of a layer, and between layers
_BEND = 12.0  # the room of an edge that passes
_SWEEPS = 12
_STRAIGHT = 8.0  # the weight of a bend's neighbours, so that long edges are straight


@dataclass(frozen=True)
class Drawing:
    """The middles of nodes, and the points of edges from the reader's operand down to the reader.

    width, height: from 0, with all nodes inside.
    """

    nodes: Sequence[Point]
    edges: Sequence[Sequence[Point]]
    width: float
    height: float


def drawn(sizes: Sequence[Point], edges: Sequence[Edge]) -> Drawing:
    """Nodes of these widths and heights; edges go from operand to reader and make no circle."""
    if not sizes:
        return Drawing([], [], 0.0, 0.0)
    rank = _ranks(len(sizes), edges)
    paths, bends = _with_bends(rank, edges)
    widths = [w for w, _ in sizes] + [_BEND] * len(bends)
    ranks = [*rank, *bends]
    steps = [step for path in paths for step in itertools.pairwise(path)]
    layers = _ordered(ranks, steps)
    x = _places(layers, widths, steps, len(sizes))
    x -= min(x[i] - widths[i] / 2 for i in range(len(widths)))
    heights = [max((sizes[i][1] for i in layer if i < len(sizes)), default=0.0) for layer in layers]
    tops = np.concatenate([[0.0], np.cumsum(np.array(heights) + DROP)])
    y = [tops[r] + heights[r] / 2 for r in ranks]
    return Drawing(
        [(float(x[i]), float(y[i])) for i in range(len(sizes))],
        [_points(path, sizes, x, y) for path in paths],
        float(max(x[i] + widths[i] / 2 for i in range(len(widths)))),
        float(tops[-1] - DROP),
    )


def _points(path: Sequence[int], sizes: Sequence[Point], x: F64, y: Sequence[float]) -> list[Point]:
    """From the lower edge of the first node to the upper edge of the last."""
    first, last = path[0], path[-1]
    middle = [(float(x[i]), float(y[i])) for i in path[1:-1]]
    return [
        (float(x[first]), float(y[first] + sizes[first][1] / 2)),
        *middle,
        (float(x[last]), float(y[last] - sizes[last][1] / 2)),
    ]


def _ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """The longest path from above; a node without operands stands just above its first reader."""
    readers: dict[int, list[int]] = {}
    waiting = [0] * count
    for a, b in edges:
        readers.setdefault(a, []).append(b)
        waiting[b] += 1
    ready = [i for i in range(count) if not waiting[i]]
    sources, rank, done = list(ready), [0] * count, 0
    while ready:
        node = ready.pop()
        done += 1
        for reader in readers.get(node, ()):
            rank[reader] = max(rank[reader], rank[node] + 1)
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if done != count:
        raise ValueError("the edges make a circle")
    for node in sources:
        rank[node] = min((rank[r] for r in readers.get(node, ())), default=1) - 1
    return rank


def _with_bends(rank: Sequence[int], edges: Sequence[Edge]) -> tuple[list[list[int]], list[int]]:
    """The nodes and bends of each edge, and the layers of the bends."""
    paths: list[list[int]] = []
    bends: list[int] = []
    for a, b in edges:
        passed = range(rank[a] + 1, rank[b])
        first = len(rank) + len(bends)
        bends += passed
        paths.append([a, *range(first, first + len(passed)), b])
    return paths, bends


def _ordered(ranks: Sequence[int], steps: Sequence[Edge]) -> list[list[int]]:
    """Nodes by layer, in the best order of some sweeps: that of the fewest crossings."""
    above, below = _neighbours(steps)
    layers: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for node, r in enumerate(ranks):
        layers[r].append(node)
    best, least = [list(layer) for layer in layers], _crossings(layers, steps)
    for sweep in range(_SWEEPS):
        if not least:
            break
        down = sweep % 2 == 0
        place: dict[int, float] = {}
        for layer in layers if down else layers[::-1]:
            known = above if down else below
            means = {
                n: float(np.mean([place[m] for m in known[n]])) if known.get(n) else float(i)
                for i, n in enumerate(layer)
            }
            layer.sort(key=lambda n, means=means: means[n])  # type: ignore[misc]
            place |= {n: float(i) for i, n in enumerate(layer)}
        found = _crossings(layers, steps)
        if found < least:
            best, least = [list(layer) for layer in layers], found
    return best


def _neighbours(steps: Sequence[Edge]) -> tuple[Mapping[int, list[int]], Mapping[int, list[int]]]:
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for a, b in steps:
        above.setdefault(b, []).append(a)
        below.setdefault(a, []).append(b)
    return above, below


def _crossings(layers: Sequence[Sequence[int]], steps: Sequence[Edge]) -> int:
    """Pairs of steps between the same layers whose ends are in opposite orders."""
    place = {n: (r, i) for r, layer in enumerate(layers) for i, n in enumerate(layer)}
    by_layer: dict[int, list[Edge]] = {}
    for a, b in steps:
        by_layer.setdefault(place[a][0], []).append((place[a][1], place[b][1]))
    total = 0
    for pairs in by_layer.values():
        if len(pairs) > 1:
            first, second = np.array(pairs).T
            opposite = (first[:, None] < first) & (second[:, None] > second)
            total += int(opposite.sum())
    return total


def _places(
    layers: Sequence[Sequence[int]], widths: Sequence[float], steps: Sequence[Edge], real: int
) -> F64:
    """The x of each node and bend."""
    above, below = _neighbours(steps)
    x = np.zeros(len(widths))
    for layer in layers:
        ends = np.cumsum([widths[n] + GAP for n in layer])
        for n, end in zip(layer, ends, strict=True):
            x[n] = end - widths[n] / 2 - GAP - (ends[-1] - GAP) / 2
    for sweep in range(_SWEEPS):
        known = above if sweep % 2 == 0 else below
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            last = sweep == _SWEEPS - 1
            wanted, weights = [], []
            for n in layer:
                near = [*known.get(n, ()), *(below.get(n, ()) if last else ())]
                pulls = [_STRAIGHT if n >= real and m >= real else 1.0 for m in near]
                wanted.append(float(np.average(x[near], weights=pulls)) if near else float(x[n]))
                weights.append(sum(pulls) or 0.1)
            x[layer] = _apart(wanted, weights, [widths[n] for n in layer])
    return x


def _apart(wanted: Sequence[float], weights: Sequence[float], widths: Sequence[float]) -> F64:
    """The places nearest to those wanted, by weighted squares, that keep order and distance.

    Less the distances from the first, places only have to ascend: neighbours that do not are pooled
    at their mean (Ayer et al., 1955).
    """
    half = np.array(widths) / 2
    offsets = np.concatenate([[0.0], np.cumsum(half[:-1] + half[1:] + GAP)])
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(np.array(wanted) - offsets, weights, strict=True):
        pools.append((float(value), weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, u, m), (b, v, n) = pools[-2:]
            pools[-2:] = [((a * u + b * v) / (u + v), u + v, m + n)]
    kept: F64 = np.repeat([p[0] for p in pools], [p[2] for p in pools]) + offsets
    return kept
