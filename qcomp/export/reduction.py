"""ONNX forms of pooling, reductions, softmax and argmax."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from qcomp.export.writer import Layout, Writer
from qcomp.ir.evaluate.windows import padded, taps
from qcomp.ir.ops import (
    ArgMax,
    AveragePool2d,
    LogSoftmax,
    MaxPool2d,
    Reduce,
    Reduction,
    Softmax,
)
from qcomp.ir.ops.linear import Padding
from qcomp.ir.tensor import DType, TensorId

_REDUCE: Mapping[Reduction, str] = {
    Reduction.MEAN: "ReduceMean",
    Reduction.SUM: "ReduceSum",
    Reduction.MAX: "ReduceMax",
    Reduction.MIN: "ReduceMin",
}


def max_pool2d(w: Writer, op: MaxPool2d) -> None:
    x, pads = w.read(op.x, Layout.FIRST), op.padding
    if not _accepted(op):
        dtype = w.graph.type(op.x).dtype
        x, pads = _padded(w, x, pads, dtype, -math.inf if dtype is DType.F32 else -128), (0,) * 4
    y = w.emit(
        "MaxPool",
        [x],
        kernel_shape=op.kernel,
        strides=op.stride,
        pads=pads,
        dilations=op.dilation,
    )
    w.define(op.id, Layout.FIRST, y)


def average_pool2d(w: Writer, op: AveragePool2d) -> None:
    """AveragePool, or the sum of explicitly padded windows times one over their counts."""
    x = w.read(op.x, Layout.FIRST)
    if _accepted(op) and op.dilation == (1, 1):
        y = _average(w, op, x, op.padding, count_include_pad=int(op.count_include_pad))
        w.define(op.id, Layout.FIRST, y)
        return
    means = _average(
        w, op, _padded(w, x, op.padding, DType.F32, 0.0), (0,) * 4, count_include_pad=0
    )
    if not op.count_include_pad:
        means = w.emit("Mul", [means, w.literal(_corrections(w, op))])
    w.define(op.id, Layout.FIRST, means)


def _average(w: Writer, op: AveragePool2d, x: str, pads: Padding, *, count_include_pad: int) -> str:
    return w.emit(
        "AveragePool",
        [x],
        kernel_shape=op.kernel,
        strides=op.stride,
        pads=pads,
        dilations=op.dilation,
        count_include_pad=count_include_pad,
    )


def _corrections(w: Writer, op: AveragePool2d) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Positions of a window over those of them that are in the image, [1, 1, OH, OW]."""
    _, height, width, _ = w.graph.type(op.x).shape
    image = padded(np.ones((1, height, width, 1)), op.padding, 0.0)
    count = sum(view for _, _, view in taps(image, op.kernel, op.stride, op.dilation))
    return (math.prod(op.kernel) / np.maximum(count, 1.0)).transpose(0, 3, 1, 2).astype(np.float32)


def _accepted(op: MaxPool2d | AveragePool2d) -> bool:
    """ONNX Runtime refuses padding that is not smaller than the kernel."""
    top, left, bottom, right = op.padding
    return max(top, bottom) < op.kernel[0] and max(left, right) < op.kernel[1]


def _padded(w: Writer, x: str, padding: Padding, dtype: DType, value: float) -> str:
    top, left, bottom, right = padding
    pads = w.integers([0, 0, top, left, 0, 0, bottom, right])
    return w.emit("Pad", [x, pads, w.literal(np.array(value, dtype.numpy))])


def reduce(w: Writer, op: Reduce) -> None:
    layout = _reduction_layout(w, op.x, op.axes, keepdims=op.keepdims)
    if not op.axes:
        w.define(op.id, layout, w.emit("Identity", [w.read(op.x, layout)]))
        return
    axes = w.integers(sorted(layout.axis(a) for a in op.axes))
    y = w.emit(_REDUCE[op.kind], [w.read(op.x, layout), axes], keepdims=int(op.keepdims))
    w.define(op.id, layout if op.keepdims else Layout.OURS, y)


def _reduction_layout(w: Writer, x: TensorId, axes: tuple[int, ...], *, keepdims: bool) -> Layout:
    """The layout at hand, unless dropping the axes would leave channels before pixels."""
    layout = w.common_layout([x])
    in_order = keepdims or 3 in axes or {1, 2} <= set(axes)
    return layout if in_order else Layout.OURS


def softmax(w: Writer, op: Softmax) -> None:
    layout = w.common_layout(op.inputs)
    kind = "LogSoftmax" if isinstance(op, LogSoftmax) else "Softmax"
    w.define(op.id, layout, w.emit(kind, [w.read(op.x, layout)], axis=layout.axis(op.axis)))


def argmax(w: Writer, op: ArgMax) -> None:
    layout = _reduction_layout(w, op.x, (op.axis,), keepdims=op.keepdims)
    index = w.emit(
        "ArgMax",
        [w.read(op.x, layout)],
        axis=layout.axis(op.axis),
        keepdims=int(op.keepdims),
        select_last_index=int(op.last),
    )
    y = w.emit("Cast", [index], to=onnx.TensorProto.INT32)
    w.define(op.id, layout if op.keepdims else Layout.OURS, y)
