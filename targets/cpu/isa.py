"""The instruction sets by name, and LLVM's code generators for them."""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import binding as llvm

from qcomp.targets.cpu.arm import machine as arm
from qcomp.targets.cpu.generic.machine import portable
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.platform import ObjectFormat, Platform
from qcomp.targets.cpu.x86 import machine as x86
from qcomp.targets.cpu.x86.tiles import Tiles

_LINUX_X86 = Platform("x86_64-unknown-linux-gnu", 8, ObjectFormat.ELF, machine=62, flags=0)
_LINUX_ARM = Platform("aarch64-unknown-linux-gnu", 8, ObjectFormat.ELF, machine=183, flags=0)

_SSE = "+sse3,+ssse3,+sse4.1"
_AVX2 = f"{_SSE},+sse4.2,+popcnt,+avx,+avx2"
_AVX512 = f"{_AVX2},+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni"
_PAIRS = "+fast-dpwssd"  # else LLVM makes vpmaddwd and vpaddd of vpdpwssd
_AMX = f"{_AVX512},+avx512vbmi,+amx-tile,+amx-int8"

X86_64 = Isa("x86-64", _LINUX_X86, "", portable(x86.XMM, x86.LAYOUT, x86.CLOCK))
SSE41 = Isa("sse4.1", _LINUX_X86, _SSE, x86.madd(x86.XMM))
AVX2 = Isa("avx2", _LINUX_X86, _AVX2, x86.madd(x86.YMM))
AVX_VNNI = Isa("avx-vnni", _LINUX_X86, f"{_AVX2},+avxvnni", x86.vnni(x86.YMM), _PAIRS)
AVX512_VNNI = Isa("avx512-vnni", _LINUX_X86, _AVX512, x86.vnni(x86.ZMM), _PAIRS)
AVX512_VBMI = Isa(
    "avx512-vbmi",
    _LINUX_X86,
    f"{_AVX512},+avx512vbmi",
    x86.with_permutes(x86.vnni(x86.ZMM)),
    _PAIRS,
)
AMX_INT8 = Isa(
    "amx-int8",
    _LINUX_X86,
    _AMX,
    x86.with_tiles(x86.with_permutes(x86.vnni(x86.ZMM)), Tiles.AMX),
    _PAIRS,
)
AARCH64 = Isa("aarch64", _LINUX_ARM, "+neon", arm.neon())
AARCH64_DOTPROD = Isa("aarch64-dotprod", _LINUX_ARM, "+neon,+dotprod", arm.dotprod())
AARCH64_I8MM = Isa("aarch64-i8mm", _LINUX_ARM, "+neon,+dotprod,+i8mm", arm.i8mm())

# From the least to the most able: those of a library of several, and all of a family.
X86_LADDER = (SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AMX_INT8)
ARM_LADDER = (AARCH64, AARCH64_DOTPROD)  # whose matrix weights lie alike: smmla wants its own
FAMILIES: Mapping[str, tuple[Isa, ...]] = {
    "x86_64": (X86_64, SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AVX512_VBMI, AMX_INT8),
    "aarch64": (AARCH64, AARCH64_DOTPROD, AARCH64_I8MM),
}


def identifier(name: str) -> str:
    """The name of an instruction set as part of a C identifier."""
    return name.replace("-", "_").replace(".", "_")


_CODE_OPTIONS: Mapping[str, str | int] = {
    "cpu": "",
    "features": "",
    "opt": 3,
    "reloc": "pic",
    "codemodel": "default",
}
# Where what LLVM takes for the family is less than what programs of its systems take for granted.
_OPTIONS_OF: Mapping[str, Mapping[str, str]] = {
    "riscv64": {"features": "+m,+a,+f,+d,+c", "abiname": "lp64d"},
    "wasm32": {"reloc": "static"},
}


def code_options(triple: str) -> dict[str, str | int]:
    """What LLVM's code generator is told besides the triple."""
    return {**_CODE_OPTIONS, **_OPTIONS_OF.get(triple.split("-")[0], {})}


def target_machine(triple: str) -> llvm.TargetMachine:
    """LLVM's code generator for a family: position-independent, optimised.

    It knows the baseline only; functions carry the features that they are generated for.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(triple).create_target_machine(**code_options(triple))
