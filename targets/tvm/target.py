"""Targets whose kernels TVM generates: for processors (the oracle, and C), and for devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.targets.base import Artifact, Border, Memory, Requirements, Runtime
from qcomp.targets.cpu.isa import FAMILIES
from qcomp.targets.cpu.library.module import data_symbol
from qcomp.targets.cpu.platform import Platform
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.cpu.runtime import CpuRuntime
from qcomp.targets.memory import ALIGN
from qcomp.targets.tvm.api.code import host_object, host_source
from qcomp.targets.tvm.emit import host
from qcomp.targets.tvm.emit.compiler import compiled
from qcomp.targets.tvm.emit.device import arena_bytes, launcher
from qcomp.targets.tvm.emit.device_source import DeviceSource, Language
from qcomp.targets.tvm.emit.header import device_header, host_header
from qcomp.targets.tvm.emit.pieces import words_in_c
from qcomp.targets.tvm.entry import Trial
from qcomp.targets.tvm.lower import lower
from qcomp.targets.tvm.machine import Machine, Tiles
from qcomp.targets.tvm.program import Program
from qcomp.targets.tvm.runtime import DeviceRuntime
from qcomp.targets.tvm.table import refusal
from qcomp.targets.tvm.tune import Best, candidates, ratios, read, written

_BYTES_OF_CHANNEL = 12  # bias, multiplier, shift
_TRIAL = "qcomp_trial"


def host_platform() -> Platform:
    """Of this machine, for which launchers are compiled; TargetError where qcomp has none."""
    family = this_host().family
    if family is None:
        raise TargetError("launchers are compiled for Linux on x86-64 or AArch64; this is neither")
    return FAMILIES[family][0].platform


@dataclass(frozen=True)
class Estimates:
    """What searches ask of every target; kernels have weights of 8 bits and no faster sums."""

    name: str
    machine: Machine
    macs_per_ns: float
    border: Border

    def supports(self, graph: Graph, op: Op) -> str | None:
        """What has a row in the table of functions."""
        return refusal(graph, op)

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        """Sums for 16 bits have 64; a number computed one by one is worth eight products."""
        return (macs * (1 if bits == 8 else 4) + 8 * results + activation_bytes) / self.macs_per_ns

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        return int(np.prod(shape, dtype=np.int64)) + _BYTES_OF_CHANNEL * shape[0]


Kernels = Callable[[Program, str], tuple[Mapping[str, bytes], Mapping[str, str]]]


@dataclass(frozen=True)
class HostTarget(Estimates):
    """Kernels that the caller's processor runs: `kernels` gives their objects and sources."""

    kernels: Kernels

    @property
    def runtime(self) -> Runtime:
        return CpuRuntime()

    def keeping(self, directory: Path) -> HostTarget:
        """Nothing is kept."""
        return self

    def emit(self, graph: Graph, name: str) -> Artifact:
        platform, program = host_platform(), lower(graph, self.machine, f"{name}_kernel")
        objects, sources = self.kernels(program, name)
        data = data_symbol(name)
        return Artifact(
            name=name,
            target=self.name,
            files={**objects, f"{data}.o": host.constants(program, name, platform)},
            sources={f"{name}.h": host_header(program, name, self.name), **sources},
            requires=Requirements(platform.triple, {self.name: ()}, ()),
            memory=_memory(program, program.memory.arena_bytes),
        )


def llvm_kernels(program: Program, name: str) -> tuple[Mapping[str, bytes], Mapping[str, str]]:
    """Objects of LLVM's, and of the calls."""
    calls = compiled({f"{name}.c": host.launcher(program, name)}, f"{name}.c")
    made = host_object(_schedules(program), {})
    return {f"{name}.o": calls, f"{name}_kernels.o": made}, {}


def c_kernels(program: Program, name: str) -> tuple[Mapping[str, bytes], Mapping[str, str]]:
    """Objects of three sources, for any compiler of C: kernels, calls and constants."""
    data = data_symbol(name)
    sources = {
        f"{name}.c": host.launcher(program, name),
        f"{name}_kernels.c": host.kernels_in_c(host_source(_schedules(program), {})),
    }
    objects = {f"{file[:-2]}.o": compiled(sources, file) for file in sources}
    constants = "\n".join(words_in_c(data, program.data.bytes()))
    return objects, {**sources, f"{data}.c": f"{constants}\n"}


@dataclass(frozen=True)
class DeviceTarget(Estimates):
    """Kernels of a device, and a launcher in C that drives it."""

    language: Language

    @property
    def runtime(self) -> DeviceRuntime:
        return DeviceRuntime(self.language.driver)

    def tuned(self, graph: Graph, trials: int) -> DeviceTarget:
        """With the tiles that are fastest for the graph's kernels on the device at hand."""
        plain = replace(self.machine, tuned=None)
        best, usual = Best(), self._trial(graph, plain)
        for tiles in candidates(plain.tiles, trials):
            best.add(tiles, ratios(usual, self._trial(graph, replace(plain, tiles=tiles))))
        chosen = self._trial(graph, replace(plain, tuned=best.tiles))
        return self._with(best.confirmed(ratios(usual, chosen)))

    def following(self, tiles: str) -> DeviceTarget:
        return self._with(read(tiles))

    def _with(self, tuned: Mapping[str, Tiles]) -> DeviceTarget:
        return replace(self, machine=replace(self.machine, tuned=tuned))

    def _trial(self, graph: Graph, machine: Machine) -> Trial:
        """The network on the device, with the tiles of this machine."""
        trial = replace(self, machine=machine)
        program = lower(graph, machine, f"{_TRIAL}_kernel")
        artifact = trial.made(program, _TRIAL)
        keys = tuple(launch.kernel.key for launch in program.launches)
        return Trial(self.runtime.load(artifact, graph, None), keys, artifact.memory.allocated())

    def keeping(self, directory: Path) -> DeviceTarget:
        """Nothing is kept."""
        return self

    def emit(self, graph: Graph, name: str) -> Artifact:
        return self.made(lower(graph, self.machine, f"{name}_kernel"), name)

    def made(self, program: Program, name: str) -> Artifact:
        """The artifact of a program."""
        platform = host_platform()
        source = DeviceSource.of(program, self.language, name)
        tuned = self.machine.tuned
        tiles = {} if tuned is None else {f"{name}.tiles.json": written(tuned)}
        text = launcher(
            program, name, self.language.file, source.in_launcher, source.code.parameters
        )
        state = arena_bytes(program)
        header = device_header(program, name, state, self.name)
        return Artifact(
            name=name,
            target=self.name,
            files={
                f"{name}.o": compiled({f"{name}.c": text}, f"{name}.c"),
                f"{data_symbol(name)}.o": host.constants(program, name, platform),
            },
            sources={f"{name}.h": header, f"{name}.c": text, **source.files, **tiles},
            requires=Requirements(platform.triple, {self.language.driver: ()}, ("dl",)),
            memory=replace(_memory(program, state), kept=True),
        )


def _schedules(program: Program) -> dict[str, object]:
    return {kernel.name: kernel.schedule for kernel in program.kernels}


def _memory(program: Program, arena: int) -> Memory:
    """`live` is that of the tensors, wherever they are."""
    return Memory(
        arena=arena, align=ALIGN, live=program.memory.lower_bound, weights=program.data.size
    )
