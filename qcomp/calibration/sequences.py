"""Calibration data of a network with states: sequences, along which the float network goes.

An item or a file with several steps along its first axis is a sequence, which begins with states of
zeros; items of one step each, one after the other, are one. Each step has the states that the float
network left in the one before, so that ranges are those of whole sequences, and so are errors that
are measured on them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qcomp.calibration.data import Reader, Source, open_items, resolved
from qcomp.calibration.items import are_labels, is_array
from qcomp.calibration.runs import Inputs, Run, counted
from qcomp.calibration.samples import Samples, samples_of
from qcomp.data.files import ARRAYS, spread
from qcomp.data.inputs import ForInputs
from qcomp.execute.session import FloatSession
from qcomp.ir.graph import Graph
from qcomp.ir.states import states_of
from qcomp.ir.tensor import Array


class SequenceSamples(Samples):
    """Runs whose states are what the float network `graph` made of the runs before."""

    def __init__(self, graph: Graph, source: Source, **options: Any) -> None:
        super().__init__(source, {n: graph.type(id) for n, id in graph.inputs.items()}, **options)
        self._graph = graph

    @property
    def expected(self) -> int | None:
        return None

    def held_back(self, count: int) -> tuple[Run, ...]:
        """None: a step is nothing without those before it."""
        return ()

    def first(self, count: int) -> tuple[Run, ...]:
        """As many, evenly spread: the first steps of a sequence are unlike its later ones."""
        wanted = set(spread(range(self.count), count))
        return tuple(run for i, run in enumerate(self) if i in wanted)

    def _is_read_again(self) -> bool:
        return False  # the float network would run again

    def _read(self) -> Iterator[Run]:
        states = states_of(self._graph)
        given: Inputs = {n: t for n, t in self.inputs.items() if n not in self._graph.states}
        session = FloatSession(self._graph)
        lengths: list[int] = []
        kept: dict[str, Array] = {}
        item, steps = 0, 0
        for number, run in open_items(self._source, given, self._tell, self._samples):
            if number != item:
                if steps != 1:
                    lengths.append(0)
                    kept = {s.input: np.zeros(s.kept.shape, s.kept.dtype.numpy) for s in states}
                item, steps = number, 0
            yield {name: kept[name].copy() if name in kept else run[name] for name in self.inputs}
            found = session.run({**run, **kept})
            kept = {s.input: s.after(kept[s.input], found[s.output], lengths[-1]) for s in states}
            lengths[-1] += 1
            steps += 1
        self._tell(
            f"{', '.join(self._graph.states)}: what the float network leaves from step to step, in "
            f"{counted(len(lengths), 'sequence')} of up to {max(lengths, default=0)} steps"
        )


def data_of(graph: Graph, source: Source, **options: Any) -> Samples:
    """Samples of a graph's inputs; options as `Samples` takes them. Where its states are not in the
    data, they are those that the float network leaves from run to run.
    """
    lacks, source = _stateless(graph, source) if graph.states else (False, source)
    return (
        SequenceSamples(graph, source, **options) if lacks else samples_of(graph, source, **options)
    )


def _stateless(graph: Graph, source: Source) -> tuple[bool, Source]:
    """Whether data is without a graph's states, by its first item; and the data, unread."""
    given = [name for name in graph.inputs if name not in graph.states]
    source = resolved(source)
    if isinstance(source, Reader):
        source = iter(source.get_next, None)
    if isinstance(source, Iterator):
        begin = list(itertools.islice(source, 1))
        return _is_without(begin, given, graph), itertools.chain(begin, source)
    return _is_without(source, given, graph), source


def _is_without(source: Any, given: list[str], graph: Graph) -> bool:
    if isinstance(source, Mapping):
        return graph.states.keys().isdisjoint(source)
    if isinstance(source, str | os.PathLike):
        return _file_is_without(Path(source), given, graph)
    if is_array(source) or isinstance(source, ForInputs):
        return len(given) == 1
    items = source() if callable(source) else source
    if not isinstance(items, Iterable):
        return False  # which is told when it is read
    first = next(iter(items), None)
    if isinstance(first, tuple):
        labels = len(first) > 1 and are_labels(first[-1])
        return len(first) - labels < len(graph.inputs)
    return first is not None and _is_without(first, given, graph)


def _file_is_without(path: Path, given: list[str], graph: Graph) -> bool:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in ARRAYS)
        return bool(files) and _file_is_without(files[0], given, graph)
    if path.suffix != ".npz":
        return len(given) == 1
    try:
        with np.load(path) as arrays:
            return graph.states.keys().isdisjoint(arrays.files)
    except (OSError, ValueError):
        return False  # which is told when it is read
