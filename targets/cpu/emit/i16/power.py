"""The logarithm of a sum of squares, element by element; of i8 and of i16."""

from __future__ import annotations

from qcomp.ir.evaluate.power import FRACTION
from qcomp.ir.ops import QLogPower
from qcomp.quant.qparams import integer_range
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, clamp, larger, splat, vector
from qcomp.targets.cpu.emit.i16.elementwise import centred
from qcomp.targets.cpu.emit.i16.softmax import logarithm


def log_power(b: ir.IRBuilder, op: QLogPower, a: Value, c: Value, table: Value) -> Value:
    """Squares and their sum in vectors of i64, a logarithm for each element."""
    lanes = a.type.count
    first, second = (centred(b, x, op.x_zero_point, I64) for x in (a, c))
    squares = b.add(b.mul(first, first), b.mul(second, second))
    scaled = b.lshr(b.shl(squares, splat(I64, lanes, FRACTION)), splat(I64, lanes, op.down))
    power = b.add(scaled, splat(I64, lanes, op.added))
    power = larger(b, power, splat(I64, lanes, op.least))
    logs = ir.undefined(vector(I64, lanes))
    for lane in range(lanes):
        where = ir.Constant(I32, lane)
        log = logarithm(b, b.extract_element(power, where), table)
        logs = b.insert_element(logs, log, where)
    rounded = b.add(logs, splat(I64, lanes, op.offset + (1 << 15)))
    q = b.add(b.ashr(rounded, splat(I64, lanes, 16)), splat(I64, lanes, op.zero_point))
    low, high = integer_range(op.bits)
    return b.trunc(clamp(b, q, low, high), vector(ir.IntType(op.bits), lanes))
