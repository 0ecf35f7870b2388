"""Pooling, reductions and the softmaxes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.passes.lib.integer_rules.movement import movement
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import (
    BoundSums,
    Epilogue,
    Sums,
    exact,
    largest_centered,
    scalar_epilogue,
    sum_bits,
)
from qcomp.quant import binary_constants, tables
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import QParams, softmax_qparams
from qcomp.quant.weights import REACH


def average_pool2d(site: Site, op: ops.AveragePool2d) -> ops.Op:
    _, x = site.operand(op.x)
    count = op.kernel[0] * op.kernel[1]
    multipliers, shift = binary_constants.average_multipliers(
        x.scale, site.qparams.scale, count, count * REACH[x.bits]
    )
    constant = site.constant(f"{op.id}.multiplier", multipliers)
    return averaged(site, op, constant, x.zero_point, site.requantize(Form.WIDE), shift)


def averaged(
    site: Site,
    op: ops.AveragePool2d,
    multipliers: TensorId,
    x_zero_point: int,
    requantize: Requantize,
    shift: int = 0,
) -> ops.QAveragePool2d:
    """The window of a float op, with these constants of any arithmetic."""
    x_id, _ = site.operand(op.x)
    return ops.QAveragePool2d(
        inputs=(x_id, multipliers),
        output=site.output,
        x_zero_point=x_zero_point,
        shift=shift,
        requantize=requantize,
        kernel=op.kernel,
        stride=op.stride,
        padding=op.padding,
        dilation=op.dilation,
        count_include_pad=op.count_include_pad,
    )


def reduce(site: Site, op: ops.Reduce) -> ops.Op:
    x_id, x = site.operand(op.x)
    if op.kind in (ops.Reduction.MAX, ops.Reduction.MIN):
        return ops.QReduceExtreme(
            inputs=(x_id,), output=site.output, kind=op.kind, axes=op.axes, keepdims=op.keepdims
        )
    shape = site.graph.type(x_id).shape
    count = math.prod(shape[a] for a in op.axes)
    multiplier, shift = binary_constants.sum_constants(
        x.scale,
        site.qparams.scale,
        divisor=count if op.kind is ops.Reduction.MEAN else 1,
        largest=count * REACH[x.bits],
    )
    return summed(site, op, multiplier, shift, site.requantize(Form.WIDE))


def summed(
    site: Site, op: ops.Reduce, multiplier: int, shift: int, requantize: Requantize
) -> ops.QReduceSum:
    """The sum of a float op, with these constants of any arithmetic."""
    x_id, x = site.operand(op.x)
    return ops.QReduceSum(
        inputs=(x_id,),
        output=site.output,
        axes=op.axes,
        keepdims=op.keepdims,
        x_zero_point=x.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=requantize,
    )


def softmax(site: Site, op: ops.Softmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    table = site.constant(f"{op.id}.exp", _exponentials(x))
    return ops.QSoftmax(
        inputs=(x_id, table),
        output=site.output,
        axis=op.axis,
        finer=_finer(site.qparams),
        bits=site.qparams.bits,
    )


def _finer(y: QParams) -> int:
    """How often the steps of a softmax are halved; same_scale.py chooses."""
    return round(math.log2(softmax_qparams(y.bits, 0).scale / y.scale))


def log_softmax(site: Site, op: ops.LogSoftmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    if site.is_wide(x):
        multiplier, shift, units = tables.log_softmax_constants_16(x.scale, site.qparams.scale)
        logarithms: Array = tables.log_table_16(units, 30 if x.bits == 16 else 16)
    else:
        multiplier, shift, units = tables.log_softmax_constants(x.scale, site.qparams.scale)
        logarithms = tables.log_table(units)
    exp = site.constant(f"{op.id}.exp", _exponentials(x))
    log = site.constant(f"{op.id}.log", logarithms)
    return ops.QLogSoftmax(
        inputs=(x_id, exp, log),
        output=site.output,
        axis=op.axis,
        multiplier=multiplier,
        shift=shift,
        zero_point=site.qparams.zero_point,
        bits=site.qparams.bits,
    )


def _exponentials(x: QParams) -> Array:
    table = tables.exp_table_16 if x.bits == 16 else tables.exp_table
    return table(x.scale)


def average_pool_sums(graph: Graph, op: ops.QAveragePool2d) -> Sums:
    """The multiplier of count 0 meets only the sum 0, so no form asks anything of it."""
    largest = math.prod(op.kernel) * largest_centered(graph, op.x, op.x_zero_point)
    multiplier = graph.data(op.multiplier).astype(np.int64)[1:]
    epilogue = Epilogue(op.requantize, multiplier, exact(op.shift))
    return Sums(exact(largest), epilogue, sum_bits(graph, (op.x,)))


def reduce_sum_sums(graph: Graph, op: ops.QReduceSum) -> Sums:
    count = math.prod(graph.type(op.x).shape[a] for a in op.axes)
    largest = exact(count * largest_centered(graph, op.x, op.x_zero_point))
    return Sums(
        largest, scalar_epilogue(op.requantize, op.multiplier, op.shift), sum_bits(graph, op.inputs)
    )


def softmax_sums(graph: Graph, op: ops.QSoftmax) -> Sums:
    """In the form TFLITE exponentials of 8 bits lose 12 bits before they are added."""
    if op.form is not Form.TFLITE:
        return exponential_sums(graph, op)
    count = graph.type(op.x).shape[op.axis]
    largest = int(graph.data(op.exp_table).max())
    lost = 0 if graph.type(op.x).dtype is DType.I16 else 12
    return Sums(exact(count * (largest + (2**lost >> 1) >> lost)))


def exponential_sums(graph: Graph, op: ops.QSoftmax | ops.QLogSoftmax) -> Sums:
    """The sum of the exponentials, each at most 2^16 of i8 and 2^30 of i16, and 32768 times it."""
    count = graph.type(op.x).shape[op.axis]
    largest = int(np.abs(graph.data(op.exp_table).astype(np.int64)).max())
    if graph.type(op.x).dtype is DType.I8:
        return Sums(exact(count * largest))
    return Sums(exact((count * (largest * largest + 2**29 >> 30)) << 15), bits=63)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.AveragePool2d: average_pool2d,
    ops.Reduce: reduce,
    ops.Softmax: softmax,
    ops.LogSoftmax: log_softmax,
    ops.MaxPool2d: movement,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QAveragePool2d: average_pool_sums,
    ops.QReduceSum: reduce_sum_sums,
    ops.QSoftmax: softmax_sums,
    ops.QLogSoftmax: exponential_sums,
}

NO_SUMS: Exemptions = {
    ops.QReduceExtreme: "compares",
    ops.MaxPool2d: "compares",
    ops.ArgMax: "compares; the target bounds the index",
}
