"""Whether inputs hold indices of rows that their tables have: before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value, at, load, multiple, repeat
from qcomp.targets.cpu.library.frame import Frame
from qcomp.targets.cpu.program import Address, IndexCheck


def emit_check(b: ir.IRBuilder, frame: Frame, check: IndexCheck) -> Value:
    """An i1: whether an integer of the input lies outside."""
    type = ir.IntType(8 * check.element_bytes)
    integers = frame.inputs[check.index]

    def read(pointer: Value, i: Value | int) -> Value:
        return b.sext(load(b, at(b, pointer, multiple(b, i, check.element_bytes)), type), I32)

    def bound(given: int | Address, i: Value | int) -> Value:
        if isinstance(given, int):
            return ir.Constant(I32, given)
        return read(frame.pointer(b, given), i)

    def step(i: Value | int, wrong: Sequence[Value]) -> Sequence[Value]:
        x = read(integers, i)
        below = b.icmp_signed("<", x, bound(check.low, i))
        above = b.icmp_signed(">", x, bound(check.high, i))
        return (b.or_(wrong[0], b.or_(below, above)),)

    none = ir.Constant(ir.IntType(1), 0)
    (wrong,) = repeat(b, check.count, (none,), step, "index")
    return wrong
