"""Nested segments of the source, which layers with 16 bits at either side walk one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Carried, Value, multiple, plus, repeat


def over_segments(
    b: ir.IRBuilder,
    segments: Sequence[tuple[int, int]],
    carried: Carried,
    body: Callable[[Value | int, Value | int, Carried], Carried],
) -> Carried:
    """body(offset in the source, number of the segment, values) for each segment.

    segments: (count, source stride), the outermost first.
    """

    def nested(level: int, x: Value | int, n: Value | int, carried: Carried) -> Carried:
        if level == len(segments):
            return body(x, n, carried)
        count, stride = segments[level]

        def step(s: Value | int, carried: Carried) -> Carried:
            before = multiple(b, n, count)
            x_next = plus(b, x, multiple(b, s, stride))
            return nested(level + 1, x_next, plus(b, before, s), carried)

        return repeat(b, count, carried, step, "segment")

    return nested(0, 0, 0, carried)
