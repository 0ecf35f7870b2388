"""Attention of i8 by blocks of up to 16 queries: scores, weights and results are small products.

A head of k and v is packed once for all heads of q that share it. Keys are weights of a dot product
whose activations are queries, and values those of one whose activations are the weights of keys.
Nothing but the scores of one block is in memory.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.ops.attention import Unattended
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_division import division, finished
from qcomp.targets.cpu.emit.attention_masks import Where, masked, moved
from qcomp.targets.cpu.emit.attention_pack import Packer
from qcomp.targets.cpu.emit.attention_rows import RowWeights
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    broadcast,
    divided,
    flipped,
    larger,
    load,
    loop,
    multiple,
    overlapped,
    plus,
    repeat,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import folded, powers, scalar
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
            head = _Head(spec, layout, self.isa, packer, rows, masks)

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
    isa: Isa
    packer: Packer
    rows: RowWeights
    masks: Sequence[Value]

    def block(self, b: ir.IRBuilder, source: Value, result: Value, where: Where) -> None:
        self.packer.queries(b, source)
        self._scores(b)
        loop(b, self.layout.queries, lambda r: self._weigh(b, r, where), "row")
        self._results(b, result)

    def _tile(self, vectors: int) -> tuple[int, int]:
        """(rows, vectors) of sums in registers."""
        sums = 16 if self.isa.registers >= 32 else 4 if self.isa.machine.dot.widens else 8
        wide = max(n for n in (1, 2, 4) if vectors % n == 0 and n <= sums)
        return min(self.layout.queries, sums // wide), wide

    # -------------------------------------------------------------------- scores

    def _scores(self, b: ir.IRBuilder) -> None:
        layout, part = self.layout, self.packer.part
        keys, starts = part(b, "keys"), part(b, "key sums")
        queries, scores = part(b, "queries"), part(b, "scores")
        vectors = layout.keys // layout.lanes
        rows, wide = self._tile(vectors)
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
                sums = self._products(b, xs, w, begin * rows, groups, GROUP * layout.keys)
                y = at(b, scores, multiple(b, row, 4 * layout.keys))
                y = at(b, y, multiple(b, n, wide * bytes_))
                for i, value in enumerate(sums):
                    r, v = divmod(i, wide)
                    store(b, value, at(b, y, r * 4 * layout.keys + v * bytes_))

            loop(b, -(-layout.queries // rows), tile, "tile")

        loop(b, vectors // wide, panel, "panel")

    def _products(
        self,
        b: ir.IRBuilder,
        xs: Sequence[Value],
        w: Value,
        begin: Carried,
        groups: int,
        stride: int,
    ) -> Carried:
        """Sums [row][vector] of `groups` of four products; weights `stride` bytes apart."""
        dot, wide = self.isa.machine.dot, len(begin) // len(xs)
        together = min(dot.together, groups)

        def step(k: Value | int, sums: Carried, count: int = together) -> list[Value]:
            found = list(sums)
            p = at(b, w, multiple(b, k, together * stride))
            operands = [dot.same(b, at(b, x, multiple(b, k, GROUP * together)), count) for x in xs]
            for g in range(count):
                weights = [
                    dot.weights(b, at(b, p, g * stride + v * self.isa.vector_bits // 8))
                    for v in range(wide)
                ]
                for r, x in enumerate(operands):
                    for v, weight in enumerate(weights):
                        i = r * wide + v
                        found[i] = dot.add(b, found[i], x[g], weight)
            return found

        whole, rest = divmod(groups, together)
        sums: Carried = repeat(b, whole, begin, step, "k")
        return step(whole, sums, rest) if rest else sums

    # ------------------------------------------------------------------- weights

    def _weigh(self, b: ir.IRBuilder, row: Value | int, where: Where) -> None:
        """A row of scores to weights, and their sum: less than 0 where there is no key."""
        spec, layout, part = self.spec, self.layout, self.packer.part
        lanes, size = layout.lanes, layout.weight_bytes
        scores = at(b, part(b, "scores"), multiple(b, row, 4 * layout.keys))
        weights = at(b, part(b, "weights"), multiple(b, row, size * layout.keys))
        if spec.excludes:
            here = Where(where.batch, where.head, plus(b, where.query, row))
            self._mask(b, scores, here)
        self._exclude_padding(b, scores)
        nothing = splat(I32, lanes, spec.excluded)

        def score(n: Value | int) -> Value:
            return load(b, at(b, scores, multiple(b, n, 4 * lanes)), vector(I32, lanes))

        tops = repeat(
            b, layout.keys // lanes, [nothing], lambda n, m: [larger(b, m[0], score(n))], "top"
        )
        top = scalar(b, folded(b, tops[0], larger))
        attended = b.icmp_signed("!=", top, ir.Constant(I32, spec.excluded))
        every = broadcast(b, top, lanes)

        def pair(n: Value | int, found: Carried, kept: Value | None = None) -> list[Value]:
            both = [score(plus(b, multiple(b, n, 2), i)) for i in (0, 1)]
            p = self.rows.of(b, [b.sub(every, s) for s in both])
            if spec.excludes and not spec.saturates:
                apart = shuffle(b, *both, range(2 * lanes))
                gone = b.icmp_signed("==", apart, splat(I32, 2 * lanes, spec.excluded))
                gone = b.and_(gone, broadcast(b, attended, 2 * lanes))
                p = b.select(gone, splat(I16, 2 * lanes, 0), p)
            if kept is not None:
                p = b.and_(p, kept)
            self._store(b, p, at(b, weights, multiple(b, n, 2 * size * lanes)))
            return [self._added(b, found[0], p)]

        pairs = layout.keys // (2 * lanes)
        narrow = size == 1
        zero = splat(I16, 2 * lanes, 0) if narrow else splat(I32, lanes, 0)
        last = spec.keys - (pairs - 1) * 2 * lanes
        kept = ir.vector_of(I16, [-(lane < last) for lane in range(2 * lanes)])
        sums = repeat(b, pairs - 1, [zero], pair, "weight")
        (sums,) = pair(pairs - 1, sums, kept if last < 2 * lanes else None)
        if narrow:
            sums = b.zext(sums, vector(I32, 2 * lanes))
        total = scalar(b, folded(b, sums, lambda b, x, y: b.add(x, y)))
        if spec.unattended is Unattended.ZERO and spec.excludes:
            total = b.select(attended, total, b.sub(ir.Constant(I32, 0), total))
        store(b, total, at(b, part(b, "totals"), multiple(b, row, 4)))

    def _mask(self, b: ir.IRBuilder, scores: Value, where: Where) -> None:
        lanes, spec = self.layout.lanes, self.spec
        whole = spec.keys // lanes

        def piece(key: Value | int, count: int) -> None:
            place = at(b, scores, multiple(b, key, 4))
            found = load(b, place, vector(I32, count))
            store(b, masked(b, spec, self.masks, found, where, key), place)

        loop(b, whole, lambda n: piece(multiple(b, n, lanes), lanes), "mask")
        for start, count in powers(spec.keys - whole * lanes):
            piece(whole * lanes + start, count)

    def _exclude_padding(self, b: ir.IRBuilder, scores: Value) -> None:
        """Keys that are not there."""
        for start, count in powers(self.layout.keys - self.spec.keys):
            place = at(b, scores, 4 * (self.spec.keys + start))
            store(b, splat(I32, count, self.spec.excluded), place)

    def _store(self, b: ir.IRBuilder, p: Value, place: Value) -> None:
        """Of 8 bits as activations of dot products are stored."""
        if self.layout.weight_bytes == 1:
            p = b.trunc(p, vector(I8, p.type.count))
            p = p if self.packer.biased else flipped(b, p)
        store(b, p, place)

    def _added(self, b: ir.IRBuilder, sums: Value, p: Value) -> Value:
        """Of 8 bits in u16: a lane gets at most 256 / 8 of them."""
        if self.layout.weight_bytes == 1:
            return b.add(sums, p)
        return b.add(sums, self.isa.machine.pairs(b, p, splat(I16, p.type.count, 1)))

    # ------------------------------------------------------------------- results

    def _results(self, b: ir.IRBuilder, result: Value) -> None:
        spec, layout, part = self.spec, self.layout, self.packer.part
        weights, values, totals = (part(b, name) for name in ("weights", "values", "totals"))
        narrow = layout.weight_bytes == 1
        vectors, bytes_ = layout.elements // layout.lanes, GROUP * layout.lanes
        rows, wide = self._tile(vectors)
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
                    sums = self._products(b, xs, w, begin * rows, groups, GROUP * layout.elements)
                else:
                    sums = self._pairs(b, xs, w, begin * rows)
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

    def _pairs(self, b: ir.IRBuilder, xs: Sequence[Value], w: Value, begin: Carried) -> Carried:
        """Sums [row][vector] of weights of 16 bits and values, two keys at a time."""
        lanes, wide = self.layout.lanes, len(begin) // len(xs)
        words = vector(I16, 2 * lanes)

        def step(k: Value | int, sums: Carried) -> list[Value]:
            found = list(sums)
            p = at(b, w, multiple(b, k, 4 * self.layout.elements))
            values = [load(b, at(b, p, 4 * lanes * v), words) for v in range(wide)]
            for r, x in enumerate(xs):
                two = load(b, at(b, x, multiple(b, k, 4)), I32)
                every = b.bitcast(broadcast(b, two, lanes), words)
                for v, value in enumerate(values):
                    i = r * wide + v
                    found[i] = b.add(found[i], self.isa.machine.pairs(b, every, value))
            return found

        return repeat(b, -(-self.spec.keys // 2), begin, step, "k")

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
