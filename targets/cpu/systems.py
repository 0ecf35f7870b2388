"""The libraries for other systems than Linux, and for small machines: sets and their platforms.

For other systems the code is that of the sets of qcomp.targets.cpu.isa, but for objects, calls and
stacks, which LLVM makes by the triple. Small machines have generic code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qcomp.targets.cpu.arm.windows import emit_supports_on_windows
from qcomp.targets.cpu.generic.machine import portable, widening_depthwise_costs
from qcomp.targets.cpu.isa import AARCH64, AARCH64_DOTPROD, AVX2, AVX512_VNNI, AVX_VNNI, SSE41
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.platform import ObjectFormat, Platform
from qcomp.targets.cpu.vectors import Vectors

X64_CPU, ARM64_CPU = 0x0100_0007, 0x0100_000C  # CPU_TYPE_X86_64, CPU_TYPE_ARM64
X64_COFF, ARM64_COFF = 0x8664, 0xAA64  # IMAGE_FILE_MACHINE_AMD64, _ARM64
AARCH64_ELF, ARM_ELF, RISCV_ELF = 183, 40, 243  # EM_AARCH64, EM_ARM, EM_RISCV
EABI_5, COMPRESSED_DOUBLES = 0x0500_0000, 0x5  # e_flags: of ARM; of RISC-V (C, lp64d)

X64_WINDOWS = Platform("x86_64-pc-windows-msvc", 8, ObjectFormat.COFF, X64_COFF, 0)
ARM64_WINDOWS = Platform("aarch64-pc-windows-msvc", 8, ObjectFormat.COFF, ARM64_COFF, 0)
X64_MACOS = Platform("x86_64-apple-macosx11.0.0", 8, ObjectFormat.MACH_O, X64_CPU, 0)
ARM64_MACOS = Platform("arm64-apple-macosx11.0.0", 8, ObjectFormat.MACH_O, ARM64_CPU, 0)
ARM64_IOS = Platform("arm64-apple-ios13.0.0", 8, ObjectFormat.MACH_O, ARM64_CPU, 0)
ARM64_ANDROID = Platform("aarch64-linux-android24", 8, ObjectFormat.ELF, AARCH64_ELF, 0)
ARMV7_LINUX = Platform("armv7-unknown-linux-gnueabihf", 4, ObjectFormat.ELF, ARM_ELF, EABI_5)
RISCV64_LINUX = Platform(
    "riscv64-unknown-linux-gnu", 8, ObjectFormat.ELF, RISCV_ELF, COMPRESSED_DOUBLES
)
WASM32 = Platform("wasm32-unknown-unknown", 4, ObjectFormat.WASM, 0, 0)

CLOCK = "llvm.readcyclecounter"


def on(platform: Platform, *isas: Isa) -> tuple[Isa, ...]:
    """Sets whose processors are asked there as on Linux, or need not be."""
    return tuple(replace(isa, platform=platform) for isa in isas)


def on_windows(platform: Platform, *isas: Isa) -> tuple[Isa, ...]:
    """Sets of ARM, whose processors Windows is asked about."""
    return tuple(
        replace(
            isa,
            platform=platform,
            machine=replace(
                isa.machine, supports=isa.machine.supports and emit_supports_on_windows
            ),
        )
        for isa in isas
    )


def given(platform: Platform, isa: Isa) -> tuple[Isa, ...]:
    """A set that every processor of the system has, so that none is asked."""
    return (replace(isa, platform=platform, machine=replace(isa.machine, supports=None)),)


def generic(name: str, platform: Platform, features: str, registers: int) -> tuple[Isa, ...]:
    """A machine with so many vector registers of 128 bits, or that computes them in pieces."""
    vectors = Vectors(128, registers)
    machine = portable(vectors, widening_depthwise_costs(vectors), CLOCK)
    return (Isa(name, platform, features, machine),)


# By target. Tiles of AMX need the permission of Linux; no Mac has AVX-VNNI, and macOS hides AVX-512
# from programs that have not used it. Apple's systems do not let programs read ARM's registers.
LIBRARIES: Mapping[str, tuple[Isa, ...]] = {
    "x86-64-windows": on(X64_WINDOWS, SSE41, AVX2, AVX_VNNI, AVX512_VNNI),
    "x86-64-macos": on(X64_MACOS, SSE41, AVX2),
    "arm64-macos": given(ARM64_MACOS, AARCH64_DOTPROD),
    "arm64-ios": given(ARM64_IOS, AARCH64_DOTPROD),
    "arm64-android": on(ARM64_ANDROID, AARCH64, AARCH64_DOTPROD),
    "arm64-windows": on_windows(ARM64_WINDOWS, AARCH64, AARCH64_DOTPROD),
    "armv7": generic("armv7", ARMV7_LINUX, "+neon", 16),
    "riscv64": generic("riscv64", RISCV64_LINUX, "", 8),
    "wasm32": generic("wasm32", WASM32, "+simd128", 16),
}
