"""Rows of a constant table by computed indices: Gather, and OneHot, whose table is made."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import TensorProto

from qcomp.frontends.onnx.context import Node
from qcomp.frontends.onnx.rules.cast import INTEGERS
from qcomp.frontends.onnx.rules.reduction import normalized
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Embedding, Transpose
from qcomp.ir.tensor import TensorId
from qcomp.quant.qparams import QParams, integer_range

_BYTE = QParams(1.0, 0)
_WORD = QParams(1.0, 0, *integer_range(16))
_BYTES = (TensorProto.UINT8, TensorProto.INT8)
_MOST_ROWS = _WORD.qmax


def embedding(node: Node) -> None:
    """Indices from -rows to -1 count from the end. They are whole numbers of so many bits that
    what is no index has a number that is none.
    """
    data = node.floats(0, "the table")
    axis = normalized(node, node.integer("axis", 0), data.ndim)
    rows = data.shape[axis]
    node.require(rows <= _MOST_ROWS, f"a table of {rows} rows", f"up to {_MOST_ROWS}")
    ids = node.x(1)
    ids = node.context.whole_of.get(ids, ids)
    give_integers(node, ids, _BYTE if rows <= _BYTE.qmax else _WORD)
    table = node.weight(0, np.moveaxis(data, axis, 0), f"rows of axis {axis}")
    y = Embedding(inputs=(ids, table), output=node.part("rows") if axis else node.out(), wraps=True)
    node.add(y)
    if axis:
        rank = node.graph.type(ids).rank
        behind = tuple(range(rank + axis, rank + data.ndim - 1))
        order = (*range(rank, rank + axis), *range(rank), *behind)
        node.add(Transpose(inputs=(y.output,), output=node.out(), permutation=order))


def one_hot(node: Node) -> None:
    """A row for each index from -depth on; one that is no index has a row of nothing."""
    given = node.scalar(1, "the depth")
    node.require(math.isfinite(given), f"depth {given}")
    depth = int(given)
    values = node.constant(2, "the values").astype(np.float32).reshape(-1)
    node.require(depth > 0 and 2 * depth + 2 <= _MOST_ROWS, f"depth {depth}")
    node.require(values.size == 2, f"{values.size} values", "that of the others and of the one")
    off, on = values
    table = np.full((2 * depth + 2, depth), off, np.float32)
    indices = np.arange(-depth, depth)
    table[1 + depth + indices, indices] = on
    ids = node.x(0)
    ids = node.context.whole_of.get(ids, ids)
    give_integers(node, ids, _BYTE if depth < _BYTE.qmax else _WORD)
    rank = node.graph.type(ids).rank
    axis = node.integer("axis", -1)
    node.require(-rank - 1 <= axis <= rank, f"axis {axis} for rank {rank + 1}")
    axis %= rank + 1
    y = Embedding(
        inputs=(ids, node.new_constant("rows", table)),
        output=node.out() if axis == rank else node.part("last"),
        first=-depth - 1,
    )
    node.add(y)
    if axis < rank:
        order = (*range(axis), rank, *range(axis, rank))
        node.add(Transpose(inputs=(y.output,), output=node.out(), permutation=order))


def give_integers(node: Node, ids: TensorId, needed: QParams) -> None:
    """Indices keep the wider of what they have and need; what they are computed from may be beyond
    the table, and has 16 bits. What is moved has the integers that it is moved from. Inputs of
    bytes stay as they are.
    """
    graph, kinds = node.graph, _integers(node)
    pending, seen = [(ids, needed)], {ids}
    while pending:
        id, wanted = pending.pop()
        members = _moved_together(graph, id)
        seen |= members
        known = {t: q for t in members if (q := graph.tensor(t).qparams) is not None}
        bytes_ = [q for t, q in known.items() if kinds.get(t) in _BYTES]
        widest = max((*known.values(), wanted), key=lambda q: q.bits)
        for t in members:
            graph.update_tensor(replace(graph.tensor(t), qparams=bytes_[0] if bytes_ else widest))
        computing = (graph.producer(t) for t in members)
        sources = [t for op in computing if op is not None for t in op.inputs]
        found = [t for t in sources if t in kinds and t not in seen]
        pending += [(t, _WORD) for t in found]
        seen |= set(found)


def _moved_together(graph: Graph, id: TensorId) -> set[TensorId]:
    """What ops that copy integers connect a tensor with, so far."""
    members, pending = {id}, [id]
    while pending:
        at = pending.pop()
        around = (graph.producer(at), *graph.consumers(at))
        copying = [op for op in around if op is not None and op.copies_integers]
        met = {t for op in copying for t in (*graph.activations(op), op.output)} - members
        members |= met
        pending += met
    return members


def _integers(node: Node) -> dict[TensorId, int]:
    """The element types of the values of so far that are integers: bytes under whatever name."""
    context = node.context
    found: dict[TensorId, int] = {}
    for name, kind in context.element_types.items():
        if kind in INTEGERS and name in context.values:
            id = context.values[name]
            found[id] = found[id] if found.get(id) in _BYTES else kind
    return found
