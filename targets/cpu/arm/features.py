"""Which features an AArch64 processor has, asked by generated code.

Linux lets programs read the identification registers (since 4.11). LLVM's intrinsic for a register
by its name needs no inline assembly, which it could take on AArch64 only.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I64, Value, i64
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True)
class Field:
    """Four bits of a register from `bit`; 0 where the processor lacks the feature."""

    register: str
    bit: int


# LLVM's names. Arm ARM, D17.2.61, ID_AA64ISAR0_EL1.
FIELDS = {"dotprod": Field("ID_AA64ISAR0_EL1", 44)}
_BASELINE = {"neon"}


def emit_supports(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether the processor that runs this code has every feature of an instruction set."""
    able: Value = ir.Constant(ir.IntType(1), 1)
    for feature in isa.required:
        if feature not in _BASELINE:
            able = b.and_(able, _has(b, FIELDS[feature]))
    return able


def _has(b: ir.IRBuilder, field: Field) -> Value:
    bits = b.and_(b.lshr(_register(b, field.register), i64(field.bit)), i64(0b1111))
    return b.icmp_unsigned("!=", bits, i64(0))


def _register(b: ir.IRBuilder, register: str) -> Value:
    name = "llvm.read_register.i64"
    type = ir.FunctionType(I64, [ir.MetaDataType()])
    function = b.module.globals.get(name) or ir.Function(b.module, type, name)
    return b.call(function, [b.module.add_metadata([register])])
