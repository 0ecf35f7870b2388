"""Outputs as a product wants them: the index of the largest value in place of the values."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import ArgMax


def with_indices(graph: Graph, outputs: Mapping[str, str]) -> Graph:
    """A graph in form QDQ or INTEGER whose outputs of these names are i32 indices of their last
    axis, the first of equal values; the graph itself where there are none.
    """
    if not outputs:
        return graph
    if unknown := [name for name in outputs if name not in graph.outputs]:
        raise CompileError(
            f"outputs: no output is named {', '.join(map(repr, unknown))}; expected some of "
            f"{', '.join(graph.outputs)}"
        )
    graph = graph.clone()
    for name in outputs:
        values = graph.outputs[name]
        type = graph.type(values)
        if graph.is_constant(values) or type.rank == 0:
            raise CompileError(f"outputs: {name!r} is {type}; argmax needs computed values in rows")
        conversion = graph.conversions.pop(name, None)
        if conversion is not None and (len(conversion.scale) > 1 or min(conversion.scale) <= 0.0):
            raise CompileError(
                f"outputs: {name!r}: its integers are not in the order of its values, as it ends "
                "with a function along its channels; expected one number for all"
            )
        graph.tails.pop(name, None)  # of larger values they are larger
        op = ArgMax(
            inputs=(values,),
            output=graph.fresh_id(f"{values}.argmax"),
            axis=type.rank - 1,
            keepdims=False,
        )
        graph.outputs[name] = graph.add_op(op)
    return graph
