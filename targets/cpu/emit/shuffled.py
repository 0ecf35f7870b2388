"""Copies of bytes in small steps: contiguous loads, byte shuffles, contiguous stores.

Every k-th byte, a few channels of each pixel, a few channels of several tensors side by side: all
write pixel after pixel without a gap, and find each byte at a fixed offset from its source's pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    Value,
    at,
    load,
    loop,
    multiple,
    overlapped,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.nest import Nest, simplified
from qcomp.targets.cpu.emit.span import Span

Pick = tuple[int, int]  # a source, and an offset in bytes

LONG_RUN = 16  # bytes: as many in a row are copied without shuffles
_STORES = 16  # of a tile, at most, or of a few tiles without a loop
_LOADS = 64  # of a tile, at most
_PIXEL = 1024  # bytes, at most


@dataclass(frozen=True)
class Shuffles:
    """What shuffles of bytes a machine has: on vectors of these widths, the widest first.

    `two` where one instruction picks from two vectors; else from one, with zeros between.
    """

    widths: tuple[int, ...]
    two: bool


@dataclass(frozen=True)
class ShuffledSpec:
    """Byte q of a result's pixel is picks[q], the offset counted from the pixel of that source.

    `nest` is over pixels: its last axis moves on by one in the result.
    """

    nest: Nest
    picks: tuple[Pick, ...]


@dataclass(frozen=True)
class _Bytes:
    """Bytes [start, start + size) of a source, counted from a tile's first pixel."""

    source: int
    start: int
    size: int

    def has(self, pick: Pick) -> bool:
        return pick[0] == self.source and self.start <= pick[1] < self.start + self.size


@dataclass(frozen=True)
class ShuffledCopy:
    """Emits the kernel of one shape class, in vectors of `width` bytes."""

    spec: ShuffledSpec
    width: int
    permutes: bool  # one instruction picks from two vectors; else from one, with zeros between

    @cached_property
    def pixels(self) -> int:
        """Of a tile: the fewest that fill vectors."""
        return self.width // math.gcd(self.width, len(self.spec.picks))

    @cached_property
    def stores(self) -> list[list[Pick]]:
        """Of a tile: where each byte comes from, counted from the tile's first pixel."""
        steps = [strides[-1] for strides in self.spec.nest.strides]
        picks = [(s, p * steps[s] + o) for p in range(self.pixels) for s, o in self.spec.picks]
        return [picks[i : i + self.width] for i in range(0, len(picks), self.width)]

    @cached_property
    def loads(self) -> list[list[_Bytes]]:
        """For each store of a tile: as few as cover it, none beyond a window."""
        return [list(self._covering(store)) for store in self.stores]

    @cached_property
    def windows(self) -> list[_Bytes]:
        """What a tile reads of, from the first to the last byte, apart where these are apart."""
        return list(_windows((pick for store in self.stores for pick in store), self.width))

    def _covering(self, picks: Iterable[Pick]) -> Iterator[_Bytes]:
        last = None
        for pick in sorted(picks):
            if last is None or not last.has(pick):
                window = next(w for w in self.windows if w.has(pick))
                size = min(self.width, 1 << (window.size.bit_length() - 1))
                start = min(pick[1], window.start + window.size - size)
                last = _Bytes(window.source, start, size)
                yield last

    @property
    def tiles(self) -> int:
        return -(-self.spec.nest.extents[-1] // self.pixels)

    @property
    def cost(self) -> float:
        """Loads, each of which is shuffled, and stores, per byte."""
        instructions = sum(len(loads) + 1 for loads in self.loads)
        return self.tiles * instructions / (self.spec.nest.extents[-1] * len(self.spec.picks))

    @property
    def units(self) -> int:
        """Positions of the outermost axis, or tiles where there is one axis."""
        extents = self.spec.nest.extents
        return extents[0] if len(extents) > 1 else self.tiles

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end), from sources to the result, the last pointer. Ends the function."""
        extents, strides = self.spec.nest.extents, self.spec.nest.strides
        inner = len(extents) - 1

        def run(axis: int, at_: Sequence[Value]) -> None:
            def visit(i: Value | int) -> None:
                if axis == inner:
                    i = overlapped(b, i, self.pixels, extents[axis])
                moved = [
                    at(b, pointer, multiple(b, i, steps[axis]))
                    for pointer, steps in zip(at_, strides, strict=True)
                ]
                if axis == inner:
                    self._tile(b, moved)
                else:
                    run(axis + 1, moved)

            count = self.tiles if axis == inner else extents[axis]
            if axis == 0:
                Span(begin, end).loop(b, visit)
            elif axis == inner and count * len(self.stores) <= _STORES:
                for i in range(count):
                    visit(i)
            else:
                loop(b, count, visit, f"axis{axis}")

        run(0, pointers)
        b.ret_void()

    def _tile(self, b: ir.IRBuilder, pointers: Sequence[Value]) -> None:
        *sources, result = pointers
        loaded = {
            x: load(b, at(b, sources[x.source], x.start), vector(I8, x.size))
            for x in dict.fromkeys(x for loads in self.loads for x in loads)
        }
        for n, (picks, loads) in enumerate(zip(self.stores, self.loads, strict=True)):
            which = [next(k for k, x in enumerate(loads) if x.has(pick)) for pick in picks]
            lanes = [offset - loads[k].start for k, (_, offset) in zip(which, picks, strict=True)]
            gather = _permuted if self.permutes else _joined
            value = gather(b, [loaded[x] for x in loads], which, lanes)
            store(b, value, at(b, result, n * self.width))


def _permuted(
    b: ir.IRBuilder, sources: Sequence[Value], which: Sequence[int], lanes: Sequence[int]
) -> Value:
    """Lane i is lane lanes[i] of sources[which[i]]: each source is picked into those before."""
    width = len(lanes)
    first, *others = (
        shuffle(b, x, x, [i % x.type.count for i in range(width)]) if x.type.count < width else x
        for x in sources
    )
    if not others:
        return shuffle(b, first, first, lanes)
    result = first
    for k, source in enumerate(others, start=1):
        placed = lanes if k == 1 else range(width)  # where the bytes of earlier sources are
        indices = [
            width + lane if w == k else here
            for w, lane, here in zip(which, lanes, placed, strict=True)
        ]
        result = shuffle(b, result, source, indices)
    return result


def _joined(
    b: ir.IRBuilder, sources: Sequence[Value], which: Sequence[int], lanes: Sequence[int]
) -> Value:
    """The same: what each source gives, zeros elsewhere, all of them or'ed."""
    result = None
    for k, source in enumerate(sources):
        size = source.type.count
        indices = [lane if w == k else size for w, lane in zip(which, lanes, strict=True)]
        part = shuffle(b, source, splat(I8, size, 0), indices)
        result = part if result is None else b.or_(result, part)
    return result


def _windows(picks: Iterable[Pick], gap: int) -> Iterator[_Bytes]:
    """The bytes from the first to the last pick, in pieces where more than `gap` lie between."""
    first, *others = sorted(set(picks))
    start = last = first
    for pick in others:
        if pick[0] != last[0] or pick[1] - last[1] > gap:
            yield _Bytes(*start, last[1] + 1 - start[1])
            start = pick
        last = pick
    yield _Bytes(*start, last[1] + 1 - start[1])


def shuffled_copy(nest: Nest, shuffles: Shuffles) -> ShuffledCopy | None:
    """The best way to copy a box of bytes so, or None where runs are long or steps are large."""
    if nest.sizes != (1, 1) or nest.indexed:
        return None
    found = [best_tile(spec, shuffles) for spec in _pixelwise(nest)]
    return min((x for x in found if x is not None), key=lambda copy: copy.cost, default=None)


def _pixelwise(nest: Nest) -> Iterator[ShuffledSpec]:
    """Any of the inner axes that are dense in the result may be the one over pixels."""
    order = sorted(range(len(nest.extents)), key=lambda axis: -nest.strides[-1][axis])
    extents, *strides = (tuple(x[i] for i in order) for x in (nest.extents, *nest.strides))
    nest = simplified(Nest(extents, tuple(strides), nest.sizes))
    steps = nest.strides[0]
    if not steps or (steps[-1] in (0, 1) and nest.extents[-1] >= LONG_RUN):
        return
    offsets = [0]
    for axis in reversed(range(len(steps))):
        extent, step = nest.extents[axis], steps[axis]
        if nest.strides[-1][axis] != len(offsets):
            return
        if len(offsets) > 1 or step not in (0, 1):
            outer = tuple(s[: axis + 1] for s in nest.strides)
            picks = tuple((0, offset) for offset in offsets)
            yield ShuffledSpec(Nest(nest.extents[: axis + 1], outer, nest.sizes), picks)
        if extent * len(offsets) > _PIXEL:
            return
        offsets = [i * step + offset for i in range(extent) for offset in offsets]


@cache
def best_tile(spec: ShuffledSpec, shuffles: Shuffles) -> ShuffledCopy | None:
    """None where no vector is filled, or by less than two bytes of each load."""
    copies = []
    for width in shuffles.widths:
        copy = ShuffledCopy(spec, width, shuffles.two)
        bytes_ = copy.pixels * len(spec.picks)
        if copy.pixels > spec.nest.extents[-1] or bytes_ > _STORES * width:
            continue
        most = min(_LOADS, bytes_ // 2)
        if len(copy.windows) <= most and sum(map(len, copy.loads)) <= most:
            copies.append(copy)
    return min(copies, key=lambda copy: copy.cost, default=None)
