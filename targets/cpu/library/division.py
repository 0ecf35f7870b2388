"""Unsigned quotients where processors may have no instruction for them: 32-bit ARM.

LLVM calls the functions that ARM's run-time ABI names (IHI 0043, Integer arithmetic functions). A
library has its own, which only it sees, so that nothing in it is undefined. They are small: a bit
of the quotient at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, repeat

_I1 = ir.IntType(1)
# ARM's function of 64 bits has the remainder too, which nobody asks for: kernels want quotients.
_NAMES = {"__aeabi_uidiv": I32, "__aeabi_uldivmod": I64}


def add_division(module: ir.Module) -> None:
    """For 32-bit ARM only."""
    if module.triple.startswith("armv7-"):
        for name, type in _NAMES.items():
            add_quotient(module, name, type)


def add_quotient(module: ir.Module, name: str, type: ir.IntType) -> ir.Function:
    """name(n, d) -> n / d by shifts and subtractions; d is not 0."""
    function = ir.Function(module, ir.FunctionType(type, [type, type]), name)
    function.linkage = "internal"
    function.attributes.add("noinline nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    n, d = function.args
    one, top = ir.Constant(type, 1), ir.Constant(type, type.width - 1)

    def bit(_: object, carried: Sequence[ir.Value]) -> Sequence[ir.Value]:
        quotient, rest = carried
        carry = b.trunc(b.lshr(rest, top), _I1)
        rest = b.or_(b.shl(rest, one), b.lshr(quotient, top))
        fits = b.or_(carry, b.icmp_unsigned(">=", rest, d))
        shifted = b.shl(quotient, one)
        return (
            b.select(fits, b.or_(shifted, one), shifted),
            b.select(fits, b.sub(rest, d), rest),
        )

    quotient, _ = repeat(b, type.width, (n, ir.Constant(type, 0)), bit)
    b.ret(quotient)
    return function
