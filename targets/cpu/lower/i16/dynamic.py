"""Lowering of scales that are found at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qcomp.ir.ops import Op, QAbsMax, QScaleDown, QScaleUp
from qcomp.targets.cpu.emit.builder import I8, I16, I32
from qcomp.targets.cpu.emit.i16 import dynamic as emit
from qcomp.targets.cpu.emit.nest import Nest
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, broadcast_strides, element_types
from qcomp.targets.cpu.lower.reduction import lower_reduction
from qcomp.targets.cpu.memory import dense_layout


def lower_abs_max(lowering: Lowering, op: QAbsMax) -> None:
    lower_reduction(lowering, op, op.axes, True, emit.largest_magnitude(), ())


def lower_scale_down(lowering: Lowering, op: QScaleDown) -> None:
    """Powers and reciprocals of all scales first, so that the values see products only."""
    x, scale, y = (lowering.place(t) for t in (op.x, op.scale, op.output))
    layout = dense_layout(scale.layout.shape, I16.width // 8)
    found = []
    for name, body in (("scale_powers", emit.powers), ("scale_reciprocals", emit.reciprocals)):
        of_scales = Nest(layout.shape, (scale.layout.strides, layout.strides), (2, 2))
        place = lowering.temporary(layout.bytes)
        lowering.nest(name, of_scales, [scale.start, place], [I16, I16], body)
        found.append(place)
    shape = x.layout.shape
    each = broadcast_strides(layout, shape)
    lowering.nest(
        op.mnemonic,
        Nest(shape, (x.layout.strides, each, each, y.layout.strides), (2, 2, 2, 1)),
        [x.start, *found, y.start],
        [I16, I16, I16, I8],
        emit.scale_down,
    )


def lower_scale_up(lowering: Lowering, op: QScaleUp) -> None:
    x, scale, bias, y = (lowering.place(t) for t in (*op.inputs, op.output))
    shape = x.layout.shape
    strides = (
        x.layout.strides,
        broadcast_strides(scale.layout, shape),
        broadcast_strides(bias.layout, shape),
        y.layout.strides,
    )
    (result,) = element_types(lowering.graph, op.output)
    lowering.nest(
        op.mnemonic,
        Nest(shape, strides, (2, 2, 4, result.width // 8)),
        [x.start, scale.start, bias.start, y.start],
        [I16, I16, I32, result],
        lambda b, values, lanes: emit.scale_up(b, op, values, lanes),
        replace(op, inputs=(), output=""),
    )


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QAbsMax: lower_abs_max,
    QScaleDown: lower_scale_down,
    QScaleUp: lower_scale_up,
}
