"""The log of a pass: typed events, from which its text is made."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from qcomp.ir.tensor import TensorId


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
    """The log of a pass: an event for each thing that it did or left alone, in order.

    tensors: ratios in dB, by names of the model, that are others since this pass, where they were
        measured (passes/tensor_ratios.py).
    """

    events: list[Event] = field(default_factory=list)
    tensors: dict[str, float] = field(default_factory=dict)

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
