"""ONNX forms of normalisation, written out: any axes, and deviations before their squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qcomp.exporters.onnx.writer import Writer
from qcomp.ir.ops import Normalize, Op

_SMALLEST = 1e-30  # what is divided by instead of a root of 0, so that 0 comes out


def normalize(w: Writer, op: Normalize) -> None:
    layout = w.common_layout(op.inputs)
    d, gamma, beta = (w.read(t, layout) for t in op.inputs)
    axes = w.integers(sorted(layout.axis(a) for a in op.axes))
    if op.centered:
        d = w.emit("Sub", [d, w.emit("ReduceMean", [d, axes], keepdims=1)])
    power = w.emit("ReduceMean", [w.emit("Mul", [d, d]), axes], keepdims=1)
    if op.epsilon:
        power = w.emit("Add", [power, w.scalar(op.epsilon)])
    least = max(op.least, 0.0 if op.epsilon else _SMALLEST)
    if least:
        power = w.emit("Max", [power, w.scalar(least)])
    z = w.emit("Div", [d, w.emit("Sqrt", [power])])
    y = w.emit("Add", [w.emit("Mul", [z, gamma]), beta])
    w.define(op.id, layout, w.emit_clamp(y, op.clamp))


RULES: Mapping[type[Op], Callable[..., None]] = {Normalize: normalize}
