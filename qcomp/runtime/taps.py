"""What the manifest of a library with taps says of the tensors that it tells of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcomp.ir.graph import Graph
from qcomp.ir.numbering import activations
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Taps


def plain(taps: Taps, graph: Graph) -> dict[str, Any]:
    """As JSON has it: the tensors by their numbers, and by instruction set those not told of."""
    return {
        "tensors": [{"number": n, **_described(graph, id)} for n, id in enumerate(taps.tensors)],
        "missing": {isa: list(ids) for isa, ids in taps.missing.items()},
    }


def read(fields: Mapping[str, Any]) -> Taps:
    """What `plain` gave; KeyError or TypeError for anything else."""
    missing = {str(isa): tuple(map(str, ids)) for isa, ids in fields["missing"].items()}
    return Taps(tuple(str(tensor["id"]) for tensor in fields["tensors"]), missing)


def expect(taps: Taps, graph: Graph, isas: Sequence[str]) -> None:
    """ValueError where they are those of another graph, or of other instruction sets."""
    if taps.tensors != activations(graph):
        raise ValueError("the taps are those of another graph")
    if list(taps.missing) != list(isas):
        raise ValueError(f"taps for {', '.join(taps.missing)}, expected {', '.join(isas)}")
    unknown = {id for ids in taps.missing.values() for id in ids} - {*taps.tensors}
    if unknown:
        raise ValueError(f"taps lack {', '.join(sorted(unknown))}, which the graph has not")


def _described(graph: Graph, id: TensorId) -> dict[str, Any]:
    type, q = graph.type(id), graph.tensor(id).qparams
    return {
        "id": id,
        "dtype": str(type.dtype.numpy),
        "shape": list(type.shape),
        "bytes": type.bytes,
        "scale": None if q is None else q.scale,
        "zero_point": None if q is None else q.zero_point,
    }
