"""What the artifact of several targets says of its parts: a JSON file among its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qcomp.ir.graph import Graph
from qcomp.ir.region import extract
from qcomp.ir.tensor import TensorId
from qcomp.targets.base import Artifact, Memory, Requirements
from qcomp.targets.memory import MemoryPlan


@dataclass(frozen=True)
class Step:
    """One part: the ops that a target took, and its artifact without the files' contents.

    `inputs` and `outputs` are in the order of the arguments; `arena` is the offset of the part's
    arena in that of the whole.
    """

    target: str
    name: str
    ops: tuple[TensorId, ...]
    inputs: tuple[TensorId, ...]
    outputs: tuple[TensorId, ...]
    files: tuple[str, ...]
    sources: tuple[str, ...]
    requires: Requirements
    memory: Memory
    arena: int

    def graph(self, whole: Graph) -> Graph:
        """The part of the whole graph."""
        part = extract(whole, self.ops)
        part.inputs = {id: part.inputs[id] for id in self.inputs}
        part.outputs = {id: part.outputs[id] for id in self.outputs}
        return part

    def artifact(self, whole: Artifact) -> Artifact:
        """The part's own, out of that of the whole."""
        return Artifact(
            name=self.name,
            target=self.target,
            files={name: whole.files[name] for name in self.files},
            sources={name: whole.sources[name] for name in self.sources},
            requires=self.requires,
            memory=self.memory,
        )


@dataclass(frozen=True)
class Plan:
    """The parts in the order in which they run.

    `buffers` are the offsets of the tensors that go from part to part: contiguous, row-major,
    integers of the tensor's type.
    """

    steps: tuple[Step, ...]
    buffers: Mapping[TensorId, int]


def plan_file(name: str) -> str:
    """The file of the plan of the artifact `name`."""
    return f"{name}.parts.json"


def plan_of(artifact: Artifact) -> Plan:
    """The plan among the files of an artifact."""
    return parsed(artifact.files[plan_file(artifact.name)])


def written(plan: Plan) -> bytes:
    return (json.dumps(asdict(plan), indent=1) + "\n").encode()


def parsed(content: bytes) -> Plan:
    """The plan that was written; a ValueError, KeyError or TypeError where it is none."""
    fields = json.loads(content)
    return Plan(tuple(_step(step) for step in fields["steps"]), dict(fields["buffers"]))


def _step(fields: Mapping[str, Any]) -> Step:
    lists = ("ops", "inputs", "outputs", "files", "sources")
    return Step(
        target=fields["target"],
        name=fields["name"],
        **{key: tuple(fields[key]) for key in lists},
        requires=_requirements(**fields["requires"]),
        memory=Memory(**fields["memory"]),
        arena=fields["arena"],
    )


def _requirements(
    triple: str, features: Mapping[str, Sequence[str]], libraries: Sequence[str]
) -> Requirements:
    sets = {isa: tuple(needed) for isa, needed in features.items()}
    return Requirements(triple, sets, tuple(libraries))


def steps_of(
    parts: Sequence[Graph], artifacts: Sequence[Artifact], memory: MemoryPlan
) -> tuple[Step, ...]:
    """A step for each part; `memory` places their arenas, by `arena_of`."""
    return tuple(
        Step(
            target=artifact.target,
            name=artifact.name,
            ops=tuple(op.id for op in part.ops()),
            inputs=tuple(part.inputs),
            outputs=tuple(part.outputs),
            files=tuple(artifact.files),
            sources=tuple(artifact.sources),
            requires=artifact.requires,
            memory=artifact.memory,
            arena=memory.offsets[arena_of(artifact.name)],
        )
        for part, artifact in zip(parts, artifacts, strict=True)
    )


def arena_of(name: str) -> str:
    """What a memory plan calls the arena of a part: no tensor's id has a space."""
    return f"arena {name}"
