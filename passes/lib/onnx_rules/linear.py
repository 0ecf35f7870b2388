"""Layers with weights, and products of matrices: QLinearConv, QLinearMatMul, QGemm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.tensor import DType, TensorId
from qcomp.passes.lib.integer_rules.linear import conv2d_by, dense_by, layer_of, operands
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.onnx_rules.grid import expect_bytes, requantize
from qcomp.quant.fixed_point import Requantize
from qcomp.quant.onnx_functions import factor_bits, layer_factor_bits
from qcomp.quant.qparams import QParams


def layer(site: Site, op: ops.Weighted) -> tuple[tuple[TensorId, ...], QParams, Requantize]:
    found = layer_of(site, op)
    expect_bytes(site, op, found.x)
    bits = layer_factor_bits(found.x.scale, found.weight.scale, site.qparams.scale)
    multiplier = np.broadcast_to(bits, found.channels).astype(np.int32)
    site.remark = ", onnx"
    inputs = operands(site, op, found, multiplier, np.zeros_like(multiplier), DType.I32)
    return inputs, found.x, requantize(site, op.clamp)


def matmul(site: Site, op: ops.MatMul) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    expect_bytes(site, op, a, b)
    return ops.QMatMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=factor_bits(a.scale, b.scale, by=site.qparams.scale),
        shift=0,
        requantize=requantize(site),
    )


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Conv2d: conv2d_by(layer),
    ops.Dense: dense_by(layer),
    ops.MatMul: matmul,
}
