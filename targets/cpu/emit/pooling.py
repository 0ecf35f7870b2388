"""Pooling of NHWC tensors: vectors over channels; windows at the border are cut, not padded.

Maxima and sums are separable: where the windows of a tile share columns, each column is folded
once, down its rows, and a window joins its columns.
Nothing outside the source is read. The first tap inside and the number of taps inside come from a
small table for the positions whose window leaves the source; all others have constant windows.
Meanings: qcomp.ir.evaluate.pooling (MaxPool2d, QAveragePool2d).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
from qcomp.targets.cpu.kernels.window_axis import WindowAxis

_PIXELS = 4
_UNROLLED_COLUMNS = 8
_UNROLLED_ROWS = 4
_KEPT_COLUMNS = 12  # whose folds stay in registers over rows; a single row needs them once


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
    """How a window becomes values: step(acc, values) per tap, finish(acc, count of taps).

    join(acc, acc) is the fold of the taps of both.
    """

    element: ir.Type
    start: int
    step: Callable[[ir.IRBuilder, Value, Value], Value]
    join: Callable[[ir.IRBuilder, Value, Value], Value]
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
        shared = _shared_columns(spec, pixels)
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
                    if shared:
                        return _column_taps(b, spec, fold, p, shared, accs)
                    return _tile_taps(b, spec, fold, p, accs)

                accs = _over_rows(b, above.count, [start] * (len(shared) or pixels), row_of_taps)
                if shared:
                    folded = dict(zip(shared, accs, strict=True))
                    accs = _joined(b, fold, folded, columns.windows(pixels))
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


def _shared_columns(spec: PoolSpec, pixels: int) -> Sequence[int]:
    """The columns of a tile, where windows share so many that each is folded once; else none."""
    columns = spec.columns.elements(pixels)
    shares = 3 * len(columns) <= 2 * pixels * spec.columns.kernel
    most = _KEPT_COLUMNS if spec.rows.kernel > 1 else 2 * _KEPT_COLUMNS
    return columns if shares and len(columns) <= most else ()


def _column_taps(
    b: ir.IRBuilder,
    spec: PoolSpec,
    fold: PoolFold,
    line: Value,
    columns: Sequence[int],
    accs: Carried,
) -> list[Value]:
    """One row of taps of a tile's columns."""
    places = (at(b, line, column * spec.columns.src) for column in columns)
    return [
        fold.step(b, acc, load(b, place, spec.loaded))
        for acc, place in zip(accs, places, strict=True)
    ]


def _joined(
    b: ir.IRBuilder,
    fold: PoolFold,
    columns: Mapping[int, Value],
    windows: Sequence[frozenset[int]],
    core: frozenset[int] = frozenset(),
    joined: Value | None = None,
) -> list[Value]:
    """The folds of windows from those of columns; what halves of the windows share is joined once.

    `joined` is the fold of `core`, which all have.
    """
    common = frozenset.intersection(*windows)
    for column in sorted(common - core):
        value = columns[column]
        joined = value if joined is None else fold.join(b, joined, value)
    if len(windows) == 1:
        assert joined is not None
        return [joined]
    half = len(windows) // 2
    parts = (
        _joined(b, fold, columns, part, common, joined) for part in (windows[:half], windows[half:])
    )
    return [value for part in parts for value in part]


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
