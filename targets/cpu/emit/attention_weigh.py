"""A row of scores of an attention to weights, and their sum: masks, the largest, exponentials.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.ops.attention import Unattended
from qcomp.quant.attention import EXCLUDED
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_masks import Where, masked
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
    plus,
    repeat,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.dynamic_loop import repeat_trips
from qcomp.targets.cpu.emit.lanes import folded, powers, scalar
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.attention import AttentionSpec, BlockLayout
from qcomp.targets.cpu.machine import Isa


@dataclass(frozen=True, eq=False)
class Weigher:
    """Of the queries of one block."""

    packer: Packer
    rows: RowWeights
    masks: Sequence[Value]

    @property
    def spec(self) -> AttentionSpec:
        return self.layout.spec

    @property
    def layout(self) -> BlockLayout:
        return self.packer.layout

    @property
    def isa(self) -> Isa:
        return self.packer.isa

    def weigh(self, b: ir.IRBuilder, row: Value | int, where: Where, pairs: Value | int) -> None:
        """A row of scores to weights, of so many pairs of vectors, and their sum: less than 0 where
        there is no key.
        """
        spec, layout, part = self.spec, self.layout, self.packer.part
        lanes, size = layout.lanes, layout.weight_bytes
        scores = at(b, part(b, "scores"), multiple(b, row, 4 * layout.keys))
        weights = at(b, part(b, "weights"), multiple(b, row, size * layout.keys))
        if spec.excludes:
            here = Where(where.batch, where.head, plus(b, where.query, row))
            self._mask(b, scores, here, pairs)
        self._exclude_padding(b, scores)
        nothing = splat(I32, lanes, EXCLUDED)

        def score(n: Value | int) -> Value:
            return load(b, at(b, scores, multiple(b, n, 4 * lanes)), vector(I32, lanes))

        tops = repeat_trips(
            b, multiple(b, pairs, 2), [nothing], lambda n, m: [larger(b, m[0], score(n))], "top"
        )
        top = scalar(b, folded(b, tops[0], larger))
        attended = b.icmp_signed("!=", top, ir.Constant(I32, EXCLUDED))
        every = broadcast(b, top, lanes)

        def pair(n: Value | int, found: Carried, kept: Value | None = None) -> list[Value]:
            low, high = (score(plus(b, multiple(b, n, 2), i)) for i in (0, 1))
            p = self.rows.of(b, [b.sub(every, s) for s in (low, high)])
            if spec.excludes and not spec.saturates:
                apart = shuffle(b, low, high, range(2 * lanes))
                gone = b.icmp_signed("==", apart, splat(I32, 2 * lanes, EXCLUDED))
                gone = b.and_(gone, broadcast(b, attended, 2 * lanes))
                p = b.select(gone, splat(I16, 2 * lanes, 0), p)
            if kept is not None:
                p = b.and_(p, kept)
            self._store(b, p, at(b, weights, multiple(b, n, 2 * size * lanes)))
            return [self._added(b, found[0], p)]

        narrow = size == 1
        zero = splat(I16, 2 * lanes, 0) if narrow else splat(I32, lanes, 0)
        last = spec.keys - (layout.pairs - 1) * 2 * lanes
        if not spec.skips and last < 2 * lanes:
            kept = ir.vector_of(I16, [-(lane < last) for lane in range(2 * lanes)])
            sums = repeat(b, layout.pairs - 1, [zero], pair, "weight")
            (found,) = pair(layout.pairs - 1, sums, kept)
        else:
            (found,) = repeat_trips(b, pairs, [zero], pair, "weight")
        if narrow:
            found = b.zext(found, vector(I32, 2 * lanes))
        total = scalar(b, folded(b, found, lambda b, x, y: b.add(x, y)))
        if spec.unattended is Unattended.ZERO and spec.excludes:
            total = b.select(attended, total, b.sub(ir.Constant(I32, 0), total))
        store(b, total, at(b, part(b, "totals"), multiple(b, row, 4)))

    def _mask(self, b: ir.IRBuilder, scores: Value, where: Where, pairs: Value | int) -> None:
        """Of the keys that there are, or of whole vectors where no mask is read."""
        lanes, spec = self.layout.lanes, self.spec
        whole = spec.keys // lanes

        def piece(key: Value | int, count: int) -> None:
            place = at(b, scores, multiple(b, key, 4))
            found = load(b, place, vector(I32, count))
            store(b, masked(b, spec, self.masks, found, where, key), place)

        def vector_of_keys(n: Value | int) -> None:
            piece(multiple(b, n, lanes), lanes)

        if spec.skips:
            last = plus(b, where.query, spec.ahead)  # the vectors before its own are all seen
            ends = divided(b, last, lanes)[0], multiple(b, pairs, 2)
            begin, end = (word(b, x) if isinstance(x, int) else x for x in ends)
            Span(begin, end).loop(b, vector_of_keys, "mask")
            return
        loop(b, whole, vector_of_keys, "mask")
        for start, count in powers(spec.keys - whole * lanes):
            piece(whole * lanes + start, count)

    def _exclude_padding(self, b: ir.IRBuilder, scores: Value) -> None:
        """Keys that are not there."""
        for start, count in powers(self.layout.keys - self.spec.keys):
            place = at(b, scores, 4 * (self.spec.keys + start))
            store(b, splat(I32, count, EXCLUDED), place)

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
