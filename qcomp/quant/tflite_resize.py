"""Places and weights of TensorFlow Lite's bilinear resampling of integers, along one axis.

reference/resize_bilinear.h: coordinates in Q10, their fractions are the weights.
"""

from __future__ import annotations

import numpy as np

from qcomp.quant.fixed_point import I32

BITS = 10


def bilinear_table(extent: int, results: int, *, aligned: bool, centers: bool) -> I32:
    """i32 [results, 3]: first neighbour, second neighbour, weight of the second."""
    one = 1 << BITS
    step = (one * extent + results // 2) // results
    if aligned and results > 1:
        step = (one * (extent - 1) + (results - 1) // 2) // (results - 1)
    place = np.arange(results, dtype=np.int64) * step
    if centers:
        place += step // 2 - one // 2
    first = np.maximum(place, 0) // one  # place is above -one
    second = np.minimum((place + one - 1) // one, extent - 1)
    return np.stack([first, second, place - one * first], axis=1).astype(np.int32)
