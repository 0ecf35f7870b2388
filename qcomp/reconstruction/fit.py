"""The rounding of one layer's weights: scale, levels, and the scale once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.reconstruction.adaround import Schedule, adaround
from qcomp.reconstruction.engine import Engine
from qcomp.reconstruction.gptq import descend, gptq
from qcomp.reconstruction.levels import Levels
from qcomp.reconstruction.moments import Moments
from qcomp.reconstruction.problem import Problem, eased
from qcomp.reconstruction.scales import best_scales

F64 = NDArray[np.float64]

LARGEST_GAIN = 1.25
MANY_BITS = 8
"""Of so many, rounding to nearest ranks scales as the layer's own rounding does, in less time; and
there is little to gain by weights that make up for each other."""


@dataclass(frozen=True)
class Method:
    """How weights are rounded: "nearest", "gptq" or "adaround"; whether scales are searched."""

    rounding: str
    search: bool
    iterations: int


@dataclass(frozen=True, eq=False)
class Fit:
    """`chosen` are levels [G, O / G, K] of `levels`, whose scales were multiplied by `factor`."""

    levels: Levels
    chosen: F64
    factor: F64

    @property
    def weight(self) -> F64:
        return self.levels.value(self.chosen)


def fit(
    problem: Problem,
    levels: Levels,
    method: Method,
    adjusted: Callable[[F64], F64],
    engine: Engine,
) -> Fit:
    """Round a layer's weights; `adjusted` turns factors on the scales into those allowed.

    Rounded weights shrink or stretch what a channel gives, on average; at the end each scale takes
    that back, where it may.
    """
    moments = Moments.of(problem)
    aim = moments.eased(problem.weight).damped(problem.weight)
    rounding = _nearest(problem) if method.rounding == "nearest" else _compensated(aim)
    factor = np.ones(problem.weight.shape[:2])
    if method.search:
        few = levels.bits < MANY_BITS
        tried = rounding if few else _nearest(problem)
        factor = best_scales(aim, levels, tried, adjusted)
    chosen = rounding(levels.scaled(factor))
    if method.rounding == "adaround":
        schedule = Schedule(method.iterations)
        chosen = adaround(eased(problem), levels.scaled(factor), chosen, schedule, engine)
    gains = moments.gains(levels.scaled(factor).value(chosen))
    factor = adjusted(factor * np.clip(gains, 1 / LARGEST_GAIN, LARGEST_GAIN))
    return Fit(levels.scaled(factor), chosen, factor)


def _nearest(problem: Problem) -> Callable[[Levels], F64]:
    return lambda levels: levels.nearest(problem.weight)


def _compensated(aim: Moments) -> Callable[[Levels], F64]:
    best = aim.solution()
    return lambda levels: descend(aim, levels, gptq(best, aim, levels))
