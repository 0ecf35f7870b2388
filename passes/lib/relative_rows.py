"""Moments of what layers read, each row divided by the size of the row that results from it.

The rows are those of a graph beside the one that is changed, which has these quotients as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, Dense, Function, Mul, Reduce, Reduction, Unary
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.streams import Site
from qcomp.quant.moments import Moments

MomentsOfSome = Callable[[Graph, Collection[TensorId]], Mapping[TensorId, Moments]]

_LEAST = 1e-12  # is added to the power of a row


class RelativeRows:
    """Of the layers of some sites, which are measured together."""

    def __init__(self, graph: Graph, sites: Sequence[Site], moments: MomentsOfSome) -> None:
        beside = graph.clone()
        self._inverse: dict[TensorId, TensorId] = {}
        self._rows: dict[TensorId, TensorId] = {}
        for layer in (layer for site in sites for layer in site.layers):
            self._inverse[layer.id] = inverse = _inverse_size(beside, layer)
            rows = Mul(inputs=(layer.x, inverse), output=beside.fresh_id(f"{layer.id}.relative"))
            self._rows[layer.id] = beside.add_op(rows)
        bounded = [site.source for site in sites]
        wanted = [*bounded, *self._inverse.values(), *self._rows.values()]
        self._moments = moments(beside, dict.fromkeys(wanted))

    def of_source(self, site: Site) -> Moments:
        return self._moments[site.source]

    def of_rows(self, layer: Dense) -> Moments:
        """What a layer reads, over the size of the results."""
        return self._moments[self._rows[layer.id]]

    def of_inverse(self, layer: Dense) -> Moments:
        """One over that size."""
        return self._moments[self._inverse[layer.id]]


def _inverse_size(graph: Graph, layer: Dense) -> TensorId:
    """1 / root(mean(y^2)) of each row of a layer's results, or of the sum that they go into."""
    y = _summed(graph, layer)
    name, last = layer.id, (graph.type(y).rank - 1,)
    square = graph.add_op(Mul(inputs=(y, y), output=graph.fresh_id(f"{name}.square")))
    mean = Reduce(
        inputs=(square,),
        output=graph.fresh_id(f"{name}.power"),
        kind=Reduction.MEAN,
        axes=last,
        keepdims=True,
    )
    lifted = Unary(
        inputs=(graph.add_op(mean),),
        output=graph.fresh_id(f"{name}.lifted"),
        function=Function.AFFINE,
        beta=_LEAST,
    )
    root = Unary(
        inputs=(graph.add_op(lifted),),
        output=graph.fresh_id(f"{name}.root"),
        function=Function.SQRT,
    )
    inverse = Unary(
        inputs=(graph.add_op(root),),
        output=graph.fresh_id(f"{name}.inverse"),
        function=Function.RECIPROCAL,
    )
    return graph.add_op(inverse)


def _summed(graph: Graph, layer: Dense) -> TensorId:
    """The sum of a layer's results and others; without one, the results."""
    reader = graph.sole_consumer(layer.output)
    if isinstance(reader, Add) and graph.type(reader.output) == graph.type(layer.output):
        return reader.output
    return layer.output
