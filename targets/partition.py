"""Which target takes which ops of a graph.

Each op goes to the first target that supports it. The ops of one target are then split into parts
that can run one after the other. The level of an op is the largest number of changes of target on
any path to it:

    level(op) = max over its operands' producers p of  level(p) + (target(p) != target(op))

A part holds the ops of one target and level. Levels never fall along a path and rise with every
change of target, so a path between two ops of a part stays in it (the part is convex), and parts in
the order of their levels read only what parts before them give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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

    def supports(self, graph: Graph, op: Op) -> bool:
        """Whether the target can compile the op as it stands in the graph."""
        ...


@dataclass(frozen=True)
class Part:
    """Ops that one target takes, as a graph whose inputs and outputs go by tensor ids."""

    target: Supports
    graph: Graph


def partition(graph: Graph, targets: Sequence[Supports]) -> tuple[Part, ...]:
    """The graph in parts, in an order in which they can run; TargetError for ops without a target.

    Targets that come first are asked first.
    """
    chosen = _choices(graph, targets)
    level: dict[TensorId, int] = {}
    parts: dict[tuple[int, int], list[TensorId]] = {}
    for op in graph.ops():
        own = chosen[op.id]
        before = [t for t in op.inputs if t in level]
        level[op.id] = max((level[t] + (chosen[t] != own) for t in before), default=0)
        parts.setdefault((level[op.id], own), []).append(op.id)
    return tuple(Part(targets[key[1]], extract(graph, parts[key])) for key in sorted(parts))


def _choices(graph: Graph, targets: Sequence[Supports]) -> dict[TensorId, int]:
    """The position of each op's target."""
    chosen: dict[TensorId, int] = {}
    for op in graph.ops():
        takers = (i for i, target in enumerate(targets) if target.supports(graph, op))
        if (taker := next(takers, None)) is not None:
            chosen[op.id] = taker
    if left := [format_op(graph, op) for op in graph.ops() if op.id not in chosen]:
        names = ", ".join(target.name for target in targets) or "no target"
        raise TargetError("\n".join([f"none of {names} takes:", *left]))
    return chosen
