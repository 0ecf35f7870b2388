"""A row of scores of an attention to weights, and their sum: masks, the largest, exponentials.

Meaning: qcomp.ir.evaluate.attention (QAttention).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.ops.attention import Unattended
from qcomp.quant.attention import EXCLUDED
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.attention_masks import Where
from qcomp.targets.cpu.emit.attention_pack import Packer
from qcomp.targets.cpu.emit.attention_rows import RowWeights
from qcomp.targets.cpu.emit.attention_scores import RowScores
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Carried,
    Value,
    at,
    broadcast,
    flipped,
    larger,
    multiple,
    plus,
    shuffle,
    splat,
    store,
    vector,
)
from qcomp.targets.cpu.emit.lanes import folded, scalar
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
        here = Where(where.batch, where.head, plus(b, where.query, row))
        vectors, tops = RowScores(layout, self.masks, scores, here, pairs).vectors(b)
        top = scalar(b, folded(b, tops, larger))
        attended = b.icmp_signed("!=", top, ir.Constant(I32, EXCLUDED))
        every = broadcast(b, top, lanes)

        def pair(n: Value | int, found: Carried, kept: Value | None = None) -> list[Value]:
            low, high = (vectors.at(b, plus(b, multiple(b, n, 2), i)) for i in (0, 1))
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
            sums = vectors.repeat(b, layout.pairs - 1, [zero], pair)
            (found,) = pair(layout.pairs - 1, sums, kept)
        else:
            (found,) = vectors.repeat(b, pairs, [zero], pair)
        if narrow:
            found = b.zext(found, vector(I32, 2 * lanes))
        total = scalar(b, folded(b, found, lambda b, x, y: b.add(x, y)))
        if spec.unattended is Unattended.ZERO and spec.excludes:
            total = b.select(attended, total, b.sub(ir.Constant(I32, 0), total))
        store(b, total, at(b, part(b, "totals"), multiple(b, row, 4)))

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
