"""How integers differ from those expected, in words that point to a cause."""

from __future__ import annotations

import numpy as np

from qcomp.ir.tensor import Array
from qcomp.quant.qparams import QParams

_FEW = 4  # channels that are listed


def pattern(expected: Array, got: Array, q: QParams | None) -> str:
    """Of two arrays that differ; channels are along the last axis."""
    difference = got.astype(np.int64) - expected.astype(np.int64)
    inside = np.ones(got.shape, bool)
    if q is not None:  # an end may hide how far a value is off
        inside = ~np.isin(got, (q.qmin, q.qmax)) & ~np.isin(expected, (q.qmin, q.qmax))
    off, largest = difference[inside], int(np.abs(difference).max())
    if off.size and (off == off[0]).all() and off[0] != 0:
        return f"all values are off by {off[0]:+d}: as by another zero point or bias"
    channels = _channels(difference)
    if channels is not None:
        told = ", ".join(map(str, channels[:_FEW])) + (", ..." if len(channels) > _FEW else "")
        return (
            f"only channel{'s' if len(channels) > 1 else ''} {told} of {got.shape[-1]} "
            f"differ{'' if len(channels) > 1 else 's'}, by {largest} at most: as by a weight, bias "
            "or multiplier of it"
        )
    if largest == 1:
        signs = set(np.unique(difference[difference != 0]).tolist())
        way = {1: "up", -1: "down"}
        told = f"all {way[signs.pop()]}" if len(signs) == 1 else "up and down"
        return f"values are off by 1, {told}: as by another rounding"
    return f"values are off by {largest} at most, in all channels: as by another scale or operand"


def _channels(difference: Array) -> list[int] | None:
    """Those that differ, where these are less than half of several."""
    if difference.ndim == 0 or difference.shape[-1] < 2:
        return None
    rows = difference.reshape(-1, difference.shape[-1])
    found = np.flatnonzero(rows.any(axis=0))
    return [int(c) for c in found] if 2 * len(found) < rows.shape[1] else None
