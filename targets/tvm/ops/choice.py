"""Comparisons and choices as expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.ir.ops import QCompare, QSelect, Relation
from qcomp.targets.tvm.api.expressions import Expr, const, select
from qcomp.targets.tvm.api.tensors import Tensor
from qcomp.targets.tvm.arithmetic import i32
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.ops.elementwise import elementwise
from qcomp.targets.tvm.requantize import DTYPES

RELATIONS: Mapping[Relation, Callable[[Expr, Expr], Expr]] = {
    Relation.EQUAL: lambda a, b: a == b,
    Relation.LESS: lambda a, b: a < b,
    Relation.LESS_OR_EQUAL: lambda a, b: a <= b,
}


def q_compare(b: Builder, op: QCompare) -> Tensor:
    relation, dtype = RELATIONS[op.relation], DTYPES[op.bits]

    def element(x: Expr, y: Expr) -> Expr:
        return select(relation(i32(x), i32(y)), i32(op.one), i32(op.zero)).astype(dtype)

    return elementwise(b, (op.a, op.b), b.type(op.output).shape, element)


def q_select(b: Builder, op: QSelect) -> Tensor:
    def element(condition: Expr, x: Expr, y: Expr) -> Expr:
        dtype = str(b.type(op.output).dtype.numpy)
        holds = i32(condition) != const(op.condition_zero_point, "int32")
        return select(holds, i32(x), i32(y)).astype(dtype)

    shape = b.type(op.output).shape
    return elementwise(b, (op.condition, op.a, op.b), shape, element)


FUNCTIONS: Functions = {QCompare: q_compare, QSelect: q_select}
