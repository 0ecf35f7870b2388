"""What a library of several lengths does for a length between: the next one, with rows padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Padding:
    """inputs: the axis of the length, and the number in the caller's units that stands behind what
    is given. outputs: the axis of which so much is given back. By name; what is in neither of them
    has no rows.
    """

    inputs: Mapping[str, tuple[int, float]]
    outputs: Mapping[str, int]


def fitting(length: int, lengths: Sequence[int]) -> int:
    """The smallest of `lengths` that has room for `length`; ValueError where none has."""
    if not 0 < length <= max(lengths):
        raise ValueError(f"the length {length}; expected 1 to {max(lengths)}")
    return min(n for n in lengths if n >= length)
