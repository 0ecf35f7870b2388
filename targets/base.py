"""What a target is, and what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from qcomp.ir.graph import Graph


@dataclass(frozen=True)
class Artifact:
    """Code for one model on one target.

    `objects` are relocatable files by name: code, and data that they share.
    `isa` lists the instruction sets inside, `runs_here` tells whether this process can run them.
    `live_bytes` is the largest sum of simultaneously live tensors, the floor of `arena_bytes`.
    """

    name: str
    target: str
    isa: tuple[str, ...]
    triple: str
    objects: Mapping[str, bytes]
    header: str
    arena_bytes: int
    arena_align: int
    live_bytes: int
    weights_bytes: int
    runs_here: bool


class Target(Protocol):
    """Turns an integer graph into an artifact; raises TargetError."""

    @property
    def name(self) -> str: ...

    def emit(self, graph: Graph, name: str) -> Artifact:
        """`name` is a C identifier: the prefix of every symbol."""
        ...
