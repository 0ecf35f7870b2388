"""What each pass of a compilation did: an entry with its events, and how it changed the graph.

Passes share the payloads that they leave alone, so what changed is found by looking at which are
still the same objects, and only that is printed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Tensor, TensorId
from qcomp.ir.text import format_constant, format_op
from qcomp.passes.base import PassRecord
from qcomp.passes.events import Event, EventKind


@dataclass(frozen=True)
class LedgerEvent:
    """An event of a pass, with the line of its op or tensor in the graph; "" where it has none."""

    kind: EventKind
    text: str
    op: TensorId | None
    tensor: TensorId | None
    reason: str
    numbers: Mapping[str, float]
    line: str


@dataclass(frozen=True)
class PassEntry:
    """One pass, or other step.

    diff: lines that it took from the graph ("-") and put into it ("+"), in the graph's order;
        constants and what is known of tensors are told by their types and marks.
    ops, constant_bytes: of the graph that it left.
    seconds: of its own. peak_bytes: the most memory that the process has held so far. Both are None
        where they are not known, as in what is saved with a network.
    tensors: as in the log of the pass; empty where they were not measured.
    """

    name: str
    gives: Form
    events: tuple[LedgerEvent, ...]
    diff: tuple[str, ...]
    ops: int
    constant_bytes: int
    seconds: float | None = None
    peak_bytes: int | None = None
    tensors: Mapping[str, float] = field(default_factory=dict)

    def count(self, kind: EventKind) -> int:
        """How many events are of a kind."""
        return sum(event.kind is kind for event in self.events)

    def number(self, name: str) -> float | None:
        """The last figure of that name among the events."""
        found = [event.numbers[name] for event in self.events if name in event.numbers]
        return found[-1] if found else None

    def worst(self, count: int) -> list[tuple[str, float]]:
        """The tensors with the lowest ratios among those that are others since this pass."""
        return sorted(self.tensors.items(), key=lambda pair: pair[1])[:count]

    @property
    def untimed(self) -> PassEntry:
        """Without what another run would tell otherwise."""
        return replace(self, seconds=None, peak_bytes=None)


@dataclass
class Ledger:
    """An observer that makes an entry of every pass. It stands behind those that add to logs."""

    entries: list[PassEntry] = field(default_factory=list)
    _graph: Graph | None = None

    def began(self, graph: Graph, form: Form) -> None:
        self._graph = graph.clone()

    def passed(self, graph: Graph, record: PassRecord) -> None:
        after = graph.clone()
        self._append(record, after, tuple(changes(self._graph or after, after)))
        self._graph = after

    def recorded(self, record: PassRecord) -> None:
        if self._graph is not None:
            self._append(record, self._graph, ())

    def _append(self, record: PassRecord, graph: Graph, diff: tuple[str, ...]) -> None:
        before = self._graph or graph
        self.entries.append(
            PassEntry(
                record.name,
                record.gives,
                tuple(_told(event, graph, before) for event in record.log.events),
                diff,
                len(graph.ops()),
                sum(t.type.bytes for t in graph.tensors() if t.is_constant),
                record.seconds,
                _peak_bytes(),
                dict(record.log.tensors),
            )
        )


def changes(before: Graph, after: Graph) -> Iterator[str]:
    """Lines of `before` that are gone ("-"), new ones of `after` ("+"), and constants of the same
    line that have other numbers ("~").
    """
    old, new = _payloads(before), _payloads(after)
    moved = [id for id in old if id in new and not _same(old[id], new[id])]
    gone = {id: _line(before, id) for id in (*(id for id in old if id not in new), *moved)}
    come = {id: _line(after, id) for id in (*moved, *(id for id in new if id not in old))}
    for id in old:
        if id in gone and gone[id] != come.get(id):
            yield f"-{gone[id]}"
    for id in new:
        if id in come and gone.get(id) != come[id]:
            yield f"+{come[id]}"
        elif id in come and after.is_constant(id) and before.data(id) is not after.data(id):
            yield f"~{come[id]}"


def _payloads(graph: Graph) -> dict[TensorId, tuple[Op | None, Tensor]]:
    """Of inputs and constants, then of ops in their order."""
    ops = {op.id: op for op in graph.ops()}
    others = [t.id for t in graph.tensors() if t.id not in ops]
    return {id: (ops.get(id), graph.tensor(id)) for id in (*others, *ops)}


def _same(a: tuple[Op | None, Tensor], b: tuple[Op | None, Tensor]) -> bool:
    return a[0] is b[0] and a[1] is b[1]


def _told(event: Event, now: Graph, then: Graph) -> LedgerEvent:
    id = event.op or event.tensor
    lines = [_line(graph, id) for graph in (now, then) if id is not None and id in graph]
    return LedgerEvent(
        event.kind,
        event.text,
        event.op,
        event.tensor,
        event.reason,
        {name: n for name, n in event.numbers.items() if math.isfinite(n)},
        lines[0] if lines else "",
    )


def _line(graph: Graph, id: TensorId) -> str:
    op = graph.producer(id)
    if op is not None:
        return format_op(graph, op)
    line = format_constant(graph.tensor(id))
    return line if graph.is_constant(id) else line.replace("constant", "input", 1)


def _peak_bytes() -> int | None:
    """getrusage's, in bytes; None on systems without it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
