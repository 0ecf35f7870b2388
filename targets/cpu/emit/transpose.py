"""Transposing copies of bytes: the source is contiguous along one axis, the result along another.

A tile is loaded as vectors along the source's axis and stored as vectors along the result's.
Shuffles between the two are perfect riffles in 128-bit lanes (the unpacks of x86, the zips of
ARM), or free permutations where a few channels lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from qcomp.targets.cpu.emit.builder import (
    I8,
    Value,
    at,
    load,
    loop,
    multiple,
    overlapped,
    shuffle,
    store,
    vector,
)
from qcomp.targets.cpu.emit.gemm import Axis
from qcomp.targets.cpu.emit.lanes import zipped
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.isa import Isa

_LANE = 16  # bytes within which unpacks work
_FEW = 8  # rows below which a permutation takes fewer instructions than riffles


@dataclass(frozen=True)
class TransposeSpec:
    """`rows` are contiguous in the result (dst = 1), `columns` in the source (src = 1)."""

    outer: tuple[Axis, ...]
    rows: Axis
    columns: Axis

    @property
    def is_woven(self) -> bool:
        """Few rows (not a power of two), side by side in the result: a, b, c, a, b, c, ..."""
        few = self.rows.count < _FEW and self.rows.count & (self.rows.count - 1) != 0
        return few and self.columns.dst == self.rows.count and self.columns.count >= _LANE

    @property
    def is_unwoven(self) -> bool:
        """The reverse: few columns, side by side in the source."""
        few = self.columns.count < _FEW and self.columns.count & (self.columns.count - 1) != 0
        return few and self.rows.src == self.columns.count and self.rows.count >= _LANE


def transpose_spec(nest: Nest) -> TransposeSpec | None:
    """A simplified copy of bytes as a transpose, or None where it is none."""
    if nest.sizes != (1, 1) or nest.indexed or len(nest.extents) < 2:
        return None
    axes = [Axis(*step) for step in zip(nest.extents, *nest.strides, strict=True)]
    *others, rows = axes
    columns = [axis for axis in others if axis.src == 1]
    if rows.dst != 1 or rows.src in (0, 1) or len(columns) != 1 or columns[0].dst == 0:
        return None
    outer = tuple(axis for axis in others if axis is not columns[0])
    return TransposeSpec(outer, rows, columns[0])


@dataclass(frozen=True)
class TransposedCopy:
    """Emits the kernel of one shape class."""

    spec: TransposeSpec
    isa: Isa

    @property
    def units(self) -> int:
        return self._loops()[0][0]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Units [begin, end): positions of the outermost axis, or tiles where there is one."""
        first, *rest = self._loops()

        def nested(loops: Sequence[_Loop], src: Value, dst: Value) -> None:
            if not loops:
                self._tile(b, src, dst)
                return
            (count, advance), *inner = loops
            loop(b, count, lambda i: nested(inner, *advance(b, i, src, dst)), "axis")

        src, dst = pointers
        _, advance = first
        Span(begin, end).loop(b, lambda i: nested(rest, *advance(b, i, src, dst)))
        b.ret_void()

    def _loops(self) -> list[_Loop]:
        """(count, advance) of each loop: the outer axes, then tiles of columns and of rows."""
        spec = self.spec
        loops = [(axis.count, _stepping(axis, 1, axis.count)) for axis in spec.outer]
        for axis, size in zip((spec.columns, spec.rows), self._tile_size(), strict=True):
            loops.append((-(-axis.count // size), _stepping(axis, size, axis.count)))
        return loops

    def _tile_size(self) -> tuple[int, int]:
        """columns, rows."""
        spec = self.spec
        if spec.is_woven:
            return self._vector(spec.columns.count), spec.rows.count
        if spec.is_unwoven:
            return spec.columns.count, self._vector(spec.rows.count)
        columns = 1 << (min(spec.columns.count, self.isa.vector_bits // 8).bit_length() - 1)
        return columns, 1 << (min(spec.rows.count, _LANE).bit_length() - 1)

    def _vector(self, extent: int) -> int:
        """Bytes that a free permutation works on: 64 by vpermi2b, else a lane."""
        return 64 if self.isa.byte_permute and extent >= 64 else _LANE

    def _tile(self, b: ir.IRBuilder, src: Value, dst: Value) -> None:
        if self.spec.is_woven:
            self._weave(b, src, dst)
        elif self.spec.is_unwoven:
            self._unweave(b, src, dst)
        else:
            self._riffle(b, src, dst)

    def _weave(self, b: ir.IRBuilder, src: Value, dst: Value) -> None:
        width, rows = self._tile_size()
        sources = [
            load(b, at(b, src, r * self.spec.rows.src), vector(I8, width)) for r in range(rows)
        ]
        for n in range(rows):
            picks = [divmod(i, rows)[::-1] for i in range(n * width, (n + 1) * width)]
            store(b, _gathered(b, sources, picks), at(b, dst, n * width))

    def _unweave(self, b: ir.IRBuilder, src: Value, dst: Value) -> None:
        columns, width = self._tile_size()
        sources = [load(b, at(b, src, n * width), vector(I8, width)) for n in range(columns)]
        for c in range(columns):
            picks = [divmod(i * columns + c, width) for i in range(width)]
            store(b, _gathered(b, sources, picks), at(b, dst, c * self.spec.columns.dst))

    def _riffle(self, b: ir.IRBuilder, src: Value, dst: Value) -> None:
        """One riffle of all bytes rotates the bits of their index; log2(rows) of them transpose."""
        spec = self.spec
        columns, rows = self._tile_size()
        lane = min(columns, _LANE)
        x = [load(b, at(b, src, r * spec.rows.src), vector(I8, columns)) for r in range(rows)]
        for _ in range(rows.bit_length() - 1):
            pairs = zip(x[: rows // 2], x[rows // 2 :], strict=True)
            x = [zipped(b, a, c, high=high) for a, c in pairs for high in (False, True)]
        together = spec.columns.dst == rows == spec.rows.count
        size = lane if together else min(lane, rows)
        for n, value in enumerate(x):
            for start in range(0, columns, size):
                piece = value
                if size < columns:
                    piece = shuffle(b, value, value, range(start, start + size))
                which, within = divmod(start, lane)
                column, row = divmod(n * lane + within, rows)
                column += which * lane
                store(b, piece, at(b, dst, column * spec.columns.dst + row))


Advance = Callable[[ir.IRBuilder, Value | int, Value, Value], tuple[Value, Value]]
_Loop = tuple[int, Advance]


def _stepping(axis: Axis, size: int, extent: int) -> Advance:
    """To the tile of `size` elements, the last one moved back to end with the axis."""

    def advance(b: ir.IRBuilder, i: Value | int, src: Value, dst: Value) -> tuple[Value, Value]:
        start = overlapped(b, i, size, extent)
        moved = ((src, axis.src), (dst, axis.dst))
        source, result = (at(b, p, multiple(b, start, stride)) for p, stride in moved)
        return source, result

    return advance


def _gathered(b: ir.IRBuilder, sources: Sequence[Value], picks: Sequence[tuple[int, int]]) -> Value:
    """Lane i is lane picks[i][1] of sources[picks[i][0]]."""
    width = len(picks)
    result = sources[0]
    for n, source in enumerate(sources[1:], start=1):
        last = [i if n > 1 else lane for i, (_, lane) in enumerate(picks)]
        indices = [
            width + lane if which == n else last[i] if which < n else i
            for i, (which, lane) in enumerate(picks)
        ]
        result = shuffle(b, result, source, indices)
    return result
