"""Layer by layer through a quantized network, with the rows of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.passes.lib.qdq import operand_qparams
from qcomp.progress import tracked
from qcomp.quant.qparams import dequantize
from qcomp.reconstruction.prefix import QuantizedPrefix, Sample, Samples, kept_bytes
from qcomp.reconstruction.rows import Rows, float_results, layer_rows, positions

LARGEST = 1 << 30  # bytes of integers kept between layers
_RESULTS = 1 << 30  # bytes of float results of all layers
_ROWS = 1 << 27  # bytes of the rows that one layer reads


@dataclass(frozen=True, eq=False)
class FittingData:
    """What layers are fitted to.

    float_graph: the graph that was quantized, with the same ids of ops.
    samples: inputs by public name; can be iterated any number of times.
    progress: a bar on stderr.
    cache: a directory that keeps the layers that are done.
    """

    float_graph: Graph
    samples: Samples
    progress: bool = False
    cache: Path | None = None


def walk(
    graph: Graph,
    layers: Sequence[Weighted],
    data: FittingData,
    title: str,
    *,
    rows: int,
    samples: int | None = None,
) -> Iterator[tuple[Weighted, Rows]]:
    """Each layer of a QDQ graph with about `rows` rows; it may be changed before the next one.

    As many samples are taken as have room in memory, and at most `samples`.
    """
    if not layers:
        return
    room = LARGEST // max(kept_bytes(graph, layers), 1)
    taken = _limited(data.samples, room if samples is None else min(room, samples))
    width = sum(graph.type(layer.output).shape[-1] for layer in layers)
    rows = min(rows, _RESULTS // (4 * width))
    count = max(sum(1 for _ in taken), 1)
    places = {op.id: positions(graph, op, _share(graph, op, rows, count)) for op in layers}
    results = float_results(data.float_graph, layers, places, taken)
    prefix = QuantizedPrefix(graph, layers, taken)
    for layer in tracked(layers, title, len(layers), shown=data.progress):
        qparams = operand_qparams(graph, layer.x)
        inputs = (dequantize(x, qparams) for x in prefix.inputs(layer))
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


def _limited(samples: Samples, count: int) -> Samples:
    return _Limited(samples, max(count, 1))
