"""Products of matrices in registers: smmla adds two pixels times two channels, eight k of each.

Weights lie as [channel][8 neighbouring k]. The sums of two pixels and four channels are two
registers: channels 0 and 1 of both pixels, and 2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import smmla
from qcomp.targets.cpu.arm.paired import PairedEpilogue
from qcomp.targets.cpu.emit.builder import I8, I32, I64, Value, at, load, raw, shuffle, vector
from qcomp.targets.cpu.emit.dot import Operand
from qcomp.targets.cpu.emit.narrow import MakeNarrow
from qcomp.targets.cpu.emit.tile_products import Sums
from qcomp.targets.cpu.kernels.gemm import Packing

BY_EIGHTS = Packing(panel=16, group=8)
_ROW = 16  # bytes of a register
_STEP = vector(I64, 2)  # eight k of two pixels


@dataclass(frozen=True)
class Smmla:
    """Of the activations of two pixels, each a load of two steps."""

    row: int = 0
    together: int = 2
    pixels: int = 2
    parts: int = 2
    pairs: bool = False
    steps: int = 1
    biased: bool = True
    narrow: MakeNarrow | None = PairedEpilogue

    def same(self, b: ir.IRBuilder, pointers: Sequence[Value], steps: int) -> list[Operand]:
        if steps == 1:
            return [self.every(b, [load(b, raw(p), I64) for p in pointers])]
        return self.taken(b, [load(b, raw(p), _STEP) for p in pointers], steps)

    def taken(self, b: ir.IRBuilder, rows: Sequence[Value], steps: int) -> list[Operand]:
        """Of so many steps; rows are sixteen bytes of each pixel."""
        first, second = (b.bitcast(row, _STEP) for row in rows)
        return [self._bytes(b, shuffle(b, first, second, (k, k + 2))) for k in range(steps)]

    def every(self, b: ir.IRBuilder, steps: Sequence[Value]) -> Operand:
        both = ir.undefined(_STEP)
        for pixel, step in enumerate(steps):
            both = b.insert_element(both, step, ir.Constant(I32, pixel))
        return self._bytes(b, both)

    def mixed(self, b: ir.IRBuilder, pointers: Sequence[Value], starts: Sequence[int]) -> Operand:
        raise NotImplementedError("groups of channels are not mixed: row is 0")

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        return tuple(load(b, at(b, pointer, n * _ROW), vector(I8, _ROW)) for n in (0, 1))

    def start(self, b: ir.IRBuilder, bias: Value) -> Sums:
        return [shuffle(b, bias, bias, (n, n + 1) * 2) for n in (0, 2)]

    def add(self, b: ir.IRBuilder, sums: Sums, x: Sequence[Operand], w: Sequence[Operand]) -> Sums:
        ((pixels,), channels) = x[0], w[0]
        return [smmla(b, total, pixels, two) for total, two in zip(sums, channels, strict=True)]

    def totals(self, b: ir.IRBuilder, sums: Sums) -> list[Value]:
        low, high = sums
        return [shuffle(b, low, high, (n, n + 1, n + 4, n + 5)) for n in (0, 2)]

    def _bytes(self, b: ir.IRBuilder, both: Value) -> Operand:
        return (b.bitcast(both, vector(I8, _ROW)),)
