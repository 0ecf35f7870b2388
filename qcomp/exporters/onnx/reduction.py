"""ONNX forms of pooling, reductions, softmax and argmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx

from qcomp.exporters.onnx.writer import Layout, Writer
from qcomp.ir.evaluate.windows import padded, taps
from qcomp.ir.ops import (
    ArgMax,
    AveragePool2d,
    LogSoftmax,
    MaxPool2d,
    Op,
    Reduce,
    Reduction,
    Softmax,
)
from qcomp.ir.ops.linear import Padding
from qcomp.ir.tensor import DType, TensorId

NO_PADDING = (0, 0, 0, 0)

_REDUCE: Mapping[Reduction, str] = {
    Reduction.MEAN: "ReduceMean",
    Reduction.SUM: "ReduceSum",
    Reduction.MAX: "ReduceMax",
    Reduction.MIN: "ReduceMin",
}


def max_pool2d(w: Writer, op: MaxPool2d) -> None:
    if _accepted(op):
        x, pads = w.read(op.x, Layout.FIRST), op.padding
    else:
        dtype = w.graph.type(op.x).dtype
        least = -math.inf if dtype is DType.F32 else float(np.iinfo(dtype.numpy).min)
        x, pads = _padded(w, op, least), NO_PADDING
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
    if _accepted(op) and op.dilation == (1, 1):
        x = w.read(op.x, Layout.FIRST)
        y = _average(w, op, x, op.padding, count_include_pad=int(op.count_include_pad))
    else:
        y = _average(w, op, _padded(w, op, 0.0), NO_PADDING, count_include_pad=0)
        if not op.count_include_pad:
            y = w.emit("Mul", [y, w.literal(_corrections(w, op))])
    w.define(op.id, Layout.FIRST, y)


def _average(w: Writer, op: AveragePool2d, x: str, pads: Padding, *, count_include_pad: int) -> str:
    """ONNX Runtime fails to make an integer operator of one that says that it has no dilation."""
    dilation = {} if op.dilation == (1, 1) else {"dilations": op.dilation}
    return w.emit(
        "AveragePool",
        [x],
        kernel_shape=op.kernel,
        strides=op.stride,
        pads=pads,
        count_include_pad=count_include_pad,
        **dilation,
    )


def _corrections(w: Writer, op: AveragePool2d) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Pixels of a window divided by its pixels inside of the image, [1, 1, OH, OW]."""
    _, height, width, _ = w.graph.type(op.x).shape
    image = padded(np.ones((1, height, width, 1)), op.padding, 0.0)
    count = sum(view for _, _, view in taps(image, op.kernel, op.stride, op.dilation))
    return (math.prod(op.kernel) / np.maximum(count, 1.0)).transpose(0, 3, 1, 2).astype(np.float32)


def _accepted(op: MaxPool2d | AveragePool2d) -> bool:
    """ONNX Runtime refuses padding that is not smaller than the kernel."""
    top, left, bottom, right = op.padding
    return max(top, bottom) < op.kernel[0] and max(left, right) < op.kernel[1]


def _padded(w: Writer, op: MaxPool2d | AveragePool2d, value: float) -> str:
    """The operand in NCHW with its border, joined from parts.

    ONNX Runtime would fuse a Pad into the pooling, and then refuse the pooling.
    """
    type = w.graph.type(op.x)
    top, left, bottom, right = op.padding
    shape = Layout.FIRST.arranged(type.shape)
    y = w.read(op.x, Layout.FIRST)
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        borders = [
            w.literal(np.full([*shape[:axis], n, *shape[axis + 1 :]], value, type.dtype.numpy))
            for n in (before, after)
        ]
        y = w.emit("Concat", [borders[0], y, borders[1]], axis=axis)
        shape[axis] += before + after
    return y


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


RULES: Mapping[type[Op], Callable[..., None]] = {
    MaxPool2d: max_pool2d,
    AveragePool2d: average_pool2d,
    Reduce: reduce,
    Softmax: softmax,
    LogSoftmax: softmax,
    ArgMax: argmax,
}
