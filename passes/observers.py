"""Observers of passes: dumps, differences of outputs, records, and a tape for later."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qcomp.errors import OutputError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import Array
from qcomp.passes.base import Observer, PassRecord
from qcomp.passes.events import EventKind, PassLog
from qcomp.quant.noise import Noise

_LOG = logging.getLogger("qcomp.passes")

Answers = Callable[[Graph, Form], Sequence[Mapping[str, Array]]]


@dataclass
class Dump:
    """Writes the text, the log and the diff of every pass into a directory."""

    directory: Path
    _text: str = ""
    _count: int = 0

    def began(self, graph: Graph, form: Form) -> None:
        self._text = str(graph)
        self._write("00-import.txt", self._text)

    def passed(self, graph: Graph, record: PassRecord) -> None:
        text = str(graph)
        diff = difflib.unified_diff(
            self._text.splitlines(), text.splitlines(), "before", "after", n=1, lineterm=""
        )
        self.recorded(record)
        self._write(f"{self._stem(record)}.txt", text)
        self._write(f"{self._stem(record)}.diff", "\n".join(diff))
        self._text = text

    def recorded(self, record: PassRecord) -> None:
        self._count += 1
        self._write(f"{self._stem(record)}.log", record.log.text)

    def _stem(self, record: PassRecord) -> str:
        return f"{self._count:02d}-{record.name}"

    def _write(self, name: str, text: str) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / name).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"can't write {self.directory / name}: {error.strerror}") from error


class Logged:
    """Tells the log of the package of every step: a line each, and at the level DEBUG all of it."""

    def began(self, graph: Graph, form: Form) -> None:
        _LOG.info("imported %s: %d ops, form %s", graph.name, len(list(graph.ops())), form.value)

    def passed(self, graph: Graph, record: PassRecord) -> None:
        self.recorded(record)

    def recorded(self, record: PassRecord) -> None:
        done, left = (record.log.count(kind) for kind in (EventKind.DID, EventKind.SKIPPED))
        _LOG.info("%s: %d done, %d left, %.2f s", record.name, done, left, record.seconds)
        for line in record.log.lines if _LOG.isEnabledFor(logging.DEBUG) else ():
            _LOG.debug("  %s", line)


@dataclass
class OutputDifference:
    """Notes in the log of each pass by how much it moved the outputs of a float graph, and how near
    they are to those of the graph that the passes began with.

    `answers` runs a graph of any form on some samples, and gives real numbers. Observers that show
    the log come behind this one.
    """

    answers: Answers
    _first: Sequence[Mapping[str, Array]] = ()
    _before: Sequence[Mapping[str, Array]] = ()
    _ratio: tuple[str, float] | None = None
    _ops: Sequence[Op] = ()

    def began(self, graph: Graph, form: Form) -> None:
        self._first = self._before = self.answers(graph, form)
        self._ops = graph.ops()

    def passed(self, graph: Graph, record: PassRecord) -> None:
        ops = graph.ops()
        if record.gives is Form.FLOAT or record.log.count(EventKind.DID) or ops != self._ops:
            after = self.answers(graph, record.gives)
            if record.gives is Form.FLOAT:
                _note_difference(record.log, self._before, after)
            self._ratio = _ratio(self._first, after)
            self._before, self._ops = after, ops
        if self._ratio is not None:
            text, db = self._ratio
            told = f"outputs against the imported ones: {text}"
            if math.isfinite(db):
                record.log.note(told, sqnr_db=db)
            else:
                record.log.note(told, exact=1.0)

    def recorded(self, record: PassRecord) -> None:
        """The graph is as it was."""


@dataclass
class Records:
    """Keeps the records."""

    kept: list[PassRecord] = field(default_factory=list)

    def began(self, graph: Graph, form: Form) -> None:
        """There is no record of the import."""

    def passed(self, graph: Graph, record: PassRecord) -> None:
        self.kept.append(record)

    def recorded(self, record: PassRecord) -> None:
        self.kept.append(record)


@dataclass
class Tape:
    """Keeps what passes did until it is played to observers, who from then on are told at once.

    A trial is recorded so, and told of if its result is the one that is taken.
    """

    _kept: list[tuple[Graph, PassRecord]] = field(default_factory=list)
    _observers: Sequence[Observer] | None = None

    def play(self, observers: Sequence[Observer]) -> None:
        """Only the first call has observers told."""
        if self._observers is None:
            self._observers = observers
            for graph, record in self._kept:
                self.passed(graph, record)
            self._kept = []

    def began(self, graph: Graph, form: Form) -> None:
        """A stage begins where the one before it ended, which observers know."""

    def passed(self, graph: Graph, record: PassRecord) -> None:
        if self._observers is None:
            self._kept.append((graph.clone(), record))
        else:
            for observer in self._observers:
                observer.passed(graph, record)

    def recorded(self, record: PassRecord) -> None:
        """Passes of a stage leave no other records."""


def _note_difference(
    log: PassLog, before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]
) -> None:
    """By how much a pass moved the outputs at most."""
    pairs = [
        (one[name].astype(np.float64), other[name])
        for one, other in zip(before, after, strict=True)
        for name in one
    ]
    largest = max((float(np.abs(a - b).max(initial=0.0)) for a, b in pairs), default=0.0)
    reach = max((float(np.abs(a).max(initial=0.0)) for a, _ in pairs), default=0.0)
    told = f"max difference of the outputs {largest:.3g}, values up to {reach:.3g}"
    log.note(told, difference=largest, reach=reach)


def _ratio(
    first: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]
) -> tuple[str, float]:
    """Of each output, as text, and of all of them; infinite where nothing differs."""
    noises = {name: Noise() for name in (first[0] if first else ())}
    for one, other in zip(first, after, strict=True):
        for name in noises:
            noises[name] = noises[name].plus([one[name]], [other[name]])
    told = [f"{name} {noise.db:.1f} dB" for name, noise in noises.items()]
    return ", ".join(told), sum(noises.values(), Noise()).db
