"""The narrow epilogue of sums as smmla leaves them: vectors of two pixels and two channels.

Lanes keep that order, with constants to match, until there are bytes: those of two channels are a
word, and uzp1 and uzp2 of words take the pixels apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.arm.epilogue import HALF, NeonEpilogue
from qcomp.targets.cpu.emit.builder import (
    I8,
    I16,
    Value,
    at,
    load,
    raw,
    shuffle,
    store_bytes,
    vector,
)
from qcomp.targets.cpu.emit.narrow import BlockParameters

_PIXELS = 2
_CHANNELS = 2  # of each pixel in a vector of sums
_TOGETHER = 4  # vectors of sums that become one of bytes


class PairedEpilogue:
    """Of the same instructions as NeonEpilogue."""

    def __init__(self, block: BlockParameters) -> None:
        entries = block.vector_bytes // _PIXELS
        self._epilogue = NeonEpilogue(replace(block, vector_bytes=entries, repeated=_PIXELS))

    def keep(self, b: ir.IRBuilder, vectors: int) -> bool:
        return self._epilogue.keep(b, _PIXELS * vectors)

    def start(self, b: ir.IRBuilder, vectors: int, pixels: int) -> list[Value]:
        """The biases [two pixels][two channels]."""
        return self._epilogue.start(b, _PIXELS * vectors, -(-pixels // _PIXELS))

    def store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Sequence[Value]],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        """sums[two pixels][two channels]."""
        for n, pair in enumerate(sums):
            pixels = slice(_PIXELS * n, _PIXELS * (n + 1))
            self._store(b, pair, to[pixels], channels, others[pixels])

    def _store(
        self,
        b: ir.IRBuilder,
        sums: Sequence[Value],
        to: Sequence[Value],
        channels: int,
        others: Sequence[Value],
    ) -> None:
        def narrowed(first: int) -> Value:
            vs = tuple(min(first + i, len(sums) - 1) for i in range(_TOGETHER))
            added = _added(b, others, _CHANNELS * first)
            return self._epilogue.narrowed(b, [sums[v] for v in vs], vs, added)

        for start in range(0, len(sums), 2 * _TOGETHER):
            end = min(start + 2 * _TOGETHER, len(sums))
            parts = [narrowed(n) for n in range(start, end, _TOGETHER)]
            count = min(_CHANNELS * end, channels) - _CHANNELS * start
            for pixel, q in zip(to, _apart(b, parts), strict=False):
                store_bytes(b, q, at(b, pixel, _CHANNELS * start), count)

    def store_interleaved(
        self, b: ir.IRBuilder, four: Sequence[Value], to: Sequence[Value], channels: int
    ) -> None:
        raise NotImplementedError("products of matrices are not interleaved")


def _apart(b: ir.IRBuilder, parts: Sequence[Value]) -> list[Value]:
    """Bytes [two channels][pixel][channel] of one or two vectors: those of each pixel."""
    words = [b.bitcast(part, vector(I16, HALF)) for part in parts]
    found = []
    for pixel in range(_PIXELS):
        every = range(pixel, HALF * len(words), _PIXELS)
        of_pixel = shuffle(b, words[0], words[-1], every)
        found.append(b.bitcast(of_pixel, vector(I8, HALF * len(words))))
    return found


def _added(b: ir.IRBuilder, others: Sequence[Value], channel: int) -> list[Value]:
    """What is added to eight channels of two pixels, as i16 in the order of the sums."""
    if not others:
        return []
    four = vector(I16, _TOGETHER)
    first, second = (load(b, at(b, raw(others[i]), channel), four) for i in (0, -1))
    order = [i + p * _TOGETHER for i in range(_TOGETHER) for p in range(_PIXELS)]
    both = b.bitcast(shuffle(b, first, second, order), vector(I8, 2 * HALF))
    halves = (shuffle(b, both, both, range(i, i + HALF)) for i in (0, HALF))
    return [b.sext(half, vector(I16, HALF)) for half in halves]
