"""Channels grouped by the magnitude of their values: boxes in pixels apart from scores up to 1.

Magnitudes are cut in two where their logarithms fall into two classes best (Otsu 1979: the largest
variance between classes), if the centres of the classes are far apart. Scores of 1000 classes are
spread, but around one centre. Where to cut is found on one half of the data and the distance has to
show on the other half too: a few values near zero are chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FAR_APART = 8.0  # ratio of the centres of two groups: 3 of 8 bits
_LEAST_SHARE = 0.01  # of the channels, in a group that is quieter than the others
_LEAST_MAGNITUDE = 2.0**-16  # of the largest: a channel may be silent in one half of the data
_MOST_CUTS = 2  # one after the other, so that there are four groups at most


def grouped(one: F64, other: F64) -> list[I64]:
    """Indices of channels [C], a group each, the loudest group first.

    one, other: the largest magnitude of each channel [C] in two halves of the data. Channels that
    are zero everywhere are in the quietest group.
    """
    larger = np.maximum(one, other)
    order = np.argsort(-larger, kind="stable")
    loud, silent = order[larger[order] > 0.0], order[larger[order] == 0.0]
    groups = _split(loud, one, other, _MOST_CUTS)
    groups[-1] = np.concatenate([groups[-1], silent])
    return [np.sort(group) for group in groups]


def distance(one: F64, other: F64) -> float:
    """The ratio of the centres of the two groups that channels are cut into first; 1: of none."""
    cut = _cut(np.flatnonzero(np.maximum(one, other) > 0.0), one, other)
    return 1.0 if cut is None else cut.ratio


@dataclass(frozen=True, eq=False)
class _Cut:
    loud: I64
    quiet: I64
    ratio: float  # of their centres


def _split(channels: I64, one: F64, other: F64, cuts: int) -> list[I64]:
    cut = _cut(channels, one, other) if cuts else None
    if cut is None:
        return [channels]
    return [*_split(cut.loud, one, other, cuts - 1), *_split(cut.quiet, one, other, cuts - 1)]


def _cut(channels: I64, one: F64, other: F64) -> _Cut | None:
    """Channels in two groups; None if they are alike."""
    if channels.size < 2:
        return None
    larger = np.maximum(one, other)[channels]
    least = float(larger.max()) * _LEAST_MAGNITUDE
    found, checked = (np.log(np.maximum(m[channels], least)) for m in (one, other))
    order = np.argsort(-found, kind="stable")
    count = _best_count(found[order])
    loud, quiet = order[:count], order[count:]
    apart = min(float(m[loud].mean() - m[quiet].mean()) for m in (found, checked))
    if apart < math.log(FAR_APART):
        return None
    is_loud = np.log(larger) > (found[loud].mean() + found[quiet].mean()) / 2.0
    if (~is_loud).sum() < max(_LEAST_SHARE * channels.size, 1):
        return None
    return _Cut(channels[is_loud], channels[~is_loud], math.exp(apart))


def _best_count(descending: F64) -> int:
    """How many of the first belong together, so that the variance between classes is largest."""
    total, sums = descending.sum(), np.cumsum(descending)[:-1]
    count = np.arange(1, descending.size)
    rest = descending.size - count
    between = count * rest * (sums / count - (total - sums) / rest) ** 2
    return int(np.argmax(between)) + 1
