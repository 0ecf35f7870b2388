"""Several targets for one graph: each compiles the ops that fall to it, and the parts run in order.

Tensors between parts lie in the arena, contiguous, as integers of their type: what every target
takes and gives at the border of its own graph.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Artifact, Border, Memory, Requirements, Target
from qcomp.targets.memory import ALIGN, Lifetime, plan_memory
from qcomp.targets.mixed.placement import placement
from qcomp.targets.mixed.plan import Plan, arena_of, plan_file, steps_of, written
from qcomp.targets.mixed.runtime import MixedRuntime
from qcomp.targets.partition import Part, first_that_takes, partition

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MixedTarget:
    """`targets` share the ops so that a run takes the least time; the last one has main memory."""

    name: str
    targets: tuple[Target, ...]

    @property
    def runtime(self) -> MixedRuntime:
        return MixedRuntime({target.name: target.runtime for target in self.targets})

    @property
    def border(self) -> Border:
        """Between tensors are in main memory."""
        return Border()

    def supports(self, graph: Graph, op: Op) -> str | None:
        """The reasons of all targets, where none takes the op."""
        reasons = {target.name: target.supports(graph, op) for target in self.targets}
        if None in reasons.values():
            return None
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    def keeping(self, directory: Path) -> MixedTarget:
        """Every target keeps its code there."""
        return replace(self, targets=tuple(t.keeping(directory) for t in self.targets))

    def emit(self, graph: Graph, name: str) -> Artifact:
        """The files and sources of all parts, whose names are NAME_part0 and so on, and a plan."""
        first_that_takes(graph, self.targets)
        parts = partition(graph, self.targets, placement(graph, self.targets))
        notes = tuple(f"{name}_part{n}: {described(part)}" for n, part in enumerate(parts))
        for note in notes:
            _LOG.info("%s", note)
        graphs = [part.graph for part in parts]
        artifacts = [
            part.target.emit(part.graph, f"{name}_part{n}") for n, part in enumerate(parts)
        ]
        lifetimes = _between(graph, graphs)
        memory = plan_memory([*lifetimes, *_arenas(artifacts)])
        buffers = {t.name: memory.offsets[t.name] for t in lifetimes}
        plan = Plan(steps_of(graphs, artifacts, memory), buffers)
        return Artifact(
            name=name,
            target=self.name,
            files={**_union(a.files for a in artifacts), plan_file(name): written(plan)},
            sources=_union(a.sources for a in artifacts),
            requires=together([a.requires for a in artifacts]),
            memory=Memory(
                arena=memory.arena_bytes,
                align=ALIGN,
                live=_live(lifetimes, artifacts),
                weights=sum(a.memory.weights for a in artifacts),
            ),
            notes=notes,
        )

    def cost(self, macs: int, results: int, activation_bytes: int, bits: int) -> float:
        """On the last target."""
        return self.targets[-1].cost(macs, results, activation_bytes, bits)

    def weight_bytes(self, shape: tuple[int, ...], groups: int, bits: int) -> int:
        """In the last target's files."""
        return self.targets[-1].weight_bytes(shape, groups, bits)


def described(part: Part[Target]) -> str:
    """Where a part runs, what it computes, and what goes over its border."""
    graph, kinds = part.graph, Counter(op.mnemonic for op in part.graph.ops())
    told = ", ".join(f"{count} {mnemonic}" for mnemonic, count in kinds.most_common())
    read, made = (
        sum(graph.type(id).bytes for id in ids) for ids in (graph.inputs.values(), graph.outputs)
    )
    return f"{told} on {part.target.name}; {read} bytes in, {made} out"


def _between(graph: Graph, parts: Sequence[Graph]) -> list[Lifetime]:
    """The tensors that a part makes for later ones, other than outputs of the whole graph."""
    last: dict[TensorId, int] = {}
    for n, part in enumerate(parts):
        last |= dict.fromkeys(part.inputs, n)
    return [
        Lifetime(id, graph.type(id).bytes, n, last[id])
        for n, part in enumerate(parts)
        for id in part.outputs
        if not graph.is_output(id)
    ]


def _arenas(artifacts: Sequence[Artifact]) -> list[Lifetime]:
    for a in artifacts:
        if ALIGN % a.memory.align:
            raise TargetError(
                f"{a.name} of {a.target} needs an arena aligned to {a.memory.align} bytes; "
                f"accepted beside other targets: what divides {ALIGN}"
            )
    last = len(artifacts) - 1
    return [
        Lifetime(arena_of(a.name), a.memory.arena, *((0, last) if a.memory.kept else (n, n)))
        for n, a in enumerate(artifacts)
    ]


def _live(buffers: Sequence[Lifetime], artifacts: Sequence[Artifact]) -> int:
    """The largest sum of what a part has live and of what lies between parts meanwhile."""
    return max(
        a.memory.live + sum(t.bytes for t in buffers if t.first <= n <= t.last)
        for n, a in enumerate(artifacts)
    )


def together(requirements: Sequence[Requirements]) -> Requirements:
    """What a machine must have for all parts; TargetError where they are for different machines.

    Parts that have code for instruction sets have it for the same ones. A set without features,
    such as that of a device's launcher, is none beside those with some.
    """
    triples = {r.triple for r in requirements}
    every = [r.features for r in requirements if r.features]
    sets = [features for features in every if any(features.values())] or every[:1]
    if len(triples) > 1:
        raise TargetError(f"parts for {', '.join(sorted(triples))}; expected one kind of machine")
    if any(features != sets[0] for features in sets):
        told = " beside ".join(", ".join(features) for features in sets)
        raise TargetError(f"parts for {told}; expected the same instruction sets in each")
    libraries = dict.fromkeys(name for r in requirements for name in r.libraries)
    return Requirements(triples.pop(), sets[0] if sets else {}, tuple(libraries))


def _union(parts: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """The files of all parts; names begin with that of the part, so they differ."""
    found: dict[str, T] = {}
    for files in parts:
        if repeated := found.keys() & files.keys():
            raise TargetError(f"two parts have a file {min(repeated)}")
        found |= files
    return found
