"""From the rows that bench_peers.py recorded, one list a round, to a Markdown table.

A time is the median over the rounds of a peer's median, less that of `null_relu`: a network of
sixteen ReLUs, whose time is the cost of a call from Python. A peer without that network (LiteRT)
is granted ours. A round in which another process took the core, as the spread of a row shows,
counts for that row only if no round was calm.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

OURS, OURS_FLOAT = "qcomp_int8", "qcomp_int8_float_io"
NULL = "null_relu"

NATIVE_BARS = {
    "ad01": 0.9,
    "kws": 0.35,
    "resnet8": 0.6,
    "vww": 0.35,
    "mobilenet_v1": 0.55,
    "mobilenet_v2": 0.55,
    "squeezenet": 0.7,
    "resnet18": 0.85,
    "resnet50": 0.9,
}
BARS = {
    "native": NATIVE_BARS,
    "avx512_vnni": dict.fromkeys(NATIVE_BARS, 0.75),
    "avx2": {"mobilenet_v2": 1.0, "resnet50": 1.0},
}
CALM = 1.25
"""The most that p90 / p10 of an undisturbed measurement is."""

THREADS_BAR = {"mobilenet_v2": 0.6, "resnet50": 0.6}
"""At most this ratio of two threads' time to one's."""


@dataclass(frozen=True)
class Key:
    """What one figure belongs to."""

    peer: str
    model: str
    isa: str
    threads: int


@dataclass(frozen=True)
class Best:
    """The fastest of some peers."""

    peer: str
    ms: float


class Times:
    """Milliseconds by peer, network, instruction set and threads; what failed, and why."""

    def __init__(self, rounds: Iterable[Sequence[Row]]) -> None:
        measured: dict[Key, list[Row]] = {}
        self.failures: dict[Key, str] = {}
        for row in (row for rows in rounds for row in rows):
            key = Key(row["peer"], row["model"], row["isa"], row["threads"])
            if "ms" in row:
                measured.setdefault(key, []).append(row)
            else:
                self.failures[key] = str(row.get("error", "no time"))
        self._medians = {key: median_of_calm(same) for key, same in measured.items()}
        calls = [ms for k, ms in self._medians.items() if (k.peer, k.model) == (OURS, NULL)]
        self._call = min(calls, default=0.0)

    @property
    def models(self) -> list[str]:
        """In the order of the bars, then the others."""
        seen = {key.model for key in [*self._medians, *self.failures]} - {NULL}
        return [m for m in NATIVE_BARS if m in seen] + sorted(seen - set(NATIVE_BARS))

    def net(self, key: Key) -> float | None:
        """Less the cost of a call; None where nothing was measured."""
        if key not in self._medians:
            return None
        call = self._medians.get(Key(key.peer, NULL, key.isa, key.threads), self._call)
        return self._medians[key] - call

    def best(self, model: str, isa: str, threads: int, besides: str | None = None) -> Best | None:
        """The fastest peer but us; `besides`: of those that have no time with that set."""
        found = []
        for key in self._medians:
            if (key.model, key.isa, key.threads) != (model, isa, threads) or is_ours(key.peer):
                continue
            if besides and Key(key.peer, model, besides, threads) in self._medians:
                continue
            ms = self.net(key)
            assert ms is not None
            found.append(Best(key.peer, ms))
        return min(found, key=lambda b: b.ms, default=None)


def median_of_calm(rows: Sequence[Row]) -> float:
    """Of the undisturbed rows, or of all where there is none."""
    calm = [row for row in rows if row["p90"] <= CALM * row["p10"]]
    times: list[float] = [row["ms"] for row in calm or rows]
    return statistics.median(times)


def is_ours(peer: str) -> bool:
    return peer in (OURS, OURS_FLOAT)


def table(rounds: Iterable[Sequence[Row]], isa: str, threads: int) -> str:
    """Ratios are our time to the peer's, below 1 is faster; the bar is for int8 in and out."""
    times = Times(rounds)
    heads = ["network", "best peer", "its ms", "qcomp ms", "ratio", "floats in, out: ms", "ratio"]
    heads.append("bar")
    if isa != "native":
        heads += ["best of those without a limit", "its ms", "ratio"]
    if threads > 1:
        heads += ["qcomp, 1 thread: ms", "ratio to it", "bar"]
    lines = [cells(heads), "|" + "---|" * len(heads)]
    for model in times.models:
        best = times.best(model, isa, threads)
        ours = times.net(Key(OURS, model, isa, threads))
        ours_float = times.net(Key(OURS_FLOAT, model, isa, threads))
        row = [model, *named(best), number(ours), ratio(ours, ms_of(best))]
        row += [number(ours_float), ratio(ours_float, ms_of(best))]
        row.append(number(BARS.get(isa, {}).get(model) if threads == 1 else None))
        if isa != "native":
            free = times.best(model, "native", threads, besides=isa)
            row += [*named(free), ratio(ours, ms_of(free))]
        if threads > 1:
            alone = times.net(Key(OURS, model, isa, 1))
            row += [number(alone), ratio(ours, alone)]
            row.append(number(THREADS_BAR.get(model)))
        lines.append(cells(row))
    failed = [
        f"- {k.peer}, {k.model}, {k.isa}, threads {k.threads}: {why}"
        for k, why in times.failures.items()
    ]
    return "\n".join([*lines, *(["", "Failed:", "", *failed] if failed else [])])


def cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def named(best: Best | None) -> tuple[str, str]:
    return (best.peer, number(best.ms)) if best else ("", "")


def ms_of(best: Best | None) -> float | None:
    return best.ms if best else None


def number(value: float | None) -> str:
    """Three significant digits or more."""
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""
