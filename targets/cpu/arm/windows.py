"""What an AArch64 processor has, asked on Windows: bytes that the kernel keeps for every program.

IsProcessorFeaturePresent(n) answers with byte n of ProcessorFeatures in KUSER_SHARED_DATA, a page
that Windows maps to the same address in every process and that programs may only read (ntddk.h).
The byte itself is read, so that nothing is imported. Programs can't read identification registers.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.features import BASELINE
from qcomp.targets.cpu.emit.builder import I8, PTR, Value, i64, load
from qcomp.targets.cpu.machine import Isa

SHARED_DATA = 0x7FFE_0000
PROCESSOR_FEATURES = 0x274  # 64 bytes in it; a Windows that does not know of one has 0 there
# PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE of winnt.h. That of i8mm is beyond the 64.
NUMBERS: Mapping[str, int] = {"dotprod": 43}


def emit_supports_on_windows(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether the processor has every feature of an instruction set."""
    able: Value = ir.Constant(ir.IntType(1), 1)
    for feature in isa.required:
        if feature not in BASELINE:
            place = SHARED_DATA + PROCESSOR_FEATURES + NUMBERS[feature]
            there = load(b, b.inttoptr(i64(place), PTR), I8)
            able = b.and_(able, b.icmp_unsigned("!=", there, ir.Constant(I8, 0)))
    return able
