"""Attention by blocks of up to 16 queries: scores, weights and results are small products.

A head of k and v is packed once for all heads of q that share it. Of i8, keys are weights of a dot
product whose activations are queries, and values those of one whose activations are the weights of
keys; with i16, products of pairs take their place.
Nothing but the scores of one block is in memory.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_division import division, finished, finished_planes
from qcomp.targets.cpu.emit.attention_masks import Where, moved
from qcomp.targets.cpu.emit.attention_pack import Packer
from qcomp.targets.cpu.emit.attention_products import AttentionProducts
from qcomp.targets.cpu.emit.attention_rows import RowWeights
from qcomp.targets.cpu.emit.attention_weigh import Weigher
from qcomp.targets.cpu.emit.builder import (
    I32,
    Value,
    at,
    broadcast,
    divided,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    shuffle,
    smaller_unsigned,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.attention import GROUP, AttentionSpec, BlockLayout
from qcomp.targets.cpu.machine import Isa

_MOST_SCRATCH = 240 << 10  # bytes of all units


@dataclass(frozen=True)
class AttentionBlocks:
    """A unit of work is some heads of k, with scratch memory of its own."""

    spec: AttentionSpec
    isa: Isa

    @property
    def layout(self) -> BlockLayout:
        return BlockLayout(self.spec, self.isa.lanes)

    @property
    def units(self) -> int:
        """As many as threads are likely to share; fewer where each needs much memory."""
        pairs, size = self.spec.batch * self.spec.groups, self.layout.parts["end"]
        fitting = (n for n in (2, 3, 4) if pairs % n == 0 and n * size <= _MOST_SCRATCH)
        return max((1, *fitting))

    @property
    def scratch(self) -> int:
        return self.units * self.layout.parts["end"]

    def emit(self, b: ir.IRBuilder, pointers: Sequence[Value], begin: Value, end: Value) -> None:
        """Pointers: q, k, v, the result, the table, scratch, and the masks."""
        q, k, v, y, table, scratch, *masks = pointers
        spec, layout = self.spec, self.layout
        rows = RowWeights.loaded(b, spec, self.isa.machine.rows, table)
        per_unit = spec.batch * spec.groups // self.units
        share = spec.heads // spec.groups

        def unit(n: Value) -> None:
            memory = at(b, scratch, multiple(b, n, layout.parts["end"]))
            packer = Packer(layout, self.isa, memory)
            head = _Head(
                spec, layout, packer, AttentionProducts(self.isa), Weigher(packer, rows, masks)
            )

            def pair(m: Value | int) -> None:
                place = plus(b, multiple(b, n, per_unit), m)
                batch, group = divided(b, place, spec.groups)
                packer.keys(b, moved(b, k, spec.k, batch, 0, group))
                packer.values(b, moved(b, v, spec.v, batch, 0, group))

                def one(s: Value | int) -> None:
                    h = plus(b, multiple(b, group, share), s)
                    source, result = (
                        moved(b, p, t, batch, 0, h) for p, t in ((q, spec.q), (y, spec.y))
                    )

                    def block(t: Value | int) -> None:
                        first = overlapped(b, t, layout.queries, spec.queries)
                        x = at(b, source, multiple(b, first, spec.q[1]))
                        z = at(b, result, multiple(b, first, spec.y[1]))
                        head.block(b, x, z, Where(batch, h, first))

                    loop(b, -(-spec.queries // layout.queries), block, "block")

                loop(b, share, one, "head")

            loop(b, per_unit, pair, "pair")

        Span(begin, end).loop(b, unit)
        b.ret_void()


@dataclass(frozen=True, eq=False)
class _Head:
    """The queries of one head, when its keys and values are packed."""

    spec: AttentionSpec
    layout: BlockLayout
    packer: Packer
    products: AttentionProducts
    weigher: Weigher

    def block(self, b: ir.IRBuilder, source: Value, result: Value, where: Where) -> None:
        pairs = self._pairs(b, where)
        self.packer.queries(b, source)
        self._scores(b, pairs)
        loop(b, self.layout.queries, lambda r: self.weigher.weigh(b, r, where, pairs), "row")
        self._results(b, result, pairs)

    def _pairs(self, b: ir.IRBuilder, where: Where) -> Value | int:
        """Of vectors of keys that some query of the block sees."""
        layout = self.layout
        if not self.spec.skips:
            return layout.pairs
        last = plus(b, where.query, layout.queries - 1 + self.spec.ahead)
        needed = plus(b, divided(b, last, 2 * layout.lanes)[0], 1)
        if isinstance(needed, int):
            return min(needed, layout.pairs)
        return smaller_unsigned(b, needed, word(b, layout.pairs))

    # -------------------------------------------------------------------- scores

    def _scores(self, b: ir.IRBuilder, pairs: Value | int) -> None:
        spec, layout, part = self.spec, self.layout, self.packer.part
        keys, queries, scores = (part(b, name) for name in ("keys", "queries", "scores"))
        vectors, bytes_ = layout.keys // layout.lanes, 4 * layout.lanes
        rows, wide = self.products.tile(layout.queries, vectors)

        def panel(n: Value | int) -> None:
            w = at(b, keys, multiple(b, n, wide * bytes_))
            begin = self._vectors(b, "key sums", n, wide, not spec.wide)

            def tile(t: Value | int) -> None:
                row = overlapped(b, t, rows, layout.queries)
                x = at(b, queries, multiple(b, row, layout.q_row))
                xs = [at(b, x, r * layout.q_row) for r in range(rows)]
                y = at(b, scores, multiple(b, row, bytes_ * vectors))
                y = at(b, y, multiple(b, n, wide * bytes_))
                for i, value in enumerate(self._of_keys(b, xs, w, begin * rows)):
                    r, v = divmod(i, wide)
                    store(b, value, at(b, y, r * bytes_ * vectors + v * bytes_))

            loop(b, -(-layout.queries // rows), tile, "tile")

        if isinstance(pairs, int):
            loop(b, vectors // wide, panel, "panel")
            return
        needed = plus(b, multiple(b, pairs, 2), wide - 1)
        Span(word(b, 0), divided(b, needed, wide)[0]).loop(b, panel, "panel")

    def _vectors(
        self, b: ir.IRBuilder, name: str, panel: Value | int, wide: int, are_there: bool
    ) -> list[Value]:
        """What a panel's sums start from, zeros without."""
        lanes = self.layout.lanes
        if not are_there:
            return [splat(I32, lanes, 0)] * wide
        first = at(b, self.packer.part(b, name), multiple(b, panel, wide * 4 * lanes))
        return [load(b, at(b, first, 4 * lanes * v), vector(I32, lanes)) for v in range(wide)]

    def _of_keys(
        self, b: ir.IRBuilder, xs: Sequence[Value], w: Value, begin: list[Value]
    ) -> Sequence[Value]:
        """Scores of some queries and keys, shifted."""
        spec, layout = self.spec, self.layout
        groups, stride = layout.depth // layout.group, 4 * layout.keys
        if not spec.wide:
            return self.products.fours(b, xs, w, begin, groups, stride)
        planes = [
            self.products.pairs(b, xs, at(b, w, plane * layout.key_plane), begin, groups, stride)
            for plane in range(layout.key_planes)
        ]
        if layout.key_planes == 2:
            return [_joined(b, x, y, spec.product_shift) for x, y in zip(*planes, strict=True)]
        half = splat(I32, layout.lanes, 1 << spec.product_shift >> 1)
        right = splat(I32, layout.lanes, spec.product_shift)
        return [b.ashr(b.add(x, half), right) for x in planes[0]]

    # ------------------------------------------------------------------- results

    def _results(self, b: ir.IRBuilder, result: Value, pairs: Value | int) -> None:
        spec, layout, part = self.spec, self.layout, self.packer.part
        weights, values, totals = (part(b, name) for name in ("weights", "values", "totals"))
        narrow = layout.weight_bytes == 1
        vectors = layout.elements // layout.lanes
        together = GROUP if narrow else 2 * layout.value_bytes  # bytes of a column
        rows, wide = self.products.tile(layout.queries, vectors)
        row_bytes = layout.weight_bytes * layout.keys

        def panel(n: Value | int) -> None:
            w = at(b, values, multiple(b, n, wide * layout.lanes * together))
            summed = narrow and not self.packer.biased and not spec.skips
            begin = self._vectors(b, "value sums", n, wide, summed)

            def tile(t: Value | int) -> None:
                row = overlapped(b, t, rows, layout.queries)
                x = at(b, weights, multiple(b, row, row_bytes))
                xs = [at(b, x, r * row_bytes) for r in range(rows)]
                planes = self._of_values(b, xs, w, begin, pairs)
                y = at(b, result, multiple(b, row, spec.y[1]))
                z = at(b, totals, multiple(b, row, 4))
                for r in range(rows):
                    total = load(b, at(b, z, 4 * r), I32)
                    sums = [plane[r * wide : (r + 1) * wide] for plane in planes]
                    for v, value in enumerate(self._divided(b, total, sums)):
                        self._put(b, value, at(b, y, r * spec.y[1]), n, wide, v)

            loop(b, -(-layout.queries // rows), tile, "tile")

        panels = vectors // wide
        if spec.elements == layout.elements:
            loop(b, panels, panel, "panel")
            return
        loop(b, panels - 1, panel, "panel")
        panel(panels - 1)

    def _of_values(
        self,
        b: ir.IRBuilder,
        xs: Sequence[Value],
        w: Value,
        begin: list[Value],
        pairs: Value | int,
    ) -> list[Sequence[Value]]:
        """Planes of sums [row][vector]."""
        layout, keys, times = self.layout, self.spec.keys, 1
        if self.spec.skips:
            keys, times = 2 * layout.lanes, pairs
        if layout.weight_bytes == 1 and self.spec.skips and not self.packer.biased:
            rows = [*xs, self.packer.part(b, "ones")]
            stride = GROUP * layout.elements
            sums = self.products.fours(b, rows, w, begin * len(rows), keys // GROUP, stride, times)
            seven = splat(I32, layout.lanes, 7)  # weights are stored as 128 less
            more = [b.shl(s, seven) for s in sums[-len(begin) :]]
            return [[b.add(s, more[i % len(more)]) for i, s in enumerate(sums[: -len(more)])]]
        start = begin * len(xs)
        if layout.weight_bytes == 1:
            fours = -(-keys // GROUP)
            return [self.products.fours(b, xs, w, start, fours, GROUP * layout.elements, times)]
        return [
            self.products.pairs(
                b,
                xs,
                at(b, w, plane * layout.value_plane),
                start,
                -(-keys // 2),
                2 * layout.elements * layout.value_bytes,
                layout.value_bytes,
                times,
            )
            for plane in range(layout.value_planes)
        ]

    def _divided(
        self, b: ir.IRBuilder, total: Value, planes: Sequence[Sequence[Value]]
    ) -> list[Value]:
        """The results of a row, vectors of its elements."""
        attended = b.icmp_signed(">", total, ir.Constant(I32, 0))
        total = b.select(attended, total, b.sub(ir.Constant(I32, 0), total))
        by = division(b, self.spec, total, attended)
        if len(planes) == 2:
            return [finished_planes(b, self.spec, by, x, y) for x, y in zip(*planes, strict=True)]
        offset = b.mul(total, ir.Constant(I32, self.spec.v_zero_point))
        every = broadcast(b, offset, self.layout.lanes)
        return [finished(b, self.spec, by, b.sub(s, every)) for s in planes[0]]

    def _put(
        self, b: ir.IRBuilder, value: Value, row: Value, panel: Value | int, wide: int, v: int
    ) -> None:
        """A vector of results, or those that there are of the last ones."""
        lanes, left, size = self.layout.lanes, self.layout.lanes, value.type.element.width // 8
        if isinstance(panel, int):
            left = min(lanes, self.spec.elements - (panel * wide + v) * lanes)
        column = multiple(b, plus(b, multiple(b, panel, wide), v), lanes * size)
        for start, count in powers(max(left, 0)):
            part = value
            if count < lanes:
                part = shuffle(b, value, value, range(start, start + count))
            store(b, part, at(b, at(b, row, column), start * size))


def _joined(b: ir.IRBuilder, high: Value, low: Value, shift: int) -> Value:
    """(256 * high + low) / 2^shift, half up; shift >= 9: half of it is a multiple of 256."""
    lanes = high.type.count
    whole = b.add(high, b.ashr(low, splat(I32, lanes, 8)))
    rounded = b.add(whole, splat(I32, lanes, 1 << (shift - 9)))
    return b.ashr(rounded, splat(I32, lanes, shift - 8))
