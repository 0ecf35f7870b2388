"""Who runs the tasks: this process, several on this machine, or the workers of a cluster.

The functions are pure and each runs on one thread, so the numbers are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from qcomp.errors import CompileError
from qcomp.precision.problem import Problem
from qcomp.processors import usable_processors

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Protocol):
    """Evaluates functions of the problem and an item."""

    def map(
        self, function: Callable[[Problem, Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]: ...

    def close(self) -> None: ...


class ThisProcess:
    """One after the other."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def map(
        self, function: Callable[[Problem, Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        for i, item in enumerate(items):
            yield i, function(self._problem, item)

    def close(self) -> None:
        pass


@contextmanager
def started(problem: Problem, processes: int | None, scheduler: str | None) -> Iterator[Workers]:
    """Workers that end with the block; `processes` None is one for each processor."""
    workers = _start(problem, processes, scheduler)
    try:
        yield workers
    finally:
        workers.close()


def _start(problem: Problem, processes: int | None, scheduler: str | None) -> Workers:
    if processes is not None and processes < 1:
        raise CompileError(f"processes={processes}: expected 1 or more")
    if scheduler is not None:
        if processes is not None:
            raise CompileError("processes and a scheduler are both given; expected one of them")
        return _cluster(problem, scheduler)
    count = usable_processors() if processes is None else processes
    if count == 1:
        return ThisProcess(problem)
    from qcomp.precision.processes import Processes

    return Processes(problem, count)


def _cluster(problem: Problem, scheduler: str) -> Workers:
    try:
        from qcomp.precision.cluster import Cluster
    except ImportError as error:
        raise CompileError(
            f"a scheduler needs dask.distributed ({error}): pip install 'qcomp[distributed]'"
        ) from error
    return Cluster(problem, scheduler)
