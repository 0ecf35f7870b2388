"""The CPU targets: portable vector code for one instruction set."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.header import header
from qcomp.targets.cpu.isa import Isa
from qcomp.targets.cpu.lower.graph import lower_graph
from qcomp.targets.cpu.memory import ALIGN
from qcomp.targets.cpu.module import build_objects

LARGEST_ARENA = (1 << 31) - 1
_MACHINES = {"x86_64": ("x86_64", "AMD64"), "aarch64": ("aarch64", "arm64")}


def runs_here(triple: str) -> bool:
    """Whether this process runs on the triple's kind of machine."""
    return platform.system() == "Linux" and platform.machine() in _MACHINES.get(
        triple.split("-")[0], ()
    )


@dataclass(frozen=True)
class CpuTarget:
    """One instruction set, one library."""

    name: str
    isa: Isa

    def emit(self, graph: Graph, name: str) -> Artifact:
        """Lower, generate code and describe it."""
        program = lower_graph(graph, self.isa, name)
        arena = program.memory.arena_bytes
        if arena > LARGEST_ARENA:
            raise TargetError(
                f"{name} needs an arena of {arena} bytes; accepted: up to {LARGEST_ARENA}, C's int"
            )
        return Artifact(
            name=name,
            target=self.name,
            isa=(self.isa.name,),
            triple=self.isa.triple,
            objects=build_objects(program, name),
            header=header(graph, name, arena, program.data.size),
            arena_bytes=arena,
            arena_align=ALIGN,
            live_bytes=program.live_bytes,
            weights_bytes=program.data.size,
            runs_here=runs_here(self.isa.triple),
        )
