"""What masks do to scores, one or a vector of them.

Meaning: qcomp.ir.evaluate.attention (QAttention). A score that is excluded is EXCLUDED, less
than any other, whatever is added to it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcomp.ir.ops.attention import Mask
from qcomp.quant.attention import EXCLUDED, MASK_LIMIT
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import (
    I32,
    I64,
    Value,
    at,
    broadcast,
    larger,
    load,
    multiple,
    plus,
    smaller,
    splat,
    vector,
)
from qcomp.targets.cpu.emit.words import in_bits, word
from qcomp.targets.cpu.kernels.attention import AttentionSpec, MaskSpec


@dataclass(frozen=True, eq=False)
class Where:
    """A query: batch, head and position."""

    batch: Value | int
    head: Value | int
    query: Value | int


def moved(b: ir.IRBuilder, pointer: Value, strides: Sequence[int], *indices: Value | int) -> Value:
    for index, stride in zip(indices, strides, strict=True):
        pointer = at(b, pointer, multiple(b, index, stride))
    return pointer


def masked(
    b: ir.IRBuilder,
    spec: AttentionSpec,
    masks: Sequence[Value],
    acc: Value,
    where: Where,
    key: Value | int,
) -> Value:
    """A vector of scores, from the one of `key` on, with all that is added and excluded."""
    for mask, pointer in zip(spec.masks, masks, strict=True):
        place = moved(b, pointer, mask.strides, where.batch, where.head, where.query, key)
        acc = _with(b, spec, mask, _values(b, mask, place, acc.type.count), acc)
    if spec.is_causal:
        last = plus(b, where.query, spec.ahead)
        behind = b.sub(_as_word(b, last), _as_word(b, key))
        ahead = broadcast(b, _as_i32(b, behind), acc.type.count)
        lanes = ir.vector_of(acc.type.element, range(acc.type.count))
        seen = b.icmp_signed("<=", lanes, ahead)
        acc = b.select(seen, acc, _number(acc, EXCLUDED))
    return acc


def _as_i32(b: ir.IRBuilder, count: Value) -> Value:
    """A count of keys, perhaps below 0."""
    return count if count.type == I32 else in_bits(b, count, I32)


def _as_word(b: ir.IRBuilder, x: Value | int) -> Value:
    return word(b, x) if isinstance(x, int) else x


def _number(like: Value, n: int) -> Value:
    return splat(like.type.element, like.type.count, n)


def _values(b: ir.IRBuilder, mask: MaskSpec, place: Value, count: int) -> Value:
    """Of so many keys."""
    element = ir.IntType(mask.width)
    if mask.strides[3] == 0:
        return broadcast(b, load(b, place, element), count)
    return load(b, place, vector(element, count))


def _with(b: ir.IRBuilder, spec: AttentionSpec, mask: MaskSpec, value: Value, acc: Value) -> Value:
    nothing = _number(acc, EXCLUDED)
    if mask.kind in (Mask.ALLOWED, Mask.EXCLUDED):
        relation = "==" if mask.kind is Mask.ALLOWED else "!="
        excluded = b.icmp_signed(relation, value, _number(value, mask.zero_point))
        return b.select(excluded, nothing, acc)
    if mask.kind is Mask.SCORES:
        least, added = -MASK_LIMIT, value
    else:
        least, added = spec.added_least, _added(b, spec, mask, value)
    excluded = b.or_(
        b.icmp_signed("==", acc, nothing), b.icmp_signed("<", value, _number(value, least))
    )
    return b.select(excluded, nothing, b.add(acc, added))


def _added(b: ir.IRBuilder, spec: AttentionSpec, mask: MaskSpec, value: Value) -> Value:
    """An activation in the steps of scores."""
    wide = b.sext(value, vector(I64, value.type.count))
    product = b.mul(
        b.sub(wide, _number(wide, mask.zero_point)), _number(wide, spec.added_multiplier)
    )
    rounded = b.add(product, _number(wide, 1 << spec.added_shift >> 1))
    shifted = b.ashr(rounded, _number(wide, spec.added_shift))
    bounded = smaller(b, larger(b, shifted, _number(wide, -MASK_LIMIT)), _number(wide, MASK_LIMIT))
    return b.trunc(bounded, vector(I32, value.type.count))
