"""Artifacts for CPUs on this machine: whether it runs them, linking, loading, timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.targets.base import Artifact, Emulated, Linked, Requirements
from qcomp.targets.cpu.isa import FAMILIES
from qcomp.targets.cpu.layout import layout_of
from qcomp.targets.cpu.library.archive import members
from qcomp.targets.cpu.library.link import (
    format_of_files,
    shared_library,
    static_library,
    static_name,
)
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.measure.profile import CpuProfile
from qcomp.targets.cpu.process.emulator import emulated, tools_for
from qcomp.targets.cpu.process.host import Host, this_host
from qcomp.targets.cpu.process.jit import EntryPoint, load_library, load_objects
from qcomp.targets.cpu.process.threads import pool_sources
from qcomp.targets.identity import check_artifact
from qcomp.targets.layout import Layout

_SETS: Mapping[str, Isa] = {isa.name: isa for family in FAMILIES.values() for isa in family}


@dataclass(frozen=True)
class CpuRuntime:
    """`host` answers what this machine has."""

    host: Callable[[], Host] = this_host

    def lacking(self, requires: Requirements) -> str | None:
        """None where the machine has one of the sets, if there are any; else what each needs."""
        host = self.host()
        if not host.is_of(requires.triple):
            return f"code for {requires.triple} can't run on {host.processor}, {host.system}"
        missing = {isa: host.lacks(features) for isa, features in requires.features.items()}
        if not missing or not all(missing.values()):
            return None
        needs = "; ".join(f"{isa} needs {', '.join(lacks)}" for isa, lacks in missing.items())
        return f"{needs}, which this machine lacks"

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> EntryPoint:
        self._check(artifact)
        arguments, run = len(graph.inputs) + len(graph.outputs) + 1, f"_{artifact.run}"
        if library is None:
            return load_objects(artifact.files.values(), artifact.name, arguments, run)
        entry = load_library(library, artifact.name, arguments, run)
        entry.expect(artifact)
        return entry

    def profile(self, artifact: Artifact, graph: Graph) -> CpuProfile:
        """Of the most able set of the library that the machine has."""
        self._check(artifact)
        host, features = self.host(), artifact.requires.features
        able = [name for name, needed in features.items() if not host.lacks(needed)]
        if able[-1] not in _SETS:
            raise TargetError(f"{able[-1]} is no instruction set that can be timed by layers")
        return CpuProfile(graph, _SETS[able[-1]], artifact.name)

    def layouts(self, artifact: Artifact, graph: Graph) -> Sequence[Layout]:
        """Found by lowering the graph again; the machine need not run it."""
        known = (_SETS[isa] for isa in artifact.requires.isas if isa in _SETS)
        name, taps = artifact.name, artifact.taps is not None
        return [layout_of(lower_graph(graph, isa, name, taps=taps)) for isa in known]

    def _check(self, artifact: Artifact) -> None:
        if (lacking := self.lacking(artifact.requires)) is not None:
            raise TargetError(f"{artifact.name} can't run on this machine: {lacking}")

    def emulator(self, artifact: Artifact) -> Callable[[str], Emulated]:
        """For other kinds of machines: one that lacks features is not emulated."""
        triple, lacking = artifact.requires.triple, self.lacking(artifact.requires)
        if self.host().is_of(triple):
            raise TargetError(f"{artifact.name} can't run on this machine: {lacking}")
        try:
            tools = tools_for(triple)
        except TargetError as error:
            raise TargetError(
                f"{artifact.name} can't run on this machine: {lacking}, nor emulated: {error}"
            ) from error
        return partial(emulated, tools, artifact)

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        """The static library always, the shared one where a linker exists."""
        static = directory / static_name(format_of_files(artifact), artifact.name)
        static.write_bytes(static_library(artifact))
        shared = shared_library(artifact, directory, self.host())
        return Linked(static.name, None if shared is None else shared.name)

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        return members((directory / linked.static).read_bytes())

    def check(self, artifact: Artifact, graph: Graph) -> None:
        check_artifact(artifact, graph)

    def thread_pool(self) -> Mapping[str, bytes]:
        return pool_sources()
