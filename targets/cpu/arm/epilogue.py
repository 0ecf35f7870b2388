"""The narrow epilogue of NEON: four vectors of i32 sums to sixteen i8.

Arithmetic shift, sqxtn, sqrdmulh, a residual addition, sqadd of the zero point, sqxtn, the clamp;
where the zero point is -128, as behind a ReLU, sqxtun and a flip of the sign for sqadd and sqxtn;
meaning: qcomp.quant.fixed_point.requantize (NARROW). sqxtn saturates to 16 bits as the narrow form
does, and sqrdmulh is its mulhrs: the one product that it saturates, of -2^15 by -2^15, does not
occur, as multipliers are not -2^15. Lanes keep their order all the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.intrinsics import (
    saturating_add,
    sqrdmulh,
    sqxtn_bytes,
    sqxtn_words,
    sqxtun_bytes,
    sshl,
)
from qcomp.targets.cpu.arm.table import looked_up, quarters
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    I32,
    Value,
    at,
    broadcast,
    flipped,
    larger,
    load,
    raw,
    shuffle,
    smaller,
    splat,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.narrow import BlockParameters, store_by_fours
from qcomp.targets.cpu.emit.residual import AddConstants, add_residual
from qcomp.targets.cpu.kernels.constants import ADDITION_BYTES, LOOKUP_BYTES

HALF = 8  # lanes of i16
_LANES = 4

Place = tuple[int, int]  # pixel, vector of channels


class NeonEpilogue:
    """One place of the code, where each constant is loaded once."""

    def __init__(self, block: BlockParameters) -> None:
        self._block = block
        self._values: dict[tuple[str, tuple[int, ...]], Value] = {}
        self._addition: AddConstants | None = None
        self._table: list[list[Value]] | None = None

    def keep(self, b: ir.IRBuilder, vectors: int) -> bool:
        """There are registers for them, and tiles of few products take as long to load them."""
        for v in range(vectors):
            self._shift(b, v)
        for v in range(0, vectors - 1, 2):
            self._multipliers(b, (v, v + 1))
        if not self._block.rectified:
            self._zero_point(b)
        return True

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        """Loaded for each pixel: pipes that load are idle, those that copy registers multiply."""
        sums = []
        for _ in range(pixels):
            sums += replace(self._block, tables=b.opaque(self._block.tables)).start(b, vectors, 1)
        return sums

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        def narrowed(four: Sequence[Value], places: Sequence[Place]) -> Value:
            vs = tuple(v for _, v in places)
            added = [_other(b, others, places[i : i + 2]) for i in (0, 2) if others]
            return self.narrowed(b, four, vs, added)

        store_by_fours(b, sums, to, channels, _LANES, narrowed)

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        """Vectors of 128 bits have one lane to interleave: the order is that of the channels."""
        q = self.narrowed(b, four, (0, 1, 2, 3), ())
        width = 4 * _LANES // len(to)
        for pixel, pointer in enumerate(to):
            store_bytes(b, q, pointer, channels, pixel * width)

    def narrowed(
        self,
        b: ir.IRBuilder,
        four: Sequence[Value],
        vs: tuple[int, ...],
        others: Sequence[Value],
    ) -> Value:
        """`others` are what a residual addition adds to the first and to the last two, as i16."""
        halves = []
        for i in (0, 2):
            x, y = (sshl(b, four[i + j], self._shift(b, vs[i + j])) for j in (0, 1))
            scaled = sqrdmulh(b, sqxtn_words(b, x, y), self._multipliers(b, vs[i : i + 2]))
            if others:
                scaled = self._sum(b, scaled, others[i // 2])
            halves.append(scaled)
        if self._block.rectified:
            q = flipped(b, sqxtun_bytes(b, *halves))
        else:
            q = sqxtn_bytes(b, *(saturating_add(b, half, self._zero_point(b)) for half in halves))
        if self._block.clamped:
            q = larger(b, q, self._limit(b, 1))
        if self._block.ceiling:
            q = smaller(b, q, self._ceilings(b, vs))
        if self._block.clamped:
            q = smaller(b, q, self._limit(b, 2))
        return self._looked_up(b, q) if self._block.lookup else q

    def _looked_up(self, b: ir.IRBuilder, q: Value) -> Value:
        if self._table is None:
            self._table = quarters(b, at(b, self._block.header, LOOKUP_BYTES))
        return looked_up(b, q, self._table)

    def _sum(self, b: ir.IRBuilder, scaled: Value, other: Value) -> Value:
        if self._addition is None:
            pointer = at(b, self._block.header, ADDITION_BYTES)
            self._addition = AddConstants.loaded(b, pointer, HALF)
        return add_residual(b, scaled, other, self._addition, sqrdmulh)

    def _shift(self, b: ir.IRBuilder, v: int) -> Value:
        """Negative: to the right."""

        def make() -> Value:
            shift = self._block.shift(b, v)
            return b.sub(splat(I32, _LANES, 0), shift)

        return self._once(("shift", (v,)), make)

    def _multipliers(self, b: ir.IRBuilder, vs: tuple[int, ...]) -> Value:
        """They are below 2^15."""

        def make() -> Value:
            x, y = (self._block.multiplier(b, v) for v in vs)
            return b.trunc(shuffle(b, x, y, range(HALF)), vector(I16, HALF))

        return self._once(("multiplier", vs), make)

    def _ceilings(self, b: ir.IRBuilder, vs: tuple[int, ...]) -> Value:
        def make() -> Value:
            words = [self._block.ceilings(b, v) for v in vs]
            return sqxtn_bytes(b, *(sqxtn_words(b, *words[i : i + 2]) for i in (0, 2)))

        return self._once(("ceiling", vs), make)

    def _zero_point(self, b: ir.IRBuilder) -> Value:
        slot = self._block.header
        return self._once(("zero point", ()), lambda: broadcast(b, load(b, slot, I16), HALF))

    def _limit(self, b: ir.IRBuilder, n: int) -> Value:
        """qmin (1) or qmax (2) in every lane."""
        slot = at(b, self._block.header, 4 * n)
        return self._once(("limit", (n,)), lambda: broadcast(b, load(b, slot, I8), 2 * HALF))

    def _once(self, key: tuple[str, tuple[int, ...]], make: Callable[[], Value]) -> Value:
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]


def _other(b: ir.IRBuilder, others: Sequence[Value], two: Sequence[Place]) -> Value:
    """The bytes to add to two vectors, as i16."""
    first, second = (at(b, raw(others[p]), v * _LANES) for p, v in two)
    (p, v), after = two
    if after == (p, v + 1):
        both = load(b, first, vector(I8, HALF))
    else:
        x, y = (load(b, place, vector(I8, _LANES)) for place in (first, second))
        both = shuffle(b, x, y, range(HALF))
    return b.sext(both, vector(I16, HALF))
