"""What a processor has, asked without a fault whatever Linux it runs.

Programs read identification registers since Linux 4.11; before, that ends them. Phones and boards
keep the kernel that they were sold with, so its release is asked first, by uname.
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.features import BASELINE, emit_supports
from qcomp.targets.cpu.emit.builder import I8, I64, Value, at, load
from qcomp.targets.cpu.emit.machine_code import machine_code
from qcomp.targets.cpu.machine import Isa

_I1 = ir.IntType(1)
# struct utsname: six texts of 65 bytes, of which the third is the release, such as 4.14.117-perf.
_FIELD, _FIELDS, _RELEASE = 65, 6, 2
_UNAME = bytes.fromhex(
    "081480d2 010000d4"  # mov x8, #160; svc #0
    "c0035fd6"  # ret
)


def emit_supports_on_linux(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether the processor has every feature of an instruction set, as far as it tells."""
    if not set(isa.required) - set(BASELINE):
        return emit_supports(b, isa)
    before, told = b.block, _from_4_11(b)
    with b.if_then(told):
        answer = emit_supports(b, isa)
        asked = b.block
    result = b.phi(_I1)
    result.add_incoming(ir.Constant(_I1, 0), before)
    result.add_incoming(answer, asked)
    return result


def _from_4_11(b: ir.IRBuilder) -> Value:
    """i1: whether the kernel's release is 4.11 or later, by its first four characters."""
    with b.goto_entry_block():
        names = b.alloca(ir.ArrayType(I8, _FIELDS * _FIELD))
    machine_code(b, "uname", _UNAME, I64, (names,))
    text = [load(b, at(b, names, _RELEASE * _FIELD + n), I8) for n in range(4)]

    def compare(relation: str, n: int, character: str) -> Value:
        return b.icmp_unsigned(relation, text[n], ir.Constant(I8, ord(character)))

    later = b.or_(compare("!=", 1, "."), compare(">", 0, "4"))
    digit = b.and_(compare(">=", 3, "0"), compare("<=", 3, "9"))  # the minor version has two
    eleven = b.or_(compare(">", 2, "1"), b.and_(compare("==", 2, "1"), compare(">=", 3, "1")))
    return b.or_(later, b.and_(compare("==", 0, "4"), b.and_(digit, eleven)))
