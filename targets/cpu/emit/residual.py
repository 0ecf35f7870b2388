"""A residual addition within a narrow epilogue: its constants, as kernels load them.

Meaning: qcomp.ir.evaluate.integer_elementwise (QAdd). The sum fits 16 bits by the op's contract;
mulhrs by 2^(15 - f) is the rounding shift by f >= 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I16,
    Value,
    at,
    broadcast,
    larger,
    load,
    smaller,
    splat,
)

MulHrs = Callable[[ir.IRBuilder, Value, Value], Value]  # quant.fixed_point.mulhrs, i16 lanes


@dataclass(frozen=True, eq=False)
class AddConstants:
    """The constants of an addition in every lane of i16."""

    low: Value
    high: Value
    multiplier: Value
    other_multiplier: Value
    other_zero_point: Value
    rounding: Value

    @staticmethod
    def loaded(b: ir.IRBuilder, pointer: Value, lanes: int) -> AddConstants:
        slots = (at(b, pointer, 4 * i) for i in range(len(fields(AddConstants))))
        return AddConstants(*(broadcast(b, load(b, slot, I16, 2), lanes) for slot in slots))


def add_residual(
    b: ir.IRBuilder, scaled: Value, other: Value, constants: AddConstants, mulhrs: MulHrs
) -> Value:
    """The sum without its zero point, in i16 lanes; `other` are stored bytes, widened."""
    c = constants
    own = smaller(b, larger(b, scaled, c.low), c.high)
    seven = splat(I16, scaled.type.count, 7)
    own = mulhrs(b, b.shl(own, seven), c.multiplier)
    centred = b.sub(other, c.other_zero_point)
    term = mulhrs(b, b.shl(centred, seven), c.other_multiplier)
    return mulhrs(b, b.add(own, term), c.rounding)
