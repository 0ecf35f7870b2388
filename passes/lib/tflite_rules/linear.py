"""Layers with weights, and products of matrices.

Sums of 32 bits are rounded twice (TFLITE), those of 64 bits once by a factor of 15 bits (WIDE). The
dense layer of the reference kernels rounds a product of float64 once, half away from zero (AWAY).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.tensor import DType, TensorId
from qcomp.passes.lib.integer_rules.linear import (
    Layer,
    conv2d_by,
    dense_by,
    layer_of,
    operands,
)
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.tflite_rules.grid import requantize
from qcomp.quant.fixed_point import Form, Requantize, multiplier_tflite
from qcomp.quant.qparams import QParams
from qcomp.quant.tflite_constants import (
    Fixed,
    f32_quotient,
    product_factors,
    short_multiplier,
)
from qcomp.quant.tflite_dense import away_multiplier

Inputs = tuple[tuple[TensorId, ...], QParams, Requantize]
Factors = NDArray[np.float64]


def convolution(site: Site, op: ops.Weighted) -> Inputs:
    layer = layer_of(site, op)
    in_float32 = site.is_unsigned(site.output)
    factors = product_factors(
        layer.x.scale, layer.weight.scale, site.qparams.scale, in_float32=in_float32
    )
    return fixed_point(site, op, layer, factors)


def fixed_point(site: Site, op: ops.Weighted, layer: Layer, factors: Factors) -> Inputs:
    """The layer whose sums are multiplied by integers that stand for these factors."""
    constants = [multiplier_tflite(float(f)) for f in np.broadcast_to(factors, layer.channels)]
    form, acc = Form.TFLITE, DType.I32
    if layer.x.bits == 16:
        constants = [short_multiplier(*c) for c in constants]
        form, acc = Form.WIDE, DType.I64
    return _with(site, op, layer, constants, form, acc)


def dense(site: Site, op: ops.Weighted) -> Inputs:
    layer = layer_of(site, op)
    if site.is_wide(layer.x):
        raise PassError(
            f"{op.id}: a dense layer of 16 bits multiplies by float64 in TensorFlow Lite's "
            "reference; expected one of 8 bits, or arithmetic='tflm' or 'native'"
        )
    factors = product_factors(
        layer.x.scale, layer.weight.scale, site.qparams.scale, in_float32=False
    )
    channels = np.broadcast_to(factors, layer.channels)
    constants = [away_multiplier(float(f), layer.largest) for f in channels]
    return _with(site, op, layer, constants, Form.AWAY, DType.I32)


def _with(
    site: Site,
    op: ops.Weighted,
    layer: Layer,
    constants: list[Fixed],
    form: Form,
    acc: DType,
) -> Inputs:
    multiplier, shift = np.array(constants, np.int64).reshape(-1, 2).T
    if form is not Form.AWAY:
        multiplier = multiplier.astype(np.int32)
    site.remark = f", {form.value}"
    inputs = operands(site, op, layer, multiplier, shift.astype(np.int32), acc)
    return inputs, layer.x, requantize(site, form, op.clamp)


def matmul(site: Site, op: ops.MatMul) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    factor = f32_quotient(a.scale, b.scale) / site.qparams.scale
    form, (multiplier, shift) = Form.TFLITE, multiplier_tflite(factor)
    if site.is_wide(a, b):
        form, (multiplier, shift) = Form.WIDE, short_multiplier(multiplier, shift)
    return ops.QMatMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=requantize(site, form),
    )


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Conv2d: conv2d_by(convolution),
    ops.Dense: dense_by(dense),
    ops.MatMul: matmul,
}
