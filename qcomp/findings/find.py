"""All findings of a compilation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qcomp.accuracy.record import Accuracy
from qcomp.calibration.samples import Run, Samples
from qcomp.calibration.statistics import Statistics
from qcomp.errors import FindingsError
from qcomp.findings.behaviour import behaviour
from qcomp.findings.first_layer import first_layer
from qcomp.findings.inputs import few_samples, labels, layout
from qcomp.findings.outputs import LEAST_DB, Ratios, drift, few_integers, inaccurate
from qcomp.findings.record import Finding, Kind
from qcomp.findings.tensors import constant, outliers
from qcomp.findings.variety import different_ones, noise, repeated, unlike
from qcomp.ir.graph import Graph

_LOOKED_AT = 16  # runs, for what shows on any of them
_COMPARED = 64  # with each other


@dataclass(frozen=True)
class Demands:
    """Which findings make a compilation fail: all of them (strict), or parts below `min_sqnr_db`.

    FindingsError for a ratio that is not finite.
    """

    strict: bool = False
    min_sqnr_db: float | None = None

    def __post_init__(self) -> None:
        if self.min_sqnr_db is not None and not math.isfinite(self.min_sqnr_db):
            raise FindingsError(f"min_sqnr_db={self.min_sqnr_db}: expected decibels, such as 20")

    @property
    def least_db(self) -> float:
        """Below it a part is inaccurate."""
        return LEAST_DB if self.min_sqnr_db is None else self.min_sqnr_db

    def check(self, findings: tuple[Finding, ...], accuracy: Accuracy | None) -> None:
        """FindingsError, with all of those that are refused."""
        if self.min_sqnr_db is not None and accuracy is None:
            raise FindingsError(
                f"min_sqnr_db={self.min_sqnr_db:g}: there is no ratio to compare; give calibration "
                "data, and a network with an output that is a number"
            )
        refused = [f for f in findings if self.strict or self._is_below(f)]
        if refused:
            listed = "\n".join(f"  {finding}" for finding in refused)
            raise FindingsError(f"{len(refused)} findings that are refused:\n{listed}")

    def _is_below(self, finding: Finding) -> bool:
        return self.min_sqnr_db is not None and finding.kind is Kind.INACCURATE


def _without_integers(imported: Graph, runs: Sequence[Run]) -> list[Run]:
    """Without the inputs that the model takes as integers, such as lengths and indices."""
    given = {n for n, t in imported.inputs.items() if imported.tensor(t).qparams is not None}
    return [{n: array for n, array in run.items() if n not in given} for run in runs]


def of_data(imported: Graph, data: Samples) -> Iterator[Finding]:
    """What calibration data shows of itself and in the first layers of the graph as imported."""
    runs = data.first(_LOOKED_AT)
    yield from few_samples(len(runs) * data.batch)
    if runs:
        yield from labels(_without_integers(imported, runs))
        yield from layout(runs)
        yield from noise(runs)
        yield from repeated(runs)
        yield from unlike(data.first(_COMPARED))
        told = list(first_layer(imported, runs))
        yield from told
        if 2 * different_ones(runs) > len(runs):
            yield from behaviour(imported, runs, data.batch, scale_is_told=bool(told))


def of_ranges(graph: Graph, statistics: Statistics, data: Samples) -> Iterator[Finding]:
    """What is odd about the ranges of the float graph's activations."""
    yield from constant(graph, statistics)
    yield from outliers(graph, statistics, data)


def of_outputs(
    accuracy: Accuracy, wider: Callable[[], Ratios], demands: Demands
) -> Iterator[Finding]:
    """What is inaccurate; `wider` gives the ratios of 16-bit activations."""
    yield from inaccurate(accuracy, wider, demands.least_db)
    yield from drift(accuracy)
    yield from few_integers(accuracy, demands.least_db)
