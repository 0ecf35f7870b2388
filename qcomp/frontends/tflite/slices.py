"""STRIDED_SLICE: numpy's slices with masks."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.frontends.tflite.context import Node


@dataclass(frozen=True)
class Cut:
    """What is taken of each axis, and the shape without the axes that shrink."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def index(self) -> tuple[slice, ...]:
        """For a numpy array."""
        ends = [s + n * t for s, n, t in zip(self.starts, self.sizes, self.steps, strict=True)]
        return tuple(
            slice(s, e if e >= 0 else None, t)
            for s, e, t in zip(self.starts, ends, self.steps, strict=True)
        )


def strided(node: Node, shape: tuple[int, ...]) -> Cut:
    """Of an operand of that shape, by constant begin, end and strides."""
    names = ("begin", "end", "strides")
    begin, end, steps = (node.integer_list(i, name) for i, name in enumerate(names, start=1))
    node.require(
        node.option("ellipsis_mask") == 0 and node.option("new_axis_mask") == 0,
        "an ellipsis or a new axis",
        "begin_mask, end_mask and shrink_axis_mask",
    )
    node.require(not node.option("offset", False), "offset=true", "an end, not an offset")
    count = len(begin)
    fits = count == len(end) == len(steps) and count <= len(shape)
    node.require(fits, f"begin of {count} axes, of {len(shape)}")
    node.require(0 not in steps, "a stride of 0")
    shrinks = node.option("shrink_axis_mask")
    axes, kept = [], []
    for axis, extent in enumerate(shape):
        if axis >= count:
            axes.append((0, extent, 1))
            kept.append(extent)
        elif shrinks >> axis & 1:
            at = begin[axis] + extent * (begin[axis] < 0)
            node.require(0 <= at < extent, f"index {begin[axis]} of an axis of {extent}")
            axes.append((at, 1, 1))
        else:
            first = None if node.option("begin_mask") >> axis & 1 else begin[axis]
            last = None if node.option("end_mask") >> axis & 1 else end[axis]
            taken = range(*slice(first, last, steps[axis]).indices(extent))
            axes.append((taken.start, len(taken), taken.step))
            kept.append(len(taken))
    starts, sizes, strides = (
        (tuple(part) for part in zip(*axes, strict=True)) if axes else ((),) * 3
    )
    return Cut(starts, sizes, strides, tuple(kept))
