"""The ops of several targets as parts of a graph that can run one after the other.

The level of an op is the largest number of changes of target on
any path to it:

    level(op) = max over its operands' producers p of  level(p) + (target(p) != target(op))

A part holds the ops of one target and level. Levels never fall along a path and rise with every
change of target, so a path between two ops of a part stays in it (the part is convex), and parts in
the order of their levels read only what parts before them give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.region import extract
from qcomp.ir.tensor import TensorId
from qcomp.ir.text import format_op


class Supports(Protocol):
    """A target that says which ops it takes."""

    @property
    def name(self) -> str: ...

    def supports(self, graph: Graph, op: Op) -> str | None:
        """The reason why it does not take an op of the graph; None where it does."""
        ...


Taker = TypeVar("Taker", bound=Supports)


@dataclass(frozen=True)
class Part(Generic[Taker]):
    """Ops that one target takes, as a graph whose inputs and outputs go by tensor ids."""

    target: Taker
    graph: Graph


def partition(
    graph: Graph, targets: Sequence[Taker], chosen: Mapping[TensorId, int]
) -> tuple[Part[Taker], ...]:
    """The graph in parts, in an order in which they can run; `chosen` has each op's target."""
    level: dict[TensorId, int] = {}
    parts: dict[tuple[int, int], list[TensorId]] = {}
    for op in graph.ops():
        own = chosen[op.id]
        before = [t for t in op.inputs if t in level]
        level[op.id] = max((level[t] + (chosen[t] != own) for t in before), default=0)
        parts.setdefault((level[op.id], own), []).append(op.id)
    return tuple(Part(targets[key[1]], extract(graph, parts[key])) for key in sorted(parts))


def first_that_takes(graph: Graph, targets: Sequence[Supports]) -> dict[TensorId, int]:
    """The position of the first target that takes each op; TargetError for ops without one."""
    chosen: dict[TensorId, int] = {}
    problems: list[str] = []
    for op in graph.ops():
        reasons = [target.supports(graph, op) for target in targets]
        if None in reasons:
            chosen[op.id] = reasons.index(None)
        else:
            told = (f"{t.name}: {reason}" for t, reason in zip(targets, reasons, strict=True))
            problems.append("\n  ".join([format_op(graph, op), *told]))
    if problems:
        raise TargetError("\n".join(["no target takes:", *problems]))
    return chosen
