"""Choices of one option for each of several parts that trade noise for cost.

The model is additive: rounding errors of different parts are nearly independent, so the powers of
what they do to the outputs add (as costs do).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_POINTS = 4096

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """One number of bits for a part: the power of its noise, and what it costs."""

    bits: int
    noise: float
    cost: float


Options = Sequence[Sequence[Option]]


@dataclass(frozen=True)
class Choice:
    """An option for each part, by index, and the sums of noise and cost."""

    picked: tuple[int, ...]
    noise: float
    cost: float


def pareto(options: Options) -> list[Choice]:
    """The choices that no other beats in noise and cost both, from the cheapest on.

    Parts are added one by one, and what is beaten is dropped (Nemhauser and Ullmann, "Discrete
    dynamic programming and capital allocation", 1969). Of more than 4096 choices the least noisy of
    each of as many equal intervals of cost go on, so the front is exact up to such an interval.
    """
    noise, cost = np.zeros(1), np.zeros(1)
    picked = np.zeros((1, 0), np.uint8)
    for part in options:
        noises = np.concatenate([noise + option.noise for option in part])
        costs = np.concatenate([cost + option.cost for option in part])
        indices = np.repeat(np.arange(len(part), dtype=np.uint8), len(noise))
        rows = np.tile(picked, (len(part), 1))
        kept = _thinned(noises, costs, _unbeaten(noises, costs))
        noise, cost = noises[kept], costs[kept]
        picked = np.column_stack([rows[kept], indices[kept]])
    return [
        Choice(tuple(map(int, row)), float(n), float(c))
        for row, n, c in zip(picked, noise, cost, strict=True)
    ]


def _unbeaten(noise: F64, cost: F64) -> NDArray[np.intp]:
    """Indices by rising cost, each less noisy than all before; ties go to the earlier option."""
    order: NDArray[np.intp] = np.lexsort((noise, cost))
    least = np.minimum.accumulate(np.concatenate([[np.inf], noise[order][:-1]]))
    unbeaten: NDArray[np.intp] = order[noise[order] < least]
    return unbeaten


def _thinned(noise: F64, cost: F64, order: NDArray[np.intp]) -> NDArray[np.intp]:
    """The last, so least noisy, of each interval of cost, and the cheapest."""
    if len(order) <= _MOST_POINTS:
        return order
    costs = cost[order]
    interval = ((costs - costs[0]) / (costs[-1] - costs[0]) * (_MOST_POINTS - 1)).astype(int)
    last = np.append(np.flatnonzero(np.diff(interval)), len(order) - 1)
    kept: NDArray[np.intp] = order[np.union1d([0], last)]
    return kept


def greedy(options: Options) -> list[Choice]:
    """From the least noisy choice, by the step with the least noise per saved cost each.

    The steps are those of all parts' lower convex hulls in order of their slopes: the convex hull
    of the front. From the cheapest on, as `pareto`.
    """
    picked = [min((o.noise, o.cost, i) for i, o in enumerate(part))[2] for part in options]
    found = [_choice(options, picked)]
    while step := _best_step(options, picked):
        part, index = step
        picked[part] = index
        found.append(_choice(options, picked))
    return found[::-1]


def _best_step(options: Options, picked: Sequence[int]) -> tuple[int, int] | None:
    """The part and its new option; None where nothing saves."""
    steps = [
        ((option.noise - now.noise) / (now.cost - option.cost), part, index)
        for part, now in ((p, options[p][i]) for p, i in enumerate(picked))
        for index, option in enumerate(options[part])
        if option.cost < now.cost
    ]
    if not steps:
        return None
    _, part, index = min(steps)
    return part, index


def _choice(options: Options, picked: Sequence[int]) -> Choice:
    chosen = [part[i] for part, i in zip(options, picked, strict=True)]
    return Choice(tuple(picked), sum(o.noise for o in chosen), sum(o.cost for o in chosen))
