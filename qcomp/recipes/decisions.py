"""Results of layers that something is decided by have 16 bits, where nobody asked for 8.

A sign, a comparison or the place of the largest value turns a rounding error into a whole step, and
everything behind follows it. A tensor that only such ops read has its range cut to where they
decide, or is small; beside other readers, or where the largest of many is looked for, 8 bits are
too coarse and 16 cost little.

So have the tensors that steep functions are of (steep.py); squares among them have 32
(decades.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from qcomp.config import AUTO, NATIVE, QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Add, ArgMax, Compare, Function, Op, Sub, Unary, Weighted
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import SUM_BITS
from qcomp.recipes.decades import read_over_decades
from qcomp.recipes.steep import read_steeply


def with_fine_decisions(
    graph: Graph, config: QuantizationConfig, *, sums: bool = False
) -> QuantizationConfig:
    """The configuration with 16 or 32 bits for these tensors, under whatever it has for them.

    sums: whether there may be any of 32 bits.
    """
    if config.activation_bits == 8:
        return config
    if sums and config.arithmetic == NATIVE and not config.is_dynamic:
        decades = read_over_decades(graph)
        config = with_fields(config, decades.sums, {"activation_bits": SUM_BITS})
        config = with_16_bits(config, decades.sources)
    return with_16_bits(config, decided_by(graph)) if config.activation_bits == AUTO else config


def with_16_bits(
    config: QuantizationConfig, ids: Iterable[TensorId], fields: Mapping[str, Any] | None = None
) -> QuantizationConfig:
    """The configuration with 16 bits, and other fields, for tensors, under what it has for them."""
    return with_fields(config, ids, {"activation_bits": 16, **(fields or {})})


def with_fields(
    config: QuantizationConfig, ids: Iterable[TensorId], fields: Mapping[str, Any]
) -> QuantizationConfig:
    """The configuration with these fields for tensors, under what it has for them."""
    found: dict[str, dict[str, Any]] = {
        id: {**fields, **config.overrides.get(id, {})} for id in ids
    }
    return replace(config, overrides={**found, **config.overrides, **found})


def decided_by(graph: Graph) -> list[TensorId]:
    """Results of layers that decisions are made by, and that nothing reads but these and sums; and
    what steep functions are of.
    """
    found = [op.output for op in graph.ops() if isinstance(op, Weighted) and _is_decided(graph, op)]
    return list(dict.fromkeys([*found, *read_steeply(graph)]))


def _is_decided(graph: Graph, layer: Weighted) -> bool:
    readers = _readers(graph, layer.output)
    if readers is None:
        return False
    deciding = [op for op in readers if _decides(op)]
    others = [op for op in readers if op not in deciding]
    if not all(isinstance(op, Add | Sub) for op in others):
        return False
    return any(isinstance(op, ArgMax) for op in deciding) or bool(deciding and others)


def _decides(op: Op) -> bool:
    match op:
        case ArgMax() | Compare() | Unary(function=Function.SIGN):
            return True
        case _:
            return False


def _readers(graph: Graph, id: TensorId) -> list[Op] | None:
    """The readers of a tensor, by way of copies of it alone; None where it is an output."""
    if graph.is_output(id):
        return None
    found: list[Op] = []
    for op in graph.consumers(id):
        behind: list[Op] | None = [op]
        if op.copies_integers and len(graph.activations(op)) == 1:
            behind = _readers(graph, op.output)
        if behind is None:
            return None
        found += behind
    return found
