"""Evaluate ops whose operands are constant, and drop ops that do nothing.

    op(constants)                  its value, by qcomp.ir.evaluate
    movement without effect        its operand (also x + 0, x * 1, clamp without bounds, x ** 1)
    reshape of reshape             one reshape; two transposes: one
    x op c, c one number           Unary AFFINE, or a clamp for min and max (simplify/affine.py)

An output of the graph stays the result of an op: where it would become an input, a constant or the
tensor of another output, the op stays. Every rewrite removes an op, or replaces one by another that
no rewrite makes again, so the pass ends.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcomp.ir.evaluate import apply
from qcomp.ir.form import Form
from qcomp.ir.given import is_integer_pair
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.passes.events import PassLog
from qcomp.passes.lib.layout.edit import erase_unused, redirect
from qcomp.passes.lib.layout.moves import merge_reshapes, merge_transposes
from qcomp.passes.lib.simplify.affine import merge_affine, number_to_affine
from qcomp.passes.lib.simplify.no_effect import (
    Declined,
    Outcome,
    drop_neutral_operand,
    drop_without_effect,
    reduce_of_unit_axes,
    simplify_power,
)


def fold_value(graph: Graph, op: Op) -> Outcome:
    """The constant that an op of constants computes."""
    if graph.activations(op):
        return None
    if graph.is_output(op.output):
        return Declined("is an output, which must be the result of an op")
    with np.errstate(all="ignore"):
        value = apply(graph, op, {})
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return Declined("its value has NaN or infinity")
    return graph.add_constant(f"{op.id}.value", value, graph.tensor(op.output).origin)


REWRITES = (
    fold_value,
    drop_without_effect,
    drop_neutral_operand,
    reduce_of_unit_axes,
    merge_reshapes,
    merge_transposes,
    simplify_power,
    number_to_affine,
    merge_affine,
)


@dataclass(frozen=True)
class FoldConstants:
    """Leave no op that a constant, a simpler op or its operand can stand for.

    A sum or product of an activation that has a scale of its own and a constant of `integers`, by
    the model's names, stays as it is.
    """

    name: ClassVar[str] = "fold-constants"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    integers: Collection[str] = ()

    def run(self, graph: Graph, log: PassLog) -> None:
        declined: dict[str, str] = {}
        while _sweep(graph, self.integers, log, declined):
            pass
        for id, reason in declined.items():
            if id in graph:
                log.skipped(id, reason)


def _sweep(graph: Graph, integers: Collection[str], log: PassLog, declined: dict[str, str]) -> bool:
    """Apply every rewrite to every op once, operands first; whether one applied."""
    changed = False
    for op in graph.ops():
        if is_integer_pair(graph, op, integers):
            continue
        for rewrite in REWRITES:
            if op.output in graph and graph.producer(op.output) is not None:
                current = graph.op(op.output)
                outcome = rewrite(graph, current)
                if _apply(graph, current, outcome, declined):
                    log.did(f"{op.id}: {rewrite.__name__.replace('_', ' ')}", op=op.id)
                    changed = True
    return changed


def _apply(graph: Graph, op: Op, outcome: Outcome, declined: dict[str, str]) -> bool:
    if isinstance(outcome, Declined):
        declined[op.id] = outcome.reason
    elif isinstance(outcome, Op):
        graph.replace_op(outcome)
        erase_unused(graph, op.inputs)
        return True
    elif outcome is not None:
        if redirect(graph, op.output, outcome):
            return True
        declined[op.id] = f"equals %{outcome}, but is an output, which must have an op of its own"
    return False
