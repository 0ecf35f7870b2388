"""Pooling, sums along axes and softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.passes.lib.integer_rules import reduction
from qcomp.passes.lib.integer_rules.movement import movement
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.tflite_rules.grid import requantize
from qcomp.quant import gemmlowp
from qcomp.quant.fixed_point import Form, Requantize, multiplier_tflite
from qcomp.quant.tflite_constants import mean_constants
from qcomp.quant.tflite_functions import Scalar
from qcomp.quant.tflite_softmax import softmax_tables


def average_pool2d(site: Site, op: ops.AveragePool2d) -> ops.Op:
    """The mean of the file's integers themselves: of bytes without a sign, 128 more than ours."""
    _, x = site.operand(op.x)
    zero_point = -128 if site.is_unsigned(site.output) else 0
    counts = np.arange(op.kernel[0] * op.kernel[1] + 1, dtype=np.int32)
    requantize = Requantize(Form.QUOTIENT, zero_point, x.qmin, x.qmax, x.bits)
    constant = site.constant(f"{op.id}.count", counts)
    return reduction.averaged(site, op, constant, zero_point, requantize)


def reduce(site: Site, op: ops.Reduce) -> ops.Op:
    if op.kind in (ops.Reduction.MAX, ops.Reduction.MIN):
        return reduction.reduce(site, op)
    x_id, x = site.operand(op.x)
    scales = x.scale, site.qparams.scale
    shape = site.graph.type(x_id).shape
    count = math.prod(shape[a] for a in op.axes)
    mean = op.kind is ops.Reduction.MEAN
    multiplier, shift = (
        mean_constants(*scales, count) if mean else multiplier_tflite(scales[0] / scales[1])
    )
    return reduction.summed(site, op, multiplier, shift, requantize(site, Form.TFLITE))


def softmax(site: Site, op: ops.Softmax) -> ops.Op:
    return softmax_by(site, op, np.float64)


def softmax_by(site: Site, op: ops.Softmax, kind: type[Scalar]) -> ops.Op:
    """With tables of 16 bits that are filled in numbers of this kind."""
    x_id, x = site.operand(op.x)
    if x.bits != site.qparams.bits:
        raise PassError(
            f"{op.id}: a softmax of {x.bits} bits to {site.qparams.bits} has no arithmetic of "
            "TensorFlow Lite; expected the same, or arithmetic='native'"
        )
    table = softmax_tables(x.scale, kind) if x.bits == 16 else gemmlowp.exp_table(x.scale)
    return ops.QSoftmax(
        inputs=(x_id, site.constant(f"{op.id}.exp", table)),
        output=site.output,
        axis=op.axis,
        bits=x.bits,
        form=Form.TFLITE,
    )


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.AveragePool2d: average_pool2d,
    ops.Reduce: reduce,
    ops.Softmax: softmax,
    ops.MaxPool2d: movement,
}
