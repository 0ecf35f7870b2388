"""The targets by name; each is built when it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qcomp.errors import CompileError, ExtensionError, TargetError, did_you_mean
from qcomp.extensions import TARGETS as OTHERS
from qcomp.extensions import is_own
from qcomp.targets.base import Runtime, Target


def _cpu() -> Runtime:
    from qcomp.targets.cpu.runtime import CpuRuntime

    return CpuRuntime()


@dataclass(frozen=True)
class Listed:
    """How a target is built, and what loads its artifacts: on machines too that it isn't for."""

    build: Callable[[], Target]
    runtime: Callable[[], Runtime]


def _native() -> Target:
    from qcomp.targets.cpu.process.host import native
    from qcomp.targets.cpu.target import CpuTarget

    return CpuTarget("native", (native(),))


def _several(name: str, constant: str) -> Listed:
    """A library for some instruction sets, a constant of qcomp.targets.cpu.isa."""

    def build() -> Target:
        from qcomp.targets.cpu import isa
        from qcomp.targets.cpu.target import CpuTarget

        return CpuTarget(name, getattr(isa, constant))

    return Listed(build, _cpu)


def _one(name: str, constant: str) -> Listed:
    """A library for one instruction set, a constant of qcomp.targets.cpu.isa."""

    def build() -> Target:
        from qcomp.targets.cpu import isa
        from qcomp.targets.cpu.target import CpuTarget

        return CpuTarget(name, (getattr(isa, constant),))

    return Listed(build, _cpu)


def _elsewhere(name: str) -> Listed:
    """A library for another system than Linux, or a small machine."""

    def build() -> Target:
        from qcomp.targets.cpu.systems import LIBRARIES
        from qcomp.targets.cpu.target import CpuTarget

        return CpuTarget(name, LIBRARIES[name])

    return Listed(build, _cpu)


def _tvm(function: str, *arguments: str) -> Listed:
    """Processors through TVM: a function of qcomp.targets.tvm.languages."""

    def build() -> Target:
        from qcomp.targets.tvm import languages

        made: Target = getattr(languages, function)(*arguments)
        return made

    return Listed(build, _cpu)


def _device(function: str, driver: str, *arguments: str) -> Listed:
    """A device through TVM."""

    def load() -> Runtime:
        from qcomp.targets.tvm.runtime import DeviceRuntime

        return DeviceRuntime(driver)

    return Listed(_tvm(function, *arguments).build, load)


TARGETS: Mapping[str, Listed] = {
    "native": Listed(_native, _cpu),
    "x86-64": _several("x86-64", "X86_LADDER"),
    "sse4.1": _one("sse4.1", "SSE41"),
    "avx2": _one("avx2", "AVX2"),
    "avx-vnni": _one("avx-vnni", "AVX_VNNI"),
    "avx512-vnni": _one("avx512-vnni", "AVX512_VNNI"),
    "avx512-vbmi": _one("avx512-vbmi", "AVX512_VBMI"),
    "amx-int8": _one("amx-int8", "AMX_INT8"),
    "arm64": _several("arm64", "ARM_LADDER"),
    "aarch64": _one("aarch64", "AARCH64"),
    "aarch64-dotprod": _one("aarch64-dotprod", "AARCH64_DOTPROD"),
    "aarch64-i8mm": _one("aarch64-i8mm", "AARCH64_I8MM"),
    "arm64-android": _elsewhere("arm64-android"),
    "arm64-ios": _elsewhere("arm64-ios"),
    "arm64-macos": _elsewhere("arm64-macos"),
    "arm64-windows": _elsewhere("arm64-windows"),
    "armv7": _elsewhere("armv7"),
    "riscv64": _elsewhere("riscv64"),
    "wasm32": _elsewhere("wasm32"),
    "x86-64-macos": _elsewhere("x86-64-macos"),
    "x86-64-windows": _elsewhere("x86-64-windows"),
    "tvm-llvm": _tvm("tvm_llvm"),
    "tvm-c": _tvm("tvm_c"),
    "opencl": _device("opencl", "opencl"),
    "opencl:dot4": _device("opencl_dot4", "opencl"),
    "opencl:cpu": _device("opencl_cpu", "opencl"),
    "cuda": _device("cuda", "cuda"),
    "cuda:sm_80": _device("cuda", "cuda", "sm_80"),
    "cuda:sm_90": _device("cuda", "cuda", "sm_90"),
}


ALIASES: Mapping[str, str] = {
    "x86_64": "x86-64",
    "amd64": "x86-64",
    "x64": "x86-64",
    "armv8": "arm64",
    "arm64-linux": "arm64",
    "wasm": "wasm32",
    "host": "native",
}
"""What others call our targets."""


def target(name: str) -> Target:
    """The target called `name`; TargetError lists the names.

    An alias is what it stands for. `A+B` are several, of which each takes what it can of what those
    before it leave; `A[op,op]` is one that takes these ops only. Other packages have targets too,
    whose names have a dot (qcomp/extensions.py).
    """
    name = ALIASES.get(name.lower(), name)
    if name in TARGETS:
        return TARGETS[name].build()
    if "+" in name:
        from qcomp.targets.mixed.target import MixedTarget

        return MixedTarget(name, tuple(target(part) for part in name.split("+")))
    if (limited := _LIMITED.fullmatch(name)) is not None:
        from qcomp.targets.mixed.limited import Limited

        return Limited(_listed(limited[1]).build(), tuple(limited[2].split(",")))
    return _listed(name).build()


def runtime(name: str) -> Runtime:
    """What loads the artifacts of the target called `name`; TargetError lists the names."""
    if name in TARGETS:
        return TARGETS[name].runtime()
    if "+" in name:
        from qcomp.targets.mixed.runtime import MixedRuntime

        return MixedRuntime({part: runtime(part) for part in name.split("+")})
    if (limited := _LIMITED.fullmatch(name)) is not None:
        return _listed(limited[1]).runtime()
    return _listed(name).runtime()


def machine() -> Mapping[str, object]:
    """What this machine is and runs: processor, system, instruction sets, linkers, emulators."""
    from qcomp.targets.cpu.process.machine_report import report

    return report()


_LIMITED = re.compile(r"([^\[\]]+)\[([a-z0-9_,]+)\]")


def _listed(name: str) -> Listed:
    """Of this package, or of another one."""
    if name in TARGETS:
        return TARGETS[name]
    if is_own(name) and OTHERS.has(name):
        return Listed(lambda: _other(name), lambda: _other(name).runtime)
    others = f", or of other packages {', '.join(OTHERS.names())}" if OTHERS.names() else ""
    raise TargetError(
        f"unknown target {name!r}; expected one of {', '.join(TARGETS)}{others}"
        f"{did_you_mean(name, [*TARGETS, *ALIASES, *OTHERS.names()])}"
    )


def _other(name: str) -> Target:
    """The target of another package; ExtensionError where there is none of this name."""
    found = OTHERS.find(name)
    try:
        made: Target = found.value()
    except CompileError:
        raise
    except Exception as error:  # of code that is not ours, whatever it raises
        raise ExtensionError(
            f"target {name!r}, {found.source}, can't be made: {type(error).__name__}: {error}"
        ) from error
    lacking = [a for a in _TARGET if not hasattr(made, a)]
    if lacking or made.name != name:
        problem = f"has no {', '.join(lacking)}" if lacking else f"calls itself {made.name!r}"
        raise ExtensionError(
            f"target {name!r}, {found.source}, {problem}; expected what "
            "qcomp.targets.base.Target has"
        )
    return made


_TARGET = [name for name in vars(Target) if not name.startswith("_")]
