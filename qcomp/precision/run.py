"""`qcomp.sensitivity`: every part of a network, rounded alone and in float alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from qcomp.cache import load, save
from qcomp.calibration.data import Source
from qcomp.config import QuantizationConfig
from qcomp.frontends import ModelLike
from qcomp.ir.graph import Graph
from qcomp.precision.parts import Kind, Part
from qcomp.precision.prepare import Preparation
from qcomp.precision.problem import Problem, evaluate, evaluate_whole, tasks_of
from qcomp.precision.table import Row, SensitivityTable
from qcomp.precision.workers import Workers, started
from qcomp.progress import bar
from qcomp.quant.noise import Noise
from qcomp.targets.catalog import target as find_target

WEIGHT_BITS = (8, 4)
ACTIVATION_BITS = (8, 16)

Item = TypeVar("Item")
Measured = Mapping[tuple[Part, int | None], Noise]


def sensitivity(
    model: ModelLike,
    *,
    calibration: Source,
    config: QuantizationConfig | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
    weight_bits: Sequence[int] = WEIGHT_BITS,
    activation_bits: Sequence[int] = ACTIVATION_BITS,
    processes: int | None = None,
    scheduler: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    progress: bool = False,
) -> SensitivityTable:
    """Output SQNR with only one part of the network rounded, and with only it in float.

    model, calibration, samples, config, bind, bind_values: as for `compile`, but without a
        configuration the recipe is "fast". The data, which must fit in memory, both gives the
        ranges and is what the outputs are compared on.
    weight_bits, activation_bits: to which a part is rounded alone.
    processes: that share the work, each on one thread; None: one for each processor.
    scheduler: the address of a dask.distributed scheduler, whose workers do it instead.
    cache: a directory that keeps results, so that what was interrupted goes on.

    Raises CompileError.
    """
    cost = find_target("native").cost
    preparation = Preparation(
        model, calibration, config, cost, bind, bind_values, progress, samples
    )
    problem = preparation.problem(weight_bits, activation_bits)
    with started(problem, processes, scheduler) as workers:
        store = None if cache is None else Path(cache)
        return table(problem, workers, store, progress=progress)


def table(
    problem: Problem, workers: Workers, cache: Path | None, *, progress: bool
) -> SensitivityTable:
    """The rows that the problem has choices for; what the cache has is not computed."""
    choices: list[tuple[Kind, int | None]] = [*problem.choices, *((kind, None) for kind in Kind)]
    tasks = [task for kind, bits in choices for task in tasks_of(problem, kind, bits)]
    work = [Work(problem.digest(task), len(task.parts), task) for task in tasks]
    results = _results(work, evaluate, workers, cache, "sensitivity", progress=progress)
    measured = {
        (part, task.bits): noise
        for task, result in zip(tasks, results, strict=True)
        for part, noise in zip(task.parts, result, strict=True)
    }
    rows = tuple(_row(problem, part, measured) for part in problem.parts)
    (configured,) = whole(problem, [problem.configured], workers, cache, progress=False)
    return SensitivityTable(rows, configured, len(problem.runs))


def whole(
    problem: Problem,
    graphs: Sequence[Graph],
    workers: Workers,
    cache: Path | None,
    *,
    progress: bool,
) -> list[Noise]:
    """The noise of whole QDQ graphs."""
    work = [Work(problem.digest_whole(graph), 1, graph) for graph in graphs]
    results = _results(work, evaluate_whole, workers, cache, "simulation", progress=progress)
    return [noise for (noise,) in results]


def _row(problem: Problem, part: Part, measured: Measured) -> Row:
    bits = [b for kind, b in problem.choices if kind is part.kind]
    return Row(part, {b: measured[part, b] for b in bits}, measured[part, None])


@dataclass(frozen=True, eq=False)
class Work(Generic[Item]):
    """An item to evaluate, the name of its result and how many parts that has."""

    key: str
    count: int
    item: Item


def _results(
    work: Sequence[Work[Item]],
    function: Callable[[Problem, Item], list[Noise]],
    workers: Workers,
    cache: Path | None,
    what: str,
    *,
    progress: bool,
) -> list[list[Noise]]:
    """One result for each, in order; equal keys are computed once."""
    results = {w.key: found for w in work if (found := kept(cache, w.key, w.count)) is not None}
    left = list({w.key: w for w in work if w.key not in results}.values())
    with bar(what, len(left), shown=progress) as done:
        for i, result in workers.map(function, [w.item for w in left]):
            keep(cache, left[i].key, result)
            results[left[i].key] = result
            done.advance()
    return [results[w.key] for w in work]


def kept(cache: Path | None, key: str, count: int) -> list[Noise] | None:
    """The result of a task with so many parts; None if it is not there."""
    found = "" if cache is None else load(cache, key, {"noise": (count, 2)})
    if isinstance(found, str):
        return None
    return [Noise(float(signal), float(noise)) for signal, noise in found["noise"]]


def keep(cache: Path | None, key: str, result: list[Noise]) -> None:
    """OutputError where it can't be written."""
    if cache is not None:
        rows = [(n.signal, n.noise) for n in result]
        save(cache, key, {"noise": np.array(rows, np.float64).reshape(-1, 2)})
