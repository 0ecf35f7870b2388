"""Lowering of comparisons and choices of either width: one loop nest each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.ir.ops import Op, QCompare, QSelect
from qcomp.targets.cpu.emit import choice as emit
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, broadcast_strides, element_types
from qcomp.targets.cpu.lower.elementwise import anonymous
from qcomp.targets.cpu.lower.i16.types import bytes_of


def _lowered(meaning: Callable[..., Value]) -> LowerOp:
    """A nest on all operands, which broadcast."""

    def lower(lowering: Lowering, op: Op) -> None:
        y = lowering.place(op.output)
        operands = [lowering.place(t) for t in op.inputs]
        types = element_types(lowering.graph, *op.inputs, op.output)
        shape = y.layout.shape
        strides = (*(broadcast_strides(x.layout, shape) for x in operands), y.layout.strides)
        lowering.nest(
            op.mnemonic,
            Nest(shape, strides, tuple(map(bytes_of, types))),
            [p.start for p in (*operands, y)],
            types,
            lambda b, values, lanes: meaning(b, op, *values),
            anonymous(op),
        )

    return lower


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QCompare: _lowered(emit.compare),
    QSelect: _lowered(emit.select),
}
