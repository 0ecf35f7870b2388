"""Lowering of elementwise ops: one loop nest each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from qcomp.ir.ops import (
    Op,
    PairTable,
    QAdd,
    QAddRescaled,
    QAddWide,
    QBinary,
    QDiv,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QPReluRescaled,
    Table,
)
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit import elementwise as emit
from qcomp.targets.cpu.emit.builder import I8, I32, Value
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.emit.table import by_unsigned_pairs, pair_body
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Prepared, broadcast_strides
from qcomp.targets.cpu.program import Address
from qcomp.targets.cpu.storage import Storage

BINARY: Mapping[type[QBinary], Callable[..., Value]] = {
    QAdd: emit.add,
    QAddRescaled: emit.add_rescaled,
    QAddWide: emit.add_wide,
    QMul: emit.mul,
    QDiv: emit.div,
    QMinimum: emit.minimum,
    QMaximum: emit.maximum,
}


def anonymous(op: Op) -> Op:
    """The op without the names of its tensors: what the generated code depends on."""
    return replace(op, inputs=(), output="")


def _pairs(lowering: Lowering, op: QBinary | PairTable) -> tuple[Nest, list[Address]]:
    """A loop over the results, and where operands and results begin."""
    a, c, y = (lowering.place(t) for t in (op.a, op.b, op.output))
    shape = y.layout.shape
    strides = (
        broadcast_strides(a.layout, shape),
        broadcast_strides(c.layout, shape),
        y.layout.strides,
    )
    return Nest(shape, strides, (1, 1, 1)), [a.start, c.start, y.start]


def lower_binary(lowering: Lowering, op: QBinary) -> None:
    nest, places = _pairs(lowering, op)
    isa = lowering.isa
    packed = isa.machine.elementwise(op)
    portable = BINARY[type(op)]
    lowering.nest(
        op.mnemonic,
        nest,
        places,
        [I8, I8, I8],
        packed or (lambda b, values, lanes: portable(b, op, *values)),
        anonymous(op),
        width=isa.vector_bits // 8 if packed else None,
        stored=packed is not None and isa.machine.storage is Storage.BIASED,
    )


def lower_prelu(lowering: Lowering, op: QPRelu) -> None:
    _prelu(lowering, "prelu", op, op.negative_multiplier, I32, emit.prelu)


def lower_prelu_rescaled(lowering: Lowering, op: QPReluRescaled) -> None:
    _prelu(lowering, "prelu_rescaled", op, op.slope, I8, emit.prelu_rescaled)


def _prelu(
    lowering: Lowering,
    name: str,
    op: QPRelu | QPReluRescaled,
    slopes: TensorId,
    type: ir.IntType,
    one: Callable[..., Value],
) -> None:
    """One value after the other, with slopes of a type, which broadcast to the result."""
    x, slope, y = (lowering.place(t) for t in (op.x, slopes, op.output))
    shape = y.layout.shape
    strides = (x.layout.strides, broadcast_strides(slope.layout, shape), y.layout.strides)
    lowering.nest(
        name,
        Nest(shape, strides, (1, type.width // 8, 1)),
        [x.start, slope.start, y.start],
        [I8, type, I8],
        lambda b, values, lanes: one(b, op, *values),
        anonymous(op),
    )


def lower_table(lowering: Lowering, op: Table) -> None:
    x, y = lowering.place(op.x), lowering.place(op.output)
    machine = lowering.isa.machine
    table = lowering.constant(machine.tables.data(lowering.graph.data(op.table)))
    lowering.nest(
        "table",
        Nest(y.layout.shape, (x.layout.strides, y.layout.strides), (1, 1)),
        [x.start, y.start],
        [I8, I8],
        Prepared((table,), lambda b, pointers: machine.tables.body(b, *pointers)),
        width=machine.vectors.bytes,
        stored=machine.tables.stored,
    )


def lower_pair_table(lowering: Lowering, op: PairTable) -> None:
    nest, places = _pairs(lowering, op)
    table = lowering.constant(by_unsigned_pairs(lowering.graph.data(op.table)))
    lowering.nest(
        "pair_table",
        nest,
        places,
        [I8, I8, I8],
        Prepared((table,), lambda b, pointers: pair_body(*pointers)),
    )


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAdd: lower_binary,
    QAddRescaled: lower_binary,
    QAddWide: lower_binary,
    QMul: lower_binary,
    QDiv: lower_binary,
    QMinimum: lower_binary,
    QMaximum: lower_binary,
    QPRelu: lower_prelu,
    QPReluRescaled: lower_prelu_rescaled,
    Table: lower_table,
    PairTable: lower_pair_table,
}
