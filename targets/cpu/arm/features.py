"""What an AArch64 processor has, asked by generated code: the identification registers.

Arm Architecture Reference Manual, D19.2. Programs may read them: Linux answers for the kernel's
level (since 4.11), and tells only of what it lets programs use. No libc is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I64, Value, i64
from qcomp.targets.cpu.emit.machine_code import machine_code
from qcomp.targets.cpu.machine import Isa

BASELINE = ("neon",)  # what every AArch64 processor has


@dataclass(frozen=True)
class Field:
    """Four bits of an identification register: a feature is there from the value `least` on."""

    register: str
    shift: int
    least: int


FIELDS: Mapping[str, Field] = {
    "dotprod": Field("ID_AA64ISAR0_EL1", 44, 1),
    "i8mm": Field("ID_AA64ISAR1_EL1", 52, 1),
}

_READ = {
    "ID_AA64ISAR0_EL1": bytes.fromhex(
        "000638d5"  # mrs x0, ID_AA64ISAR0_EL1
        "c0035fd6"  # ret
    ),
    "ID_AA64ISAR1_EL1": bytes.fromhex(
        "200638d5"  # mrs x0, ID_AA64ISAR1_EL1
        "c0035fd6"  # ret
    ),
}


def emit_supports(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether the processor has every feature of an instruction set."""
    able: Value = ir.Constant(ir.IntType(1), 1)
    for feature in isa.required:
        if feature not in BASELINE:
            able = b.and_(able, _has(b, FIELDS[feature]))
    return able


def _has(b: ir.IRBuilder, field: Field) -> Value:
    name = field.register
    value = machine_code(b, f"read_{name.lower()}", _READ[name], I64, ())
    found = b.and_(b.lshr(value, i64(field.shift)), i64(0xF))
    return b.icmp_unsigned(">=", found, i64(field.least))
