"""What dense layers of transformers read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dense, Op, Reshape
from qcomp.ir.tensor import TensorId
from qcomp.ir.transformer import is_transformer


@dataclass(frozen=True, eq=False)
class Site:
    """Dense layers that read the channels of one tensor.

    entries: the readers of the tensor by which they do: themselves, or reshapes that keep channels.
    """

    source: TensorId
    entries: tuple[Op, ...]
    layers: tuple[Dense, ...]

    def is_all_of(self, graph: Graph) -> bool:
        """Whether nothing else reads the tensor."""
        readers = {op.id for op in graph.consumers(self.source)}
        return not graph.is_output(self.source) and readers == {op.id for op in self.entries}

    def read(self, graph: Graph, other: TensorId) -> None:
        """Let the layers read another tensor of the same shape."""
        for op in self.entries:
            inputs = tuple(other if t == self.source else t for t in op.inputs)
            graph.set_inputs(graph.op(op.id), inputs)


def sites(graph: Graph) -> list[Site]:
    """All of a transformer, of computed tensors, in order; none of another network."""
    if not is_transformer(graph):
        return []
    found = []
    for tensor in graph.tensors():
        is_given = graph.producer(tensor.id) is None or tensor.qparams is not None
        if is_given or _copies_channels(graph, tensor.id):
            continue
        entries = [(op, layers) for op, layers in _entries(graph, tensor.id) if layers]
        if entries:
            layers = tuple(layer for _, each in entries for layer in each)
            found.append(Site(tensor.id, tuple(op for op, _ in entries), layers))
    return found


def _entries(graph: Graph, id: TensorId) -> Iterator[tuple[Op, tuple[Dense, ...]]]:
    """The readers of a tensor, with the layers that they are or lead to, and to nothing else."""
    for op in graph.consumers(id):
        if isinstance(op, Dense):
            yield op, (op,)
        elif isinstance(op, Reshape) and _copies_channels(graph, op.output):
            behind = graph.consumers(op.output)
            dense = tuple(reader for reader in behind if isinstance(reader, Dense))
            yield op, dense if len(dense) == len(behind) else ()


def _copies_channels(graph: Graph, id: TensorId) -> bool:
    """Whether a tensor is a reshape of another one, not an output, with the same channels."""
    op = graph.producer(id)
    if not isinstance(op, Reshape) or graph.is_output(id):
        return False
    return graph.type(op.x).shape[-1:] == graph.type(id).shape[-1:]
