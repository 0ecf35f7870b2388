"""Samples that are no typical inputs: noise, one sample many times, and others of another scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.calibration.samples import Run
from qcomp.findings.inputs import ENOUGH_SAMPLES, float_names
from qcomp.findings.record import Finding, Kind
from qcomp.ir.tensor import Array

F64 = NDArray[np.float64]

_LEAST_EXTENT = 8  # of an axis that has neighbours to compare
_CHANNELS = (1, 3, 4)
_UNRELATED = 0.05  # correlation of neighbours; photographs, drawings and spectrograms: above 0.4
_ENOUGH_VALUES = 5000
_APART = 32.0  # times, between samples of 0..1 and of 0..255
_SHARE = 1 / 16  # of the samples on either side, at least: fewer are outliers


def noise(runs: Sequence[Run]) -> Iterator[Finding]:
    """Images whose neighbouring values have no more to do with each other than distant ones."""
    for name, values in _floats(runs):
        if values.ndim != 5 or values[0].size * len(values) < _ENOUGH_VALUES:
            continue
        channels = 2 if values.shape[2] in _CHANNELS else 4
        axes = [a for a in (2, 3, 4) if a != channels and values.shape[a] >= _LEAST_EXTENT]
        if values.shape[channels] not in _CHANNELS or not axes:
            continue
        related = _correlations(values, axes, tuple({2, 3, 4} - {channels}))
        if related and all(abs(r) < _UNRELATED for r in related):
            most = max(abs(r) for r in related)
            text = f"neighbouring values are unrelated (correlation {most:.2f}), as in noise"
            help = "give --calibration real inputs: ranges of noise are not theirs"
            yield Finding(Kind.NOISE, name, most, text, help)


def repeated(runs: Sequence[Run]) -> Iterator[Finding]:
    """Fewer different samples than there are, and fewer than are enough.

    Inputs that are constant throughout are told of by the ranges.
    """
    different = different_ones(runs)
    is_blank = different == 1 and all(np.ptp(value) == 0 for value in runs[0].values())
    if different < ENOUGH_SAMPLES and 2 * different <= len(runs) and not is_blank:
        text = (
            "all samples that were looked at are equal"
            if different == 1
            else f"there are {different} different ones among the first {len(runs)} samples"
        )
        help = "give --calibration samples that differ, a few tens to a hundred"
        yield Finding(Kind.REPEATED, "calibration data", different, text, help)


def different_ones(runs: Sequence[Run]) -> int:
    """How many of the samples differ from all before them."""
    return len({tuple(value.tobytes() for value in run.values()) for run in runs})


def unlike(runs: Sequence[Run]) -> Iterator[Finding]:
    """Samples in two groups with ranges far apart, as of files that were scaled differently."""
    for name in float_names(runs):
        peaks = np.sort([max(run[name].max(), -run[name].min()) for run in runs])
        order = peaks[(peaks > 0.0) & np.isfinite(peaks)]  # -inf is a mask
        if len(order) < ENOUGH_SAMPLES:
            continue
        steps = order[1:] / order[:-1]
        place = int(steps.argmax()) + 1
        if steps[place - 1] >= _APART and _SHARE < place / len(order) < 1.0 - _SHARE:
            text = (
                f"{place} of {len(order)} samples reach {order[place - 1]:.3g} at most, and the "
                f"others {order[place]:.3g} at least"
            )
            help = "scale all samples of --calibration as in training"
            yield Finding(Kind.UNLIKE, name, float(steps[place - 1]), text, help)


def _floats(runs: Sequence[Run]) -> Iterator[tuple[str, Array]]:
    """Each float input over the runs, [runs, ...]."""
    for name in float_names(runs):
        yield name, np.stack([run[name] for run in runs])


def _correlations(values: Array, axes: Sequence[int], within: tuple[int, ...]) -> list[float]:
    """Of neighbours along each axis; none where all are alike.

    Around the mean of each place, and of each channel of an image along `within`: bright images
    are bright everywhere, which relates pixels that have nothing else to do with each other.
    """
    centred = values.astype(np.float64)
    if len(values) > 1:
        centred -= centred.mean(axis=0)
    centred -= centred.mean(axis=within, keepdims=True)
    power = float(np.mean(np.square(centred)))
    if not np.isfinite(power) or power == 0.0:
        return []
    steps = [float(np.mean(np.square(np.diff(centred, axis=axis)))) for axis in axes]
    return [1.0 - step / (2.0 * power) for step in steps]
