"""Layer by layer through a quantized network, with what each reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from qcomp.calibration.sampled import SampledMeans, positions
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.passes.lib.qdq import operand_qparams
from qcomp.progress import tracked
from qcomp.reconstruction.prefix import QuantizedPrefix, Sample, Samples, kept_bytes
from qcomp.reconstruction.rows import Read, Rows, float_results, layer_rows

LARGEST = 1 << 30  # bytes of integers kept between layers
_RESULTS = 1 << 30  # bytes of float results of all layers
_ROWS = 1 << 27  # bytes of the rows that one layer reads


@dataclass(frozen=True, eq=False)
class FittingData:
    """What layers are fitted to.

    float_graph: the graph that was quantized, with the same ids of ops.
    samples: inputs by public name; can be iterated any number of times.
    sampled: means of the float graph on these samples, and maybe on more behind them.
    progress: a bar on stderr.
    cache: a directory that keeps the layers that are done.
    """

    float_graph: Graph
    samples: Samples
    sampled: SampledMeans
    progress: bool = False
    cache: Path | None = None

    @cached_property
    def count(self) -> int:
        """How many samples there are; to tell, they are read once."""
        return sum(1 for _ in self.samples)


class Walk:
    """Each layer of a QDQ graph with what it reads; it may be changed before the next one.

    As many samples are taken as have room in memory, and at most `most`.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Sequence[Weighted],
        data: FittingData,
        title: str,
        most: int | None,
    ) -> None:
        self.graph, self.layers = graph, layers
        self._data, self._title = data, title
        room = max(LARGEST // max(kept_bytes(graph, layers), 1), 1)
        self.samples = _Limited(data.samples, room if most is None else min(room, most))

    def __iter__(self) -> Iterator[tuple[Weighted, Iterator[Read]]]:
        """Layers, and for each what it reads in each sample."""
        prefix = QuantizedPrefix(self.graph, self.layers, self.samples)
        shown = self._data.progress
        for layer in tracked(self.layers, self._title, len(self.layers), shown=shown):
            qparams = operand_qparams(self.graph, layer.x)
            yield layer, (Read(x, qparams) for x in prefix.inputs(layer))


def walk(
    graph: Graph,
    layers: Sequence[Weighted],
    data: FittingData,
    title: str,
    rows_of: Callable[[tuple[int, ...]], int],
) -> Iterator[tuple[Weighted, Rows]]:
    """Each layer with rows and the float results of these, about as many as its kernel's shape
    asks for.
    """
    if not layers:
        return
    steps = Walk(graph, layers, data, title, None)
    width = sum(graph.type(layer.output).shape[-1] for layer in layers)
    most, count = _RESULTS // (4 * width), max(min(data.count, steps.samples.count), 1)
    places = {}
    for op in layers:
        rows = min(rows_of(graph.type(op.weight).shape), most)
        places[op.id] = positions(graph, op.output, _share(graph, op, rows, count))
    results = float_results(data.float_graph, layers, places, steps.samples)
    for layer, inputs in steps:
        kernel = graph.type(layer.weight).shape
        yield layer, layer_rows(layer, kernel, places[layer.id], inputs, results.pop(layer.id))


def _share(graph: Graph, layer: Weighted, rows: int, samples: int) -> int:
    """How many rows of a layer each sample gives."""
    shape = graph.type(layer.weight).shape
    size = layer.groups * math.prod(shape[1:])
    return max(-(-min(rows, _ROWS // (4 * size)) // samples), 1)


@dataclass(frozen=True)
class _Limited:
    """The first samples of many."""

    samples: Samples
    count: int

    def __iter__(self) -> Iterator[Sample]:
        return islice(iter(self.samples), self.count)
