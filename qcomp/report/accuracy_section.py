"""The section with the ratios found when the network was compiled: by parts of
outputs, by the steps of sequences, and by lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from qcomp.accuracy.record import Accuracy, PartAccuracy
from qcomp.report.markup import MOST_ROWS, Json, decibels, esc, table
from qcomp.targets.base import Artifact

_MOST_DB = 60.0  # of a full bar


class Plan(Protocol):
    """A network of one length."""

    @property
    def accuracy(self) -> Accuracy | None: ...


class Network(Plan, Protocol):
    """The largest, with those of the shorter lengths."""

    @property
    def artifact(self) -> Artifact: ...
    @property
    def shorter(self) -> Sequence[Plan]: ...


def accuracy_facts(net: Network) -> Json | None:
    """What the page shows; None where there was no data to compare outputs on."""
    if net.accuracy is None:
        return None
    plans = dict(zip(net.artifact.lengths, (net, *net.shorter), strict=False))
    return {
        "samples": net.accuracy.samples,
        "held_back": net.accuracy.held_back,
        "parts": [_part(part) for part in net.accuracy.parts],
        "steps": [[s.first, s.last, s.sqnr_db] for s in net.accuracy.steps],
        "lengths": [
            [length, str(part.part), part.sqnr_db]
            for length, plan in plans.items()
            for part in ([] if plan.accuracy is None else plan.accuracy.parts)
        ],
    }


def _part(part: PartAccuracy) -> Json:
    return {
        "name": str(part.part),
        "db": part.sqnr_db,
        "low": part.low,
        "high": part.high,
        "integers": part.integers,
    }


def accuracy_section(found: Json) -> str:
    """`found` as `accuracy_facts` gives it."""
    on = "that calibration left out" if found["held_back"] else "of calibration"
    parts = [
        _row(esc(p["name"]), p["db"], f"{p['low']:.4g} to {p['high']:.4g}", p["integers"])
        for p in found["parts"][:MOST_ROWS]
    ]
    shown = [
        f"<p>Ratio of each output to that of the float network, on {found['samples']} samples "
        f"{on}.</p>",
        table(("output", "dB", "values", "integers"), parts),
    ]
    if found["steps"]:
        steps = [_row(f"{first} to {last}", db) for first, last, db in found["steps"]]
        told = "Of the steps of sequences, each network from its own states."
        shown += [f"<p>{told}</p>", table(("steps", "dB"), steps)]
    if found["lengths"]:
        lengths = [_row(f"{length}: {esc(name)}", db) for length, name, db in found["lengths"]]
        told = "Of the lengths that the library has plans for; errors of ops are of the largest."
        shown += [f"<p>{told}</p>", table(("length", "dB"), lengths)]
    return "".join(shown)


def _row(name: str, db: float | None, *more: Any) -> str:
    share = 0.0 if db is None else min(max(db / _MOST_DB, 0.0), 1.0)
    bar = f"<span class=bar><i style=width:{100 * share:.1f}%></i></span>"
    rest = "".join(f"<td class=n>{esc(value)}</td>" for value in more)
    return f"<tr><td>{name}</td><td class=n>{decibels(db)}{bar}</td>{rest}</tr>"
