"""How far an approximation is from its reference."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    noise, signal = float(np.sum((a - b) ** 2)), float(np.sum(a**2))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def cosine(reference: ArrayLike, approximation: ArrayLike) -> float:
    """Cosine of the angle between the two; 1 for two zero vectors, 0 for one."""
    a, b = _pair(reference, approximation)
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in norms:
        return float(norms[0] == norms[1])
    return float(a @ b) / (norms[0] * norms[1])


def max_abs_error(reference: ArrayLike, approximation: ArrayLike) -> float:
    """The largest difference of two elements; 0 for empty arrays."""
    a, b = _pair(reference, approximation)
    return float(np.max(np.abs(a - b), initial=0.0))


def top1(logits: ArrayLike, labels: ArrayLike) -> float:
    """Share of rows [N, classes] whose largest logit is the label [N]; the first one wins a tie."""
    scores, expected = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or expected.shape != scores.shape[:1] or expected.size == 0:
        raise ValueError(
            f"expected logits [N, classes] and labels [N], got {scores.shape} and {expected.shape}"
        )
    return float(np.mean(scores.argmax(axis=1) == expected))
