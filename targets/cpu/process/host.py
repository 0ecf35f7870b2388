"""The machine that this process runs on: which instruction sets it runs, and what others lack."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from llvmlite import binding as llvm

from qcomp.errors import TargetError
from qcomp.targets.cpu.arm.features import BASELINE
from qcomp.targets.cpu.isa import FAMILIES
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.x86.permission import amx_permitted

NATIVE = "QCOMP_NATIVE"  # names the set that `native` is taken for
TILES_REFUSED = "the kernel's permission to use AMX tiles"

_FAMILY_OF = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Host:
    """A machine: the system and the processor as Python names them, its features as LLVM does.

    LLVM reports AMX where the processor has it; `tiles_permitted` asks the kernel.
    """

    system: str
    processor: str
    features: Mapping[str, bool]
    tiles_permitted: Callable[[], bool]

    @property
    def family(self) -> str | None:
        """The first word of its triple; None where qcomp has no code for the machine."""
        return _FAMILY_OF.get(self.processor) if self.system == "Linux" else None

    def is_of(self, triple: str) -> bool:
        """Whether code for the triple is code for this kind of machine."""
        machine, *systems = triple.split("-")
        return machine == self.family and "linux" in systems

    def lacks(self, features: Iterable[str]) -> tuple[str, ...]:
        """The features that it does not have; asks for tiles only where it has the rest."""
        wanted = tuple(features)
        has = self.features.get
        missing = tuple(f for f in wanted if f not in BASELINE and not has(f, False))
        if not missing and "amx-tile" in wanted and not self.tiles_permitted():
            return (TILES_REFUSED,)
        return missing

    def runs(self) -> tuple[Isa, ...]:
        """The instruction sets of the machine, from the least to the most able."""
        family = FAMILIES[self.family] if self.family else ()
        return tuple(isa for isa in family if not self.lacks(isa.required))


def this_host() -> Host:
    """The machine of this process."""
    return Host(platform.system(), platform.machine(), llvm.get_host_cpu_features(), amx_permitted)


def native() -> Isa:
    """The instruction set of target `native`: that of QCOMP_NATIVE, else the host's most able."""
    return native_of(this_host(), os.environ.get(NATIVE, ""))


def native_of(host: Host, name: str) -> Isa:
    """The set of that name, the most able without one; TargetError where the host lacks it."""
    able = {isa.name: isa for isa in host.runs()}
    if not able:
        raise TargetError(
            f"no native target for {host.system} on {host.processor}; native is Linux on x86-64 or "
            "aarch64, name another target to compile for it"
        )
    if not name:
        return list(able.values())[-1]
    if name not in able:
        raise TargetError(f"{NATIVE}={name}: this machine runs {', '.join(able)}")
    return able[name]
