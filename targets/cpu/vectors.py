"""The vector registers of an instruction set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Vectors:
    """`count` registers of `bits` each."""

    bits: int
    count: int

    @property
    def lanes(self) -> int:
        """32-bit accumulators in one register."""
        return self.bits // 32

    @property
    def bytes(self) -> int:
        return self.bits // 8
