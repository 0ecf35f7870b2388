"""Rows of a table of integers, and their scale behind them, as rows of a table of floats.

So quantizers store embeddings: Gather of bytes, then DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.expansion import Expansion, Nodes, Source
from qcomp.frontends.onnx.places import gather
from qcomp.ir.ops import Movement


def _gather(s: Source) -> Nodes:
    """Rows of bytes as whole numbers, which nothing reads where a DequantizeLinear is behind."""
    table, ids = s.context.constants.get(s.input(0)), s.input(1)
    if table is None or table.dtype not in (np.int8, np.uint8) or ids in s.context.constants:
        return gather(s)
    s.context.looked_up[s.output] = s.proto
    return [s.node("Gather", [s.given("whole", table.astype(np.float32)), ids], s.output)]


def _dequantize(s: Source) -> Nodes:
    gather = s.context.looked_up.get(s.input(0))
    if gather is None and not _has_rows(s):
        return [s.proto]
    scale, zero = s.constant(1, "the scale"), s.zero(2)
    if scale.size != 1 or zero.size != 1:
        raise Refused(f"{scale.size} scales behind rows of a table", "one")
    if gather is not None:
        rows = Source(s.context, gather)
        table = s.floats("table", rows.constant(0, "the table"), scale, zero, 0)
        return [rows.node("Gather", [table, rows.input(1)], s.output)]
    centered = s.name("centered")
    names = [
        s.given(role, number.astype(np.float32).reshape(()))
        for role, number in (("zero", zero), ("scale", scale))
    ]
    return [
        make_node("Sub", [s.input(0), names[0]], [centered]),
        make_node("Mul", [centered, names[1]], [s.output]),
    ]


def _has_rows(s: Source) -> bool:
    """Whether its operand is rows of integers that were moved."""
    context = s.context
    rows = {context.values[name] for name in context.looked_up if name in context.values}
    moved = context.values.get(s.input(0))
    while moved is not None and moved not in rows:
        op = context.graph.producer(moved)
        moved = op.inputs[0] if isinstance(op, Movement) else None
    return moved is not None


TABLES: Mapping[tuple[str, str], Expansion] = {
    ("", "Gather"): _gather,
    ("", "DequantizeLinear"): _dequantize,
}
