"""Some values of a large array, evenly spread over it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RUN = 16  # neighbouring values that are taken together: a cache line


def spread(x: NDArray[Any], most: int, turn: int) -> NDArray[Any]:
    """About `most` of the values [N], others at each turn; all of them where there are no more.

    Short runs at equal distances. The distance has no divisor in common with the number of runs, so
    that no channel or column is met more often than another.
    """
    values = np.ascontiguousarray(x).reshape(-1)
    step = -(-values.size // most)
    if step <= 1:
        return values
    runs = values.size // _RUN
    while math.gcd(step, runs) > 1:
        step += 1
    return values[: runs * _RUN].reshape(runs, _RUN)[turn % step :: step].reshape(-1)
