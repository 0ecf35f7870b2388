"""From tiles of i32 sums to stored i8: requantize, saturate, bring into order, store.

Meaning: qcomp.quant.fixed_point.requantize. A machine may have instructions of its own for the
narrow form (emit/narrow.py); everything else goes through its `requantize`, a vector at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcomp.quant.fixed_point import Form
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import Value, at, store_bytes
from qcomp.targets.cpu.emit.interleave import back_in_order
from qcomp.targets.cpu.emit.narrow import BlockParameters, MakeNarrow, NarrowEpilogue
from qcomp.targets.cpu.emit.requantize import UNCLAMPED, Saturation
from qcomp.targets.cpu.machine import Isa


@dataclass
class Epilogue:
    """The epilogue of one block of channels."""

    isa: Isa
    form: Form
    block: BlockParameters
    narrow: MakeNarrow | None  # of the narrow form; None: the portable one
    _kept: NarrowEpilogue | None = None

    def bias(self, b: ir.IRBuilder, v: int) -> Value:
        return self.block.bias(b, v)

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        """As NarrowEpilogue."""
        narrow = self._kept or self._narrow()
        if narrow is not None:
            return narrow.start(b, vectors, pixels)
        return self.block.start(b, vectors, pixels)

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value] = (),
    ) -> None:
        """As NarrowEpilogue; each call is a place of its own, which loads its constants."""
        narrow = self._kept or self._narrow()
        if narrow is not None:
            narrow.store(b, sums, to, channels, others)
            return
        assert not others
        lanes = self.isa.lanes
        for v in range(len(sums[0])):
            requantized = self._requantizer(b, v)
            count = min(lanes, channels - v * lanes)
            for pixel, pointer in zip(sums, to, strict=True):
                store_bytes(b, requantized(pixel[v]), at(b, pointer, v * lanes), count)

    def keep(self, b: ir.IRBuilder, vectors: int) -> None:
        """Load here, on machines that hold them in registers, the constants of the only store."""
        narrow = self._narrow()
        if narrow is not None and narrow.keep(b, vectors):
            self._kept = narrow

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """As NarrowEpilogue; all results of an epilogue must be stored in one place."""
        self._kept = self._kept or self._narrow()
        if self._kept is not None:
            self._kept.store_interleaved(b, four, to, channels)
            return
        width = 4 * self.isa.lanes // len(to)
        parts = [self._requantizer(b, v)(sums) for v, sums in enumerate(four)]
        q = back_in_order(b, parts)
        for pixel, pointer in enumerate(to):
            store_bytes(b, q, pointer, channels, pixel * width)

    def _narrow(self) -> NarrowEpilogue | None:
        if self.narrow is None or self.form is not Form.NARROW:
            return None
        return self.narrow(self.block)

    def _requantizer(self, b: ir.IRBuilder, v: int) -> Callable[[Value], Value]:
        """Sums of channel vector `v` to i8, by any form; the constants are loaded here."""
        limits = Saturation.loaded(b, self.block.header, self.isa.lanes)
        if self.form in UNCLAMPED and not self.block.clamped:
            limits = limits.of_i8()
        if self.block.ceiling:
            limits = limits.below(b, self.block.ceilings(b, v))
        multiplier, shift = self.block.multiplier(b, v), self.block.shift(b, v)
        requantize = self.isa.machine.requantize
        return lambda sums: requantize(b, sums, multiplier, shift, self.form, limits)
