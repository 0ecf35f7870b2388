"""Artifacts of several targets on this machine: each part by the runtime of its own target."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.targets.base import (
    Artifact,
    Emulated,
    Entry,
    Linked,
    Profile,
    Requirements,
    Runtime,
)
from qcomp.targets.layout import Layout
from qcomp.targets.mixed.entry import MixedEntry
from qcomp.targets.mixed.plan import parsed, plan_file, plan_of


@dataclass(frozen=True)
class MixedRuntime:
    """`runtimes` by the names of the targets."""

    runtimes: Mapping[str, Runtime]

    def lacking(self, requires: Requirements) -> str | None:
        """What the first runtime misses that misses something."""
        answers = (runtime.lacking(requires) for runtime in self.runtimes.values())
        return next(filter(None, answers), None)

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> Entry:
        """From the files: there is no library of the whole."""
        plan = plan_of(artifact)
        entries = [
            self.runtimes[step.target].load(step.artifact(artifact), step.graph(graph), None)
            for step in plan.steps
        ]
        return MixedEntry(graph, plan, entries)

    def profile(self, artifact: Artifact, graph: Graph) -> Profile:
        targets = ", ".join(self.runtimes)
        raise TargetError(f"{artifact.name} is of {targets}; times by layers are of one target")

    def layouts(self, artifact: Artifact, graph: Graph) -> Sequence[Layout]:
        """The parts number and name tensors in their own way."""
        return ()

    def emulator(self, artifact: Artifact) -> Callable[[str], Emulated]:
        raise TargetError(f"{artifact.name} is of {', '.join(self.runtimes)}; C can't call it")

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        """The libraries of each part, and a file that has the plan and their names."""
        linked = {
            step.name: asdict(self.runtimes[step.target].link(step.artifact(artifact), directory))
            for step in plan_of(artifact).steps
        }
        plan = json.loads(artifact.files[plan_file(artifact.name)])
        content = json.dumps({"plan": plan, "linked": linked}, indent=1) + "\n"
        (directory / plan_file(artifact.name)).write_text(content, encoding="utf-8")
        return Linked(plan_file(artifact.name), None)

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        """Those of each part, out of its libraries, and the plan."""
        fields = json.loads((directory / linked.static).read_text(encoding="utf-8"))
        content = (json.dumps(fields["plan"], indent=1) + "\n").encode()
        found = {linked.static: content}
        for step in parsed(content).steps:
            own = Linked(**fields["linked"][step.name])
            if Path(own.static).name != own.static:
                raise ValueError(f"{own.static} is no name of a file")
            found |= self.runtimes[step.target].files(directory, own)
        return found

    def check(self, artifact: Artifact, graph: Graph) -> None:
        """Each part by its runtime, and that all of the plan lies in the arena."""
        plan, size = plan_of(artifact), artifact.memory.arena
        ends = {id: offset + graph.type(id).bytes for id, offset in plan.buffers.items()}
        for step in plan.steps:
            self.runtimes[step.target].check(step.artifact(artifact), step.graph(graph))
            ends[step.name] = step.arena + step.memory.arena
        starts = [*plan.buffers.values(), *(step.arena for step in plan.steps)]
        if beyond := [name for name, end in ends.items() if end > size]:
            raise ValueError(f"{', '.join(beyond)} end behind an arena of {size} bytes")
        if min(starts, default=0) < 0:
            raise ValueError("a part of the plan lies before the arena")

    def thread_pool(self) -> Mapping[str, bytes]:
        """The sources of all runtimes."""
        return {
            name: content
            for runtime in self.runtimes.values()
            for name, content in runtime.thread_pool().items()
        }
