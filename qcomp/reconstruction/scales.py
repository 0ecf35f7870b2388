"""Weight scales with the least error of the layer's results: SeqMSE.

As AIMET's sequential MSE: of some candidates between a part of the peak and a little more than it,
each output channel takes the scale whose rounded weights change the layer's results least, on the
inputs that the quantized layers before give it. Candidates are rounded as the caller says: of few
bits in the way that the layer will be, so that what is chosen suits GPTQ (4 bits: .2 to .35 dB).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments

F64 = NDArray[np.float64]
Rounding = Callable[[Levels], F64]

# Short rows, whose error jumps with the scale, get the most candidates.
_FACTORS = {9: (1.1, 0.6, 26), 64: (1.05, 0.7, 8)}
_LONG = (1.0, 0.8, 3)


def factors(size: int) -> Sequence[float]:
    """The candidates for rows of `size` weights, as parts of the scale given."""
    fits = [f for most, f in _FACTORS.items() if size <= most]
    return [float(f) for f in np.linspace(*(fits[0] if fits else _LONG))]


def best_scales(
    moments: Moments, levels: Levels, rounding: Rounding, adjusted: Callable[[F64], F64]
) -> F64:
    """The factor on each channel's step [G, O / G].

    `adjusted` turns a factor into the nearest one that the layer's arithmetic allows.
    """
    best = np.full(moments.products.shape[:2], np.inf)
    chosen = np.ones_like(best)
    for factor in factors(moments.inputs.shape[-1]):
        candidate = adjusted(np.full_like(best, factor))
        tried = levels.scaled(candidate)
        errors = moments.errors(tried.value(rounding(tried)))
        chosen = np.where(errors < best, candidate, chosen)
        best = np.minimum(errors, best)
    return chosen
