"""Integers as wide as a pointer, which loops count with and addresses are computed in.

Their width is the platform's, and the module knows its platform: emitters ask the builder, and
write i64 only where arithmetic needs 64 bits.
"""

from __future__ import annotations

from qcomp.targets.cpu import llvm_ir as ir


def word_type(b: ir.IRBuilder) -> ir.IntType:
    """The integer type of addresses, offsets and counts."""
    return b.module.word


def in_bits(b: ir.IRBuilder, index: ir.Value, type: ir.IntType) -> ir.Value:
    """A count as an integer of another type, which holds it."""
    convert = b.sext if type.width > index.type.width else b.trunc
    return convert(index, type)


def word(b: ir.IRBuilder, n: int) -> ir.Constant:
    """A constant offset or count."""
    return ir.Constant(word_type(b), n)
