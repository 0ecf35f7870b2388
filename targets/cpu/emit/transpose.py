"""Transposing copies of elements of one or two bytes: the source is contiguous along one axis, the
result along another.

A tile is loaded as vectors along the source's axis and stored as vectors along the result's.
Shuffles between the two are perfect riffles in 128-bit lanes (the unpacks of x86, the zips of
ARM).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
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
_ELEMENTS = (1, 2)  # bytes of one


@dataclass(frozen=True)
class TransposeSpec:
    """`rows` are contiguous in the result, `columns` in the source: their steps are `element`, the
    bytes of one.
    """

    outer: tuple[Axis, ...]
    rows: Axis
    columns: Axis
    element: int

    @property
    def is_narrow(self) -> bool:
        """Whether riffles make no whole vectors: few rows do where nothing lies between them."""
        rows, least = self.rows.count, _NARROW // self.element
        whole = rows * self.element == self.columns.dst and rows & (rows - 1) == 0
        return self.columns.count < least or (rows < least and not whole)


def transpose_spec(nest: Nest) -> TransposeSpec | None:
    """A simplified copy as a transpose, or None where it is none."""
    element, stored = nest.sizes
    if element != stored or element not in _ELEMENTS or nest.indexed or len(nest.extents) < 2:
        return None
    axes = [Axis(*step) for step in zip(nest.extents, *nest.strides, strict=True)]
    *others, rows = axes
    columns = [axis for axis in others if axis.src == element]
    is_dense = rows.dst == element and rows.src not in (0, element)
    if not is_dense or len(columns) != 1 or columns[0].dst == 0:
        return None
    outer = tuple(axis for axis in others if axis is not columns[0])
    return TransposeSpec(outer, rows, columns[0], element)


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
        vector = self.isa.vector_bits // 8 // spec.element
        columns = 1 << (min(spec.columns.count, vector).bit_length() - 1)
        return columns, 1 << (min(spec.rows.count, _LANE // spec.element).bit_length() - 1)

    def _riffle(self, b: ir.IRBuilder, src: Value, dst: Value) -> None:
        """One riffle of all elements rotates the bits of their index; log2(rows) of them
        transpose.
        """
        spec = self.spec
        columns, rows = self._tile_size()
        lane, type = min(columns, _LANE // spec.element), ir.IntType(8 * spec.element)
        x = [load(b, at(b, src, r * spec.rows.src), vector(type, columns)) for r in range(rows)]
        for _ in range(rows.bit_length() - 1):
            pairs = zip(x[: rows // 2], x[rows // 2 :], strict=True)
            x = [zipped(b, a, c, high=high) for a, c in pairs for high in (False, True)]
        together = spec.columns.dst == rows * spec.element and rows == spec.rows.count
        size = lane if together else min(lane, rows)
        for n, value in enumerate(x):
            for start in range(0, columns, size):
                piece = value
                if size < columns:
                    piece = shuffle(b, value, value, range(start, start + size))
                which, within = divmod(start, lane)
                column, row = divmod(n * lane + within, rows)
                column += which * lane
                store(b, piece, at(b, dst, column * spec.columns.dst + row * spec.element))


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
