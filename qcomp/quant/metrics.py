"""How far an approximation is from its reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcomp.quant.noise import Noise


def _pair(
    reference: ArrayLike, approximation: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(reference, np.float64), np.asarray(approximation, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    return a.reshape(-1), b.reshape(-1)


def sqnr_db(reference: ArrayLike, approximation: ArrayLike) -> float:
    """10 log10(power of the reference / power of the difference); infinite where they are equal."""
    a, b = _pair(reference, approximation)
    return Noise().plus([a], [b]).db
