"""The instruction sets, and which of them the machine has that this process runs on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace

from llvmlite import binding as llvm

from qcomp.errors import TargetError
from qcomp.targets.cpu.arm import machine as arm
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.machine import Isa, ObjectFormat, Platform
from qcomp.targets.cpu.x86 import machine as x86
from qcomp.targets.cpu.x86.permission import amx_permitted
from qcomp.targets.cpu.x86.tiles import Tiles

_LINUX_X86 = Platform("x86_64-unknown-linux-gnu", 8, ObjectFormat.ELF)
_LINUX_ARM = Platform("aarch64-unknown-linux-gnu", 8, ObjectFormat.ELF)

_SSE = "+sse3,+ssse3,+sse4.1"
_AVX2 = f"{_SSE},+sse4.2,+popcnt,+avx,+avx2"
_AVX512 = f"{_AVX2},+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni"
_AMX = f"{_AVX512},+avx512vbmi,+amx-tile,+amx-int8"

X86_64 = Isa("x86-64", _LINUX_X86, "", portable(x86.XMM, x86.LAYOUT, x86.CLOCK))
SSE41 = Isa("sse4.1", _LINUX_X86, _SSE, x86.madd(x86.XMM))
AVX2 = Isa("avx2", _LINUX_X86, _AVX2, x86.madd(x86.YMM))
AVX_VNNI = Isa("avx-vnni", _LINUX_X86, f"{_AVX2},+avxvnni", x86.vnni(x86.YMM))
AVX512_VNNI = Isa("avx512-vnni", _LINUX_X86, _AVX512, x86.vnni(x86.ZMM))
AMX_INT8 = Isa(
    "amx-int8", _LINUX_X86, _AMX, x86.with_tiles(x86.with_permutes(x86.vnni(x86.ZMM)), Tiles.AMX)
)
# Depthwise rows by the costs of x86: by its own, layers are up to 4 % slower on a Neoverse N1.
AARCH64 = Isa("aarch64", _LINUX_ARM, "+neon", portable(arm.NEON, x86.LAYOUT, arm.CLOCK))
AARCH64_DOTPROD = Isa("aarch64-dotprod", _LINUX_ARM, "+neon,+dotprod", arm.dotprod())

X86_LADDER = (SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AMX_INT8)  # from the least to the most able


def identifier(name: str) -> str:
    """The name of an instruction set as part of a C identifier."""
    return name.replace("-", "_").replace(".", "_")


def host_supports(isa: Isa, host: Mapping[str, bool] | None = None) -> bool:
    """Whether this machine has all features of an x86 instruction set (by default: as LLVM says).

    LLVM reports AMX where the processor has it; whether the kernel permits it is known only to the
    code that asks for it.
    """
    host = llvm.get_host_cpu_features() if host is None else host
    wanted = [f[1:] for f in isa.features.split(",") if f]
    return all(host.get(feature, False) for feature in wanted)


def native() -> Isa:
    """The most able instruction set of the machine this process runs on."""
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in ("aarch64", "arm64"):
        return most_able_arm(llvm.get_host_cpu_features())
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise TargetError(
            f"no native target for {system} on {machine}; native is Linux on x86-64 or aarch64, "
            "name another target to compile for it"
        )
    return most_able(llvm.get_host_cpu_features(), amx_permitted)


def most_able_arm(host: Mapping[str, bool]) -> Isa:
    """Every AArch64 has NEON."""
    return AARCH64_DOTPROD if host.get("dotprod", False) else AARCH64


def most_able(host: Mapping[str, bool], tiles_permitted: Callable[[], bool]) -> Isa:
    """The x86 instruction set for these features; asks for tiles only where there are any."""
    able = [isa for isa in X86_LADDER if host_supports(isa, host)]
    while able and able[-1].machine.needs_permission and not tiles_permitted():
        able.pop()
    return _with_extras(able[-1], host) if able else X86_64


def _with_extras(isa: Isa, host: Mapping[str, bool]) -> Isa:
    """VBMI is not part of the level avx512-vnni (the first such machines lack it)."""
    if isa is AVX512_VNNI and host.get("avx512vbmi", False):
        features = f"{isa.features},+avx512vbmi"
        return replace(isa, features=features, machine=x86.with_permutes(isa.machine))
    return isa


def target_machine(triple: str) -> llvm.TargetMachine:
    """LLVM's code generator for a family: position-independent, optimised.

    It knows the baseline only; functions carry the features that they are generated for.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(
        cpu="", features="", opt=3, reloc="pic", codemodel="default"
    )
