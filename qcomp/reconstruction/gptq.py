"""GPTQ: weights are rounded one input at a time, and those to come make up for the error.

Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023, section 3 and algorithm 1. The error to minimise is
(w~ - w) H (w~ - w)' for each output channel. With U the upper Cholesky factor of H^-1 = U' U, the
weights after column k that are best once column k is off by e are

    w[k+1:] -= e / U[k, k] * U[k, k+1:].

Columns come in the order of falling H[k, k], so that inputs with much power are rounded while there
are many others left; the updates of columns further on are made a block at a time.

`descend` then moves one weight at a time to where the error is least, given all others, for a few
rounds: a level that was right when its turn came may not be in the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments

F64 = NDArray[np.float64]

BLOCK = 128


def gptq(weight: F64, inputs: F64, levels: Levels) -> F64:
    """The level of each weight [G, O / G, K], for a positive definite H [G, K, K]."""
    order = np.argsort(-np.diagonal(inputs, axis1=1, axis2=2), axis=1, kind="stable")
    columns = order[:, None, :]
    h = np.take_along_axis(np.take_along_axis(inputs, order[:, :, None], 1), columns, 2)
    factor = np.linalg.cholesky(np.linalg.inv(h)).swapaxes(1, 2)
    w = np.take_along_axis(weight, columns, 2)
    steps = np.take_along_axis(np.broadcast_to(levels.step, weight.shape), columns, 2)
    ordered = Levels(steps, levels.bits)
    chosen = np.empty_like(w)
    for start in range(0, w.shape[2], BLOCK):
        end = min(start + BLOCK, w.shape[2])
        errors = np.empty_like(w[:, :, start:end])
        for k in range(start, end):
            own = ordered.at(k)
            chosen[:, :, k : k + 1] = own.nearest(w[:, :, k : k + 1])
            error = w[:, :, k : k + 1] - own.value(chosen[:, :, k : k + 1])
            error /= factor[:, k, k][:, None, None]
            w[:, :, k + 1 : end] -= error * factor[:, None, k, k + 1 : end]
            errors[:, :, k - start] = error[:, :, 0]
        w[:, :, end:] -= np.matmul(errors, factor[:, start:end, end:])
    result = np.empty_like(chosen)
    np.put_along_axis(result, columns, chosen, 2)
    return result


def descend(moments: Moments, levels: Levels, chosen: F64, rounds: int = 2) -> F64:
    """Better levels, by one coordinate of the quadratic form at a time."""
    chosen = chosen.copy()
    weight = levels.value(chosen)
    h, power = moments.inputs, np.diagonal(moments.inputs, axis1=1, axis2=2)
    slope = np.matmul(weight, h) - moments.products
    for _ in range(rounds):
        for k in range(weight.shape[2]):
            own, here = levels.at(k), slice(k, k + 1)
            best = weight[:, :, here] - slope[:, :, here] / power[:, k][:, None, None]
            chosen[:, :, here] = own.nearest(best)
            moved = own.value(chosen[:, :, here]) - weight[:, :, here]
            weight[:, :, here] += moved
            slope += moved * h[:, None, k, :]
    return chosen
