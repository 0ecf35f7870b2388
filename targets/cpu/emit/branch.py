"""Values that come from one of two places of the code."""

from __future__ import annotations

from collections.abc import Callable

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Carried, Value


def either(
    b: ir.IRBuilder, condition: Value, yes: Callable[[], Carried], no: Callable[[], Carried]
) -> Carried:
    """The values of yes() where an i1 is true, else those of no(), which runs instead."""
    with b.if_else(condition) as (where_true, where_false):
        with where_true:
            first, end_of_first = yes(), b.block
        with where_false:
            second, end_of_second = no(), b.block
    phis = [b.phi(value.type) for value in first]
    for phi, one, other in zip(phis, first, second, strict=True):
        phi.add_incoming(one, end_of_first)
        phi.add_incoming(other, end_of_second)
    return phis
