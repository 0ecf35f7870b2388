"""Pooling of NHWC tensors: vectors over channels; windows at the border are cut, not padded.

Nothing outside the source is read. The first tap inside and the number of taps inside come from a
small table for the positions whose window leaves the source; all others have constant windows.
Meanings: qcomp.ir.evaluate.pooling (MaxPool2d, QAveragePool2d).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    Carried,
    Value,
    at,
    divided,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    repeat,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dynamic_loop import repeat_trips
from qcomp.targets.cpu.emit.lanes import over_chunks
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word_type
from qcomp.targets.cpu.kernels.axis import Axis

_PIXELS = 4
_UNROLLED_COLUMNS = 8
_UNROLLED_ROWS = 4


@dataclass(frozen=True)
class WindowAxis:
    """One axis of a pooling: `results` windows over `size` elements; src and dst are strides."""

    results: int
    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    src: int
    dst: int

    def inside(self, position: int) -> range:
        """The taps of a window that lie within the source."""
        start = position * self.stride - self.before
        low = max(0, -(start // self.dilation))
        high = min(self.kernel, (self.size - 1 - start) // self.dilation + 1)
        return range(low, max(low, high))

    @property
    def interior(self) -> tuple[int, int]:
        """The positions [first, last) whose windows lie wholly within the source."""
        whole = [i for i in range(self.results) if len(self.inside(i)) == self.kernel]
        return (whole[0], whole[-1] + 1) if whole else (0, 0)

    @property
    def is_whole(self) -> bool:
        return self.interior == (0, self.results)

    def table(self) -> NDArray[np.int32]:
        """Per position the byte offset of the first tap inside, and the number of taps inside."""
        rows = []
        for i in range(self.results):
            taps = self.inside(i)
            first = i * self.stride - self.before + taps.start * self.dilation
            rows.append((first * self.src if taps else 0, len(taps)))
        return np.array(rows, np.int32)


@dataclass(frozen=True)
class PoolSpec:
    """One shape class of pooling kernels; `source` and `result` are bytes of an element."""

    batch: Axis
    rows: WindowAxis
    columns: WindowAxis
    channels: int
    lanes: int
    source: int = 1
    result: int = 1

    @property
    def loaded(self) -> ir.VectorType:
        return vector(ir.IntType(8 * self.source), self.lanes)


@dataclass(frozen=True)
class PoolFold:
    """How a window becomes values: step(acc, values) per tap, finish(acc, count of taps)."""

    element: ir.Type
    start: int
    step: Callable[[ir.IRBuilder, Value, Value], Value]
    finish: Callable[[ir.IRBuilder, Value, Value | int], Value]


@dataclass(frozen=True)
class _Taps:
    """Where a window's first tap inside lies, and how many there are."""

    offset: Value | int
    count: Value | int


def emit_pool(
    b: ir.IRBuilder,
    spec: PoolSpec,
    fold: PoolFold,
    span: Span,
    src: Value,
    dst: Value,
    row_table: Value | None,
    column_table: Value | None,
) -> None:
    """A span of rows of results; a table may be missing where its axis is whole."""
    rows, columns = spec.rows, spec.columns
    first, last = columns.interior
    start = splat(fold.element, spec.lanes, fold.start)

    def row(unit: Value | int) -> None:
        image, r = divided(b, unit, rows.results)
        taps = _taps(b, rows, r, row_table)
        line = at(b, at(b, src, multiple(b, image, spec.batch.src)), taps.offset)
        y = at(b, at(b, dst, multiple(b, image, spec.batch.dst)), multiple(b, r, rows.dst))
        loop(b, first, lambda x: cut(x, taps, line, y), "left")
        if last > first:
            interior(taps, line, y)
        rest = columns.results - last
        loop(b, rest, lambda x: cut(plus(b, x, last), taps, line, y), "right")

    def cut(x: Value | int, above: _Taps, line: Value, y: Value) -> None:
        """One window that the left or right edge cuts."""
        taps = _taps(b, columns, x, column_table)
        window, result = at(b, line, taps.offset), at(b, y, multiple(b, x, columns.dst))
        count = _product(b, above.count, taps.count)

        def channels(c: Value | int) -> None:
            def row_of_taps(k: Value | int, accs: Carried) -> Carried:
                first_tap = at(b, window, multiple(b, c, spec.source))
                p = at(b, first_tap, multiple(b, k, rows.dilation * rows.src))

                def tap(j: Value | int, accs: Carried) -> Carried:
                    q = at(b, p, multiple(b, j, columns.dilation * columns.src))
                    return [fold.step(b, accs[0], load(b, q, spec.loaded))]

                return repeat_trips(b, taps.count, accs, tap, "tap")

            (acc,) = repeat_trips(b, above.count, [start], row_of_taps, "taps")
            store(b, fold.finish(b, acc, count), at(b, result, multiple(b, c, spec.result)))

        over_chunks(b, spec.channels, spec.lanes, channels)

    def interior(above: _Taps, line: Value, y: Value) -> None:
        """Tiles of pixels whose windows no side edge cuts."""
        total = last - first
        pixels = min(_PIXELS, total)
        count = _product(b, above.count, columns.kernel)
        step, origin = columns.stride * columns.src, columns.before * columns.src

        def tile(t: Value | int) -> None:
            x = plus(b, overlapped(b, t, pixels, total), first)
            window = at(b, line, plus(b, multiple(b, x, step), -origin))
            result = at(b, y, multiple(b, x, columns.dst))

            def channels(c: Value | int) -> None:
                def row_of_taps(k: Value | int, accs: Carried) -> Carried:
                    first_tap = at(b, window, multiple(b, c, spec.source))
                    p = at(b, first_tap, multiple(b, k, rows.dilation * rows.src))
                    return _tile_taps(b, spec, fold, p, accs)

                accs = _over_rows(b, above.count, [start] * pixels, row_of_taps)
                for m, acc in enumerate(accs):
                    value = fold.finish(b, acc, count)
                    place = at(b, result, multiple(b, c, spec.result))
                    store(b, value, at(b, place, m * columns.dst))

            over_chunks(b, spec.channels, spec.lanes, channels)

        loop(b, -(-total // pixels), tile, "tile")

    if spec.batch.count * rows.results == 1:
        row(0)
    else:
        span.loop(b, row, "row")
    b.ret_void()


def _taps(b: ir.IRBuilder, axis: WindowAxis, i: Value | int, table: Value | None) -> _Taps:
    if axis.is_whole:
        return _Taps(multiple(b, i, axis.stride * axis.src), axis.kernel)
    slot = at(b, table, multiple(b, i, 8))
    offset, count = (b.sext(load(b, at(b, slot, o), I32, 4), word_type(b)) for o in (0, 4))
    return _Taps(offset, count)


def _product(b: ir.IRBuilder, x: Value | int, y: Value | int) -> Value | int:
    if isinstance(y, int):
        return multiple(b, x, y)
    return multiple(b, y, x) if isinstance(x, int) else b.mul(x, y)


def _over_rows(
    b: ir.IRBuilder,
    count: Value | int,
    accs: Carried,
    body: Callable[[Value | int, Carried], Carried],
) -> Carried:
    if isinstance(count, int) and count <= _UNROLLED_ROWS:
        for k in range(count):
            accs = body(k, accs)
        return accs
    return repeat_trips(b, count, accs, body, "taps")


def _tile_taps(
    b: ir.IRBuilder, spec: PoolSpec, fold: PoolFold, line: Value, accs: Sequence[Value]
) -> list[Value]:
    """One row of taps of neighbouring windows; columns that windows share are loaded once."""
    columns, type = spec.columns, spec.loaded

    def tap(j: Value | int, accs: Sequence[Value]) -> list[Value]:
        p = at(b, line, multiple(b, j, columns.dilation * columns.src))
        pitch = columns.stride * columns.src
        return [fold.step(b, acc, load(b, at(b, p, m * pitch), type)) for m, acc in enumerate(accs)]

    if columns.kernel > _UNROLLED_COLUMNS:
        return repeat(b, columns.kernel, accs, tap, "tap")
    loaded: dict[int, Value] = {}
    result = list(accs)
    for j in range(columns.kernel):
        for m in range(len(result)):
            offset = (m * columns.stride + j * columns.dilation) * columns.src
            if offset not in loaded:
                loaded[offset] = load(b, at(b, line, offset), type)
            result[m] = fold.step(b, result[m], loaded[offset])
    return result
