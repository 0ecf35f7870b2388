"""Loops of kernels as data."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Axis:
    """A loop: how often, and how many bytes source, result and a second source move."""

    count: int
    src: int
    dst: int
    other: int = 0

    def continues(self, inner: Axis) -> bool:
        """Whether the step of this axis is where `inner` ends, so that both are one axis."""
        ends = (inner.src * inner.count, inner.dst * inner.count, inner.other * inner.count)
        return (self.src, self.dst, self.other) == ends

    def times(self, count: int) -> Axis:
        return replace(self, count=self.count * count)


def flattened_axes(rows: Axis, columns: Axis) -> tuple[Axis, Axis]:
    """As one axis of columns where both tensors step evenly over the row ends."""
    if rows.count == 1 or rows.continues(columns):
        return Axis(1, 0, 0), columns.times(rows.count)
    return rows, columns
