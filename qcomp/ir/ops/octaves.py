"""Functions of sums of 32 bits, which range over many orders of magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import Operand, expect
from qcomp.ir.ops.integer import IntegerOp, expect_dtype, result_dtype
from qcomp.ir.tensor import DType, TensorType
from qcomp.quant.octaves import FINEST, sides_of

__all__ = ["InterpolateOctaves"]


@dataclass(frozen=True, kw_only=True)
class InterpolateOctaves(IntegerOp):
    """A function of an i32 by linear interpolation between 2^k entries for each octave, k =
    step_bits in 1..8: a normalised mantissa and its exponent, by a count of leading zeros.

    The table is i32 [1 + sides * (32 * 2^k + 1)]: the function at 0, then at 2^n * (1 + i / 2^k)
    for n in 0..31 and i in 0..2^k - 1, and at 2^32; of 2 sides, then at the negatives of these.
    Without a side of their own negatives are taken for 0. Entries are in units of 2^-7 steps of the
    result, at most 2^23 in magnitude; of a result of 32 bits in steps, at most 2^31 - 1.

        n = bit length of |x|, less 1;  f = (|x| - 2^n) * 2^(31 - n)
        j = n * 2^k + (f >> (31 - k));  r = (f >> (16 - k)) & (2^15 - 1)
        t = e[j] + (((e[j + 1] - e[j]) * r + 2^14) >> 15), in i64;  at 0 t is its entry
        sat(zero_point + ((t + 2^6) >> 7)), of 32 bits sat(zero_point + t)
    """

    mnemonic: ClassVar[str] = "interpolate_octaves"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    x = Operand(0)
    table = Operand(1)

    step_bits: int
    zero_point: int
    qmin: int = -128
    qmax: int = 127
    bits: int = 8

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, table = inputs
        expect_dtype(x, DType.I32)
        expect_dtype(table, DType.I32)
        expect(1 <= self.step_bits <= FINEST, f"step_bits {self.step_bits}; expected 1 to {FINEST}")
        sides = sides_of(table.size, self.step_bits)
        expect(sides is not None and table.rank == 1, f"{table} is no table of 1 or 2 sides")
        return x.with_dtype(result_dtype(self.bits, self.zero_point, sums=True))
