"""Lowering of concatenations: what their operands' producers did not write in place is copied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qcomp.ir.ops import Concat, Op
from qcomp.targets.cpu.emit.nest import Nest, simplified
from qcomp.targets.cpu.emit.shuffled import LONG_RUN, Pick, ShuffledSpec, best_tile
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Place
from qcomp.targets.cpu.lower.movement import SHUFFLED, copy
from qcomp.targets.cpu.memory import Layout, contiguous
from qcomp.targets.cpu.program import Address, as_stored, moved


def lower_concat(lowering: Lowering, op: Concat) -> None:
    """Short runs of several operands by one kernel, else each operand by its own copy."""
    dst = lowering.place(op.output)
    first, copies = 0, []
    for t in op.inputs:
        src = lowering.place(t)
        to = moved(dst.start, first * dst.layout.strides[op.axis])
        if src.start != to:
            copies.append((src, to))
        first += src.layout.shape[op.axis]
    sources = [src for src, _ in copies]
    if len(copies) == len(op.inputs) and _interleaved(lowering, sources, dst, op.axis):
        return
    for src, to in copies:
        copy(
            lowering, src.layout.shape, src.start, src.layout.strides, to, dst.layout.strides,
            element=src.layout.element,
        )  # fmt: skip


def _interleaved(lowering: Lowering, sources: Sequence[Place], dst: Place, axis: int) -> bool:
    """Whether one kernel writes the whole result: few bytes of each operand, in turn."""
    shape, strides = dst.layout.shape, dst.layout.strides
    runs = [math.prod(src.layout.shape[axis:]) for src in sources]
    dense = strides[axis:] == contiguous(shape[axis:], dst.layout.element)
    element = dst.layout.element
    if element > SHUFFLED or not dense or element * min(runs) >= LONG_RUN:
        return False
    # Operands that lie in one buffer are one source: their bytes may come in one load.
    found: dict[tuple[Address, tuple[int, ...]], tuple[int, Address]] = {}
    picks: list[Pick] = []
    for src in sources:
        outer = src.layout.strides[:axis]
        key = replace(src.base, offset=0), outer
        n, start = found.setdefault(key, (len(found), src.start))
        shift = src.start.offset - start.offset
        picks += [(n, shift + offset) for offset in _offsets(src.layout, axis)]
    steps = (*(outer for _, outer in found), strides[:axis])
    nest = simplified(Nest(shape[:axis], steps, (1,) * len(steps)))
    if not nest.extents or nest.strides[-1][-1] != len(picks):
        return False
    kernel = best_tile(ShuffledSpec(nest, tuple(picks)), lowering.isa.machine.shuffles)
    if kernel is None:
        return False
    arguments = as_stored([*(start for _, start in found.values()), dst.start])
    lowering.ranged("interleave", kernel, arguments, kernel.emit, kernel.units)
    return True


def _offsets(layout: Layout, axis: int) -> list[int]:
    """Of the bytes along `axis` and those after it, in row-major order of elements."""
    places = np.indices(layout.shape[axis:]).reshape(len(layout.shape) - axis, -1)
    offsets: list[int] = (np.array(layout.strides[axis:]) @ places).tolist()
    return [offset + byte for offset in offsets for byte in range(layout.element)]


LOWERINGS: Mapping[type[Op], LowerOp] = {
    Concat: lower_concat,
}

I16_LOWERINGS = LOWERINGS
