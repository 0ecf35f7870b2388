"""Schedules: one kernel for a function, its result in registers until the end.

What is computed element by element is inlined. A reduction is computed where its elements are
used: each thread has a tile of the result, whose sums stay in registers through the epilogue. Tiles
divide the axes, so that no thread asks whether it is inside.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcomp.targets.tvm.api.schedules import (
    NoSchedule,
    Schedule,
    attempted,
    blocks_of,
    extent_of,
    is_called,
    is_reduction,
    reads_of,
    reads_vectors,
    schedule_of,
)
from qcomp.targets.tvm.api.tensors import Function
from qcomp.targets.tvm.machine import PIXELS, Machine, Tiles
from qcomp.targets.tvm.program import Kernel

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """What is known of a kernel that is scheduled: groups, and threads in each."""

    grid: int
    block: int


def scheduled(make: Callable[[], Function], key: str, name: str, machine: Machine) -> Kernel:
    """By the rule of the machine; where TVM refuses that, by the simple one.

    A schedule changes its function, so each begins with a new one.
    """

    def by(rule: Callable[[Schedule], Shape]) -> Kernel:
        schedule = schedule_of(make(), name)
        shape = rule(schedule)
        return Kernel(key, name, schedule, shape.grid, shape.block)

    tiles = machine.tiles_of(key)
    if tiles is None:
        return by(_loops)
    try:
        found: Kernel = attempted(lambda: by(lambda s: _tiled(s, tiles, machine.vectors)))
        return found
    except NoSchedule as error:
        reason = str(error).splitlines()[0]
        _LOG.warning("%s has the simple schedule: %s", name, reason)
        return by(lambda s: _simple(s, tiles))


def _loops(schedule: Schedule) -> Shape:
    """On processors: sums of all channels at once, so that their loop can be vectors."""
    result, sums = _inlined(schedule, "global")
    loops = schedule.get_loops(result)
    if sums is not None and len(loops) == 1:
        schedule.compute_at(sums, loops[0])
    elif sums is not None and loops:
        schedule.compute_at(sums, loops[-2])
        inner = schedule.get_loops(sums)[len(loops) - 1 :]
        spatial = int(extent_of(schedule, loops[-1]) > 1)
        if inner[spatial:]:
            schedule.reorder(*inner[spatial:], *inner[:spatial])
            schedule.decompose_reduction(sums, inner[spatial])
    return Shape(1, 1)


def _simple(schedule: Schedule, tiles: Tiles) -> Shape:
    """A thread for each element."""
    result, sums = _inlined(schedule)
    outer = schedule.fuse(*_some_loops(schedule, result))
    grid, block, thread = _threads(schedule, outer, tiles)
    if sums is not None:
        schedule.compute_at(sums, thread)
        schedule.set_scope(sums, 0, "local")
    return Shape(grid, block)


def _tiled(schedule: Schedule, most: Tiles, by_vectors: bool) -> Shape:
    around = [b for b in blocks_of(schedule) if is_called(schedule, b, PIXELS)]
    result, sums = _inlined(schedule, but=PIXELS)
    loops = _some_loops(schedule, result)
    extents = [extent_of(schedule, loop) for loop in loops]
    vectors = reads_vectors(schedule, result)
    width = _width(extents[-1], most.channels) if vectors or sums is not None else 1
    outer_c, channels = schedule.split(loops[-1], [None, width])
    rest, tile, tiles = loops[:-1], [channels], [width]
    if sums is not None and len(loops) > 1:
        spare = math.prod(extents) // width // most.enough
        count = _largest_divisor(extents[-2], min(most.pixels, max(spare, 1)))
        outer_x, pixels = schedule.split(loops[-2], [None, count])
        rest, tile, tiles = [*loops[:-2], outer_x], [pixels, channels], [count, width]
    schedule.reorder(*rest, outer_c, *tile)
    grid, block, thread = _shared(schedule, [*rest, outer_c], most)
    if sums is not None:
        _in_registers(schedule, sums, thread, tiles, around, by_vectors)
    for loop in tile[:-1]:
        schedule.unroll(loop)
    if width > 1 and vectors:
        schedule.vectorize(channels)
    return Shape(grid, block)


def _in_registers(
    schedule: Schedule,
    sums: Any,
    thread: Any,
    tiles: Sequence[int],
    around: Sequence[Any],
    by_vectors: bool,
) -> None:
    """The sums of a tile: the axes that are summed outside, the tile inside."""
    schedule.compute_at(sums, thread)
    schedule.set_scope(sums, 0, "local")
    loops = schedule.get_loops(sums)[2:]
    spatial = sum(extent > 1 for extent in tiles)
    tile, summed = loops[:spatial], loops[spatial:]
    if not summed:  # nor anything around a pixel
        for block in around:
            schedule.compute_inline(block)
        return
    schedule.reorder(*summed, *tile)
    for block in around:
        schedule.compute_at(block, summed[-1])
        schedule.set_scope(block, 0, "local")
        inner = schedule.get_loops(block)[2 + len(summed) :]
        if inner and extent_of(schedule, inner[-1]) == tiles[-1] > 1:
            schedule.vectorize(inner.pop())
        for loop in inner:
            schedule.unroll(loop)
    operands, vectors = reads_of(schedule, sums), tiles[-1] > 1 and reads_vectors(schedule, sums)
    if operands > 1 and vectors:
        weight = schedule.cache_read(sums, operands - 1, "local")
        schedule.compute_at(weight, summed[-1])
        schedule.vectorize(schedule.get_loops(weight)[-1])
    lanes = [tile.pop()] if vectors and by_vectors else []
    for loop in lanes:  # before: the rest of a sum is none by itself
        schedule.vectorize(loop)
    first = schedule.decompose_reduction(sums, summed[0])
    for loop in [schedule.get_loops(first)[-1]] * len(lanes):
        schedule.vectorize(loop)
    for loop in tile:
        schedule.unroll(loop)


def _inlined(schedule: Schedule, scope: str = "local", but: str = "") -> tuple[Any, Any | None]:
    """(the block of the result, that of the sums); all others are gone."""
    *before, result = blocks_of(schedule)
    sums = None
    for block in before:
        if is_reduction(schedule, block):
            sums = block
        elif not is_called(schedule, block, but):
            schedule.compute_inline(block)
    if is_reduction(schedule, result):
        sums, result = result, schedule.cache_write(result, 0, scope)
    return result, sums


def _some_loops(schedule: Schedule, block: Any) -> list[Any]:
    """The loops of a block; one of a single turn where it has none."""
    return list(schedule.get_loops(block)) or [schedule.add_unit_loop(block)]


def _shared(schedule: Schedule, loops: Sequence[Any], tiles: Tiles) -> tuple[int, int, Any]:
    """Loops shared among groups of threads: how many groups, of how many, and a thread's part.

    Each loop is split by a divisor: bindings of a fused loop that is split elsewhere are too much
    for TVM's analysis. NoSchedule where divisors give few threads.
    """
    extents = [extent_of(schedule, loop) for loop in loops]
    total, block = math.prod(extents), 1
    outer: list[Any] = []
    inner: list[Any] = []
    for loop, extent in zip(reversed(loops), reversed(extents), strict=True):
        count = _largest_divisor(extent, tiles.threads // block)
        far, near = schedule.split(loop, [None, count])
        outer, inner, block = [far, *outer], [near, *inner], block * count
    if block < min(tiles.few, total):
        raise NoSchedule(f"groups of {block} threads of {total}")
    schedule.reorder(*outer, *inner)
    schedule.bind(schedule.fuse(*outer), "blockIdx.x")
    thread = schedule.fuse(*inner)
    schedule.bind(thread, "threadIdx.x")
    return total // block, block, thread


def _threads(schedule: Schedule, loop: Any, tiles: Tiles) -> tuple[int, int, Any]:
    """The same of one loop, whose last group may have idle threads."""
    total = extent_of(schedule, loop)
    block = min(tiles.threads, total)
    outer, inner = schedule.split(loop, [None, block])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    return -(-total // block), block, inner


def _width(extent: int, most: int) -> int:
    """Of vectors, which are powers of two."""
    return max(n for n in (1, 2, 4, 8, 16) if n <= most and extent % n == 0)


def _largest_divisor(extent: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if extent % n == 0)
