"""The targets by name; each is built when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.errors import TargetError
from qcomp.targets.base import Target


def _native() -> Target:
    from qcomp.targets.cpu import isa
    from qcomp.targets.cpu.target import CpuTarget

    return CpuTarget("native", isa.native())


def _x86_64() -> Target:
    from qcomp.targets.cpu import isa
    from qcomp.targets.cpu.target import CpuTarget

    return CpuTarget("x86-64", isa.X86_64)


def _aarch64() -> Target:
    from qcomp.targets.cpu import isa
    from qcomp.targets.cpu.target import CpuTarget

    return CpuTarget("aarch64", isa.AARCH64)


TARGETS: Mapping[str, Callable[[], Target]] = {
    "native": _native,
    "x86-64": _x86_64,
    "aarch64": _aarch64,
}


def target(name: str) -> Target:
    """The target called `name`; TargetError lists the names."""
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}; expected one of {', '.join(TARGETS)}")
    return TARGETS[name]()
