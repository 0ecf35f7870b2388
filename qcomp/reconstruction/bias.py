"""The bias with which a layer's rounded weights give the mean of the float network's results.

Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
appendix D, take the mean before the activation function; here it is that behind it, which later
layers read. Where a ReLU6 cuts the results, one mean does not make the other: with the
former mobilenetv2_tf has 19.7 dB at its outputs, with the latter 21.3.

The mean behind the activation never falls as the bias grows, and its derivative is the share of the
rows that the activation lets pass (times its slope): Newton's method from a bias near it. Behind a
layer without an activation one step of it is exact, and needs the mean of the inputs only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.activation import Activation
from qcomp.reconstruction.blocks import Block
from qcomp.reconstruction.engine import NumpyEngine
from qcomp.reconstruction.rows import Rows, row_means

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_STEPS = 8
_CLOSE = 1e-5  # of a channel's largest sum: less than any integer of the bias is worth
_FEW = 0.02  # of the rows: fewer say too little of the slope
_TOGETHER = 1 << 18  # values: what the nearest caches hold


def bias_of_rows(rows: Rows, weight: F64, activation: Activation) -> F64:
    """The bias [G, O / G] of weights [G, O / G, K] whose float results are in the rows.

    A channel that the activation holds at an end in nearly every row keeps the paper's.
    """
    wanted = row_means(activation(NumpyEngine(), rows.target))
    sums = np.matmul(weight.astype(np.float32), rows.x.swapaxes(1, 2))
    return _solved(
        sums, row_means(rows.target) - _product(weight, row_means(rows.x)), wanted, activation
    )


def bias_of_mean(
    rows: Iterable[Block], weight: F64, exact: tuple[F64, F64], wanted: F64, activation: Activation
) -> F64:
    """The same from blocks of rows and the mean wanted behind the activation.

    `exact` are the weight and the bias of the float network. A channel that the activation holds at
    an end takes back what rounded weights make of the mean input.
    """
    narrow = None if activation.is_identity else weight.astype(np.float32)
    found = [block.summed(narrow) for block in rows]
    mean = np.sum([each.total for each in found], axis=0) / sum(each.count for each in found)
    products = [each.products for each in found if each.products is not None]
    if not products:
        return np.asarray(wanted - _product(weight, mean))
    start = exact[1] + _product_of_difference(exact[0], weight, mean)
    return _solved(np.concatenate(products, axis=2), start, wanted, activation)


def _solved(sums: F32, start: F64, wanted: F64, activation: Activation) -> F64:
    """The bias of each channel of sums [G, O / G, R], a few channels at a time."""
    shape, rows = start.shape, sums.shape[2]
    channels = sums.reshape(-1, rows)
    low, high, slope = (
        np.broadcast_to(p[:, 0], shape).reshape(-1, 1)
        for p in (activation.low, activation.high, activation.slope)
    )
    step, bias = max(_TOGETHER // rows, 1), start.reshape(-1).copy()
    for first in range(0, len(channels), step):
        at = slice(first, first + step)
        bent = _Bent(channels[at], low[at], high[at], slope[at])
        bias[at] = _newton(bent, bias[at], wanted.reshape(-1)[at])
    return bias.reshape(shape)


def _newton(bent: _Bent, bias: F64, wanted: F64) -> F64:
    best, least = bias, np.full(bias.shape, np.inf)
    for _ in range(_STEPS):
        mean, slope = bent.at(bias)
        error = wanted - mean
        better = np.abs(error) < least
        best, least = np.where(better, bias, best), np.where(better, np.abs(error), least)
        moves = (slope > _FEW) & (np.abs(error) > bent.close)
        if not moves.any():
            break
        bias = np.where(moves, bias + error / np.maximum(slope, _FEW), best)
    return best


class _Bent:
    """An activation on sums of some channels [C, R]; its parameters are [C, 1]."""

    def __init__(self, sums: F32, low: F32, high: F32, slope: F32) -> None:
        self._sums, self._low, self._high, self._slope = sums, low, high, slope
        self._y = np.empty_like(sums)
        self._straight = bool((slope == 1).all())
        self.close = _CLOSE * np.abs(sums).max(axis=1).astype(np.float64)

    def at(self, bias: F64) -> tuple[F64, F64]:
        """Mean and its derivative for a bias [C]; 0 where the clip holds a value."""
        y = np.add(self._sums, bias[:, None].astype(np.float32), out=self._y)
        slope: F32 | float = 1.0
        if not self._straight:
            slope = np.where(y >= 0, np.float32(1), self._slope)
            y *= slope
        passes = (y > self._low) & (y < self._high)
        mean = np.clip(y, self._low, self._high, out=y).mean(axis=1).astype(np.float64)
        return mean, (passes * slope).mean(axis=1, dtype=np.float64)


def _product(weight: F64, x: F64) -> F64:
    """Of weights [G, O / G, K] and inputs [G, K]."""
    return np.asarray(np.einsum("gok,gk->go", weight, x))


def _product_of_difference(a: F64, b: F64, x: F64) -> F64:
    """Of weights a - b, a few channels at a time."""
    step = max(_TOGETHER // a.shape[2], 1)
    parts = [slice(first, first + step) for first in range(0, a.shape[1], step)]
    return np.concatenate([_product(a[:, at] - b[:, at], x) for at in parts], axis=1)
