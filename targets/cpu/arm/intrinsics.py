"""NEON instructions that generic IR does not name, for vectors of 128 bits."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I16, I32, I64, Value, shuffle, vector


def sdot(b: ir.IRBuilder, acc: Value, x: Value, y: Value) -> Value:
    """acc + the sum of four neighbouring products of i8, in i32 lanes; needs dotprod."""
    return _call(b, "sdot.v4i32.v16i8", acc.type, acc, x, y)


def smmla(b: ir.IRBuilder, acc: Value, x: Value, y: Value) -> Value:
    """acc + products of two rows of x by two rows of y, eight i8 each, [x][y]; needs i8mm."""
    return _call(b, "smmla.v4i32.v16i8", acc.type, acc, x, y)


def smull(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Products of eight i8 in i16; LLVM makes one that is added to another smlal."""
    return _call(b, "smull.v8i16", vector(I16, 8), x, y)


def smull_words(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Products of four i16 in i32; smlal as above."""
    return _call(b, "smull.v4i32", vector(I32, 4), x, y)


def smull_pairs(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Products of two i32 in i64; smlal as above."""
    return _call(b, "smull.v2i64", vector(I64, 2), x, y)


def umull_pairs(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Products of two u32 in u64."""
    return _call(b, "umull.v2i64", vector(I64, 2), x, y)


def saddlp_words(b: ir.IRBuilder, x: Value) -> Value:
    """Sums of neighbouring i32 in i64."""
    return _function(b, "llvm.aarch64.neon.saddlp.v2i64.v4i32", vector(I64, 2), x)


def saddlp(b: ir.IRBuilder, x: Value) -> Value:
    """Sums of neighbouring i16 in i32; LLVM makes sadalp of one that is added."""
    return _function(b, "llvm.aarch64.neon.saddlp.v4i32.v8i16", vector(I32, 4), x)


def uaddlp(b: ir.IRBuilder, x: Value) -> Value:
    """Sums of neighbouring u8 in u16, or of u16 in u32."""
    result = vector(ir.IntType(2 * x.type.element.width), x.type.count // 2)
    name = f"llvm.aarch64.neon.uaddlp.v{result.count}i{result.element.width}.{_lanes(x)}"
    return _function(b, name, result, x)


def addp(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Sums of neighbouring i32 or i64 of x, then of y."""
    return _call(b, f"addp.{_lanes(x)}", x.type, x, y)


def sqrdmulh(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """(2 * x * y + 2^(n-1)) >> n in lanes of n bits, i16 or i32: of 16, qcomp.quant's mulhrs.

    Saturates where both are -2^(n-1).
    """
    return _call(b, f"sqrdmulh.{_lanes(x)}", x.type, x, y)


def sqdmulh(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """(2 * x * y) >> 32 in i32 lanes; saturates where both are -2^31."""
    return _call(b, "sqdmulh.v4i32", x.type, x, y)


def sshl(b: ir.IRBuilder, x: Value, left: Value) -> Value:
    """i32 lanes shifted to the left, or, by a negative number, to the right."""
    return _call(b, "sshl.v4i32", x.type, x, left)


def srshl(b: ir.IRBuilder, x: Value, left: Value) -> Value:
    """As sshl, rounded half up, as if lanes had no end; i32 or i64."""
    return _call(b, f"srshl.{_lanes(x)}", x.type, x, left)


def sqxtn_pairs(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Two i64 each to four i32, with signed saturation."""
    return _joined(b, *(_call(b, "sqxtn.v2i32", vector(I32, 2), v) for v in (x, y)))


def sqrshrn_words(b: ir.IRBuilder, x: Value, y: Value, right: int) -> Value:
    """Four i32 each, shifted right with rounding half up, to eight i16, with signed saturation."""
    type = ir.FunctionType(vector(I16, 4), [x.type, I32])
    function = b.module.function("llvm.aarch64.neon.sqrshrn.v4i16", type)
    return _joined(b, *(b.call(function, [v, ir.Constant(I32, right)]) for v in (x, y)))


def sqxtn_words(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Four i32 each to eight i16, with signed saturation."""
    return _joined(b, *(_call(b, "sqxtn.v4i16", vector(I16, 4), v) for v in (x, y)))


def sqxtn_bytes(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Eight i16 each to sixteen i8, with signed saturation."""
    return _joined(b, *(_call(b, "sqxtn.v8i8", vector(I8, 8), v) for v in (x, y)))


def uqxtn_bytes(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Eight u16 each to sixteen u8, with saturation."""
    return _joined(b, *(_call(b, "uqxtn.v8i8", vector(I8, 8), v) for v in (x, y)))


def sqxtun_bytes(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Eight i16 each to sixteen u8, with saturation."""
    return _joined(b, *(_call(b, "sqxtun.v8i8", vector(I8, 8), v) for v in (x, y)))


def saturating_add(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """sqadd in i16 or i32 lanes."""
    return _function(b, f"llvm.sadd.sat.{_lanes(x)}", x.type, x, y)


def tbl(b: ir.IRBuilder, four: Sequence[Value], x: Value) -> Value:
    """Sixteen bytes of 64 in four registers; 0 for an index from 64 on."""
    return _call(b, "tbl4.v16i8", x.type, *four, x)


def tbl_pair(b: ir.IRBuilder, two: Sequence[Value], x: Value) -> Value:
    """Sixteen bytes of 32 in two registers; 0 for an index from 32 on."""
    return _call(b, "tbl2.v16i8", x.type, *two, x)


def _lanes(x: Value) -> str:
    """As names of intrinsics have them: v4i32."""
    return f"v{x.type.count}i{x.type.element.width}"


def _joined(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """LLVM makes the second of two narrowings sqxtn2."""
    return shuffle(b, x, y, range(2 * x.type.count))


def _call(b: ir.IRBuilder, name: str, result: ir.VectorType, *operands: Value) -> Value:
    return _function(b, f"llvm.aarch64.neon.{name}", result, *operands)


def _function(b: ir.IRBuilder, name: str, result: ir.VectorType, *operands: Value) -> Value:
    """The intrinsic of this name, declared on first use."""
    type = ir.FunctionType(result, [x.type for x in operands])
    return b.call(b.module.function(name, type), operands)
