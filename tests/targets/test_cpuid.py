"""What generated code finds out about the processor is what LLVM and the kernel say."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Any

import pytest
from llvmlite import binding as llvm

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, i64
from qcomp.targets.cpu.emit.machine_code import machine_code
from qcomp.targets.cpu.isa import (
    FAMILIES,
    X86_64,
)
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.x86.cpuid import (
    CPUID,
    SYSCALL,
    emit_amx_permitted,
    emit_has,
    emit_supports,
    state_bits,
)

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="asks an x86 processor"
)


def answer(question: Callable[[ir.IRBuilder], Any]) -> int:
    """What a question answers here."""
    module = ir.Module("cpuid", X86_64.platform)
    function = ir.Function(module, ir.FunctionType(I32, []), "ask")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    value = question(b)
    b.ret(b.zext(value, I32) if value.type.width < 32 else b.trunc(value, I32))
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    lljit = llvm.create_lljit_compiler()
    library = llvm.JITLibraryBuilder().add_ir(str(module)).export_symbol("ask").link(lljit, "ask")
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(library["ask"])()
    return result


@pytest.mark.parametrize("feature", CPUID)
def test_a_feature_is_there_if_llvm_says_so(feature: str) -> None:
    assert answer(lambda b: emit_has(b, [feature])) == llvm.get_host_cpu_features()[feature]


@pytest.mark.parametrize("isa", FAMILIES["x86_64"], ids=lambda isa: isa.name)
def test_an_instruction_set_is_supported_if_its_features_are(isa: Isa) -> None:
    assert answer(lambda b: emit_supports(b, isa)) == (isa in this_host().runs())


def test_every_feature_of_the_family_is_known() -> None:
    assert {f for isa in FAMILIES["x86_64"] for f in isa.required} == CPUID.keys()


def test_tiles_are_permitted_if_the_processor_has_them_and_the_kernel_agrees() -> None:
    has_tiles = llvm.get_host_cpu_features()["amx-tile"]
    assert answer(emit_amx_permitted) == (has_tiles and this_host().tiles_permitted())


def test_system_calls_reach_the_kernel() -> None:
    getpid = [i64(n) for n in (39, 0, 0)]
    assert answer(lambda b: machine_code(b, "syscall", SYSCALL, I64, getpid)) == os.getpid()


def test_the_states_that_the_kernel_must_save() -> None:
    assert state_bits("sse4.2") == 0
    assert state_bits("avx2") == state_bits("avxvnni") == 0x6
    assert state_bits("avx512vnni") == 0xE6
    assert state_bits("amx-int8") == 0x60000
