"""Attention of i8 by blocks of up to 16 queries: scores, weights and results are small products.

A head of k and v is packed once for all heads of q that share it. Keys are weights of a dot product
whose activations are queries, and values those of one whose activations are the weights of keys.
Nothing but the scores of one block is in memory.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_division import division, finished
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
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import powers
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.kernels.attention import GROUP, AttentionSpec, BlockLayout
from qcomp.targets.cpu.machine import Isa


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
        pairs = self.spec.batch * self.spec.groups
        return max(n for n in (1, 2, 3, 4) if pairs % n == 0)

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
        self.packer.queries(b, source)
        self._scores(b)
        loop(b, self.layout.queries, lambda r: self.weigher.weigh(b, r, where), "row")
        self._results(b, result)

    # -------------------------------------------------------------------- scores

    def _scores(self, b: ir.IRBuilder) -> None:
        layout, part = self.layout, self.packer.part
        keys, starts = part(b, "keys"), part(b, "key sums")
        queries, scores = part(b, "queries"), part(b, "scores")
        vectors = layout.keys // layout.lanes
        rows, wide = self.products.tile(layout.queries, vectors)
        bytes_ = GROUP * layout.lanes

        def panel(n: Value | int) -> None:
            w = at(b, keys, multiple(b, n, wide * bytes_))
            s = at(b, starts, multiple(b, n, wide * bytes_))
            begin = [load(b, at(b, s, v * bytes_), vector(I32, layout.lanes)) for v in range(wide)]

            def tile(t: Value | int) -> None:
                row = overlapped(b, t, rows, layout.queries)
                x = at(b, queries, multiple(b, row, layout.q_row))
                xs = [at(b, x, r * layout.q_row) for r in range(rows)]
                groups = layout.depth // GROUP
                sums = self.products.fours(b, xs, w, begin * rows, groups, GROUP * layout.keys)
                y = at(b, scores, multiple(b, row, 4 * layout.keys))
                y = at(b, y, multiple(b, n, wide * bytes_))
                for i, value in enumerate(sums):
                    r, v = divmod(i, wide)
                    store(b, value, at(b, y, r * 4 * layout.keys + v * bytes_))

            loop(b, -(-layout.queries // rows), tile, "tile")

        loop(b, vectors // wide, panel, "panel")

    # ------------------------------------------------------------------- results

    def _results(self, b: ir.IRBuilder, result: Value) -> None:
        spec, layout, part = self.spec, self.layout, self.packer.part
        weights, values, totals = (part(b, name) for name in ("weights", "values", "totals"))
        narrow = layout.weight_bytes == 1
        vectors, bytes_ = layout.elements // layout.lanes, GROUP * layout.lanes
        rows, wide = self.products.tile(layout.queries, vectors)
        y_size = spec.widths[3] // 8

        def panel(n: Value | int) -> None:
            w = at(b, values, multiple(b, n, wide * bytes_))
            begin = [splat(I32, layout.lanes, 0)] * wide
            if narrow and not self.packer.biased:
                s = at(b, part(b, "value sums"), multiple(b, n, wide * bytes_))
                begin = [load(b, at(b, s, v * bytes_), begin[v].type) for v in range(wide)]

            def tile(t: Value | int) -> None:
                row = overlapped(b, t, rows, layout.queries)
                size = layout.weight_bytes * layout.keys
                x = at(b, weights, multiple(b, row, size))
                xs = [at(b, x, r * size) for r in range(rows)]
                if narrow:
                    groups = -(-spec.keys // GROUP)
                    sums = self.products.fours(
                        b, xs, w, begin * rows, groups, GROUP * layout.elements
                    )
                else:
                    sums = self.products.pairs(
                        b, xs, w, begin * rows, -(-spec.keys // 2), 4 * layout.elements
                    )
                y = at(b, result, multiple(b, row, spec.y[1]))
                z = at(b, totals, multiple(b, row, 4))
                for r in range(rows):
                    found = self._divided(
                        b, load(b, at(b, z, 4 * r), I32), sums[r * wide : (r + 1) * wide]
                    )
                    for v, value in enumerate(found):
                        column = multiple(
                            b, plus(b, multiple(b, n, wide), v), layout.lanes * y_size
                        )
                        self._put(b, value, at(b, at(b, y, r * spec.y[1]), column), n, wide, v)

            loop(b, -(-layout.queries // rows), tile, "tile")

        panels = vectors // wide
        if spec.elements == layout.elements:
            loop(b, panels, panel, "panel")
            return
        loop(b, panels - 1, panel, "panel")
        panel(panels - 1)

    def _divided(self, b: ir.IRBuilder, total: Value, sums: Sequence[Value]) -> list[Value]:
        """The results of a row, vectors of its elements."""
        attended = b.icmp_signed(">", total, ir.Constant(I32, 0))
        total = b.select(attended, total, b.sub(ir.Constant(I32, 0), total))
        by = division(b, self.spec, total, attended)
        offset = b.mul(total, ir.Constant(I32, self.spec.v_zero_point))
        every = broadcast(b, offset, self.layout.lanes)
        return [finished(b, self.spec, by, b.sub(s, every)) for s in sums]

    def _put(
        self, b: ir.IRBuilder, value: Value, place: Value, panel: Value | int, wide: int, v: int
    ) -> None:
        """A vector of results, or those that there are of the last ones."""
        lanes, left = self.layout.lanes, self.layout.lanes
        if isinstance(panel, int):
            left = min(lanes, self.spec.elements - (panel * wide + v) * lanes)
        for start, count in powers(max(left, 0)):
            part = (
                value if count == lanes else shuffle(b, value, value, range(start, start + count))
            )
            store(b, part, at(b, place, start * value.type.element.width // 8))
