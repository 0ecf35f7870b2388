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
        """Groups of a row's elements are those of a matrix of i32, which is transposed; and what
        the scores of each key start from, by which the zero point of q is taken out.
        """
        spec, layout = self.layout.spec, self.layout
        target, stride = self.part(b, "keys"), spec.k[1]
        step = layout.group * spec.widths[1] // 8  # bytes of a group
        whole, rest = divmod(spec.keys, _SQUARE)

        def rows(first: Value | int, count: int) -> None:
            p = at(b, source, multiple(b, first, stride))
            q = at(b, target, multiple(b, first, 4))
            squares = spec.depth // (layout.group * _SQUARE) if count == _SQUARE else 0

            def square(n: Value | int) -> None:
                x = at(b, p, multiple(b, n, step * _SQUARE))
                y = at(b, q, multiple(b, n, 4 * _SQUARE * layout.keys))
                found = [self._groups(b, at(b, x, r * stride), _SQUARE) for r in range(_SQUARE)]
                for plane, lines in enumerate(zip(*found, strict=True)):
                    for r, column in enumerate(_transposed(b, lines)):
                        place = plane * layout.key_plane + r * 4 * layout.keys
                        store(b, column, at(b, y, place))

            loop(b, squares, square, "square")
            done = squares * _SQUARE
            for r in range(count):
                x = at(b, p, r * stride + done * step)
                self._row(b, x, at(b, q, r * 4 + done * 4 * layout.keys), done)

        loop(b, whole, lambda n: rows(multiple(b, n, _SQUARE), _SQUARE), "key")
        if rest:
            rows(whole * _SQUARE, rest)
        if not spec.wide:
            self._starts(b)

    def _row(self, b: ir.IRBuilder, source: Value, target: Value, done: int) -> None:
        """The groups of a row from `done` on, to which the pointers point."""
        layout = self.layout
        step = layout.group * layout.spec.widths[1] // 8
        whole, rest = divmod(layout.spec.depth - done * layout.group, layout.group)

        def group(n: Value | int, count: int = layout.group) -> None:
            x = at(b, source, multiple(b, n, step))
            y = at(b, target, multiple(b, n, 4 * layout.keys))
            for plane, one in enumerate(self._groups(b, x, 1, count)):
                store(b, one, at(b, y, plane * layout.key_plane))

        loop(b, whole, group, "group")
        if rest:
            group(whole, rest)

    def _groups(self, b: ir.IRBuilder, pointer: Value, count: int, present: int = 0) -> list[Value]:
        """Groups of a key's elements, planes of i32; of one alone, so many that are present."""
        spec, size = self.layout.spec, self.layout.group
        elements = vector(ir.IntType(spec.widths[1]), size * count)
        if 0 < present < size:
            x: Value = splat(elements.element, elements.count, 0)
            for n in range(present):
                one = load(b, at(b, pointer, n * spec.widths[1] // 8), elements.element)
                x = b.insert_element(x, one, ir.Constant(I32, n))
        else:
            x = load(b, pointer, elements)
        planes = planes_of(b, x, self.layout.key_planes) if spec.wide else [x]
        return [b.bitcast(plane, vector(I32, count)) for plane in planes]

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
        together = GROUP if layout.weight_bytes == 1 else 2
        target, bytes_ = self.part(b, "values"), spec.widths[2] // 8
        whole, rest = divmod(spec.keys, together)
        size = together * layout.value_bytes
        block = layout.elements * size

        def rows(n: Value | int, count: int) -> None:
            p = at(b, source, multiple(b, multiple(b, n, together), spec.v[1]))
            q = at(b, target, multiple(b, n, block))

            def columns(first: Value | int, width: int) -> None:
                type = vector(ir.IntType(spec.widths[2]), width)
                x = at(b, p, multiple(b, first, bytes_))
                found = [load(b, at(b, x, r * spec.v[1]), type) for r in range(count)]
                found += [splat(type.element, width, 0)] * (together - count)
                planes = [found]
                if layout.value_planes == 2:
                    apart = (planes_of(b, row, layout.value_planes) for row in found)
                    planes = [list(plane) for plane in zip(*apart, strict=True)]
                for plane, lines in enumerate(planes):
                    place = at(b, q, multiple(b, first, size))
                    store(b, _zipped(b, lines), at(b, place, plane * layout.value_plane))

            def column(c: Value | int) -> None:
                columns(multiple(b, c, _COLUMNS), _COLUMNS)

            loop(b, spec.elements // _COLUMNS, column, "column")
            done = spec.elements // _COLUMNS * _COLUMNS
            for start, width in powers(spec.elements - done):
                columns(done + start, width)

        loop(b, whole, lambda n: rows(n, together), "value")
        if rest:
            rows(whole, rest)
        if together == GROUP and not self.biased:
            (self._ones if spec.skips else self._value_sums)(b)

    def _ones(self, b: ir.IRBuilder) -> None:
        """As weights that add values up: of the keys that a block sees, not of all."""
        ones, width = self.part(b, "ones"), 2 * self.layout.lanes

        def some(n: Value | int) -> None:
            store(b, splat(I8, width, 1), at(b, ones, multiple(b, n, width)))

        loop(b, self.layout.pairs, some, "ones")

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
        """As products take them, with zeros behind: as stored bytes, or i16 without zero point."""
        spec, layout = self.layout.spec, self.layout
        target = self.part(b, "queries")
        from_, to = spec.widths[0] // 8, 2 if spec.wide else 1

        def row(n: Value | int) -> None:
            p = at(b, source, multiple(b, n, spec.q[1]))
            q = at(b, target, multiple(b, n, layout.q_row))

            def piece(start: Value | int, width: int) -> None:
                type = vector(ir.IntType(spec.widths[0]), width)
                x = load(b, at(b, p, multiple(b, start, from_)), type)
                store(b, self._query(b, x), at(b, q, multiple(b, start, to)))

            whole = spec.depth // _COLUMNS
            loop(b, whole, lambda c: piece(multiple(b, c, _COLUMNS), _COLUMNS), "piece")
            for start, width in powers(spec.depth % _COLUMNS):
                piece(whole * _COLUMNS + start, width)
            for start, width in powers(layout.depth - spec.depth):
                zero = -128 if to == 1 and self.biased else 0
                place = at(b, q, to * (spec.depth + start))
                store(b, splat(ir.IntType(8 * to), width, zero), place)

        loop(b, layout.queries, row, "query")

    def _query(self, b: ir.IRBuilder, x: Value) -> Value:
        if not self.layout.spec.wide:
            return flipped(b, x) if self.biased else x
        (words,) = planes_of(b, x, 1)
        return b.sub(words, splat(I16, x.type.count, self.layout.spec.q_zero_point))


def planes_of(b: ir.IRBuilder, x: Value, planes: int) -> list[Value]:
    """i8 or i16 as i16: as they are, or high bytes with their sign and low bytes without."""
    words = vector(I16, x.type.count)
    x = x if x.type == words else b.sext(x, words)
    if planes == 1:
        return [x]
    return [b.ashr(x, splat(I16, x.type.count, 8)), b.and_(x, splat(I16, x.type.count, 0xFF))]


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
