"""Calibration data that can be gone through as often as it takes.

Paths of arrays, arrays and lists are read again. What may give its items once only, or others the
next time (iterators, loaders that shuffle), or takes long to read (pictures, sounds) is first
copied to a temporary file, so that memory does not grow with the samples.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from qcomp.calibration.data import Source, expected_runs, open_calibration, resolved
from qcomp.calibration.items import is_array
from qcomp.calibration.runs import Inputs, Run, batch_of, counted
from qcomp.data.files import spread
from qcomp.data.images import Images
from qcomp.data.inputs import ForInputs
from qcomp.errors import CalibrationError
from qcomp.ir.graph import Graph
from qcomp.preprocessing import Preprocessing
from qcomp.progress import tracked
from qcomp.quant.conversion import Conversion

__all__ = ["ConvertedSamples", "Run", "Samples", "samples_of"]


class Samples:
    """The runs that a source holds for a graph with these inputs, by input name.

    Iterating raises CalibrationError for data that does not fit.
    """

    def __init__(
        self,
        source: Source,
        inputs: Inputs,
        *,
        preprocessing: Preprocessing | None = None,
        samples: int | None = None,
        progress: bool = False,
    ) -> None:
        """preprocessing: of pictures; samples: so many at most; progress: while data is copied."""
        if samples is not None and samples < 1:
            raise CalibrationError(f"samples={samples}: expected 1 or more")
        self.inputs = inputs
        self.progress = progress
        self._samples = samples
        self._source = resolved(source, preprocessing, samples)
        self._copy: IO[bytes] | None = None
        self._told: dict[str, None] = {}
        self.preprocessing = preprocessing
        if isinstance(self._source, ForInputs):
            self.preprocessing = self._source.preprocessing_for(inputs) or preprocessing
            self._tell_of_pictures(preprocessing)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the data, or assumed of it, as far as it was read."""
        return tuple(self._told)

    @property
    def expected(self) -> int | None:
        """How many runs there will be, if the source says so."""
        return expected_runs(self._source, self.inputs, self._samples)

    @property
    def count(self) -> int:
        """As expected, or as many as there are: an iterator is copied for that."""
        expected = self.expected
        return sum(1 for _ in self) if expected is None else expected

    def __iter__(self) -> Iterator[Run]:
        if self._is_read_again():
            return self._read()
        if self._copy is None:
            runs = tracked(self._read(), "reading data", self.expected, shown=self.progress)
            self._copy = _copied(runs)
            weakref.finalize(self, self._copy.close)
        return self._again(self._copy)

    def _read(self) -> Iterator[Run]:
        return open_calibration(self._source, self.inputs, self._tell, self._samples)

    def _tell(self, text: str) -> None:
        self._told[f"calibration data: {text}"] = None

    def _tell_of_pictures(self, given: Preprocessing | None) -> None:
        """How many of them are looked at, and what was assumed of how they become inputs."""
        if not isinstance(self._source, Images):
            return
        if self._source.others:
            chosen = len(self._source)
            total = counted(chosen + len(self._source.others), "picture")
            self._tell(f"{chosen} of {total}, evenly spread")
        if self._source.preprocessing == Preprocessing() and self.preprocessing is not None:
            self._tell(
                f"pictures are taken as {self.preprocessing}, as nothing else was said: give the "
                "mean, the deviation, the size and the order of colours that the network was "
                "trained with"
            )

    @property
    def batch(self) -> int:
        """Samples of a run."""
        return batch_of(self.inputs)

    def held_back(self, count: int) -> tuple[Run, ...]:
        """Runs of what was left out of the data, if it is there to be read; none without a limit.

        Of pictures those between the chosen ones; else what comes behind these.
        """
        if isinstance(self._source, Images):
            others = spread(self._source.others, count * self.batch)
            rest = dataclasses.replace(self._source, items=others, others=())
            return tuple(open_calibration(rest, self.inputs)) if len(others) >= self.batch else ()
        if self._samples is None or not self._is_read_again():
            return ()
        used = max(self._samples // self.batch, 1)
        runs = open_calibration(self._source, self.inputs)
        return tuple(itertools.islice(runs, used, used + count))

    def _is_read_again(self) -> bool:
        return _is_read_again(self._source)

    def first(self, count: int) -> tuple[Run, ...]:
        """The first runs, or all where there are fewer."""
        return tuple(itertools.islice(iter(self), count))

    def every_other(self, first: int) -> Samples:
        """Every second run from the run `first`, 0 or 1."""
        return _Chosen(self, slice(first, None, 2))

    def limited(self, most: int) -> Samples:
        """The first runs as samples, which are read when they are gone through."""
        return _Chosen(self, slice(most))

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
        super().__init__((), given.inputs, preprocessing=given.preprocessing)
        self._given, self._conversions = given, conversions

    @property
    def expected(self) -> int | None:
        return self._given.expected

    def __iter__(self) -> Iterator[Run]:
        for run in self._given:
            inside = {n: c.inward(run[n]) for n, c in self._conversions.items() if n in run}
            yield run | inside


class _Chosen(Samples):
    """Some of the samples that it is part of, which it reads and does not keep."""

    def __init__(self, whole: Samples, chosen: slice) -> None:
        super().__init__((), whole.inputs, preprocessing=whole.preprocessing)
        self._whole = whole
        self._chosen = chosen

    @property
    def expected(self) -> int | None:
        whole = self._whole.expected
        return None if whole is None else len(range(whole)[self._chosen])

    def __iter__(self) -> Iterator[Run]:
        chosen = self._chosen
        return itertools.islice(iter(self._whole), chosen.start, chosen.stop, chosen.step)


def samples_of(graph: Graph, source: Source, **options: Any) -> Samples:
    """Read samples of a graph's inputs; options as `Samples` takes them."""
    return Samples(source, {name: graph.type(id) for name, id in graph.inputs.items()}, **options)


def _is_read_again(source: Any) -> bool:
    """Whether reading it again gives the same, and takes no longer than reading a copy."""
    return isinstance(source, str | os.PathLike | list | tuple | Mapping) or is_array(source)


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
