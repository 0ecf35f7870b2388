"""Grids of weights, each searched once: trials ask for the same ones again and again.

A grid depends on the array of a constant, which graphs share and nobody changes, and on choices. It
is forgotten with the array.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qcomp.quant.grid import Grid
from qcomp.quant.weights import weight_grid


@dataclass(frozen=True)
class GridChoices:
    """What a grid depends on besides the weights; see `weight_grid`."""

    bits: int
    per_channel: bool
    least_squares: bool
    group_size: int
    power_of_two: bool


_known: dict[tuple[int, GridChoices], tuple[weakref.ref[NDArray[Any]], Grid]] = {}


def known_grid(weight: NDArray[Any], choices: GridChoices) -> Grid:
    """`weight_grid` of a constant's array."""
    key = id(weight), choices
    reference, grid = _known.get(key, (None, None))
    if grid is None or reference is None or reference() is not weight:
        grid = weight_grid(
            weight,
            choices.bits,
            per_channel=choices.per_channel,
            least_squares=choices.least_squares,
            group_size=choices.group_size,
            power_of_two=choices.power_of_two,
        )
        _known[key] = weakref.ref(weight, lambda _: _known.pop(key, None)), grid
    return grid
