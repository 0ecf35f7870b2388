"""The parts of outputs: channels that another function makes, or that have a range of their own.

One figure for boxes in pixels and scores beside them tells of the boxes only. An output is divided
along its channel axis or its last axis: the one along which a sigmoid or the like makes some of the
channels, else the one that sets the ranges further apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.accuracy.makers import makers
from qcomp.calibration.statistics import float_outputs
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.quant.alike import distance, grouped

F64 = NDArray[np.float64]
Answers = Mapping[str, Array]

_MOST_RUNS = 4  # that are printed


@dataclass(frozen=True)
class Part:
    """Channels of an output along an axis of it, as (first, end) of neighbours; None: all of it."""

    output: str
    rank: int
    axis: int | None = None
    channels: tuple[tuple[int, int], ...] = ()

    def of(self, value: Array) -> Array:
        """The values of this part."""
        if self.axis is None:
            return value
        return value.take([c for run in self.channels for c in range(*run)], self.axis)

    def __str__(self) -> str:
        """As numpy indexes it, `y[:, 0:4]`; several runs of channels stand one after the other."""
        if self.axis is None:
            return self.output
        runs = [f"{a}:{b}" if b > a + 1 else str(a) for a, b in self.channels]
        more = ["..."] if len(runs) > _MOST_RUNS else []
        places = [":"] * self.rank
        places[self.axis] = " ".join(runs[:_MOST_RUNS] + more)
        return f"{self.output}[{', '.join(places)}]"


def parts_of(graph: Graph, answers: Sequence[Answers]) -> tuple[Part, ...]:
    """The parts of a graph's float outputs, by what the float network answers on some samples."""
    found: list[Part] = []
    for name, id in float_outputs(graph).items():
        values = [answer[name] for answer in answers]
        found += _parts(name, values, makers(graph, id))
    return tuple(found)


def _parts(name: str, values: Sequence[Array], made: Array) -> list[Part]:
    rank = made.ndim
    halves = {axis: _halves(values, made > 0, axis) for axis in _axes(rank)}
    alike = {axis: _made_alike(made, axis) for axis in halves}
    apart = {axis: (len(alike[axis]) > 1, distance(*both)) for axis, both in halves.items()}
    axis = max(apart, key=lambda a: apart[a], default=None)
    if axis is None or apart[axis] == (False, 1.0):
        return [Part(name, rank)]
    one, other = halves[axis]
    return [
        Part(name, rank, axis, _runs(channels[group]))
        for channels in alike[axis]
        for group in grouped(one[channels], other[channels])
    ]


def _made_alike(made: Array, axis: int) -> list[NDArray[np.int64]]:
    """Channels along an axis, grouped by the functions that make their values."""
    rows = np.sort(_rows(made, axis), axis=1)
    _, group = np.unique(rows, axis=0, return_inverse=True)
    return [np.flatnonzero(group == g) for g in dict.fromkeys(group.tolist())]


def _axes(rank: int) -> tuple[int, ...]:
    """Those along which an output may have parts: the channels' and the last, not the batch's."""
    return tuple(dict.fromkeys((1, rank - 1))) if rank > 1 else tuple(range(rank))


def _halves(values: Sequence[Array], known: NDArray[np.bool_], axis: int) -> tuple[F64, F64]:
    """The largest magnitude of each channel, in every other sample and in those between.

    Of a single sample it is every other value of each channel. Where `known`, values reach 1.
    """
    if len(values) > 1:
        halves = [[_rows(v, axis) for v in values[first::2]] for first in (0, 1)]
    else:
        rows = [_rows(v, axis) for v in values]
        halves = [[r[:, first::2] for r in rows] for first in (0, 1)]
    least = _rows(known, axis).any(axis=1).astype(float)
    one, other = (
        np.maximum.reduce([np.abs(r).max(axis=1, initial=0.0) for r in half] or [least])
        for half in halves
    )
    return np.maximum(one, least).astype(float), np.maximum(other, least).astype(float)


def _rows(value: Array, axis: int) -> Array:
    """[channels, values of each]."""
    return np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)


def _runs(channels: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """(first, end) of neighbours among ascending channels."""
    runs = np.split(channels, np.flatnonzero(np.diff(channels) != 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)
