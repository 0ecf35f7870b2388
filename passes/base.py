"""What a pass is, and the manager that runs, sweeps, verifies and tells observers.

A pass is a frozen dataclass with a name, the form it needs, the form it gives, and
`run(graph, log)`. It never verifies, prints, sweeps or dumps: the manager does, after each pass. A
pass that stands where the graph has not the form that it needs is an error of the order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qcomp.errors import CalibrationError, CompileError, PassError, VerifyError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.verify import verify
from qcomp.passes.events import PassLog


class Pass(Protocol):
    """The contract of a pass."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Form: ...
    @property
    def gives(self) -> Form: ...

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
