"""Lowering of the look-up of rows, of either width."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.ir.ops import Op, QEmbedding
from qcomp.ir.tensor import TensorId
from qcomp.targets.cpu.emit.embedding import Rows
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Place
from qcomp.targets.cpu.lower.movement import copy_tensor
from qcomp.targets.cpu.memory import dense_layout


def lower_embedding(lowering: Lowering, op: QEmbedding) -> None:
    """The kernel wants no gaps; what has some is copied."""
    x, y = without_gaps(lowering, op.x), without_gaps(lowering, op.output)
    place, result = lowering.place(op.x), lowering.place(op.output)
    if x.start != place.start:
        copy_tensor(lowering, place, x)
    table = lowering.graph.data(op.table)
    spec = Rows(
        x.layout.element,
        y.layout.element,
        op.first,
        len(table),
        math.prod(table.shape[1:]),
        4 * lowering.isa.lanes // y.layout.element,
        op.wraps,
    )
    arguments = (x.start, lowering.constant(table), y.start)
    lowering.ranged("embedding", spec, arguments, spec.emit, math.prod(x.layout.shape))
    if y.start != result.start:
        copy_tensor(lowering, y, result)


def without_gaps(lowering: Lowering, id: TensorId) -> Place:
    """The place of a tensor, or one without gaps beside it."""
    place = lowering.place(id)
    if place.layout.is_contiguous:
        return place
    layout = dense_layout(place.layout.shape, place.layout.element)
    return Place(lowering.temporary(layout.bytes, unsigned=place.base.unsigned), layout)


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QEmbedding: lower_embedding,
}
