"""What generated code finds out about the processor is what LLVM and the kernel say."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Any

import pytest
from llvmlite import binding as llvm
from llvmlite import ir

from qcomp.targets.cpu.emit.builder import I32, I64, i64
from qcomp.targets.cpu.isa import (
    AMX_INT8,
    AVX2,
    AVX512_VNNI,
    SSE41,
    X86_64,
    X86_LADDER,
    host_supports,
    most_able,
)
from qcomp.targets.cpu.machine import Fusion, Isa
from qcomp.targets.cpu.x86.cpuid import (
    CPUID,
    SYSCALL,
    emit_amx_permitted,
    emit_has,
    emit_supports,
    machine_code,
    state_bits,
)
from qcomp.targets.cpu.x86.permission import amx_permitted

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="asks an x86 processor"
)


def answer(question: Callable[[ir.IRBuilder], Any]) -> int:
    """What a question answers here."""
    module = ir.Module("cpuid")
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


@pytest.mark.parametrize("isa", [X86_64, *X86_LADDER], ids=lambda isa: isa.name)
def test_an_instruction_set_is_supported_if_its_features_are(isa: Isa) -> None:
    expected = host_supports(isa)
    if isa is AMX_INT8:
        expected = expected and amx_permitted()
    assert answer(lambda b: emit_supports(b, isa)) == expected


def test_every_feature_of_the_ladder_is_known() -> None:
    assert {f[1:] for isa in X86_LADDER for f in isa.features.split(",")} == CPUID.keys()


def test_tiles_are_permitted_if_the_processor_has_them_and_the_kernel_agrees() -> None:
    has_tiles = llvm.get_host_cpu_features()["amx-tile"]
    assert answer(emit_amx_permitted) == (has_tiles and amx_permitted())


def test_system_calls_reach_the_kernel() -> None:
    getpid = [i64(n) for n in (39, 0, 0)]
    assert answer(lambda b: machine_code(b, "syscall", SYSCALL, I64, getpid)) == os.getpid()


def test_the_states_that_the_kernel_must_save() -> None:
    assert state_bits("sse4.2") == 0
    assert state_bits("avx2") == state_bits("avxvnni") == 0x6
    assert state_bits("avx512vnni") == 0xE6
    assert state_bits("amx-int8") == 0x60000


def everything() -> dict[str, bool]:
    return dict.fromkeys(CPUID, True)


def test_native_is_amx_only_where_the_kernel_permits_it() -> None:
    assert most_able(everything(), lambda: True) is AMX_INT8
    refused = most_able(everything(), lambda: False)
    assert refused.name == AVX512_VNNI.name
    assert Fusion.LOOKUP in refused.machine.fusions  # by permutes of VBMI


def test_the_kernel_is_not_asked_for_tiles_that_the_processor_lacks() -> None:
    def asked() -> bool:
        raise AssertionError

    assert most_able(everything() | {"amx-int8": False}, asked).name == AVX512_VNNI.name
    assert most_able(dict.fromkeys([f for f in CPUID if "512" not in f], True), asked).name
    assert most_able({f[1:]: True for f in AVX2.features.split(",")}, asked) is AVX2
    assert most_able({f[1:]: True for f in SSE41.features.split(",")}, asked) is SSE41
    assert most_able({}, asked) is X86_64
