"""Measure how long one run of a saved library takes: quantiles over batches of runs."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.timing import batches


@dataclass(frozen=True)
class BenchReport:
    """Microseconds per run, of any of the callers, each of which has its own arena."""

    median_us: float
    p10_us: float
    p90_us: float
    runs: int
    callers: int
    threads: int
    runs_per_second: float


def bench_directory(
    directory: str | os.PathLike[str], seconds: float = 2.0, callers: int = 1, threads: int = 1
) -> BenchReport:
    """Run the library of `directory` for about `seconds`, on random inputs.

    `callers` run the whole network at the same time; `threads` share the work of one run.
    """
    net = load(directory)
    with net.entry().sharing.among(threads):
        return _bench(net, seconds, callers, threads)


def _bench(net: CompiledNetwork, seconds: float, callers: int, threads: int) -> BenchReport:
    found = batches(net, seconds, callers)
    p10, median, p90 = (float(1e6 * q) for q in np.quantile(found.each, [0.1, 0.5, 0.9]))
    runs = len(found.each) * found.runs
    return BenchReport(median, p10, p90, runs, callers, threads, runs / found.elapsed)
