"""Tasks on the workers of a dask.distributed scheduler; each worker gets the problem once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from distributed import Client, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from qcomp.errors import CompileError
from qcomp.precision.problem import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")

_TIMEOUT_S = 10


class Cluster:
    """A client of the scheduler at `address`, as in "tcp://host:8786".

    The workers need qcomp, of the version that is here.
    """

    def __init__(self, problem: Problem, address: str) -> None:
        try:
            self._client = Client(address, timeout=_TIMEOUT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise CompileError(
                f"no dask scheduler answers at {address}: {error}; expected an address as "
                "`dask scheduler` prints it, tcp://HOST:8786"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_TIMEOUT_S)
            self._problem = self._client.scatter(problem, broadcast=True, hash=False)
        except TimeoutError as error:
            self._client.close()
            raise CompileError(f"the dask scheduler at {address} has no workers") from error

    def map(
        self, function: Callable[[Problem, Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """`function(problem, item)` with the item's index, as they are done."""
        futures = {
            self._client.submit(function, self._problem, item, pure=False): i
            for i, item in enumerate(items)
        }
        try:
            for future in as_completed(list(futures), loop=self._client.loop):
                yield futures[future], future.result()
        except (KilledWorker, CommClosedError, ImportError) as error:
            raise CompileError(f"the dask cluster can't do its work: {error}") from error
        finally:
            self._client.cancel(list(futures))

    def close(self) -> None:
        """What waits is cancelled; the cluster stays."""
        self._client.close()
