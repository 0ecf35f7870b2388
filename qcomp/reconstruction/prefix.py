"""What the quantized network gives each layer to read.

A layer is fitted on the inputs that the layers before it, already fitted, give it. Running all of
them anew for each layer would cost the square of the depth. Here the integers that each layer reads
are kept for every sample as long as the way to a later layer begins at them, and each way is run
from there, so that the whole walk costs little more than one run of the network per sample.

Memory: the integers kept at one time, times the samples. What convolutions read is kept channels
first, as they compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Weighted
from qcomp.ir.region import between, needed
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.lib.qdq import quantized_operand

Sample = Mapping[str, Array]
Samples = Iterable[Sample]


@dataclass(frozen=True)
class Way:
    """How to get at the integers that a layer reads: from `sources`, kept before, to `reads`."""

    reads: TensorId
    sources: tuple[TensorId, ...]


class QuantizedPrefix:
    """Walks a QDQ graph along `layers`, which are in the graph's order.

    `samples` are inputs by public name, and can be iterated more than once. Constants of a layer
    may change until the next layer is asked for.
    """

    def __init__(self, graph: Graph, layers: Sequence[Weighted], samples: Samples) -> None:
        self._graph = graph
        self._samples = samples
        self._ways = _plan(graph, layers)
        self._last_use: dict[TensorId, TensorId] = {}
        for layer, way in self._ways.items():
            self._last_use |= dict.fromkeys((way.reads, *way.sources), layer)
        self._kept: dict[TensorId, list[Array]] = {}
        self._spatial = {self._ways[op.id].reads for op in layers if isinstance(op, Conv2d)}

    def inputs(self, layer: Weighted) -> list[Array]:
        """The integers that the layer reads, for each sample; ask in the order of the layers."""
        way = self._ways[layer.id]
        if way.reads not in self._kept:
            self._kept[way.reads] = self._run(way)
        result = self._kept[way.reads]
        for id in [id for id in self._kept if self._last_use[id] == layer.id]:
            del self._kept[id]
        return result

    @property
    def kept(self) -> int:
        """How many tensors are kept now."""
        return len(self._kept)

    def _run(self, way: Way) -> list[Array]:
        kept = [id for id in way.sources if id in self._kept]
        session = FloatSession(
            between(self._graph, way.sources, [way.reads]),
            channels_first=self._spatial.intersection((*kept, way.reads)),
        )
        public = {name: id for name, id in self._graph.inputs.items() if id in way.sources}
        results = []
        for i, sample in enumerate(self._read(public, kept)):
            feed = {id: self._kept[id][i] for id in kept}
            feed |= {id: sample[name] for name, id in public.items()}
            results.append(session.run(feed)[way.reads])
        return results

    def _read(self, public: Mapping[str, TensorId], kept: Sequence[TensorId]) -> Samples:
        """The samples, which to read again takes time; nothing of them where none is needed."""
        if public or not kept:
            return self._samples
        return [{} for _ in self._kept[kept[0]]]


def kept_bytes(graph: Graph, layers: Sequence[Weighted]) -> int:
    """The most bytes that a walk along `layers` keeps of one sample at one time."""
    ways = _plan(graph, layers)
    last_use: dict[TensorId, int] = {}
    for i, way in enumerate(ways.values()):
        last_use |= dict.fromkeys((way.reads, *way.sources), i)
    kept: dict[TensorId, int] = {}
    most = 0
    for i, way in enumerate(ways.values()):
        kept[way.reads] = graph.type(way.reads).bytes
        most = max(most, sum(kept.values()))
        kept = {id: size for id, size in kept.items() if last_use[id] > i}
    return most


def _plan(graph: Graph, layers: Sequence[Weighted]) -> dict[TensorId, Way]:
    """The way to each layer, which begins at what layers before it read or at graph inputs."""
    known = dict.fromkeys(graph.inputs.values())
    ways: dict[TensorId, Way] = {}
    for layer in layers:
        reads = quantized_operand(graph, layer.x)
        given = () if reads in known else needed(graph, known.keys(), [reads]).given
        ways[layer.id] = Way(reads, tuple(t for t in known if t in given))
        known[reads] = None
    return ways
