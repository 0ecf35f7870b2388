"""Keys and values of one head as dot products read them, and the queries of a block.

qcomp.targets.cpu.kernels.attention.BlockLayout says how they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    flipped,
    load,
    loop,
    multiple,
    repeat,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.kernels.attention import GROUP, BlockLayout
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.storage import Storage

_SQUARE = 4  # rows and groups that are transposed at a time
_COLUMNS = 16
_ONES = 0x01010101


@dataclass(frozen=True, eq=False)
class Packer:
    """`memory` has the parts of the layout."""

    layout: BlockLayout
    isa: Isa
    memory: Value

    def part(self, b: ir.IRBuilder, name: str) -> Value:
        return at(b, self.memory, self.layout.parts[name])

    @property
    def biased(self) -> bool:
        """Whether dot products take their first operand as value + BIAS."""
        return self.isa.machine.storage is Storage.BIASED

    # ---------------------------------------------------------------------- keys

    def keys(self, b: ir.IRBuilder, source: Value) -> None:
        """Fours of a row's bytes are elements of a matrix, which is transposed; and what the
        scores of each key start from, by which the zero point of q is taken out.
        """
        spec, layout = self.layout.spec, self.layout
        target, stride = self.part(b, "keys"), spec.k[1]
        whole, rest = divmod(spec.keys, _SQUARE)

        def rows(first: Value | int, count: int) -> None:
            p = at(b, source, multiple(b, first, stride))
            q = at(b, target, multiple(b, first, GROUP))
            squares = spec.depth // (GROUP * _SQUARE) if count == _SQUARE else 0

            def square(n: Value | int) -> None:
                x = at(b, p, multiple(b, n, GROUP * _SQUARE))
                fours = [_fours(b, at(b, x, r * stride)) for r in range(_SQUARE)]
                y = at(b, q, multiple(b, n, GROUP * _SQUARE * layout.keys))
                for r, column in enumerate(_transposed(b, fours)):
                    store(b, column, at(b, y, r * GROUP * layout.keys))

            loop(b, squares, square, "square")
            done = squares * _SQUARE
            for r in range(count):
                x = at(b, p, r * stride + done * GROUP)
                self._row(b, x, at(b, q, r * GROUP + done * GROUP * layout.keys), done)

        loop(b, whole, lambda n: rows(multiple(b, n, _SQUARE), _SQUARE), "key")
        if rest:
            rows(whole * _SQUARE, rest)
        self._starts(b)

    def _row(self, b: ir.IRBuilder, source: Value, target: Value, done: int) -> None:
        """The groups of a row from `done` on, to which the pointers point."""
        depth, stride = self.layout.spec.depth, GROUP * self.layout.keys
        whole = depth // GROUP - done

        def group(n: Value | int) -> None:
            four = load(b, at(b, source, multiple(b, n, GROUP)), I32)
            store(b, four, at(b, target, multiple(b, n, stride)))

        loop(b, whole, group, "group")
        if depth % GROUP:
            four = _few(b, at(b, source, whole * GROUP), depth % GROUP)
            store(b, four, at(b, target, whole * stride))

    def _starts(self, b: ir.IRBuilder) -> None:
        layout, dot = self.layout, self.isa.machine.dot
        lanes, offset = layout.lanes, layout.spec.q_zero_point + (128 if self.biased else 0)
        keys, sums = self.part(b, "keys"), self.part(b, "key sums")
        ones = dot.every(b, ir.Constant(I32, _ONES))

        def some(n: Value | int) -> None:
            p = at(b, keys, multiple(b, n, GROUP * lanes))

            def group(k: Value | int, found: Carried) -> list[Value]:
                w = dot.weights(b, at(b, p, multiple(b, k, GROUP * layout.keys)))
                return [dot.add(b, found[0], ones, w)]

            count = layout.depth // GROUP if offset else 0
            (total,) = repeat(b, count, [splat(I32, lanes, 0)], group, "k")
            start = b.mul(total, splat(I32, lanes, -offset))
            store(b, start, at(b, sums, multiple(b, n, 4 * lanes)))

        loop(b, layout.keys // lanes, some, "start")

    # -------------------------------------------------------------------- values

    def values(self, b: ir.IRBuilder, source: Value) -> None:
        """Of so many neighbouring keys as are added at a time."""
        spec, layout = self.layout.spec, self.layout
        together = GROUP if spec.probability_bits == 8 else 2
        target = self.part(b, "values")
        whole, rest = divmod(spec.keys, together)
        size = together * layout.weight_bytes
        block = layout.elements * size

        def rows(n: Value | int, count: int) -> None:
            p = at(b, source, multiple(b, multiple(b, n, together), spec.v[1]))
            q = at(b, target, multiple(b, n, block))

            def columns(first: Value | int, width: int) -> None:
                x = at(b, p, first)
                found = [load(b, at(b, x, r * spec.v[1]), vector(I8, width)) for r in range(count)]
                found += [splat(I8, width, 0)] * (together - count)
                if together == 2:
                    found = [b.sext(row, vector(I16, width)) for row in found]
                store(b, _zipped(b, found), at(b, q, multiple(b, first, size)))

            loop(
                b, spec.elements // _COLUMNS, lambda c: columns(multiple(b, c, _COLUMNS), _COLUMNS)
            )
            done = spec.elements // _COLUMNS * _COLUMNS
            for start, width in powers(spec.elements - done):
                columns(done + start, width)

        loop(b, whole, lambda n: rows(n, together), "value")
        if rest:
            rows(whole, rest)
        if together == GROUP and not self.biased:
            self._value_sums(b)

    def _value_sums(self, b: ir.IRBuilder) -> None:
        """128 times the sum of all keys' values: weights are stored as 128 less there."""
        layout, dot = self.layout, self.isa.machine.dot
        values, sums, lanes = self.part(b, "values"), self.part(b, "value sums"), self.layout.lanes
        ones = dot.every(b, ir.Constant(I32, _ONES))

        def some(n: Value | int) -> None:
            p = at(b, values, multiple(b, n, GROUP * lanes))

            def group(k: Value | int, found: Carried) -> list[Value]:
                w = dot.weights(b, at(b, p, multiple(b, k, GROUP * layout.elements)))
                return [dot.add(b, found[0], ones, w)]

            count = -(-layout.spec.keys // GROUP)
            (total,) = repeat(b, count, [splat(I32, lanes, 0)], group, "k")
            store(b, b.shl(total, splat(I32, lanes, 7)), at(b, sums, multiple(b, n, 4 * lanes)))

        loop(b, layout.elements // lanes, some, "sum")

    # ------------------------------------------------------------------- queries

    def queries(self, b: ir.IRBuilder, source: Value) -> None:
        """As dot products take them, with zeros behind."""
        spec, layout = self.layout.spec, self.layout
        target = self.part(b, "queries")

        def row(n: Value | int) -> None:
            p = at(b, source, multiple(b, n, spec.q[1]))
            q = at(b, target, multiple(b, n, layout.q_row))

            def piece(start: Value | int, width: int) -> None:
                x = load(b, at(b, p, start), vector(I8, width))
                store(b, flipped(b, x) if self.biased else x, at(b, q, start))

            whole = spec.depth // _COLUMNS
            loop(b, whole, lambda c: piece(multiple(b, c, _COLUMNS), _COLUMNS), "piece")
            for start, width in powers(spec.depth % _COLUMNS):
                piece(whole * _COLUMNS + start, width)
            for start, width in powers(layout.depth - spec.depth):
                zero = splat(I8, width, -128 if self.biased else 0)
                store(b, zero, at(b, q, spec.depth + start))

        loop(b, layout.queries, row, "query")


def _fours(b: ir.IRBuilder, pointer: Value) -> Value:
    """Four groups of bytes, as values."""
    return b.bitcast(load(b, pointer, vector(I8, GROUP * _SQUARE)), vector(I32, _SQUARE))


def _few(b: ir.IRBuilder, pointer: Value, count: int) -> Value:
    """Fewer bytes than a group, and zeros."""
    found: Value = ir.Constant(I32, 0)
    for n in range(count):
        byte = b.zext(load(b, at(b, pointer, n), I8), I32)
        found = b.or_(found, b.shl(byte, ir.Constant(I32, 8 * n)))
    return found


def _transposed(b: ir.IRBuilder, rows: Sequence[Value]) -> list[Value]:
    """Four vectors of four i32."""
    pairs = []
    for x, y in (rows[:2], rows[2:]):
        pairs.append((shuffle(b, x, y, (0, 4, 1, 5)), shuffle(b, x, y, (2, 6, 3, 7))))
    (low, high), (low2, high2) = pairs
    return [
        shuffle(b, x, y, order)
        for x, y in ((low, low2), (high, high2))
        for order in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]


def _zipped(b: ir.IRBuilder, rows: Sequence[Value]) -> Value:
    """Two or four vectors as [lane][row]."""
    if len(rows) == 2:
        count = rows[0].type.count
        order = [lane + row * count for lane in range(count) for row in (0, 1)]
        return shuffle(b, rows[0], rows[1], order)
    pairs = [_zipped(b, (rows[n], rows[n + 1])) for n in (0, 2)]
    words = [b.bitcast(x, vector(I16, x.type.count // 2)) for x in pairs]
    found = _zipped(b, words)
    return b.bitcast(found, vector(I8, 2 * found.type.count))
