"""Tensors whose ranges the calibration data can't give: constant ones, and those of single values.

The values of inputs are counted exactly. Those behind are judged by their histograms, and only
where no input has such values: what is behind them has them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.samples import Run
from qcomp.calibration.statistics import Statistics
from qcomp.findings.record import Finding, Kind
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.quant.distribution import Distribution

F64 = NDArray[np.float64]

HANDFUL = 8  # values
SHARE = 1e-3  # of all values, that a handful is at most
SHARE_OF_SAMPLES = 1 / 16  # that are as loud as no other, at most
MADE_BY_FEW = 0.75  # of the range: a quarter of the integers, 2 of 8 bits, is left for the others
_MADE_BY_FEW_BEHIND = 0.9
_SHARE_BEHIND = 1e-4
_NAMED = 4  # constant tensors


def constant(graph: Graph, statistics: Statistics) -> Iterator[Finding]:
    """All activations that have one value on all data, in one finding."""
    distributions = statistics.distributions
    found = _names(graph, [id for id, d in distributions.items() if d.is_constant])
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        count = len(_names(graph, distributions))
        text = f"constant on the calibration data ({len(found)} of {count} tensors)"
        where = ", ".join(found[:_NAMED]) + more
        help = "give --calibration samples that differ"
        yield Finding(Kind.CONSTANT, where, len(found), text, help)


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest magnitudes among `total` values, in descending order, and their samples."""

    magnitudes: F64
    samples: NDArray[np.int64]
    total: int

    @staticmethod
    def none() -> Largest:
        return Largest(np.zeros(0), np.zeros(0, np.int64), 0)

    def plus(self, values: NDArray[np.floating], sample: int) -> Largest:
        """With another sample's values."""
        flat = np.abs(values.ravel())
        if len(self.magnitudes) > HANDFUL:  # then hardly any value of another sample counts
            flat = flat[flat > self.magnitudes[-1]]
        flat = flat.astype(np.float64)
        if flat.size > HANDFUL + 1:
            flat = np.partition(flat, flat.size - HANDFUL - 1)[-HANDFUL - 1 :]
        magnitudes = np.concatenate([self.magnitudes, flat])
        samples = np.concatenate([self.samples, np.full(flat.size, sample)])
        order = np.argsort(-magnitudes, kind="stable")[: HANDFUL + 1]
        return Largest(magnitudes[order], samples[order], self.total + values.size)

    def few(self, most: float) -> tuple[int, float]:
        """How many, `most` at most, make what share of the range; (0, 0.0) if none make much."""
        for count in range(1, min(int(most) + 1, len(self.magnitudes))):
            share = _beyond(self.magnitudes[count], self.magnitudes[0])
            if share >= MADE_BY_FEW:
                return count, share
        return 0, 0.0


def outliers(graph: Graph, statistics: Statistics, runs: Iterable[Run]) -> Iterator[Finding]:
    """Ranges that a handful of values makes: of inputs, or else of the first tensor behind."""
    found = list(_of_inputs(runs))
    if not found:
        first = next(_behind(graph, statistics.distributions), None)
        found = [] if first is None else [first]
    yield from sorted(found, key=lambda f: -f.number)


def _of_inputs(runs: Iterable[Run]) -> Iterator[Finding]:
    values: dict[str, Largest] = {}
    peaks: dict[str, Largest] = {}
    for sample, run in enumerate(runs):
        for name, value in run.items():
            if np.issubdtype(value.dtype, np.floating):
                values[name] = values.get(name, Largest.none()).plus(value, sample)
                peak = np.abs(value).max(keepdims=True)
                peaks[name] = peaks.get(name, Largest.none()).plus(peak, sample)
    for name in values:
        found = _made_by(name, "values", values[name], SHARE * values[name].total)
        found = found or _made_by(
            name, "samples", peaks[name], SHARE_OF_SAMPLES * peaks[name].total
        )
        if found:
            yield found


def _made_by(name: str, what: str, largest: Largest, most: float) -> Finding | None:
    """The finding that a few of an input's values, or of its samples, make its range."""
    count, share = largest.few(most)
    if not count:
        return None
    samples = dict.fromkeys(int(s) for s in largest.samples[:count])
    text = (
        f"{count} of {largest.total:,} {what} {'takes' if count == 1 else 'take'} "
        f"{100 * share:.1f} % of the range, in calibration sample {', '.join(map(str, samples))}"
    )
    return Finding(Kind.OUTLIERS, name, share, text, _without(largest.magnitudes[count]))


def _behind(graph: Graph, distributions: Mapping[TensorId, Distribution]) -> Iterator[Finding]:
    inputs = set(graph.inputs.values())
    for id, distribution in distributions.items():
        if id in inputs:
            continue
        count, share = _few_of(distribution)
        if share >= _MADE_BY_FEW_BEHIND:
            total = distribution.bins.total
            text = f"{count} of {total:,} values take {100 * share:.1f} % of the range"
            (name,) = _names(graph, [id])
            yield Finding(Kind.OUTLIERS, name, share, text, "try --range percentile")


def _few_of(distribution: Distribution) -> tuple[int, float]:
    """The share of the range that the largest values make, which are hardly any of all."""
    bins = distribution.bins
    magnitude = np.maximum(-bins.left, bins.right)
    order = np.argsort(-magnitude, kind="stable")
    before = np.cumsum(bins.count[order])
    most = min(_SHARE_BEHIND * bins.total, HANDFUL)
    rest = int(np.searchsorted(before, most, side="right"))
    if rest == 0 or rest >= len(order):
        return 0, 0.0
    share = _beyond(magnitude[order[rest]], magnitude[order[0]])
    return int(before[rest - 1]), share


def _beyond(magnitude: float, largest: float) -> float:
    """The share of the range that is beyond a magnitude."""
    return 1.0 - float(magnitude) / float(largest) if largest > 0.0 else 0.0


def _names(graph: Graph, ids: Iterable[TensorId]) -> list[str]:
    """As the model has them; tensors that stand for one of it are named once."""
    origins = {id: graph.tensor(id).origin for id in ids}
    return list(dict.fromkeys((o and o.name) or id for id, o in origins.items()))


def _without(limit: float) -> str:
    return f"leave such samples out of --calibration (the others reach {limit:.4g})"
