"""Functions x * g(x) written as the product that they are, so that their channels can be scaled.

With x' = x / s per channel, y / s = x' * g(s x'): the product keeps the scaled values, and only g,
which is bounded, reads them at their size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Function, Mul, Unary
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.channel_affine import ChannelAffine
from qcomp.passes.lib.depthwise import depthwise_of
from qcomp.passes.lib.linear_weights import F64


def gates(graph: Graph) -> list[Unary]:
    """The ops x * g(x)."""
    return [op for op in graph.ops() if isinstance(op, Unary) and op.function in _GATE]


def open_gate(graph: Graph, op: Unary, s: F64) -> None:
    """Put x * g(s x) in the place of x * g(x), under the op's id."""
    gate = _GATE[op.function](graph, op, s)
    graph.replace_op(Mul(inputs=(op.x, gate), output=op.output))


def _of_scaled(
    graph: Graph, op: Unary, s: F64, function: Function, **parameters: float
) -> TensorId:
    """function(s * x)"""
    affine = ChannelAffine(op.x, s, np.zeros_like(s))
    scaled = graph.add_op(depthwise_of(graph, affine, graph.fresh_id(f"{op.id}.scaled")))
    return graph.add_op(
        Unary(
            inputs=(scaled,),
            output=graph.fresh_id(f"{op.id}.gate"),
            function=function,
            **parameters,
        )
    )


def _silu(graph: Graph, op: Unary, s: F64) -> TensorId:
    return _of_scaled(graph, op, op.alpha * s, Function.SIGMOID)


def _hard_swish(graph: Graph, op: Unary, s: F64) -> TensorId:
    return _of_scaled(graph, op, s, Function.HARD_SIGMOID, alpha=1 / 6, beta=0.5)


def _gelu(graph: Graph, op: Unary, s: F64) -> TensorId:
    """The distribution function of the normal distribution."""
    erf = _of_scaled(graph, op, s / np.sqrt(2.0), Function.ERF)
    return graph.add_op(
        Unary(
            inputs=(erf,),
            output=graph.fresh_id(f"{op.id}.share"),
            function=Function.AFFINE,
            alpha=0.5,
            beta=0.5,
        )
    )


_GATE: Mapping[Function, Callable[[Graph, Unary, F64], TensorId]] = {
    Function.SILU: _silu,
    Function.HARD_SWISH: _hard_swish,
    Function.GELU: _gelu,
}
