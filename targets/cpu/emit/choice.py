"""Bodies of loops that compare and choose, of elements of 8 and 16 bits.

Meanings: qcomp.ir.evaluate.choice.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import QCompare, QSelect, Relation
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I16, Value, splat, vector

_PREDICATES: Mapping[Relation, str] = {
    Relation.EQUAL: "==",
    Relation.LESS: "<",
    Relation.LESS_OR_EQUAL: "<=",
}


def compare(b: ir.IRBuilder, op: QCompare, a: Value, c: Value) -> Value:
    """In the type of both operands, or in 16 bits."""
    lanes, result = a.type.count, ir.IntType(op.bits)
    if a.type != c.type:
        a, c = (_widened(b, x) for x in (a, c))
    holds = b.icmp_signed(_PREDICATES[op.relation], a, c)
    return b.select(holds, splat(result, lanes, op.one), splat(result, lanes, op.zero))


def _widened(b: ir.IRBuilder, x: Value) -> Value:
    wide = vector(I16, x.type.count)
    return x if x.type == wide else b.sext(x, wide)


def select(b: ir.IRBuilder, op: QSelect, condition: Value, a: Value, c: Value) -> Value:
    zero = splat(condition.type.element, condition.type.count, op.condition_zero_point)
    return b.select(b.icmp_signed("!=", condition, zero), a, c)
