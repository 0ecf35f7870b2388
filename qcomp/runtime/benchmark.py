"""Measure how long one run of a saved library takes.

Each measurement is a batch of runs in a compiled loop, long enough that the cost of calling it from
Python (about a microsecond) is below one per cent; the report gives quantiles over the batches.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qcomp.runtime.load import load
from qcomp.runtime.network import CompiledNetwork
from qcomp.runtime.vectors import random_inputs

_BATCH_SECONDS = 200e-6
_MIN_BATCHES = 20
_WARM_UP_SECONDS = 0.2

Loop = Callable[[int], None]


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
    loops = [_loop(net) for _ in range(callers)]
    count = _runs_per_batch(loops[0])
    times: list[list[float]] = [[] for _ in loops]
    workers = [
        threading.Thread(target=_measure, args=(loop, count, seconds, into))
        for loop, into in zip(loops, times, strict=True)
    ]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - began
    all_us = np.array([t for thread in times for t in thread]) * 1e6
    p10, median, p90 = (float(q) for q in np.quantile(all_us, [0.1, 0.5, 0.9]))
    runs = len(all_us) * count
    return BenchReport(median, p10, p90, runs, callers, threads, runs / elapsed)


def _loop(net: CompiledNetwork) -> Loop:
    random = np.random.default_rng(0)
    inputs = [random_inputs(info, random) for info in net.inputs]
    outputs = [np.empty(info.shape, info.dtype) for info in net.outputs]
    return net.entry().repeated([*inputs, *outputs, net.artifact.memory.allocated()])


def _runs_per_batch(loop: Loop) -> int:
    """Warm up, then as many runs as fill a batch."""
    end = time.perf_counter() + _WARM_UP_SECONDS
    fastest = np.inf
    while (began := time.perf_counter()) < end:
        loop(1)
        fastest = min(fastest, time.perf_counter() - began)
    return max(1, round(_BATCH_SECONDS / float(fastest)))


def _measure(loop: Loop, count: int, seconds: float, into: list[float]) -> None:
    """Append seconds per run, one figure per batch."""
    end = time.perf_counter() + seconds
    while len(into) < _MIN_BATCHES or time.perf_counter() < end:
        began = time.perf_counter()
        loop(count)
        into.append((time.perf_counter() - began) / count)
