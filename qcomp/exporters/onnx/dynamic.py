"""ONNX forms of scales that are found at run time, written out: DynamicQuantizeLinear has one scale
for a whole tensor, and a zero point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.exporters.onnx.writer import Writer
from qcomp.ir.ops import AbsMax, Op, ScaleDown, ScaleUp

_SMALLEST = 1e-30  # what is divided by instead of 0, so that 0 comes out


def abs_max(w: Writer, op: AbsMax) -> None:
    layout = w.common_layout(op.inputs)
    axes = w.integers(sorted(layout.axis(a) for a in op.axes))
    size = w.emit("Abs", [w.read(op.x, layout)])
    w.define(op.id, layout, w.emit("ReduceMax", [size, axes], keepdims=1))


def scale_down(w: Writer, op: ScaleDown) -> None:
    layout = w.common_layout(op.inputs)
    x, scale = (w.read(t, layout) for t in op.inputs)
    divisor = w.emit("Max", [scale, w.scalar(_SMALLEST)])
    w.define(op.id, layout, w.emit("Div", [x, divisor]))


def scale_up(w: Writer, op: ScaleUp) -> None:
    layout = w.common_layout(op.inputs)
    x, scale, bias = (w.read(t, layout) for t in op.inputs)
    y = w.emit("Add", [w.emit("Mul", [x, scale]), bias])
    w.define(op.id, layout, w.emit_clamp(y, op.clamp))


RULES: Mapping[type[Op], Callable[..., None]] = {
    AbsMax: abs_max,
    ScaleDown: scale_down,
    ScaleUp: scale_up,
}
