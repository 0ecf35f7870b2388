"""Times of a network's runs in this process, and of its layers.

Each measurement is a batch of runs in a compiled loop, long enough that the cost of calling it from
Python (about a microsecond) is below one per cent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qcomp.ir.tensor import TensorId
from qcomp.report.times import Times
from qcomp.runtime.interface import TensorInfo
from qcomp.runtime.vectors import random_inputs
from qcomp.targets.base import Artifact, Entry, Profile

_BATCH_SECONDS = 200e-6
_MIN_BATCHES = 20
_WARM_UP_SECONDS = 0.2
_MIN_ROUNDS = 20
_FEW, _GLANCE_SECONDS = 20, 0.1

Loop = Callable[[int], None]


class Network(Protocol):
    """What is timed."""

    @property
    def inputs(self) -> Sequence[TensorInfo]: ...
    @property
    def outputs(self) -> Sequence[TensorInfo]: ...
    @property
    def artifact(self) -> Artifact: ...
    @property
    def lacking(self) -> str | None: ...
    def entry(self) -> Entry: ...
    def profile(self) -> Profile: ...


@dataclass(frozen=True)
class Batches:
    """Seconds of a run, a figure for each batch of any caller; runs of a batch; seconds in all."""

    each: Sequence[float]
    runs: int
    elapsed: float


def batches(net: Network, seconds: float, callers: int) -> Batches:
    """`callers` run the network at the same time, for about `seconds`, on random inputs."""
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
    return Batches([t for thread in times for t in thread], count, elapsed)


def glance(net: Network) -> float | None:
    """Microseconds of the fastest of a few runs; None where this machine does not run the code."""
    if net.lacking is not None:
        return None
    loop, times = _loop(net), list[float]()
    end = time.perf_counter() + _GLANCE_SECONDS
    while len(times) < _FEW and (not times or time.perf_counter() < end):
        began = time.perf_counter()
        loop(1)
        times.append(time.perf_counter() - began)
    return 1e6 * min(times)


def times(net: Network, seconds: float) -> Times:
    """Of the ops, for half of the time, and of the whole; TargetError names what is lacking."""
    profile = net.profile()
    ops = layer_medians(net, profile, seconds / 2)
    return Times(profile.isa, ops, 1e6 * float(np.median(batches(net, seconds / 2, 1).each)))


def layer_medians(net: Network, profile: Profile, seconds: float) -> Mapping[TensorId, float]:
    """Microseconds of each layer, in the order of the run."""
    random = np.random.default_rng(0)
    inputs = [random_inputs(info, random) for info in net.inputs]
    arrays = [*inputs, *(np.empty(info.shape, info.dtype) for info in net.outputs)]
    profile.run(arrays)
    began, rounds = time.perf_counter(), [profile.run(arrays)]
    while len(rounds) < _MIN_ROUNDS or time.perf_counter() < began + seconds:
        rounds.append(profile.run(arrays))
    us_per_tick = (time.perf_counter() - began) * 1e6 / (rounds[-1][-1] - rounds[0][0])
    medians = np.median(np.diff(np.array(rounds), axis=1), axis=0) * us_per_tick
    layers: dict[TensorId, float] = {}
    for op, us in zip(profile.calls, medians, strict=True):
        layers[op] = layers.get(op, 0.0) + float(us)
    return layers


def _loop(net: Network) -> Loop:
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
