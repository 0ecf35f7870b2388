"""Pooling, reductions and the softmaxes."""

from __future__ import annotations

import math

from qcomp.ir import ops
from qcomp.passes.integer_rules.site import Site
from qcomp.quant import binary_constants, tables
from qcomp.quant.fixed_point import Form


def average_pool2d(site: Site, op: ops.AveragePool2d) -> ops.Op:
    x_id, x = site.operand(op.x)
    multipliers, shift = binary_constants.average_multipliers(
        x.scale, site.qparams.scale, op.kernel[0] * op.kernel[1]
    )
    return ops.QAveragePool2d(
        inputs=(x_id, site.constant(f"{op.id}.multiplier", multipliers)),
        output=site.output,
        x_zero_point=x.zero_point,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
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
    count = math.prod(shape[a] for a in op.axes) if op.kind is ops.Reduction.MEAN else 1
    multiplier, shift = binary_constants.sum_constants(x.scale, site.qparams.scale, divisor=count)
    return ops.QReduceSum(
        inputs=(x_id,),
        output=site.output,
        axes=op.axes,
        keepdims=op.keepdims,
        x_zero_point=x.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
    )


def softmax(site: Site, op: ops.Softmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    table = site.constant(f"{op.id}.exp", tables.exp_table(x.scale))
    return ops.QSoftmax(inputs=(x_id, table), output=site.output, axis=op.axis)


def log_softmax(site: Site, op: ops.LogSoftmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    multiplier, shift, units = tables.log_softmax_constants(x.scale, site.qparams.scale)
    exp = site.constant(f"{op.id}.exp", tables.exp_table(x.scale))
    log = site.constant(f"{op.id}.log", tables.log_table(units))
    return ops.QLogSoftmax(
        inputs=(x_id, exp, log),
        output=site.output,
        axis=op.axis,
        multiplier=multiplier,
        shift=shift,
        zero_point=site.qparams.zero_point,
    )
