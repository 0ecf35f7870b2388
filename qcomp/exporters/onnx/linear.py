"""ONNX forms of the ops with weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.exporters.onnx.writer import Layout, Writer
from qcomp.ir.ops import BatchNorm, Conv2d, Dense, MatMul, Op

_OHWI_TO_OIHW = (0, 3, 1, 2)


def conv2d(w: Writer, op: Conv2d) -> None:
    _, kh, kw, _ = w.graph.type(op.weight).shape
    y = w.emit(
        "Conv",
        [
            w.read(op.x, Layout.FIRST),
            w.parameter(op.weight, _OHWI_TO_OIHW),
            w.parameter(op.bias),
        ],
        kernel_shape=(kh, kw),
        strides=op.stride,
        pads=op.padding,
        dilations=op.dilation,
        group=op.groups,
    )
    w.define(op.id, Layout.FIRST, w.emit_clamp(y, op.clamp))


def dense(w: Writer, op: Dense) -> None:
    """Gemm where it applies, which is rank 2."""
    x, bias = w.read(op.x, Layout.OURS), w.parameter(op.bias)
    if w.graph.type(op.x).rank == 2:
        y = w.emit("Gemm", [x, w.parameter(op.weight), bias], transB=1)
    else:
        y = w.emit("Add", [w.emit("MatMul", [x, w.parameter(op.weight, (1, 0))]), bias])
    w.define(op.id, Layout.OURS, w.emit_clamp(y, op.clamp))


def matmul(w: Writer, op: MatMul) -> None:
    operands = [w.read(t, Layout.OURS) for t in op.inputs]
    w.define(op.id, Layout.OURS, w.emit("MatMul", operands))


def batch_norm(w: Writer, op: BatchNorm) -> None:
    """BatchNormalization for NCHW; multiply and add for other ranks."""
    parameters = (op.gamma, op.beta, op.mean, op.var)
    if w.graph.type(op.x).rank == 4:
        operands = [w.read(op.x, Layout.FIRST), *(w.parameter(t) for t in parameters)]
        y = w.emit("BatchNormalization", operands, epsilon=op.eps)
        w.define(op.id, Layout.FIRST, y)
        return
    gamma, beta, mean, var = (w.graph.data(t).astype(np.float64) for t in parameters)
    k = gamma / np.sqrt(var + op.eps)
    shift = beta - k * mean
    scaled = w.emit("Mul", [w.read(op.x, Layout.OURS), w.literal(k.astype(np.float32))])
    w.define(op.id, Layout.OURS, w.emit("Add", [scaled, w.literal(shift.astype(np.float32))]))


RULES: Mapping[type[Op], Callable[..., None]] = {
    Conv2d: conv2d,
    Dense: dense,
    MatMul: matmul,
    BatchNorm: batch_norm,
}
