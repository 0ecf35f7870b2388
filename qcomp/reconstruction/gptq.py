"""GPTQ: weights are rounded one input at a time, and those to come make up for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023, section 3 and algorithm 1. The error to minimise is
(w~ - w) H (w~ - w)' for each output channel. With U the upper Cholesky factor of H^-1 = U' U, the
weights after column k that are best once column k is off by e are

    w[k+1:] -= e / U[k, k] * U[k, k+1:].

Columns come in the order of falling H[k, k], so that inputs with much power are rounded while there
are many others left; the updates of columns further on are made a block at a time.

`descend` then moves one weight at a time to where the error is least, given all others, for a few
rounds: a level that was right when its turn came may not be in the end. Here too a column changes
at once only those of its block that are still to come, and the others a block at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments

F64 = NDArray[np.float64]

BLOCK = 32


def gptq(weight: F64, moments: Moments, levels: Levels) -> F64:
    """The level of each weight [G, O / G, K], for a positive definite H."""
    order, factor = moments.order[:, :, None], moments.factor
    w = np.take_along_axis(_columns(weight), order, 1)
    ordered = levels.ordered(moments.order)
    chosen = np.empty_like(w)
    for start in range(0, w.shape[1], BLOCK):
        end = min(start + BLOCK, w.shape[1])
        errors = np.empty_like(w[:, start:end])
        for k in range(start, end):
            own = ordered.at(k)
            chosen[:, k] = own.nearest(w[:, k])
            error = w[:, k] - own.value(chosen[:, k])
            error /= factor[:, k, k, None]
            w[:, k + 1 : end] -= factor[:, k, k + 1 : end, None] * error[:, None]
            errors[:, k - start] = error
        w[:, end:] -= np.matmul(factor[:, start:end, end:].swapaxes(1, 2), errors)
    result = np.empty_like(chosen)
    np.put_along_axis(result, order, chosen, 1)
    return _columns(result)


def descend(moments: Moments, levels: Levels, chosen: F64, rounds: int = 2) -> F64:
    """Better levels, by one coordinate of the quadratic form at a time."""
    h, power = moments.inputs, np.diagonal(moments.inputs, axis1=1, axis2=2)
    chosen, weight = _columns(chosen), _columns(levels.value(chosen))
    slope = np.matmul(h, weight) - moments.products.swapaxes(1, 2)
    for start in [*range(0, weight.shape[1], BLOCK)] * rounds:
        end = min(start + BLOCK, weight.shape[1])
        inner, moved = slope[:, start:end].copy(), np.empty_like(slope[:, start:end])
        for k in range(start, end):
            own, at = levels.at(k), k - start
            chosen[:, k] = own.nearest(weight[:, k] - inner[:, at] / power[:, k, None])
            value = own.value(chosen[:, k])
            moved[:, at] = value - weight[:, k]
            inner[:, at + 1 :] += h[:, k + 1 : end, k, None] * moved[:, at, None]
            weight[:, k] = value
        slope += np.matmul(h[:, :, start:end], moved)
    return _columns(chosen)


def _columns(x: F64) -> F64:
    """[G, A, B] to [G, B, A], a copy: columns are taken one at a time."""
    return x.swapaxes(1, 2).copy()
