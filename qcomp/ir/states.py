"""States: inputs that have in the next run what outputs had in this one, in the same integers.

A state is taken as a whole, or as rows that are added to it: a cache of keys has room for N rows,
and a run gives K new ones. Run number t writes them to the rows (t K + k) mod N, so a cache that is
full forgets its oldest rows, and rows are in the order of time until then only. What reads a cache,
such as attention, is told by the model's own mask or position which rows are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorType


@dataclass(frozen=True)
class State:
    """From the output to the input of the next run.

    kept: the type of the input. axis: along which the rows lie; None where a run gives all of it.
    rows: how many a run gives.
    """

    input: str
    output: str
    kept: TensorType
    axis: int | None = None
    rows: int = 0

    @property
    def capacity(self) -> int:
        """Rows that there is room for."""
        return 1 if self.axis is None else self.kept.shape[self.axis]

    @property
    def outer(self) -> int:
        """Pieces in memory that each have all rows."""
        return math.prod(self.kept.shape[: self.axis or 0])

    @property
    def row_size(self) -> int:
        """Elements of a row in one of these pieces."""
        return math.prod(self.kept.shape[self.axis + 1 :]) if self.axis is not None else 0

    def after(self, before: Array, given: Array, step: int) -> Array:
        """What the run behind run number `step` takes; `before` is written to where rows are."""
        if self.axis is None:
            return given
        places = (step * self.rows + np.arange(self.rows)) % self.capacity
        before[(slice(None),) * self.axis + (places,)] = given
        return before


def states_of(graph: Graph) -> tuple[State, ...]:
    """Those of a graph, in its order; ValueError for types that are none of one state."""
    return tuple(
        state_from(name, output, graph.type(graph.inputs[name]), graph.type(graph.outputs[output]))
        for name, output in graph.states.items()
    )


def state_from(name: str, output: str, kept: TensorType, given: TensorType) -> State:
    """The state whose input and output have these types; ValueError where they are none of one."""
    if kept == given:
        return State(name, output, kept)
    pairs = list(zip(kept.shape, given.shape, strict=False))
    apart = [i for i, (one, other) in enumerate(pairs) if one != other]
    if kept.dtype is given.dtype and kept.rank == given.rank and len(apart) == 1:
        (axis,) = apart
        if 0 < given.shape[axis] < kept.shape[axis]:
            return State(name, output, kept, axis, given.shape[axis])
    raise ValueError(
        f"{name!r} is {kept} and {output!r} {given}; expected one type, or fewer rows along one "
        "axis, which are added to those that there are, or a concat of the input with these"
    )
