"""What a pass is, and the manager that runs, sweeps, verifies and dumps.

A pass is a frozen dataclass with a name, the form it needs, the form it gives, and
`run(graph, log)`. It never verifies, prints, sweeps or dumps: the manager does, after each pass. A
pass that stands where the graph has not the form that it needs is an error of the order.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from qcomp.errors import CalibrationError, CompileError, OutputError, PassError, VerifyError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.ir.verify import verify


@dataclass
class PassLog:
    """What a pass did and what it declined, a line each, in order."""

    lines: list[str] = field(default_factory=list)

    def did(self, what: str) -> None:
        self.lines.append(f"did  {what}")

    def skipped(self, where: str, reason: str) -> None:
        self.lines.append(f"skip {where}: {reason}")

    def note(self, what: str) -> None:
        """A figure or a choice worth knowing that is neither done nor declined."""
        self.lines.append(f"note {what}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def count(self, kind: str) -> int:
        """How many lines are of kind "did", "skip" or "note"."""
        return sum(line.startswith(kind) for line in self.lines)


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
    """One pass (or other step) that ran: its name, log and seconds."""

    name: str
    log: PassLog
    seconds: float


Answers = Callable[[Graph], Mapping[str, Array]]


@dataclass
class PassManager:
    """Runs passes over one working copy: run, sweep, verify, compare, dump.

    With `answers`, which runs a float graph on some inputs, the log of each pass that leaves a
    float graph says by how much it changed the outputs.
    """

    dump: Path | None = None
    answers: Answers | None = None
    records: list[PassRecord] = field(default_factory=list)
    _text: str = ""
    _answers: Mapping[str, Array] = field(default_factory=dict)

    def begin(self, graph: Graph, form: Form) -> Graph:
        """The working copy; the caller's graph is never touched."""
        verify(graph, form)
        if self.dump is not None:
            self._text = str(graph)
            self._write("00-import.txt", self._text)
        if self.answers is not None and form is Form.FLOAT:
            self._answers = self.answers(graph)
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

    def record(self, name: str, log: PassLog, seconds: float) -> None:
        """A step that is no pass, and leaves the graph as it is."""
        self.records.append(PassRecord(name, log, seconds))
        if self.dump is not None:
            self._write(f"{len(self.records):02d}-{name}.log", log.text)

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
        self.records.append(PassRecord(p.name, log, time.perf_counter() - began))
        if self.answers is not None and p.gives is Form.FLOAT:
            answers = self.answers(graph)
            log.note(_difference(self._answers, answers))
            self._answers = answers
        if self.dump is not None:
            self._dump(graph, p.name, log)

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

    def _dump(self, graph: Graph, name: str, log: PassLog) -> None:
        stem = f"{len(self.records):02d}-{name}"
        text = str(graph)
        diff = difflib.unified_diff(
            self._text.splitlines(), text.splitlines(), "before", "after", n=1, lineterm=""
        )
        self._write(f"{stem}.txt", text)
        self._write(f"{stem}.log", log.text)
        self._write(f"{stem}.diff", "\n".join(diff))
        self._text = text

    def _write(self, name: str, text: str) -> None:
        assert self.dump is not None
        try:
            self.dump.mkdir(parents=True, exist_ok=True)
            (self.dump / name).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"can't write {self.dump / name}: {error.strerror}") from error


def _difference(before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """By how much a pass moved the outputs at most."""
    pairs = [(before[name].astype(np.float64), after[name]) for name in before]
    largest = max((float(np.abs(a - b).max(initial=0.0)) for a, b in pairs), default=0.0)
    reach = max((float(np.abs(a).max(initial=0.0)) for a, _ in pairs), default=0.0)
    return f"max difference of the outputs {largest:.3g}, values up to {reach:.3g}"


def run_pass(graph: Graph, p: Pass) -> tuple[Graph, PassLog]:
    """Run one pass on a copy, swept and verified: for tests and for use by hand."""
    manager = PassManager()
    after = manager.run(manager.begin(graph, p.needs), [p])
    return after, manager.records[0].log
