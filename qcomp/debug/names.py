"""Tensors of a network by the names that people know: those of its graphs, or of the model."""

from __future__ import annotations

from collections.abc import Iterator

from qcomp.errors import ModelError, did_you_mean
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Quantize
from qcomp.ir.tensor import TensorId
from qcomp.runtime.network import CompiledNetwork


def tensor_named(net: CompiledNetwork, name: str) -> TensorId:
    """A tensor of the integer graph; ModelError, with what is nearly the name, for another.

    Of several that stand for one of the model's tensors, the last that is computed.
    """
    name = name.removeprefix("%")
    graph = net.graph
    if name in graph:
        return name
    known = dict(_model_names(graph))
    if name in known:
        return known[name]
    rounded = None if net.qdq is None else rounded_of(net.qdq, name)
    if rounded is not None and rounded in graph:
        return rounded
    every = [*(t.id for t in graph.tensors()), *known]
    raise ModelError(
        f"{net.name} has no tensor {name!r}, and none that stands for one of the model of that "
        f"name{did_you_mean(name, every)}"
    )


def rounded_of(qdq: Graph, id: TensorId) -> TensorId | None:
    """What a float of the QDQ graph is rounded to, under the id that integers have too."""
    if id not in qdq:
        return None
    return next((op.output for op in qdq.consumers(id) if isinstance(op, Quantize)), None)


def _model_names(graph: Graph) -> Iterator[tuple[str, TensorId]]:
    """Constants before activations, which count more, in the order in which they are computed."""
    constants = [t.id for t in graph.tensors() if t.is_constant]
    computed = [*graph.inputs.values(), *(op.output for op in graph.ops())]
    for id in (*constants, *computed):
        origin = graph.tensor(id).origin
        if origin is not None and origin.name is not None:
            yield origin.name, id
