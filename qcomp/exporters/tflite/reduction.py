"""TFLite forms of pooling, reductions, softmax and argmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qcomp.exporters.tflite.integers import Integers, in_bits
from qcomp.exporters.tflite.linear import SAME, VALID, padded, padding_of
from qcomp.exporters.tflite.moves import transposed
from qcomp.exporters.tflite.writer import Writer
from qcomp.formats.tflite import ELEMENT_TYPES
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
from qcomp.quant.qparams import SOFTMAX, SOFTMAX_16, QParams, integer_range

_LOG_SOFTMAX = QParams(16 / 256, 127)
_EXTREMES: Mapping[Reduction, str] = {Reduction.MAX: "REDUCE_MAX", Reduction.MIN: "REDUCE_MIN"}
_ONE = 127  # as many steps is 1 in the filters of a mean


def max_pool2d(w: Writer, op: MaxPool2d) -> None:
    """Padding that TensorFlow has no name for is the lowest integer, which never wins."""
    w.require(op, op.dilation == (1, 1), f"dilation {op.dilation}", "(1, 1)")
    q = w.qparams(op.x)
    padding = padding_of(w, op, op.kernel)
    x = w.operand(op.x, q.bits)
    if padding is None:
        n, h, wide, c = w.shape(op.x)
        top, left, bottom, right = op.padding
        sides = w.numbers([[0, 0], [top, bottom], [left, right], [0, 0]])
        low, _ = integer_range(q.bits)
        lowest = w.literal(np.array(q.scale * (low - q.zero_point), np.float32), q)
        grown = (n, h + top + bottom, wide + left + right, c)
        x, padding = w.through("PADV2", x, grown, q, sides, lowest), VALID
    y = w.through("MAX_POOL_2D", x, w.shape(op.output), q, **_pooling(op, padding))
    w.settle(op, y, q)


def _pooling(op: MaxPool2d | AveragePool2d, padding: int) -> dict[str, Any]:
    return {
        "table": "Pool2DOptions",
        "padding": padding,
        "stride_h": op.stride[0],
        "stride_w": op.stride[1],
        "filter_height": op.kernel[0],
        "filter_width": op.kernel[1],
    }


def average_pool2d(w: Writer, op: AveragePool2d) -> None:
    """AVERAGE_POOL_2D keeps the scale of its operand. Where the result has another and all windows
    have the same count, a depthwise convolution rounds once.
    """
    q, wanted = w.qparams(op.x), w.result_qparams(op)
    same = (q.scale, q.zero_point, q.bits) == (wanted.scale, wanted.zero_point, wanted.bits)
    counts_all = op.count_include_pad or not any(op.padding)
    padding = padding_of(w, op, op.kernel)
    plain = (
        op.dilation == (1, 1)
        and padding is not None
        and not (op.count_include_pad and padding == SAME)
    )
    if plain and (same or not counts_all):
        assert padding is not None
        x = w.operand(op.x, q.bits)
        y = w.through("AVERAGE_POOL_2D", x, w.shape(op.output), q, **_pooling(op, padding))
        w.settle(op, y, q)
        return
    w.require(
        op,
        counts_all,
        f"padding {op.padding} that does not count",
        "the paddings SAME and VALID, or padding that counts",
    )
    _mean_of_windows(w, op)


def _mean_of_windows(w: Writer, op: AveragePool2d) -> None:
    bits, channels = w.bits(op), w.shape(op.x)[3]
    x = w.operand(op.x, bits)
    if any(op.padding):
        x = padded(w, op.x, x, op.padding, bits)
    count = math.prod(op.kernel)
    ones = np.full((1, *op.kernel, channels), _ONE, np.int8)
    scale = np.array([1.0 / (_ONE * count)])
    dtype = np.int32 if bits == 8 else np.int64
    zeros = Integers(np.zeros(channels, dtype), scale * w.qparams(op.x).scale)
    operands = [
        x,
        w.integers(f"{op.output}.ones", Integers(ones, scale)),
        w.integers(f"{op.output}.zeros", zeros),
    ]
    w.finish(
        op,
        "DEPTHWISE_CONV_2D",
        operands,
        bits=bits,
        table="DepthwiseConv2DOptions",
        padding=VALID,
        stride_h=op.stride[0],
        stride_w=op.stride[1],
        dilation_h_factor=op.dilation[0],
        dilation_w_factor=op.dilation[1],
        depth_multiplier=1,
    )


def reduce(w: Writer, op: Reduce) -> None:
    """A sum is a mean in steps that are as many times finer, which are then what they stand for."""
    bits = w.bits(op)
    x, shape = w.operand(op.x, bits), w.shape(op.output)
    operands = [x, w.numbers(op.axes)]
    options: dict[str, Any] = {"table": "ReducerOptions", "keep_dims": op.keepdims}
    if op.kind in _EXTREMES:
        q = in_bits(w.qparams(op.x), bits)
        y = w.through(_EXTREMES[op.kind], x, shape, q, operands[1], **options)
        w.settle(op, y, q)
    elif op.kind is Reduction.MEAN:
        w.finish(op, "MEAN", operands, bits=bits, **options)
    else:
        count = math.prod(w.shape(op.x)[axis] for axis in op.axes)
        made, low, high = w.plan(op, bits)
        finer = QParams(
            float(np.float32(made.scale / count)), made.zero_point, made.qmin, made.qmax
        )
        mean = w.through("MEAN", x, shape, finer, operands[1], **options)
        step = QParams(float(np.float32(count / _ONE)))
        times = w.literal(np.array(count, np.float32), step if bits == 8 else in_bits(step, 16))
        y = w.through("MUL", mean, shape, made, times, table="MulOptions")
        w.settle(op, y, made, low, high)


def softmax(w: Writer, op: Softmax) -> None:
    """Along the last axis; others are moved there and back."""
    bits, rank, shape = w.bits(op), len(w.shape(op.x)), w.shape(op.x)
    is_log = isinstance(op, LogSoftmax)
    w.require(op, bits == 8 or not is_log, "log_softmax of 16 bits", "8 bits")
    gives = _LOG_SOFTMAX if is_log else SOFTMAX if bits == 8 else SOFTMAX_16
    kind, table = ("LOG_SOFTMAX", None) if is_log else ("SOFTMAX", "SoftmaxOptions")
    options: dict[str, Any] = {} if table is None else {"table": table, "beta": 1.0}
    x = w.operand(op.x, bits)
    if op.axis == rank - 1:
        w.finish(op, kind, [x], bits=bits, gives=gives, **options)
        return
    order = [*(a for a in range(rank) if a != op.axis), op.axis]
    moved = [shape[a] for a in order]
    x = transposed(w, x, shape, order, in_bits(w.qparams(op.x), bits))
    y = w.through(kind, x, moved, gives, **options)
    back = [order.index(a) for a in range(rank)]
    w.settle(op, transposed(w, y, moved, back, gives), gives)


def argmax(w: Writer, op: ArgMax) -> None:
    """An i32 without the axis; the axis comes back by a RESHAPE."""
    w.require(op, not op.last, "the last of equal values", "the first")
    q, shape = w.qparams(op.x), w.shape(op.x)
    flat = [e for i, e in enumerate(shape) if i != op.axis]
    y = w.tensor(op.output, flat, np.int32, None)
    kind = ELEMENT_TYPES.index("INT32")
    operands = [w.operand(op.x, q.bits), w.numbers(np.array(op.axis))]
    w.emit("ARG_MAX", operands, [y], bits=q.bits, table="ArgMaxOptions", output_type=kind)
    if op.keepdims:
        kept = w.tensor(f"{op.output}.kept", w.shape(op.output), np.int32, None)
        numbers = w.numbers(w.shape(op.output))
        w.emit("RESHAPE", [y, numbers], [kept])
        y = kept
    w.define(op.output, y)


RULES: Mapping[type[Op], Callable[..., None]] = {
    MaxPool2d: max_pool2d,
    AveragePool2d: average_pool2d,
    Reduce: reduce,
    Softmax: softmax,
    LogSoftmax: softmax,
    ArgMax: argmax,
}
