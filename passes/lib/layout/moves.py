"""Local rewrites of ops that only move values. Each keeps the function exactly.

    Transpose, Reshape     that change nothing, or only axes of extent 1
    Reshape of Reshape     one Reshape
    Transpose of Transpose one Transpose
    chain of both          one Reshape, where the blocks of its view keep their order;
                           Gather along one axis, where they move inside one axis (channel shuffle);
                           Reshape, Transpose, Reshape, where it has several transposes
    the same move twice    one, shared

They terminate: each removes a transpose (or makes it a Gather or Reshape) or an op, or shortens
the chain above an op, and none adds a transpose to a chain that had fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Gather, Op, Reshape, Transpose
from qcomp.ir.tensor import TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.layout.edit import erase_unused, redirect, reshaped
from qcomp.passes.lib.layout.permutation import after, identity, keeps_order, permuted
from qcomp.passes.lib.layout.select import SELECTION_REWRITES
from qcomp.passes.lib.layout.view import View

# What replaces an op: an op with the same id, the tensor that it equals, or nothing.
Replacement = Op | TensorId | None
Rewrite = Callable[[Graph, Op], Replacement]


def simplify_moves(graph: Graph, log: PassLog) -> None:
    """Apply the rewrites until none applies; shuffles first, since merging would hide them."""
    _apply_all(graph, log, (shuffle_to_gather,))
    _apply_all(graph, log, SIMPLIFICATIONS)


def finish_moves(graph: Graph, log: PassLog) -> bool:
    """Also replace transposes of unit axes, which until now could still meet and cancel."""
    return _apply_all(graph, log, (transpose_of_unit_axes_to_reshape, *SIMPLIFICATIONS))


def _apply_all(graph: Graph, log: PassLog, rewrites: tuple[Rewrite, ...]) -> bool:
    """Apply each rewrite wherever it applies, until none does; whether any did."""
    began = len(log.events)
    changed = True
    while changed:
        changed = False
        for op in graph.ops():
            for rewrite in rewrites:
                # An earlier rewrite of this round may have replaced or erased the op.
                if op.output in graph and _apply(graph, graph.op(op.output), rewrite, log):
                    changed = True
    return len(log.events) > began


def _apply(graph: Graph, op: Op, rewrite: Rewrite, log: PassLog) -> bool:
    replacement = rewrite(graph, op)
    name = rewrite.__name__.replace("_", " ")
    if isinstance(replacement, Op):
        graph.replace_op(replacement)
        erase_unused(graph, op.inputs)
        log.did(f"{op.id}: {name}", op=op.id)
        return True
    if replacement is not None and redirect(graph, op.output, replacement):
        log.did(f"{op.id}: {name}", op=op.id)
        return True
    return False


def _is_move(op: Op | None) -> bool:
    return isinstance(op, Reshape | Transpose)


def drop_move_without_effect(graph: Graph, op: Op) -> Replacement:
    if isinstance(op, Transpose) and op.permutation == identity(len(op.permutation)):
        return op.x
    if isinstance(op, Reshape) and op.shape == graph.type(op.x).shape:
        return op.x
    return None


def transpose_of_unit_axes_to_reshape(graph: Graph, op: Op) -> Replacement:
    if not isinstance(op, Transpose) or op.permutation == identity(len(op.permutation)):
        return None
    if not keeps_order(graph.type(op.x).shape, op.permutation):
        return None
    return Reshape(inputs=op.inputs, output=op.output, shape=graph.type(op.output).shape)


def merge_reshapes(graph: Graph, op: Op) -> Replacement:
    inner = graph.producer(op.inputs[0])
    if isinstance(op, Reshape) and isinstance(inner, Reshape):
        return replace(op, inputs=inner.inputs)
    return None


def merge_transposes(graph: Graph, op: Op) -> Replacement:
    inner = graph.producer(op.inputs[0])
    if isinstance(op, Transpose) and isinstance(inner, Transpose):
        permutation = after(inner.permutation, op.permutation)
        return replace(op, inputs=inner.inputs, permutation=permutation)
    return None


def share_equal_moves(graph: Graph, op: Op) -> Replacement:
    if not _is_move(op):
        return None
    for other in graph.consumers(op.inputs[0]):
        if other.output == op.output:
            return None
        if replace(other, output=op.output) == op:
            return other.output
    return None


def _chain(graph: Graph, op: Op) -> list[Op]:
    """The op and the moves straight above it, from the top."""
    chain = [op]
    while (above := graph.producer(chain[0].inputs[0])) is not None and _is_move(above):
        chain.insert(0, above)
    return chain


def _view(graph: Graph, chain: list[Op]) -> View | None:
    view: View | None = View.of(graph.type(chain[0].inputs[0]).shape)
    for op in chain:
        view = view.then(op) if view is not None else None
    return view


def shuffle_to_gather(graph: Graph, op: Op) -> Replacement:
    if not isinstance(op, Reshape):
        return None
    chain = _chain(graph, op)
    for start in reversed(range(len(chain) - 1)):
        view = _view(graph, chain[start:])
        if view is not None and (shuffle := view.shuffle()) is not None:
            axis, indices = shuffle
            constant = graph.add_constant(f"{op.id}.indices", indices)
            return Gather(inputs=(chain[start].inputs[0], constant), output=op.output, axis=axis)
    return None


def chain_to_reshape(graph: Graph, op: Op) -> Replacement:
    """The longest part of the chain that keeps its blocks in order."""
    if not _is_move(op):
        return None
    chain = _chain(graph, op)
    for start in range(len(chain) - 1):
        part = chain[start:]
        view = _view(graph, part)
        if any(isinstance(o, Transpose) for o in part) and view is not None and view.is_reshape:
            return Reshape(inputs=part[0].inputs, output=op.output, shape=view.shape)
    return None


def merge_transposes_across_reshapes(graph: Graph, op: Op) -> Replacement:
    if not isinstance(op, Transpose):
        return None
    chain = _chain(graph, op)
    for start in range(len(chain) - 1):
        part = chain[start:]
        view = _view(graph, part)
        if view is None or sum(isinstance(o, Transpose) for o in part) < 2:
            continue
        extents, permutation = view.blocks()
        source = reshaped(graph, part[0].inputs[0], extents, f"{op.id}.blocks")
        shape = permuted(extents, permutation)
        output = op.output if shape == view.shape else graph.fresh_id(f"{op.id}.moved")
        transpose = Transpose(inputs=(source,), output=output, permutation=permutation)
        if shape == view.shape:
            return transpose
        return Reshape(inputs=(graph.add_op(transpose),), output=op.output, shape=view.shape)
    return None


SIMPLIFICATIONS: tuple[Rewrite, ...] = (
    drop_move_without_effect,
    merge_reshapes,
    merge_transposes,
    share_equal_moves,
    chain_to_reshape,
    merge_transposes_across_reshapes,
    *SELECTION_REWRITES,
)
