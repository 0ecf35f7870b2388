"""The CPU targets: one instruction set, or several of which the library chooses one."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.header import header
from qcomp.targets.cpu.lower.graph import lower_variants
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.memory import ALIGN
from qcomp.targets.cpu.module import build_objects
from qcomp.targets.cpu.parallel import SPLITTING, Splitting

LARGEST_ARENA = (1 << 31) - 1
_MACHINES = {"x86_64": ("x86_64", "AMD64"), "aarch64": ("aarch64", "arm64")}


def runs_here(triple: str) -> bool:
    """Whether this process runs on the triple's kind of machine."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES.get(
        triple.split("-")[0], ()
    )


@contextmanager
def without_collections() -> Iterator[None]:
    """No garbage collections inside.

    A module in the making is a million objects, none of them garbage, that each collection walks.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class CpuTarget:
    """One library; `isas` are of one family, from the least to the most able."""

    name: str
    isas: tuple[Isa, ...]
    splitting: Splitting = SPLITTING

    @without_collections()
    def emit(self, graph: Graph, name: str) -> Artifact:
        """Lower, generate code and describe it."""
        programs = lower_variants(graph, self.isas, name)
        isas = tuple(isa.name for isa in self.isas)
        triple, weights = self.isas[0].triple, programs[0].data.size
        arena = max(program.memory.arena_bytes for program in programs)
        if arena > LARGEST_ARENA:
            raise TargetError(
                f"{name} needs an arena of {arena} bytes; accepted: up to {LARGEST_ARENA}, C's int"
            )
        return Artifact(
            name=name,
            target=self.name,
            isa=isas,
            triple=triple,
            objects=build_objects(programs, name, self.splitting),
            header=header(graph, name, arena, weights, isas),
            arena_bytes=arena,
            arena_align=ALIGN,
            live_bytes=max(program.live_bytes for program in programs),
            weights_bytes=weights,
            runs_here=runs_here(triple),
        )
