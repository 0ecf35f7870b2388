"""Float op to integer op with the bits of TensorFlow Lite Micro's kernels.

Those of github.com/tensorflow/tflite-micro (micro/kernels), and of CMSIS-NN below them, which round
twice as the reference does (built without TFLITE_SINGLE_ROUNDING); `benchmarks/tflm_bits.py` holds
every operator against the interpreter. They differ from LiteRT's
(tflite_rules) in these, and have a kernel of integers for fewer operators; the rest is refused.

    FULLY_CONNECTED    a fixed-point multiplier, of f32(sx * sw) / sy, or of each channel in float64
    MUL, PRELU, RELU,  factors in float64, where LiteRT's are float32
    LEAKY_RELU, ABS
    RELU6              clamps integers in the scale that they have
    SOFTMAX            of 16 bits by tables that are filled in float32, not float64
    LOGISTIC, TANH     of 8 bits by gemmlowp's fixed point, where LiteRT's are tables of float32
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.passes.lib import tflite_rules
from qcomp.passes.lib.integer_rules.linear import dense_by, layer_of
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.tflite_rules import binary, linear, reduction, unary
from qcomp.quant import tflite_functions
from qcomp.quant.tflite_constants import f32, f64_quotient, product_factors

_WHOSE = "TensorFlow Lite Micro"


def dense(site: Site, op: ops.Weighted) -> linear.Inputs:
    layer = layer_of(site, op)
    per_channel = layer.weight.scale.size > 1
    if per_channel and site.is_wide(layer.x):
        raise PassError(
            f"{op.id}: a dense layer of 16 bits with a scale for each channel has no kernel in "
            f"{_WHOSE}; expected one scale, or arithmetic='native'"
        )
    factors = product_factors(
        layer.x.scale, layer.weight.scale, site.qparams.scale, in_float32=not per_channel
    )
    return linear.fixed_point(site, op, layer, factors)


def mul(site: Site, op: ops.Mul) -> ops.Op:
    (_, a), (_, b) = site.operand(op.a), site.operand(op.b)
    return binary.mul_by(site, op, f64_quotient(a.scale, b.scale, by=site.qparams.scale))


def prelu(site: Site, op: ops.PRelu) -> ops.Op:
    (_, x), (_, slope), y = site.operand(op.x), site.operand(op.slope), site.qparams
    return unary.prelu_by(
        site, op, x.scale / y.scale, f64_quotient(x.scale, slope.scale, by=y.scale)
    )


def clamp(site: Site, op: ops.Clamp) -> ops.Op:
    """RELU rescales; others, and fused activations, clamp integers in the scale that they have."""
    _, x = site.operand(op.x)
    same = (x.scale, x.zero_point) == (site.qparams.scale, site.qparams.zero_point)
    if not same and (op.clamp.low != 0 or math.isfinite(op.clamp.high)):
        raise PassError(
            f"{op.id}: a clamp to [{op.clamp.low:g}, {op.clamp.high:g}] that changes the scale has "
            f"no kernel in {_WHOSE}; expected RELU, one scale, or arithmetic='native'"
        )
    return unary.rectified_by(site, op, tflite_functions.requantized)


def softmax(site: Site, op: ops.Softmax) -> ops.Op:
    return reduction.softmax_by(site, op, np.float32)


def function(site: Site, op: ops.Unary) -> ops.Op:
    return unary.unary_of(site, op, {8: _OF_8_BITS, 16: _OF_16_BITS}, _WHOSE)


_OF_BOTH: unary.Functions = {
    ops.Function.ABS: lambda op: tflite_functions.magnitude(f64_quotient),
    ops.Function.LEAKY_RELU: lambda op: tflite_functions.leaky(f32(op.alpha), f64_quotient),
}
_OF_8_BITS: unary.Functions = {
    **_OF_BOTH,
    ops.Function.HARD_SWISH: unary.FUNCTIONS_OF_8_BITS[ops.Function.HARD_SWISH],
    ops.Function.POW: unary.FUNCTIONS_OF_8_BITS[ops.Function.POW],
    ops.Function.SIGMOID: lambda op: tflite_functions.sigmoid_8,
    ops.Function.TANH: lambda op: tflite_functions.tanh_8,
}
_OF_16_BITS: unary.Functions = {
    **_OF_BOTH,
    ops.Function.SIGMOID: unary.FUNCTIONS_OF_16_BITS[ops.Function.SIGMOID],
    ops.Function.TANH: unary.FUNCTIONS_OF_16_BITS[ops.Function.TANH],
}


def _with_a_sign(rule: IntegerRule) -> IntegerRule:
    """The rule, of integers with a sign, which are all that there are kernels for."""

    def checked(site: Site, op: ops.Op) -> ops.Op:
        if site.is_unsigned(site.output):
            raise PassError(
                f"{op.id}: {_WHOSE} has no kernels of bytes without a sign; expected int8 or "
                "int16, or arithmetic='tflite' or 'native'"
            )
        return rule(site, op)

    return checked


_KERNELS: Mapping[type[ops.Op], IntegerRule] = {
    **tflite_rules.RULES,
    ops.Clamp: clamp,
    ops.Dense: dense_by(dense),
    ops.Mul: mul,
    ops.PRelu: prelu,
    ops.Softmax: softmax,
    ops.Unary: function,
}
RULES: Mapping[type[ops.Op], IntegerRule] = {
    op: _with_a_sign(rule) for op, rule in _KERNELS.items()
}
