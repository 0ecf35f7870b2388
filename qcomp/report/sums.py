"""Sums over all elements of a tensor and what approximates it, sample by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.tensor import Array
from qcomp.quant.noise import Noise

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """How far an approximation is from its reference, over all samples.

    noise: sums of squares. cosine: of the angle between both, None where one is all 0.
    max_steps: the largest error, in steps of the tensor's integers.
    bias: the power of the noise that is the mean error of channels: what a bias could take away.
    """

    noise: Noise
    cosine: float | None
    max_steps: float
    bias: float

    @property
    def sqnr_db(self) -> float:
        return self.noise.db


@dataclass
class Sums:
    """Of a tensor [..., C] with steps of `scale`; memory does not grow with samples."""

    scale: float
    _signal: float = 0.0
    _noise: float = 0.0
    _cross: float = 0.0
    _other: float = 0.0
    _largest: float = 0.0
    _rows: int = 0
    _errors: F64 = field(default_factory=lambda: np.zeros(1))

    def add(self, reference: Array, error: Array) -> None:
        """One sample: float32 values, and the approximation's less them."""
        a, d = reference.ravel(), error.ravel()
        both = float(np.dot(a, d))
        signal, noise = float(np.dot(a, a)), float(np.dot(d, d))
        self._signal += signal
        self._noise += noise
        self._cross += signal + both
        self._other += signal + 2.0 * both + noise
        self._largest = max(self._largest, float(d.max(initial=0.0)), -float(d.min(initial=0.0)))
        rows = error.reshape(-1, error.shape[-1]) if error.ndim else error.reshape(1, 1)
        self._rows += len(rows)
        self._errors = self._errors + rows.sum(axis=0, dtype=np.float64)

    @property
    def figures(self) -> Figures:
        power = math.sqrt(max(self._signal * self._other, 0.0))
        return Figures(
            Noise(self._signal, self._noise),
            min(max(self._cross / power, -1.0), 1.0) if power > 0.0 else None,
            self._largest / self.scale,
            min(float(np.sum(self._errors**2)) / max(self._rows, 1), self._noise),
        )
