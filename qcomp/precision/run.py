"""`qcomp.sensitivity`: every part of a network, rounded alone and in float alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from qcomp.config import QuantizationConfig
from qcomp.precision.cache import Cache
from qcomp.precision.noise import Noise
from qcomp.precision.parts import Kind, Part
from qcomp.precision.prepare import Preparation
from qcomp.precision.problem import Problem, Task, evaluate, evaluate_whole, tasks_of
from qcomp.precision.table import Row, SensitivityTable
from qcomp.precision.workers import Workers, started

WEIGHT_BITS = (8, 4)
ACTIVATION_BITS = (8, 16)

Measured = Mapping[tuple[Part, int | None], Noise]


def sensitivity(
    model: Any,
    *,
    calibration: Any,
    config: QuantizationConfig | None = None,
    bind: Mapping[str, int] | None = None,
    weight_bits: Sequence[int] = WEIGHT_BITS,
    activation_bits: Sequence[int] = ACTIVATION_BITS,
    processes: int | None = None,
    scheduler: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> SensitivityTable:
    """Output SQNR with only one part of the network rounded, and with only it in float.

    model, calibration, config, bind: as for `compile`; the data, which must fit in memory, both
        gives the ranges and is what the outputs are compared on.
    weight_bits, activation_bits: to which a part is rounded alone.
    processes: that share the work, each on one thread; None: one for each processor.
    scheduler: the address of a dask.distributed scheduler, whose workers do it instead.
    cache: a directory that keeps results, so that what was interrupted goes on.

    Raises CompileError.
    """
    preparation = Preparation(model, calibration, config, bind, progress)
    problem = preparation.problem(weight_bits, activation_bits)
    with started(problem, processes, scheduler) as workers:
        store = Cache(None if cache is None else Path(cache))
        return table(problem, workers, store, progress=progress)


def table(problem: Problem, workers: Workers, cache: Cache, *, progress: bool) -> SensitivityTable:
    """The rows that the problem has choices for; what the cache has is not computed."""
    choices: list[tuple[Kind, int | None]] = [*problem.choices, *((kind, None) for kind in Kind)]
    tasks = [task for kind, bits in choices for task in tasks_of(problem, kind, bits)]
    measured: dict[tuple[Part, int | None], Noise] = {}
    for task, result in _results(problem, tasks, workers, cache, progress=progress):
        for part, noise in zip(task.parts, result, strict=True):
            measured[part, task.bits] = noise
    rows = tuple(_row(problem, part, measured) for part in problem.parts)
    return SensitivityTable(rows, evaluate_whole(problem, problem.configured), len(problem.runs))


def _row(problem: Problem, part: Part, measured: Measured) -> Row:
    bits = [b for kind, b in problem.choices if kind is part.kind]
    return Row(part, {b: measured[part, b] for b in bits}, measured[part, None])


def _results(
    problem: Problem, tasks: Sequence[Task], workers: Workers, cache: Cache, *, progress: bool
) -> Iterator[tuple[Task, list[Noise]]]:
    left: list[tuple[Task, str]] = []
    with bar("sensitivity", len(tasks), shown=progress) as advance:
        for task in tasks:
            key = problem.digest(task)
            found = cache.get(key, len(task.parts))
            if found is None:
                left.append((task, key))
            else:
                advance()
                yield task, found
        for i, result in workers.map(evaluate, [task for task, _ in left]):
            task, key = left[i]
            cache.put(key, result)
            advance()
            yield task, result


class _Advance:
    def __init__(self, progress: Progress, total: int, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def __call__(self) -> None:
        self._progress.advance(self._task)


@contextmanager
def bar(what: str, total: int, *, shown: bool) -> Iterator[_Advance]:
    """A progress bar on stderr; call what it gives once for each that is done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        yield _Advance(progress, total, what)
