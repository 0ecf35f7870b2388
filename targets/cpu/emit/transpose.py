"""Transposing copies of bytes: the source is contiguous along one axis, the result along another.

A tile is loaded as vectors along the source's axis and stored as vectors along the result's.
Shuffles between the two are perfect riffles in 128-bit lanes (the unpacks of x86, the zips of
ARM).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import zipped
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.machine import Isa

_LANE = 16  # bytes within which unpacks work
_NARROW = 8  # bytes


@dataclass(frozen=True)
class TransposeSpec:
    """`rows` are contiguous in the result (dst = 1), `columns` in the source (src = 1)."""

    outer: tuple[Axis, ...]
    rows: Axis
    columns: Axis

    @property
    def is_narrow(self) -> bool:
        """Whether riffles make no whole vectors: few rows do where nothing lies between them."""
        rows = self.rows.count
        whole = rows == self.columns.dst and rows & (rows - 1) == 0
        return self.columns.count < _NARROW or (rows < _NARROW and not whole)


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
                self._riffle(b, src, dst)
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
        columns = 1 << (min(spec.columns.count, self.isa.vector_bits // 8).bit_length() - 1)
        return columns, 1 << (min(spec.rows.count, _LANE).bit_length() - 1)

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
