"""The knapsack problem: of things with a value and a cost, the most valuable that costs allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STEPS = 400  # that the budget is divided into; costs count in whole steps, rounded up


def most_valuable(values: Sequence[float], costs: Sequence[float], budget: float) -> list[int]:
    """The indices of the things of most value whose costs are within the budget, in order.

    By dynamic programming over the budget, so up to the rounding of costs no choice is better.
    """
    if budget <= 0.0:
        return []
    steps = [int(np.ceil(min(cost / budget, 2.0) * _STEPS)) for cost in costs]
    best = np.zeros(_STEPS + 1)  # value that each part of the budget buys
    taken = np.zeros((len(costs), _STEPS + 1), bool)
    for i, (value, step) in enumerate(zip(values, steps, strict=True)):
        if step <= _STEPS:
            other = best[: _STEPS + 1 - step] + value
            taken[i, step:] = other > best[step:]
            best[step:] = np.maximum(best[step:], other)
    found, left = [], _STEPS
    for i in reversed(range(len(costs))):
        if taken[i, left]:
            found.append(i)
            left -= steps[i]
    return found[::-1]
