"""What an evaluation found, as a table and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Of one network on labelled samples: shares of them, or None where there are no labels.

    metric: what the caller's own metric says, by name.
    """

    top1: float | None = None
    top5: float | None = None
    metric: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class OutputNoise:
    """How near a part of an output is to the float network's, over all samples.

    sqnr_db: None where nothing differs, or the float values are all 0.
    """

    part: str
    sqnr_db: float | None


@dataclass(frozen=True)
class WorstSample:
    """A sample on which the two networks differ much; classes are outputs, None without any."""

    name: str
    sqnr_db: float
    label: int | None = None
    of_float: int | None = None
    of_integer: int | None = None

    def __str__(self) -> str:
        text = f"{self.name}: {self.sqnr_db:.1f} dB"
        classes = {"label": self.label, "float": self.of_float, "integer": self.of_integer}
        told = [f"{name} {value}" for name, value in classes.items() if value is not None]
        return ", ".join([text, *told])


@dataclass(frozen=True)
class Evaluation:
    """Networks on the same samples.

    of_float, of_integer: scores of those that were evaluated; None for the other.
    agreement: the share of samples whose largest output is that of the float network.
    outputs: the signal-to-noise ratio of each part of each output, of both networks together.
    worst: samples of the lowest ratio, the worst first.
    notes: what was left out of the data, or assumed.
    """

    name: str
    samples: int
    of_float: Scores | None
    of_integer: Scores | None
    agreement: float | None = None
    outputs: tuple[OutputNoise, ...] = ()
    worst: tuple[WorstSample, ...] = ()
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """As `qcomp evaluate --json` prints it."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """The table for people."""
        shown = {"float": self.of_float, "integer": self.of_integer}
        columns = {name: scores for name, scores in shown.items() if scores is not None}
        lines = [f"{self.name} on {self.samples:,} samples"]
        every = [_row(scores) for scores in columns.values()]
        rows = {name: [row.get(name) for row in every] for name in _names(every)}
        if rows:
            lines.append(f"  {'':<12}" + "".join(f"{name:>10}" for name in columns))
        lines += [
            f"  {name:<12}" + "".join(f"{'' if v is None else _figure(v):>10}" for v in values)
            for name, values in rows.items()
        ]
        if self.agreement is not None:
            lines.append(f"  agreement   {_figure(self.agreement):>10} of largest outputs")
        lines += [f"  sqnr        {_decibels(o.sqnr_db):>10} dB  {o.part}" for o in self.outputs]
        lines += [f"  worst       {sample}" for sample in self.worst]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _row(scores: Scores) -> dict[str, float]:
    own = {"top-1": scores.top1, "top-5": scores.top5}
    return {**{n: v for n, v in own.items() if v is not None}, **scores.metric}


def _names(rows: Sequence[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _figure(value: float) -> str:
    """A share as .8033, other numbers with as many digits."""
    return f"{value:.4f}".removeprefix("0") if 0.0 <= value < 1.0 else f"{value:.4g}"


def _decibels(ratio: float | None) -> str:
    return "none" if ratio is None else f"{ratio:.1f}"
