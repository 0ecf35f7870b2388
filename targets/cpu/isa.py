"""Instruction sets as data: what the portable emitters need to know of a machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from llvmlite import binding as llvm

from qcomp.errors import TargetError


@dataclass(frozen=True)
class Isa:
    """A machine: LLVM's names for it, and the vector file the register tiles are sized by."""

    name: str
    triple: str
    features: str
    vector_bits: int
    registers: int
    cpu: str = ""

    @property
    def lanes(self) -> int:
        """32-bit accumulators in one vector."""
        return self.vector_bits // 32


X86_64 = Isa("x86-64", "x86_64-unknown-linux-gnu", "", vector_bits=128, registers=16)
AARCH64 = Isa("aarch64", "aarch64-unknown-linux-gnu", "+neon", vector_bits=128, registers=32)

_WIDTHS = (
    (("avx512f", "avx512bw", "avx512vl", "avx512dq"), 512, 32, "avx512"),
    (("avx2",), 256, 16, "avx2"),
    (("sse4.1",), 128, 16, "sse4.1"),
)


def native() -> Isa:
    """The machine this process runs on, with its widest vectors and no target intrinsics."""
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in ("aarch64", "arm64"):
        return AARCH64
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise TargetError(
            f"no native target for {system} on {machine}; native is Linux on x86-64 or aarch64, "
            "name another target to compile for it"
        )
    host = llvm.get_host_cpu_features()
    features = ",".join(("+" if on else "-") + name for name, on in sorted(host.items()))
    for needed, bits, registers, name in _WIDTHS:
        if all(host.get(f, False) for f in needed):
            return Isa(name, X86_64.triple, features, bits, registers)
    return X86_64


def target_machine(isa: Isa) -> llvm.TargetMachine:
    """LLVM's code generator for the machine: position-independent, optimised."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(isa.triple)
    return target.create_target_machine(
        cpu=isa.cpu, features=isa.features, opt=3, reloc="pic", codemodel="default"
    )
