"""Attention: softmax(scale * q k' + masks) v in one op, of floats and of integers.

All operands have their heads inside, as projections leave them: q [B, S, H, D], k [B, T, G, D],
v [B, T, G, E], and the result [B, S, H, E]. H is a multiple of G, and H / G neighbouring heads of q
share a head of k and v. Masks broadcast to [B, H, S, T].
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import (
    AxisUse,
    Op,
    Operand,
    broadcast_shapes,
    expect,
    expect_activation,
    expect_float,
)
from qcomp.ir.ops.integer import IntegerOp, result_dtype
from qcomp.ir.tensor import DType, TensorId, TensorType
from qcomp.quant.attention import LEAST_SHIFT

__all__ = ["EXCLUDES", "Attention", "Mask", "QAttention", "Unattended"]

EXCLUDES = -(2.0**13)
"""A number added to a score that is so small, in nats, excludes the key."""


class Mask(enum.Enum):
    """What an operand behind q, k and v does to the scores."""

    ADDED = "added"  # is added to them; EXCLUDES and less excludes
    ALLOWED = "allowed"  # excludes where it is 0
    EXCLUDED = "excluded"  # excludes where it is not 0
    SCORES = "scores"  # of integers: is added as it is, in the accumulator's steps


class Unattended(enum.Enum):
    """What a query gets whose keys are all excluded."""

    MEAN = "mean"  # of all v, as where a large finite number is subtracted from each score
    ZERO = "zero"  # where floats would give NaN


def attention_shape(
    inputs: tuple[TensorType, ...], operands: int, masks: tuple[Mask, ...]
) -> tuple[int, ...]:
    """Of the result; `operands` stand before the masks."""
    expect(
        len(inputs) == operands + len(masks),
        f"{len(inputs)} operands; expected {operands} and {len(masks)} masks",
    )
    q, k, v = inputs[:3]
    for t in (q, k, v):
        expect(t.rank == 4, f"expected [batch, position, head, element], got {t}")
    batch, queries, heads, depth = q.shape
    _, keys, groups, _ = k.shape
    expect(k.shape == (batch, keys, groups, depth), f"{k} does not match {q}")
    expect(v.shape[:3] == k.shape[:3], f"{v} does not match {k}")
    expect(heads % groups == 0, f"{heads} heads are not a multiple of {groups}")
    scores = (batch, heads, queries, keys)
    for t in inputs[operands:]:
        shape = broadcast_shapes([scores, t.shape])
        expect(shape == scores, f"mask {t} does not broadcast to {scores}")
    return (batch, queries, heads, v.shape[3])


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """The mean of v, weighted with softmax(scale * q k' + masks) over the keys of the same head.

    The query at position i sees the keys up to i + ahead. What a mask excludes has no weight,
    whatever its score; `unattended` says what a query without any key gets.
    """

    mnemonic: ClassVar[str] = "attention"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL
    arity: ClassVar[int | None] = None
    q = Operand(0)
    k = Operand(1)
    v = Operand(2)

    scale: float
    ahead: int
    masks: tuple[Mask, ...] = ()
    unattended: Unattended = Unattended.MEAN

    @property
    def mask_operands(self) -> tuple[TensorId, ...]:
        return self.inputs[3:]

    def result_type(self, *inputs: TensorType) -> TensorType:
        expect_float(*inputs)
        expect(Mask.SCORES not in self.masks, "mask scores of floats; expected added")
        return inputs[0].with_shape(attention_shape(inputs, 3, self.masks))


@dataclass(frozen=True, kw_only=True)
class QAttention(IntegerOp):
    """The same in integers; no weight is normalised, the sum over v is divided instead.

        acc = rsh(sum((q - q_zero_point) * k), product_shift) + masks    A row of scores, i32.
        M = max(acc);  d = M - acc                     Over the keys that are not excluded.
        u = mulhrs(min(32767, rsh(d, score_shift)), multiplier)
        P = 2^-(u / 2^b) from the table, see below;    0 for excluded keys
        O = sum(P * (v - v_zero_point));  Z = sum(P)
        mz, j = norm16(Z);  R = min(2^(31 - t) - 1, (numerator + mz // 2) // mz)
        y = sat(zero_point + rsh(sat_t(rsh(O, j + down)) * R, shift)),   t = 16, or 18 for an i16

    rsh rounds half up (and shifts to the left where its second operand is negative), norm16 gives
    the 16 leading bits of Z, rounded, and how many were lost. The zero point of k would add the
    same to all scores of a row.

    With probability_bits 8 the table is i16 [32], b = 5 and P = rsh(table[u mod 32], (u >> 5) + 7);
    with 15 it is i16 [64], of coarse and of fine steps, b = 10 and
    P = rsh(mulhrs(table[(u >> 5) mod 32], table[32 + u mod 32]), u >> 10).

    Masks: ALLOWED and EXCLUDED compare with their zero point. ADDED, of which there is at most one,
    excludes below `added_least` and adds rsh((mask - zero point) * added_multiplier, added_shift),
    saturated to 2^28; SCORES, a constant i32, is within that too, and excludes where it is less.
    Without masks scores are below 2^28; of q and k of 16 bits product_shift is 9 or more.
    """

    mnemonic: ClassVar[str] = "q_attention"
    arity: ClassVar[int | None] = None
    constant_operands: ClassVar[tuple[int, ...]] = (3,)
    q = Operand(0)
    k = Operand(1)
    v = Operand(2)
    table = Operand(3)

    q_zero_point: int
    v_zero_point: int
    product_shift: int
    score_shift: int
    multiplier: int
    probability_bits: int
    down: int
    numerator: int
    shift: int
    zero_point: int
    bits: int
    ahead: int
    masks: tuple[Mask, ...] = ()
    mask_zero_points: tuple[int, ...] = ()
    added_multiplier: int = 0
    added_shift: int = 0
    added_least: int = 0
    unattended: Unattended = Unattended.MEAN

    @property
    def mask_operands(self) -> tuple[TensorId, ...]:
        return self.inputs[4:]

    def result_type(self, *inputs: TensorType) -> TensorType:
        q, k, v, table, *masks = inputs
        expect_activation(q, k, v)
        shape = attention_shape(inputs, 4, self.masks)
        expect(self.probability_bits in (8, 15), "probabilities have 8 or 15 bits")
        expected = TensorType(DType.I16, (32 if self.probability_bits == 8 else 64,))
        expect(table == expected, f"expected exponentials {expected}, got {table}")
        expect(
            len(self.mask_zero_points) == len(masks),
            f"{len(self.mask_zero_points)} zero points of {len(masks)} masks",
        )
        for kind, t in zip(self.masks, masks, strict=True):
            if kind is Mask.SCORES:
                expect(t.dtype is DType.I32, f"expected scores i32, got {t}")
            else:
                expect_activation(t)
        both = q.dtype is DType.I16 and k.dtype is DType.I16
        expect(
            self.product_shift >= (LEAST_SHIFT if both else 0),
            f"product_shift {self.product_shift} of {q} and {k}; expected {LEAST_SHIFT} or more of "
            "two i16, else none below 0",
        )
        for kind in (Mask.ADDED, Mask.SCORES):
            expect(self.masks.count(kind) <= 1, f"several masks are {kind.value}; expected one")
        return TensorType(result_dtype(self.bits, self.zero_point), shape)
