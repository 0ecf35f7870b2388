"""A quantized graph for inputs of another length: the same scales and weights, other shapes.

    float graph at S -- quantize --> quantized graph at S
          |                                 |
       difference                        the same
          v                                 v
    float graph at L                 quantized graph at L

Two imports of one model at different lengths have the same ops under the same ids. What differs,
shapes of inputs, attributes of ops and constants such as a mask or rows of positions, is put into
the graph that was quantized at S. What the passes in between chose stays, so nothing is decided
twice. What can't be carried over so is a CompileError that names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from qcomp.errors import CompileError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op, Reshape
from qcomp.ir.tensor import Array, TensorId, TensorType
from qcomp.ir.text import format_op


def at_length(quantized: Graph, known: Graph, wanted: Graph) -> Graph:
    """`quantized`, which was made of `known`, in the shapes of `wanted`.

    known, wanted: float graphs of one model at two lengths, the former the larger one.
    """
    _expect_alike(known, wanted)
    graph = quantized.clone()
    for name, id in wanted.inputs.items():
        tensor = graph.tensor(graph.inputs[name])
        shape = wanted.type(id).shape
        graph.update_tensor(replace(tensor, type=replace(tensor.type, shape=shape)))
    for id, data in _changed_constants(quantized, known, wanted):
        tensor = graph.tensor(id)
        type = replace(tensor.type, shape=data.shape)
        graph.update_tensor(replace(tensor, type=type, data=data))
    for op in graph.ops():
        changed = _changed_fields(op, known, wanted)
        try:
            if isinstance(op, Reshape) and op.id not in known:
                changed = {"shape": followed(op.shape, quantized.type(op.x), graph.type(op.x))}
            graph.replace_op(replace(op, **changed))
        except ValueError as error:
            raise CompileError(
                f"{format_op(quantized, op)}\n  has no form at the other length: {error}"
            ) from error
    for name, id in wanted.outputs.items():
        shape, expected = graph.type(graph.outputs[name]).shape, wanted.type(id).shape
        if shape != expected:
            raise CompileError(
                f"output {name} would be {shape} at the other length, not {expected}"
            )
    return graph


def followed(result: Sequence[int], before: TensorType, after: TensorType) -> tuple[int, ...]:
    """The shape of a reshape of `after`, as that of `before`, which has other extents, is `result`.

    Axes fall into the smallest groups of operand and result that hold the same elements. ValueError
    where an extent that changed is split.
    """
    shape = list(result)
    for ours, theirs in _groups(before.shape, result):
        old, new = (math.prod(t.shape[i] for i in ours) for t in (before, after))
        if old == new:
            continue
        wide = [i for i in theirs if result[i] != 1] or list(theirs[-1:])
        if len(wide) != 1:
            raise ValueError(f"{before} is split to {list(result)}, and {after} is not")
        shape[wide[0]] = new
    return tuple(shape)


def _groups(
    given: Sequence[int], result: Sequence[int]
) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Axes of both shapes, which have the same number of elements."""
    i = j = 0
    while i < len(given) or j < len(result):
        first, second = (i, j)
        a = b = 1
        while i == first or j == second or a != b:
            if (a <= b and i < len(given)) or j == len(result):
                if i == len(given):
                    break
                a, i = a * given[i], i + 1
            else:
                b, j = b * result[j], j + 1
        yield range(first, i), range(second, j)


def _expect_alike(known: Graph, wanted: Graph) -> None:
    """CompileError for the first op that is not in both; for what floats outside do to ends."""
    ours, theirs = ({op.id: op for op in g.ops()} for g in (known, wanted))
    for op in (*ours.values(), *theirs.values()):
        a, b = ours.get(op.id), theirs.get(op.id)
        if a is None or b is None or type(a) is not type(b) or a.inputs != b.inputs:
            graph = known if a is not None else wanted
            raise CompileError(
                f"{format_op(graph, a or op)}\n  is another op, or none, at another length; "
                "expected a network of the same ops at each length"
            )
    if known.outputs != wanted.outputs or known.inputs != wanted.inputs:
        raise CompileError("inputs or outputs are other tensors at another length")
    if known.conversions != wanted.conversions or known.tails != wanted.tails:
        raise CompileError("what floats do to inputs or outputs is different at another length")


def _changed_fields(op: Op, known: Graph, wanted: Graph) -> Mapping[str, Any]:
    """Attributes that follow the length, as they are at the wanted one; none of passes' own ops."""
    if op.id not in known or known.producer(op.id) is None:
        return {}
    before, after = known.op(op.id), wanted.op(op.id)
    changed = {}
    for field in fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if old != new:
            if type(op) is not type(before) or getattr(op, field.name) != old:
                raise CompileError(
                    f"{format_op(known, before)}\n  its {field.name} is {new} at another length, "
                    f"and was rewritten from {old} before it was quantized"
                )
            changed[field.name] = new
    return changed


def _changed_constants(
    quantized: Graph, known: Graph, wanted: Graph
) -> Iterator[tuple[TensorId, Array]]:
    """Constants that follow the length; they must be as they were before quantization, and lie
    within what their scales were chosen for.
    """
    for tensor in quantized.tensors():
        id = tensor.id
        if tensor.data is None or id not in known or not known.is_constant(id):
            continue
        old, new = known.data(id), wanted.data(id)
        if _same(old, new):
            continue
        if not _same(tensor.data, old):
            raise CompileError(
                f"the constant %{id} follows the length, and was rewritten before it was quantized"
            )
        if new.size and np.abs(new).max() > np.abs(old).max():
            raise CompileError(
                f"the constant %{id} follows the length, and has up to {np.abs(new).max():g} at "
                f"{list(new.shape)}, more than {np.abs(old).max():g} at {list(old.shape)}, which "
                "its scale was chosen for"
            )
        yield id, new


def _same(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))
