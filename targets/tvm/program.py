"""A network as kernels that run one after the other on buffers: the static launch plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.targets.memory import Lifetime, MemoryPlan, plan_memory
from qcomp.targets.tvm.api.schedules import Schedule
from qcomp.targets.tvm.api.tensors import Function


@dataclass(frozen=True)
class Input:
    """The caller's input number `index`."""

    index: int


@dataclass(frozen=True)
class Output:
    """The caller's output number `index`."""

    index: int


@dataclass(frozen=True)
class Data:
    """Constants at an offset."""

    offset: int
    bytes: int


@dataclass(frozen=True)
class Scratch:
    """What a kernel leaves for later ones, by number."""

    index: int
    bytes: int


Place = Input | Output | Data | Scratch


@dataclass(frozen=True)
class Kernel:
    """A function of a machine's source; `grid` and `block` count its groups and their threads.

    `key` is the same for the same function of any graph.
    """

    key: str
    name: str
    schedule: Schedule
    grid: int
    block: int


@dataclass(frozen=True)
class Launch:
    """A kernel on buffers, its result last; `op` is the id of the last op that it computes."""

    op: str
    kernel: Kernel
    places: tuple[Place, ...]


@dataclass
class ConstantData:
    """Read-only bytes; equal arrays are stored once."""

    align: int
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    _known: dict[bytes, Data] = field(default_factory=dict)

    def add(self, array: NDArray[Any]) -> Data:
        raw = np.ascontiguousarray(array).tobytes()
        if raw not in self._known:
            self._known[raw] = Data(self.size, len(raw))
            padding = -len(raw) % self.align
            self.parts += [raw, bytes(padding)]
            self.size += len(raw) + padding
        return self._known[raw]

    def bytes(self) -> bytes:
        return b"".join(self.parts)


@dataclass(frozen=True)
class Program:
    """What is left to do is to print it for a machine; offsets of scratch by number."""

    graph: Graph
    launches: tuple[Launch, ...]
    data: ConstantData
    memory: MemoryPlan

    @property
    def kernels(self) -> list[Kernel]:
        """Each once, in the order of their first launch."""
        return list({launch.kernel.name: launch.kernel for launch in self.launches}.values())

    def offset(self, place: Scratch) -> int:
        return self.memory.offsets[scratch_name(place)]


def scratch_name(place: Scratch) -> str:
    return f"scratch {place.index}"


def planned(launches: Sequence[Launch], align: int) -> MemoryPlan:
    """Scratch lives from the launch that writes it to the last one that reads it."""
    found: dict[str, Lifetime] = {}
    for step, launch in enumerate(launches):
        for place in launch.places:
            if isinstance(place, Scratch):
                name = scratch_name(place)
                first = found[name].first if name in found else step
                size = place.bytes + -place.bytes % align
                found[name] = Lifetime(name, size, first, step)
    return plan_memory(list(found.values()))


__all__ = [
    "ConstantData",
    "Data",
    "Function",
    "Input",
    "Kernel",
    "Launch",
    "Output",
    "Place",
    "Program",
    "Scratch",
    "planned",
]
