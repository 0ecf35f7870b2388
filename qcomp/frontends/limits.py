"""What no importer takes, whatever the format: a node that is refused, and too much of anything."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.ir.tensor import TensorType

MAX_RANK = 32
MAX_ELEMENTS = 1 << 31  # of a constant
MAX_RESULT_ELEMENTS = 1 << 28
_FREE_ELEMENTS = 1 << 22
_ELEMENTS_PER_GIVEN = 16


class Refused(Exception):
    """One node in a form that qcomp does not take."""

    def __init__(self, reason: str, accepted: str = "") -> None:
        super().__init__(f"{reason}; accepted: {accepted}" if accepted else reason)


def check_result(type: TensorType) -> None:
    """Refused for a result that no machine could hold, or that has no elements."""
    if type.rank > MAX_RANK:
        raise Refused(f"a result would have rank {type.rank}")
    if type.size > MAX_RESULT_ELEMENTS:
        raise Refused(f"a result would have {type.size} elements")
    if type.size == 0:
        raise Refused("a result would be empty")


@dataclass
class Folding:
    """How many elements constant folding may make: some, and more of a model with weights."""

    left: int = _FREE_ELEMENTS

    def given(self, elements: int) -> None:
        """The model has a tensor of so many."""
        self.left += _ELEMENTS_PER_GIVEN * elements

    def take(self, elements: int, effort: int) -> None:
        """Refused where a small file asks for a large constant; each element counts as `effort`."""
        if elements * effort > self.left:
            raise Refused(
                f"its constant result would have {elements} elements",
                f"up to {self.left // effort} here; any model may fold {_FREE_ELEMENTS} in all, "
                f"and {_ELEMENTS_PER_GIVEN} for each element of its initializers",
            )
        self.left -= elements * effort
