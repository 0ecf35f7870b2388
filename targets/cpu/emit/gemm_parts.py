"""The segments of a layer in parts, where the weights of all are too many to be unpacked at once.

A part is what lies in one of the outermost segments. Its weights are unpacked to the stack for some
register tiles, whose sums wait there too, from one part to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, Value, at, load, loop, multiple, store, vector
from qcomp.targets.cpu.emit.gemm_blocks import Block
from qcomp.targets.cpu.emit.register_tile import RegisterTile
from qcomp.targets.cpu.emit.span import Span
from qcomp.targets.cpu.emit.unpacked import unpack
from qcomp.targets.cpu.emit.words import word
from qcomp.targets.cpu.kernels.gemm import GemmSpec

# Emits visit(unit, the places of its first pixel: source, result, operands of residuals).
Visit = Callable[[Value, Value, Value, Sequence[Value]], None]
OverTiles = Callable[[ir.IRBuilder, Span, Value, Block, Visit], None]


def part_of(spec: GemmSpec) -> GemmSpec:
    """One of the outermost segments."""
    return replace(spec, segments=spec.segments[1:])


@dataclass(frozen=True, eq=False)
class Parts:
    """Emits the tiles of a block, `waiting` of them at a time.

    `tile` is for weights of one part, unpacked; these and the sums lie in `weights` and `sums`.
    """

    spec: GemmSpec
    tile: RegisterTile
    over_tiles: OverTiles
    waiting: int
    weights: Value
    sums: Value

    def pixels(self, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        """The tiles of pixels of a span."""
        together = word(b, self.waiting)
        some = b.add(b.sub(span.end, span.begin), word(b, self.waiting - 1))

        def one(n: Value) -> None:
            first = b.add(span.begin, b.mul(n, together))
            last = b.add(first, together)
            last = b.select(b.icmp_signed("<", last, span.end), last, span.end)
            self._some(b, Span(first, last), src, block)

        Span(word(b, 0), b.udiv(some, together)).loop(b, one, "some")

    def _some(self, b: ir.IRBuilder, span: Span, src: Value, block: Block) -> None:
        count, stride = self.spec.segments[0]
        tile, part = self.tile, part_of(self.spec)

        def begin(unit: Value, _x: Value, _y: Value, _others: Sequence[Value]) -> None:
            self._keep(b, b.sub(unit, span.begin), tile.biases(b, block))

        def one(n: Value | int) -> None:
            packed = at(b, block.weights, multiple(b, n, part.inside_bytes))
            unpack(b, part, self.spec.panel_bytes, packed, self.weights, block, self._width)
            here = replace(block, weights=self.weights)

            def add(unit: Value, x: Value, _y: Value, _others: Sequence[Value]) -> None:
                index = b.sub(unit, span.begin)
                kept = self._kept(b, index, block)
                self._keep(b, index, tile.sums(b, tile.pixels(b, x), here, kept))

            self.over_tiles(b, span, at(b, src, multiple(b, n, stride)), here, add)

        def finish(unit: Value, _x: Value, y: Value, others: Sequence[Value]) -> None:
            kept = self._kept(b, b.sub(unit, span.begin), block)
            tile.store(b, kept, tile.results(b, y), others, block)

        self.over_tiles(b, span, src, block, begin)
        loop(b, count, one, "part")
        self.over_tiles(b, span, src, block, finish)

    @property
    def _width(self) -> int:
        """Bytes of a vector."""
        return self.tile.isa.machine.vectors.bytes

    @property
    def _tile_bytes(self) -> int:
        return self.tile.tile.pixels * self.tile.tile.blocks[0] * self._width

    def _keep(self, b: ir.IRBuilder, index: Value, sums: Sequence[Value]) -> None:
        place = at(b, self.sums, multiple(b, index, self._tile_bytes))
        for n, value in enumerate(sums):
            store(b, value, at(b, place, n * self._width), self._width)

    def _kept(self, b: ir.IRBuilder, index: Value, block: Block) -> list[Value]:
        place = at(b, self.sums, multiple(b, index, self._tile_bytes))
        type, count = vector(I32, self.tile.isa.lanes), self.tile.tile.pixels * block.vectors
        return [load(b, at(b, place, n * self._width), type, self._width) for n in range(count)]
