"""Calibration data that is not what the network takes: labels, another layout, too few samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from qcomp.calibration.samples import Run
from qcomp.findings.record import Finding, Kind
from qcomp.ir.tensor import Array

ENOUGH_SAMPLES = 16
_LABEL_LIKE = 2  # values of a sample, which are at most so many where they are labels
_LEAST_LABELS = 8
_SMOOTHER = 0.7  # than as it is given; measured on photographs: below 0.5
_CHANNELS = (3, 4)
_LEAST_EXTENT = 8  # of an image that has neighbours to compare
_INPUTS = "give the network's inputs as --calibration"


def few_samples(count: int) -> Iterator[Finding]:
    """`count` is that of the calibration data."""
    if count < ENOUGH_SAMPLES:
        text = f"{count} sample{'s' if count > 1 else ''}, fewer than {ENOUGH_SAMPLES}"
        help = "ranges of unseen data may be larger: give more, a few tens to a hundred"
        yield Finding(Kind.FEW_SAMPLES, "calibration data", count, text, help)


def labels(runs: Sequence[Run]) -> Iterator[Finding]:
    """Inputs that hold class numbers, or a single 1 among zeros."""
    for name in float_names(runs):
        values = np.stack([run[name].ravel() for run in runs])
        if len(runs) < _LEAST_LABELS or not np.array_equal(values, np.rint(values)):
            continue
        largest = int(values.max())
        if values.min() >= 0 and values.shape[1] <= _LABEL_LIKE and 1 < largest <= 1000:
            text = f"every value is a whole number from 0 to {largest}, as labels are"
        elif values.shape[1] > _LABEL_LIKE and _is_one_hot(values):
            text = f"every sample has a single 1 among {values.shape[1] - 1} zeros, as labels have"
        else:
            continue
        yield Finding(
            Kind.LABELS, name, largest, text, "give the network's inputs as --calibration"
        )


def layout(runs: Sequence[Run]) -> Iterator[Finding]:
    """Images whose values make a picture only if channels are read at another place."""
    for name in float_names(runs):
        images = [run[name] for run in runs if run[name].ndim == 4]
        given, other, told = 0.0, 0.0, ""
        for image in images:
            read = _other_layout(image)
            if read is None:
                break
            told, (first, last), (wrong, right) = read
            given += _roughness(first, last)
            other += _roughness(wrong, right)
        if told and other < _SMOOTHER * given:
            ratio = other / given
            text = f"values are {ratio:.2f} times as rough if they are read as {told}"
            help = "transpose the samples of --calibration; reshaping does not move channels"
            yield Finding(Kind.LAYOUT, name, ratio, text, help)


def float_names(runs: Iterable[Run]) -> list[str]:
    for run in runs:
        return [name for name, value in run.items() if np.issubdtype(value.dtype, np.floating)]
    return []


def _is_one_hot(values: Array) -> bool:
    is_pair = bool(np.isin(values, (0.0, 1.0)).all())
    return is_pair and bool((values.sum(axis=1) == 1.0).all()) and values.shape[1] > 2


Axes = tuple[Array, Array]


def _other_layout(image: Array) -> tuple[str, Axes, Axes] | None:
    """How else an image can be read: its name, and values and steps along both axes each way."""
    n, *extents = image.shape
    if sorted(extents)[1] < _LEAST_EXTENT:
        return None
    if extents[0] in _CHANNELS and extents[2] not in _CHANNELS:
        c, h, w = extents
        other = image.reshape(n, h, w, c).transpose(0, 3, 1, 2)
        return "NHWC", _steps(image), _steps(other)
    if extents[2] in _CHANNELS and extents[0] not in _CHANNELS:
        h, w, c = extents
        return "NCHW", _steps(image.transpose(0, 3, 1, 2)), _steps(image.reshape(n, c, h, w))
    return None


def _steps(image: Array) -> Axes:
    """Differences of neighbours of an NCHW image, down and across."""
    return np.diff(image, axis=2), np.diff(image, axis=3)


def _roughness(down: Array, across: Array) -> float:
    """The mean step between neighbours."""
    return float(np.abs(down).mean() + np.abs(across).mean())
