"""NAME_run of a library for a device as a Python callable: an arena is opened when it is first
used, and closed when nobody runs on it any more.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import TargetError
from qcomp.targets.base import Arrays, Artifact, Rounded
from qcomp.targets.cpu.process.repeat import repeated
from qcomp.targets.identity import check_loaded

DEVICE = "QCOMP_DEVICE"  # a part of the device's name, in the environment
_MOST_OPEN = 4
_RUNS = 10  # of which the least times are taken

STATUSES: Mapping[int, str] = {
    1: "QCOMP_BAD_ARENA: the arena is null or misaligned",
    3: "QCOMP_NOT_OPEN: the arena is not open",
    4: "QCOMP_NO_DRIVER",
    5: "QCOMP_NO_DEVICE",
    6: "QCOMP_BAD_BUILD",
    7: "QCOMP_DEVICE_MEMORY",
    8: "QCOMP_DEVICE_FAILED",
    9: "QCOMP_OPEN_ALREADY: the arena is open",
}


def opened(path: Path) -> ctypes.CDLL:
    """A shared library, by a path that never was before; TargetError where it is none."""
    try:
        with tempfile.TemporaryDirectory(prefix="qcomp-") as unique:
            link = Path(unique) / path.name
            link.symlink_to(path.absolute())
            return ctypes.CDLL(str(link))
    except OSError as error:
        raise TargetError(f"{path} can't be loaded on this machine: {error}") from error


@dataclass(frozen=True)
class DeviceSharing:
    """The device shares work among its own units, whatever the threads of the caller."""

    def among(self, threads: int) -> AbstractContextManager[None]:
        if threads < 1:
            raise ValueError(f"{threads} threads; expected at least 1")
        return nullcontext()

    def register(self, function: int | None, user: int | None) -> None:
        pass


class Session:
    """An open arena."""

    def __init__(self, library: ctypes.CDLL, name: str, arena: NDArray[np.uint8]) -> None:
        self.arena = arena
        self._message: Callable[..., bytes] = library[f"{name}_message"]
        self._message.restype = ctypes.c_char_p
        wanted = os.environ.get(DEVICE, "").encode() or None
        pointer = ctypes.c_void_p(arena.ctypes.data)
        self.expect(library[f"{name}_open"](pointer, ctypes.c_char_p(wanted)))
        weakref.finalize(self, _closed, library[f"{name}_close"], arena)

    def expect(self, status: int) -> None:
        """TargetError with what the driver said, where a function did not succeed."""
        if status:
            told = self._message(ctypes.c_void_p(self.arena.ctypes.data)).decode(errors="replace")
            reason = STATUSES.get(status, str(status))
            raise TargetError(f"the library returned {reason}{f': {told}' if told else ''}")


def _closed(close: Any, arena: NDArray[np.uint8]) -> None:
    close(ctypes.c_void_p(arena.ctypes.data))


class DeviceEntry:
    """A loaded library."""

    def __init__(self, library: ctypes.CDLL, name: str, arguments: int) -> None:
        self.sharing = DeviceSharing()
        self._library, self._name = library, name
        function = library[f"{name}_run"]
        self._address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._run = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * arguments)(self._address)
        self._sessions: dict[int, Session] = {}

    def expect(self, artifact: Artifact) -> None:
        """TargetError where the code is of another build than the artifact."""
        function = self._library[f"{self._name}_sizes"]
        function.restype = ctypes.c_void_p
        check_loaded(function(), artifact)

    def __call__(self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]) -> None:
        self.bound(inputs, outputs, arena)()

    def bound(
        self, inputs: Arrays, outputs: Arrays, arena: NDArray[np.uint8]
    ) -> Callable[[], None]:
        session = self._session(arena)
        arrays = (*inputs, *outputs, arena)
        addresses, run = [a.ctypes.data for a in arrays], self._run

        def call(_owners: object = (self, arrays)) -> None:
            session.expect(run(*addresses))

        return call

    def between_floats(
        self, inputs: Sequence[Rounded], outputs: Sequence[Rounded], arena: NDArray[np.uint8]
    ) -> None:
        """The caller has to round."""

    def repeated(self, arrays: Arrays) -> Callable[[int], None]:
        session = self._session(arrays[-1])
        return repeated(self._address, arrays, owner=(self, session))

    def times(self, launches: int, arena: NDArray[np.uint8]) -> list[float]:
        """The least microseconds of each launch, of some runs."""
        session, found = self._session(arena), (ctypes.c_double * launches)()
        times = self._library[f"{self._name}_times"]
        session.expect(times(found, _RUNS, ctypes.c_void_p(arena.ctypes.data)))
        return list(found)

    def set_isa(self, number: int) -> bool:
        """The device is the same whichever of a processor's sets other parts of a network use."""
        return True

    def _session(self, arena: NDArray[np.uint8]) -> Session:
        """Of an arena; the oldest ones that this entry alone knows are closed."""
        address = arena.ctypes.data
        if address not in self._sessions:
            while len(self._sessions) >= _MOST_OPEN:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[address] = Session(self._library, self._name, arena)
        return self._sessions[address]


@dataclass(frozen=True)
class Trial:
    """A network that is timed: the keys of its launches, and an arena of its own."""

    entry: DeviceEntry
    keys: tuple[str, ...]
    arena: NDArray[np.uint8]

    def times(self) -> list[float]:
        """The least microseconds of each launch, of some runs."""
        return self.entry.times(len(self.keys), self.arena)
