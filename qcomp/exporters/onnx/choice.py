"""ONNX forms of comparisons and choices. They keep the layout of their operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from qcomp.exporters.onnx.writer import Writer
from qcomp.ir.ops import Compare, Op, Relation, Select

_RELATIONS: Mapping[Relation, str] = {
    Relation.EQUAL: "Equal",
    Relation.LESS: "Less",
    Relation.LESS_OR_EQUAL: "LessOrEqual",
}


def compare(w: Writer, op: Compare) -> None:
    layout = w.common_layout(op.inputs)
    holds = w.emit(_RELATIONS[op.relation], [w.read(t, layout) for t in op.inputs])
    w.define(op.id, layout, w.emit("Cast", [holds], to=onnx.TensorProto.FLOAT))


def select(w: Writer, op: Select) -> None:
    layout = w.common_layout(op.inputs)
    condition, a, b = (w.read(t, layout) for t in op.inputs)
    holds = w.emit("Cast", [condition], to=onnx.TensorProto.BOOL)
    w.define(op.id, layout, w.emit("Where", [holds, a, b]))


RULES: Mapping[type[Op], Callable[..., None]] = {
    Compare: compare,
    Select: select,
}
