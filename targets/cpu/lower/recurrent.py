"""Lowering of recurrent layers: one call each, whatever the steps."""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.ir.ops import Op, QGru, QLstm, QRecurrent, QRnn
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu.emit.recurrent.run import RecurrentKernel
from qcomp.targets.cpu.emit.recurrent.spec import recurrent_spec
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Place
from qcomp.targets.cpu.lower.elementwise import anonymous
from qcomp.targets.cpu.lower.embedding import without_gaps
from qcomp.targets.cpu.lower.movement import copy_tensor
from qcomp.targets.cpu.program import Address


def lower_recurrent(lowering: Lowering, op: QRecurrent) -> None:
    """The kernel wants no gaps; what has some is copied."""
    graph, isa = lowering.graph, lowering.isa
    weight, bias, multiplier, shift, curves = (graph.data(t) for t in op.inputs[1:6])
    lengths = [] if op.lengths is None else [_source(lowering, op.lengths)]
    initial = _source(lowering, op.initial_h)
    cell = _source(lowering, op.initial_c) if isinstance(op, QLstm) else initial
    tables = []
    if isinstance(op, QLstm):
        tables = [graph.data(t) for t in (op.peephole_multiplier, op.peephole_shift)]
    bytes_ = [p.layout.element for p in (initial, cell, *lengths)]
    anonymous_op = anonymous(op)
    assert isinstance(anonymous_op, QRecurrent)
    spec = recurrent_spec(
        anonymous_op,
        isa,
        graph.type(op.x).shape,
        (bytes_[0], bytes_[1], bytes_[2] if lengths else 0),
        peepholes=bool(tables) and bool(tables[0].any()),
    )
    constants = (
        spec.packed(weight),
        spec.by_block(spec.folded(bias, weight)),
        spec.by_block(multiplier),
        spec.by_block(shift),
        curves,
    )
    place = lowering.place(op.output)
    y = without_gaps(lowering, op.output)
    arguments: list[Address] = [
        _source(lowering, op.x).start,
        *map(lowering.constant, constants),
        initial.start,
        y.start,
        lowering.temporary(spec.batch * spec.scratch),
    ]
    if isinstance(op, QLstm):
        arguments += [cell.start, *map(lowering.constant, tables)]
    arguments += [p.start for p in lengths]
    kernel = RecurrentKernel(spec, isa, isa.machine.curves.neighbours)
    lowering.ranged("recurrent", spec, arguments, kernel.emit, spec.batch)
    if y.start != place.start:
        copy_tensor(lowering, y, place)


def _source(lowering: Lowering, id: TensorId) -> Place:
    """An operand without gaps."""
    place, found = lowering.place(id), without_gaps(lowering, id)
    if found.start != place.start:
        copy_tensor(lowering, place, found)
    return found


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QRnn: lower_recurrent,
    QGru: lower_recurrent,
    QLstm: lower_recurrent,
}
