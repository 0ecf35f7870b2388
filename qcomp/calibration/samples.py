"""Calibration data that can be gone through as often as it takes.

Paths, arrays and lists are read again. An iterator, which gives its items once, is first copied to
a temporary file, so that memory does not grow with the samples.
"""

from __future__ import annotations

import itertools
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import numpy as np

from qcomp.calibration.data import Inputs, Source, expected_runs, open_calibration
from qcomp.errors import CalibrationError
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.quant.conversion import Conversion

Run = dict[str, Array]


class Samples:
    """The runs that a source holds for a graph with these inputs, by input name.

    Iterating raises CalibrationError for data that does not fit.
    """

    def __init__(self, source: Source, inputs: Inputs) -> None:
        self.inputs = inputs
        self._source = source
        self._copy: IO[bytes] | None = None

    @property
    def expected(self) -> int | None:
        """How many runs there will be, if the source says so."""
        return expected_runs(self._source, self.inputs)

    @property
    def count(self) -> int:
        """As expected, or as many as there are: an iterator is copied for that."""
        expected = self.expected
        return sum(1 for _ in self) if expected is None else expected

    def __iter__(self) -> Iterator[Run]:
        if not isinstance(self._source, Iterator):
            return open_calibration(self._source, self.inputs)
        if self._copy is None:
            self._copy = _copied(open_calibration(self._source, self.inputs))
            weakref.finalize(self, self._copy.close)
        return self._again(self._copy)

    def first(self, count: int) -> tuple[Run, ...]:
        """The first runs, or all where there are fewer."""
        return tuple(itertools.islice(iter(self), count))

    def every_other(self, first: int) -> Samples:
        """Every second run from the run `first`, 0 or 1."""
        return _EveryOther(self, first)

    def limited(self, most: int) -> Samples:
        """The first runs as samples, which are read when they are gone through."""
        return _Limited(self, most)

    def _again(self, copy: IO[bytes]) -> Iterator[Run]:
        place = 0
        while True:
            copy.seek(place)
            if not copy.peek(1):  # type: ignore[attr-defined]
                return
            run = {name: np.load(copy, allow_pickle=False) for name in self.inputs}
            place = copy.tell()
            yield run


class ConvertedSamples(Samples):
    """The same runs, with what a graph leaves to the floats outside done to them."""

    def __init__(self, given: Samples, conversions: Mapping[str, Conversion]) -> None:
        super().__init__((), given.inputs)
        self._given, self._conversions = given, conversions

    @property
    def expected(self) -> int | None:
        return self._given.expected

    def __iter__(self) -> Iterator[Run]:
        for run in self._given:
            inside = {n: c.inward(run[n]) for n, c in self._conversions.items() if n in run}
            yield run | inside


class _EveryOther(Samples):
    """Reads the samples that it is part of, and keeps nothing."""

    def __init__(self, whole: Samples, first: int) -> None:
        self.inputs = whole.inputs
        self._whole = whole
        self._first = first

    @property
    def expected(self) -> int | None:
        whole = self._whole.expected
        return None if whole is None else len(range(self._first, whole, 2))

    def __iter__(self) -> Iterator[Run]:
        return itertools.islice(iter(self._whole), self._first, None, 2)


class _Limited(Samples):
    """Reads the samples that it is part of, and keeps nothing."""

    def __init__(self, whole: Samples, most: int) -> None:
        self.inputs = whole.inputs
        self._whole = whole
        self._most = most

    @property
    def expected(self) -> int | None:
        whole = self._whole.expected
        return None if whole is None else min(whole, self._most)

    def __iter__(self) -> Iterator[Run]:
        return itertools.islice(iter(self._whole), self._most)


def samples_of(graph: Graph, source: Source) -> Samples:
    """Read samples of a graph's inputs."""
    return Samples(source, {name: graph.type(id) for name, id in graph.inputs.items()})


def _copied(runs: Iterable[Run]) -> IO[bytes]:
    """All runs, one after the other in a file that has no name and goes with its last user."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        for run in runs:
            _append(file, run)
    except BaseException:
        file.close()
        raise
    return file


def _append(file: IO[bytes], run: Run) -> None:
    try:
        for array in run.values():
            np.save(file, array, allow_pickle=False)
    except OSError as error:
        raise CalibrationError(f"calibration data can't be kept for later: {error}") from error
