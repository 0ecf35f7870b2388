"""What a pass is, and the manager that runs, sweeps, verifies and tells observers.

A pass is a frozen dataclass with a name, the form it needs, the form it gives, and
`run(graph, log)`. It never verifies, prints, sweeps or dumps: the manager does, after each pass. A
pass that stands where the graph has not the form that it needs is an error of the order.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from qcomp.errors import CalibrationError, CompileError, PassError, VerifyError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.ir.verify import verify


class EventKind(enum.StrEnum):
    """What became of something; the value is how the line of an event begins."""

    DID = "did"
    SKIPPED = "skip"
    NOTE = "note"


@dataclass(frozen=True)
class Event:
    """One thing that a pass did, left alone for a reason, or found worth knowing.

    It is of an op, of a tensor, or where both are None of the graph. `text` tells all of it to
    people; `reason` is why something was left alone; `numbers` are the figures of the text by name.
    """

    kind: EventKind
    text: str
    op: TensorId | None
    tensor: TensorId | None
    reason: str
    numbers: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.kind:4} {self.text}"


@dataclass
class PassLog:
    """The log of a pass: an event for each thing that it did or left alone, in order."""

    events: list[Event] = field(default_factory=list)

    def did(
        self,
        what: str,
        *,
        op: TensorId | None = None,
        tensor: TensorId | None = None,
        **numbers: float,
    ) -> None:
        self.events.append(Event(EventKind.DID, what, op, tensor, "", _floats(numbers)))

    def note(
        self,
        what: str,
        *,
        op: TensorId | None = None,
        tensor: TensorId | None = None,
        **numbers: float,
    ) -> None:
        """A figure or a choice worth knowing that is neither done nor left alone."""
        self.events.append(Event(EventKind.NOTE, what, op, tensor, "", _floats(numbers)))

    def skipped(self, op: TensorId, reason: str) -> None:
        """An op stays as it is."""
        self._skip(op, reason, op, None, {})

    def skipped_tensor(self, tensor: TensorId, reason: str) -> None:
        """A tensor stays as it is."""
        self._skip(tensor, reason, None, tensor, {})

    def declined(self, what: str, reason: str, **numbers: float) -> None:
        """Something is not done that is of no single op or tensor."""
        self._skip(what, reason, None, None, numbers)

    def _skip(
        self,
        where: str,
        reason: str,
        op: TensorId | None,
        tensor: TensorId | None,
        numbers: Mapping[str, float],
    ) -> None:
        text = f"{where}: {reason}"
        self.events.append(Event(EventKind.SKIPPED, text, op, tensor, reason, _floats(numbers)))

    @property
    def lines(self) -> list[str]:
        return [str(event) for event in self.events]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def count(self, kind: EventKind) -> int:
        """How many events are of a kind."""
        return sum(event.kind == kind for event in self.events)


def _floats(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}


class Pass(Protocol):
    """The contract of a pass."""

    name: ClassVar[str]
    needs: ClassVar[Form]
    gives: ClassVar[Form]

    def run(self, graph: Graph, log: PassLog) -> None:
        """Change `graph` in place; raise PassError where the work can't be done."""
        ...


@dataclass(frozen=True)
class PassRecord:
    """One pass (or other step) that ran: its name, log, seconds, and the form that it left."""

    name: str
    log: PassLog
    seconds: float
    gives: Form


class Observer(Protocol):
    """Sees the graph as it begins and after each pass; one that keeps a graph keeps a clone."""

    def began(self, graph: Graph, form: Form) -> None:
        """The graph before any pass."""
        ...

    def passed(self, graph: Graph, record: PassRecord) -> None:
        """The graph as a pass has left it, swept and verified."""
        ...

    def recorded(self, record: PassRecord) -> None:
        """A step that is no pass, and leaves the graph as it is."""
        ...


@dataclass
class PassManager:
    """Runs passes over one working copy: run, sweep, verify, tell the observers."""

    observers: Sequence[Observer] = ()
    records: list[PassRecord] = field(default_factory=list)

    def begin(self, graph: Graph, form: Form) -> Graph:
        """The working copy; the caller's graph is never touched."""
        verify(graph, form)
        for observer in self.observers:
            observer.began(graph, form)
        return graph.clone()

    def run(self, graph: Graph, passes: Sequence[Pass]) -> Graph:
        """Run `passes` on `graph` in place and give it back."""
        verified = None
        for p in passes:
            if p.needs is not verified:
                self._expect(graph, p)
            self._run_one(graph, p)
            verified = p.gives
        return graph

    def _run_one(self, graph: Graph, p: Pass) -> None:
        log = PassLog()
        began = time.perf_counter()
        try:
            p.run(graph, log)
            graph.sweep()
            verify(graph, p.gives)
        except CalibrationError:  # the data is to blame, not the pass
            raise
        except CompileError as error:
            before = ", ".join(r.name for r in self.records) or "none"
            kind = "left a broken graph" if isinstance(error, VerifyError) else "failed"
            raise PassError(
                f"pass {p.name} {kind}: {error}\n(passes already run: {before})"
            ) from error
        record = PassRecord(p.name, log, time.perf_counter() - began, p.gives)
        self.records.append(record)
        for observer in self.observers:
            observer.passed(graph, record)

    def _expect(self, graph: Graph, p: Pass) -> None:
        """The form that a pass needs; PassError blames the order of the passes."""
        try:
            verify(graph, p.needs)
        except VerifyError as error:
            before = ", ".join(r.name for r in self.records) or "none"
            raise PassError(
                f"pass {p.name} can't run here, as it needs form {p.needs.value}: {error}\n"
                f"(passes already run: {before})"
            ) from error


def run_pass(graph: Graph, p: Pass) -> tuple[Graph, PassLog]:
    """Run one pass on a copy, swept and verified: for tests and for use by hand."""
    manager = PassManager()
    after = manager.run(manager.begin(graph, p.needs), [p])
    return after, manager.records[0].log
