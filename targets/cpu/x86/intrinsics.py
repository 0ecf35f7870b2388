"""x86 instructions that generic IR does not name, for vectors of 128, 256 and 512 bits."""

from __future__ import annotations

from collections.abc import Sequence

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I16, I32, I64, Value, load, vector

_NAMES = {
    "packssdw": {128: "sse2.packssdw.128", 256: "avx2.packssdw", 512: "avx512.packssdw.512"},
    "packsswb": {128: "sse2.packsswb.128", 256: "avx2.packsswb", 512: "avx512.packsswb.512"},
    "packuswb": {128: "sse2.packuswb.128", 256: "avx2.packuswb", 512: "avx512.packuswb.512"},
    "pmulhrsw": {128: "ssse3.pmul.hr.sw.128", 256: "avx2.pmul.hr.sw", 512: "avx512.pmul.hr.sw.512"},
    "pshufb": {128: "ssse3.pshuf.b.128", 256: "avx2.pshuf.b", 512: "avx512.pshuf.b.512"},
    "vpermw": {512: "avx512.permvar.hi.512"},
    "psadbw": {512: "avx512.psad.bw.512"},
    "vpermi2b": {512: "avx512.vpermi2var.qi.512"},
    "pmaddwd": {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"},
    "vpdpbusd": {
        128: "avx512.vpdpbusd.128",  # with the feature avxvnni alone: its VEX encoding
        256: "avx512.vpdpbusd.256",
        512: "avx512.vpdpbusd.512",
    },
    "vpdpwssd": {
        128: "avx512.vpdpwssd.128",  # likewise
        256: "avx512.vpdpwssd.256",
        512: "avx512.vpdpwssd.512",
    },
}


def _call(b: ir.IRBuilder, name: str, result: ir.VectorType, *operands: Value) -> Value:
    """The intrinsic of `name` for the width of `result`, declared on first use."""
    bits = result.count * result.element.width
    full = f"llvm.x86.{_NAMES[name][bits]}"
    type = ir.FunctionType(result, [x.type for x in operands])
    return b.call(b.module.function(full, type), operands)


def packssdw(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """i32 to i16 with signed saturation: in each 128 bits, four of x, then four of y."""
    return _call(b, "packssdw", vector(I16, 2 * x.type.count), x, y)


def packsswb(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """i16 to i8 with signed saturation: in each 128 bits, eight of x, then eight of y."""
    return _call(b, "packsswb", vector(I8, 2 * x.type.count), x, y)


def packuswb(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """i16 to u8 with unsigned saturation: in each 128 bits, eight of x, then eight of y."""
    return _call(b, "packuswb", vector(I8, 2 * x.type.count), x, y)


def pmulhrsw(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """(x * y + 2^14) >> 15 in i16 lanes: qcomp.quant.fixed_point.mulhrs."""
    return _call(b, "pmulhrsw", x.type, x, y)


def pshufb(b: ir.IRBuilder, table: Value, indices: Value) -> Value:
    """In each 128 bits: table[index & 15], or 0 where the index has bit 7."""
    return _call(b, "pshufb", table.type, table, indices)


def vpermi2b(b: ir.IRBuilder, low: Value, high: Value, indices: Value) -> Value:
    """The 128 bytes of two tables at index & 127."""
    return _call(b, "vpermi2b", low.type, low, indices, high)


def vpermw(b: ir.IRBuilder, table: Value, indices: Value) -> Value:
    """The i16 of a table of 32 at index & 31."""
    return _call(b, "vpermw", table.type, table, indices)


def psadbw(b: ir.IRBuilder, x: Value) -> Value:
    """The sums of eight neighbouring u8, as i64."""
    zero = ir.zero(x.type)
    return _call(b, "psadbw", vector(I64, x.type.count // 8), x, zero)


def pmaddwd(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """Sums of two neighbouring products of i16, as i32."""
    return _call(b, "pmaddwd", vector(I32, x.type.count // 2), x, y)


def vpdpbusd(b: ir.IRBuilder, acc: Value, x: Value, w: Value) -> Value:
    """acc + the sum of four neighbouring products of u8 (x) and i8 (w), in i32 lanes."""
    return _call(b, "vpdpbusd", acc.type, acc, x, w)


def vpdpwssd(b: ir.IRBuilder, acc: Value, x: Value, w: Value) -> Value:
    """acc + the sum of two neighbouring products of i16, in i32 lanes."""
    return _call(b, "vpdpwssd", acc.type, acc, x, w)


def saturating_add(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """paddsw: i16 lanes, saturated."""
    return _saturating(b, "sadd", x, y)


def saturating_subtract(b: ir.IRBuilder, x: Value, y: Value) -> Value:
    """psubsb, psubsw: signed lanes, saturated."""
    return _saturating(b, "ssub", x, y)


def _saturating(b: ir.IRBuilder, operation: str, x: Value, y: Value) -> Value:
    name = f"llvm.{operation}.sat.v{x.type.count}i{x.type.element.width}"
    type = ir.FunctionType(x.type, [x.type, x.type])
    return b.call(b.module.function(name, type), (x, y))


def permute_dwords(b: ir.IRBuilder, x: Value, order: Sequence[int]) -> Value:
    """Lanes of i32 (256 or 512 bits) in another order.

    The order is loaded, so that LLVM does not see it: its search for better shuffles of packs does
    not end for some of them.
    """
    lanes = x.type.count
    name = "qcomp_order_" + "_".join(map(str, order))
    indices = b.module.constant(name, ir.vector_of(I32, order), 4 * lanes)
    full = {8: "llvm.x86.avx2.permd", 16: "llvm.x86.avx512.permvar.si.512"}[lanes]
    type = ir.FunctionType(x.type, [x.type, x.type])
    return b.call(b.module.function(full, type), (x, load(b, indices, x.type, 4 * lanes)))
