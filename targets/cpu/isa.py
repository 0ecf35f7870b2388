"""Instruction sets as data: what the emitters need to know of a machine."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from llvmlite import binding as llvm

BIAS = 128  # what is added to i8 activations where they are stored unsigned


class Dot(enum.Enum):
    """How a machine adds products of bytes to i32 lanes."""

    PORTABLE = "portable"  # generic IR: 16-bit products, added in pairs
    MADD = "madd"  # pmaddwd on widened bytes: exact, unlike pmaddubsw
    VNNI = "vnni"  # vpdpbusd: four products of u8 and i8 per lane


class Tiles(enum.Enum):
    """Whether a machine multiplies matrices of bytes in tile registers."""

    NONE = "none"
    AMX = "amx"  # tdpbusd
    EMULATED = "emulated"  # the same in software: how kernels for AMX are tested without it


@dataclass(frozen=True)
class Isa:
    """A machine: LLVM's names for it, and the vector file the register tiles are sized by.

    `unsigned` machines store i8 activations as u8, value + BIAS, since their dot products want one
    operand unsigned. Arguments of the entry point stay i8.
    """

    name: str
    triple: str
    features: str
    vector_bits: int
    registers: int
    dot: Dot = Dot.PORTABLE
    unsigned: bool = False
    byte_permute: bool = False  # vpermi2b: AVX-512 VBMI
    tiles: Tiles = Tiles.NONE

    @property
    def lanes(self) -> int:
        """32-bit accumulators in one vector."""
        return self.vector_bits // 32

    @property
    def is_x86(self) -> bool:
        return self.triple.startswith("x86_64")

    @property
    def required(self) -> tuple[str, ...]:
        """The features that a processor must have, by LLVM's names."""
        return tuple(f[1:] for f in self.features.split(",") if f)


_X86 = "x86_64-unknown-linux-gnu"
_SSE = ("sse3", "ssse3", "sse4.1")
_AVX2 = (*_SSE, "sse4.2", "popcnt", "avx", "avx2")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni")
_AMX = (*_AVX512, "avx512vbmi", "amx-tile", "amx-int8")


def _x86(name: str, features: tuple[str, ...], bits: int, dot: Dot) -> Isa:
    return Isa(
        name, _X86, ",".join(f"+{f}" for f in features), bits,
        registers=32 if bits == 512 else 16, dot=dot, unsigned=True,
        byte_permute="avx512vbmi" in features,
        tiles=Tiles.AMX if "amx-int8" in features else Tiles.NONE,
    )  # fmt: skip


X86_64 = Isa("x86-64", _X86, "", vector_bits=128, registers=16)
SSE41 = _x86("sse4.1", _SSE, 128, Dot.MADD)
AVX2 = _x86("avx2", _AVX2, 256, Dot.MADD)
AVX_VNNI = _x86("avx-vnni", (*_AVX2, "avxvnni"), 256, Dot.VNNI)
AVX512_VNNI = _x86("avx512-vnni", _AVX512, 512, Dot.VNNI)
AVX512_VBMI = _x86("avx512-vbmi", (*_AVX512, "avx512vbmi"), 512, Dot.VNNI)
AMX_INT8 = _x86("amx-int8", _AMX, 512, Dot.VNNI)
AARCH64 = Isa("aarch64", "aarch64-unknown-linux-gnu", "+neon", vector_bits=128, registers=32)

# Linux on x86-64: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA), once in a process.
SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18

# From the least to the most able: those of a library of several, and all of a family.
X86_LADDER = (SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AMX_INT8)
FAMILIES: Mapping[str, tuple[Isa, ...]] = {
    "x86_64": (X86_64, SSE41, AVX2, AVX_VNNI, AVX512_VNNI, AVX512_VBMI, AMX_INT8),
    "aarch64": (AARCH64,),
}


def identifier(name: str) -> str:
    """The name of an instruction set as part of a C identifier."""
    return name.replace("-", "_").replace(".", "_")


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
