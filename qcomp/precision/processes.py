"""Tasks in processes of this machine; each gets the problem once, when it starts.

A worker holds the reading end of a pipe whose writing end only the parent has. When that closes,
because the parent is done, was interrupted or was killed, the worker ends at once. The problem lies
in shared memory: a parent that hands it over through the pipe that starts a worker waits for ever
where that one is killed before it has read all.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import TypeVar

from qcomp.errors import CompileError
from qcomp.precision.problem import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

_given: list[Problem] = []  # in a worker, the one problem: a pool's functions reach nothing else


class Processes:
    """A pool of `count` processes, started afresh: no threads or locks of the parent get in."""

    def __init__(self, problem: Problem, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends_with, self._alive = context.Pipe(duplex=False)
        content = pickle.dumps(problem)
        self._problem = SharedMemory(create=True, size=len(content))
        _bytes_of(self._problem)[: len(content)] = content
        given = (self._ends_with, self._problem.name)
        self._pool = ProcessPoolExecutor(count, context, _begin, given)

    def map(
        self, function: Callable[[Problem, Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """`function(problem, item)` with the item's index, as they are done."""
        try:
            with _deaf_to_interruptions():  # the workers start here
                futures = {self._pool.submit(_call, function, x): i for i, x in enumerate(items)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise CompileError(
                "a worker process ended before its time: out of memory (use fewer processes), or "
                "a script that does not guard its work by `if __name__ == '__main__'`"
            ) from error

    def close(self) -> None:
        """End the workers, whatever they do."""
        self._alive.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ends_with.close()
        self._problem.close()
        self._problem.unlink()


def _bytes_of(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None  # it is open
    return memory.buf


@contextmanager
def _deaf_to_interruptions() -> Iterator[None]:
    """Processes that start inside never hear of Ctrl-C, which a terminal sends to all.

    The parent does, behind the block, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(ends_with: Connection, problem: str) -> None:
    memory = SharedMemory(problem)
    _given[:] = [pickle.loads(_bytes_of(memory))]
    memory.close()
    threading.Thread(target=_end_with, args=(ends_with,), daemon=True).start()


def _end_with(pipe: Connection) -> None:
    pipe.poll(None)
    os._exit(1)


def _call(function: Callable[[Problem, Item], Result], item: Item) -> Result:
    return function(_given[0], item)
