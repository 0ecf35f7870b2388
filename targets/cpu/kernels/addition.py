"""A residual addition that a convolution's or dense layer's epilogue does: its constants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Addition:
    """own = clip(scaled sums, low, high), other - other_zero_point; both << 7, times Q15, added."""

    low: int
    high: int
    multiplier: int
    other_multiplier: int
    other_zero_point: int
    fraction_bits: int
    zero_point: int
    qmin: int
    qmax: int

    other_origin: int  # what is added to the other operand's values as they are stored

    def constants(self) -> tuple[int, ...]:
        """What `AddConstants.loaded` reads, each in 32 bits."""
        return (
            self.low,
            self.high,
            self.multiplier,
            self.other_multiplier,
            self.other_zero_point + self.other_origin,
            1 << (15 - self.fraction_bits),
        )
