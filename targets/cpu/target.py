"""The CPU targets: one instruction set, or several of which the library chooses one."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.padding import Padding
from qcomp.targets.base import Artifact, Border, Memory, Requirements, Taps
from qcomp.targets.cpu.library.codegen import Generate, object_code
from qcomp.targets.cpu.library.header import header
from qcomp.targets.cpu.library.kept import KeptObjects
from qcomp.targets.cpu.library.module import build_objects
from qcomp.targets.cpu.library.parallel import SPLITTING, Splitting
from qcomp.targets.cpu.lower.graph import CHOICES, lower_lengths
from qcomp.targets.cpu.lower.table import refusal
from qcomp.targets.cpu.lower.taps import taps_of
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.runtime import CpuRuntime
from qcomp.targets.cpu.stored_weights import stored_bytes
from qcomp.targets.cpu.work import Work
from qcomp.targets.memory import ALIGN

LARGEST_ARENA = (1 << 31) - 1


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


def _told(taps: Taps) -> tuple[str, ...]:
    """How many tensors a library tells of."""
    count = len(taps.tensors)
    kept = max(map(len, taps.missing.values()), default=0)
    more = f"; {kept} are in registers only, as the header and the manifest say" if kept else ""
    return (f"taps tell of {count - kept} of {count} tensors{more}",)


@dataclass(frozen=True)
class CpuTarget:
    """One library; `isas` are of one family, from the least to the most able."""

    name: str
    isas: tuple[Isa, ...]
    splitting: Splitting = SPLITTING
    generate: Generate = object_code
    taps: bool = False
    without: frozenset[str] = frozenset()  # of CHOICES

    @property
    def runtime(self) -> CpuRuntime:
        return CpuRuntime()

    def keeping(self, directory: Path) -> CpuTarget:
        return replace(self, generate=KeptObjects(directory))

    def emit(self, graph: Graph, name: str) -> Artifact:
        """Lower, generate code and describe it."""
        return self._emitted([graph], (), name)

    def emit_lengths(
        self, graphs: Mapping[int, Graph], name: str, padding: Padding | None = None
    ) -> Artifact:
        """A library of a plan for each length; its memory is that of the largest."""
        return self._emitted(list(graphs.values()), tuple(graphs), name, padding)

    @without_collections()
    def _emitted(
        self,
        graphs: Sequence[Graph],
        lengths: tuple[int, ...],
        name: str,
        padding: Padding | None = None,
    ) -> Artifact:
        plans = lower_lengths(graphs, self.isas, name, taps=self.taps, without=self.without)
        graph, programs, every = graphs[0], plans[0], [p for plan in plans for p in plan]
        shorter = dict(zip(lengths[1:], plans[1:], strict=True))
        plan_graphs = dict(zip(lengths, graphs, strict=True)) if lengths else {}
        taps = taps_of(programs) if self.taps else None
        weights = programs[0].data.size
        arena = max(program.memory.arena_bytes for program in every)
        if arena > LARGEST_ARENA:
            raise TargetError(
                f"{name} needs an arena of {arena} bytes; accepted: up to {LARGEST_ARENA}, C's int"
            )
        return Artifact(
            name=name,
            target=self.name,
            files=build_objects(programs, name, self.splitting, self.generate, shorter),
            sources={
                f"{name}.h": header(
                    graph, name, arena, weights, self.isas, taps, plan_graphs, padding
                )
            },
            requires=Requirements(
                triple=self.isas[0].triple,
                features={isa.name: isa.required for isa in self.isas},
                libraries=(),
            ),
            memory=Memory(
                arena=arena,
                align=ALIGN,
                live=max(program.live_bytes for program in every),
                weights=weights,
            ),
            notes=() if taps is None else _told(taps),
            taps=taps,
            lengths=lengths,
            padding=padding,
        )

    def otherwise(self) -> Mapping[str, CpuTarget]:
        every = {"plain code": frozenset(CHOICES)}
        kinds = every | {f"no {choice}": frozenset({choice}) for choice in CHOICES}
        return {name: replace(self, without=left) for name, left in kinds.items()}

    def tapped(self) -> CpuTarget:
        return replace(self, taps=True)

    def supports(self, graph: Graph, op: Op) -> str | None:
        """What has a row in the table of lowerings."""
        return refusal(graph, op)

    @property
    def border(self) -> Border:
        """It computes in main memory."""
        return Border()

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        """On the most able set."""
        return Work(macs, 0, activation_bytes, results).estimated_ns(self.isas[-1], bits)

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        """As the first kernels of the most able set want them."""
        return stored_bytes(shape, groups, bits, self.isas[-1].machine.gemms[0].packing)
