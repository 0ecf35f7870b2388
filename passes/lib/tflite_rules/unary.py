"""Functions of one value: a table of every integer, of 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.tflite_rules.grid import requantize, saturation
from qcomp.quant import tflite_functions
from qcomp.quant.fixed_point import I64, Form, multiplier_tflite
from qcomp.quant.interpolation import FRACTION_BITS
from qcomp.quant.qparams import QParams
from qcomp.quant.tflite_constants import f32, f32_quotient
from qcomp.quant.tflite_functions import IntegerFunction, table_of

Functions = Mapping[ops.Function, Callable[[ops.Unary], IntegerFunction]]
"""An integer function for each function that has one, of an op's parameters."""


def rescale(site: Site, x: TensorId) -> ops.Op:
    """QUANTIZE of integers, whose result has a name; what has none is an operand that a
    concatenation takes in another scale, which TensorFlow Lite only has of bytes without a sign.
    """
    source, origin = site.graph.tensor(x).qparams, site.graph.tensor(site.output).origin
    assert source is not None
    if origin is not None and origin.name is not None:
        return tabulated(site, x, source, tflite_functions.requantized)
    (read_back,) = site.graph.consumers(site.output)
    readers = site.graph.consumers(read_back.output)
    if not site.is_unsigned(site.output) or not all(isinstance(op, ops.Concat) for op in readers):
        names = ", ".join(f"%{op.output}" for op in readers)
        raise PassError(
            f"%{x} has another scale than {names}, which TensorFlow Lite copies it to; expected "
            "one scale, or arithmetic='native'"
        )
    return tabulated(site, x, source, tflite_functions.joined)


def clamp(site: Site, op: ops.Clamp) -> ops.Op:
    """RELU and its like."""
    return rectified_by(site, op, tflite_functions.rectified)


def rectified_by(site: Site, op: ops.Clamp, rescaled: IntegerFunction) -> ops.Op:
    """A clamp of what another function makes of the operand's integers."""
    low, high = saturation(site, op.clamp)

    def rectified(q: I64, x: QParams, y: QParams) -> I64:
        return np.clip(rescaled(q, x, y), low, high)

    return tabulated(site, *site.operand(op.x), rectified)


def unary(site: Site, op: ops.Unary) -> ops.Op:
    return unary_of(site, op, {8: FUNCTIONS_OF_8_BITS, 16: FUNCTIONS_OF_16_BITS}, "TensorFlow Lite")


def unary_of(site: Site, op: ops.Unary, by_bits: Mapping[int, Functions], whose: str) -> ops.Op:
    x_id, x = site.operand(op.x)
    functions = by_bits[x.bits]
    if op.function not in functions:
        known = ", ".join(sorted(f.value for f in functions))
        raise PassError(
            f"{op.id}: {op.function.value} of {x.bits} bits has no arithmetic of {whose}; "
            f"expected {known}, or arithmetic='native'"
        )
    return tabulated(site, x_id, x, functions[op.function](op))


def prelu(site: Site, op: ops.PRelu) -> ops.Op:
    (_, x), (_, slope), y = site.operand(op.x), site.operand(op.slope), site.qparams
    positive = f32_quotient(x.scale, by=y.scale)
    return prelu_by(site, op, positive, f32_quotient(x.scale, slope.scale, by=y.scale))


def prelu_by(site: Site, op: ops.PRelu, factor: float, factor_of_products: float) -> ops.Op:
    x_id, x = site.operand(op.x)
    slope_id, slope = site.operand(op.slope)
    if site.is_wide(x, slope):
        raise PassError(
            f"{op.id}: a PReLU of 16 bits has no kernel in this arithmetic; expected one of 8 "
            "bits, or arithmetic='native'"
        )
    positive, products = multiplier_tflite(factor), multiplier_tflite(factor_of_products)
    return ops.QPReluRescaled(
        inputs=(x_id, slope_id),
        output=site.output,
        x_zero_point=x.zero_point,
        slope_zero_point=slope.zero_point,
        positive_multiplier=positive[0],
        positive_shift=positive[1],
        multiplier=products[0],
        shift=products[1],
        requantize=requantize(site, Form.TFLITE),
    )


def tabulated(site: Site, x_id: TensorId, x: QParams, function: IntegerFunction) -> ops.Op:
    """Of 16 bits, an interpolation that has an entry for every integer."""
    y = site.qparams
    table = table_of(function, x, y)
    if x.bits == 8:
        return ops.Table(inputs=(x_id, site.constant(site.output, table)), output=site.output)
    entries = (np.append(table, table[-1]).astype(np.int32) - y.zero_point) << FRACTION_BITS
    return ops.Interpolate(
        inputs=(x_id, site.constant(site.output, entries)),
        output=site.output,
        step_bits=0,
        zero_point=y.zero_point,
        qmin=y.qmin,
        qmax=y.qmax,
        bits=y.bits,
    )


def _looked_up(op: ops.Unary) -> IntegerFunction:
    return tflite_functions.looked_up(lambda x: FUNCTIONS[op.function](x, 0.0, 0.0))


def _interpolated(op: ops.Unary) -> IntegerFunction:
    return tflite_functions.interpolated(lambda x: FUNCTIONS[op.function](x, 0.0, 0.0))


def _power(op: ops.Unary, function: IntegerFunction) -> IntegerFunction:
    if op.alpha != -0.5:
        raise PassError(
            f"{op.id}: the power {op.alpha} has no arithmetic of TensorFlow Lite; expected -0.5, "
            "or arithmetic='native'"
        )
    return function


FUNCTIONS_OF_8_BITS: Functions = {
    ops.Function.ABS: lambda op: tflite_functions.magnitude(f32_quotient),
    ops.Function.EXP: _looked_up,
    ops.Function.GELU: lambda op: tflite_functions.looked_up(tflite_functions.gelu),
    ops.Function.GELU_TANH: lambda op: tflite_functions.looked_up(tflite_functions.gelu_tanh),
    ops.Function.HARD_SWISH: lambda op: tflite_functions.hard_swish,
    ops.Function.LEAKY_RELU: lambda op: tflite_functions.leaky(f32(op.alpha), f32_quotient),
    ops.Function.LOG: lambda op: tflite_functions.logarithm,
    ops.Function.POW: lambda op: _power(op, tflite_functions.inverse_root),
    ops.Function.SIGMOID: _looked_up,
    ops.Function.SQRT: lambda op: tflite_functions.square_root,
    ops.Function.TANH: _looked_up,
}
FUNCTIONS_OF_16_BITS: Functions = {
    ops.Function.ABS: lambda op: tflite_functions.magnitude(f32_quotient),
    ops.Function.EXP: _interpolated,
    ops.Function.GELU: lambda op: tflite_functions.interpolated(tflite_functions.gelu),
    ops.Function.GELU_TANH: lambda op: tflite_functions.interpolated(tflite_functions.gelu_tanh),
    ops.Function.LEAKY_RELU: lambda op: tflite_functions.leaky(f32(op.alpha), f32_quotient),
    ops.Function.LOG: lambda op: tflite_functions.logarithm_16,
    ops.Function.POW: lambda op: _power(op, tflite_functions.inverse_root_16),
    ops.Function.SIGMOID: lambda op: tflite_functions.sigmoid_16,
    ops.Function.SQRT: lambda op: tflite_functions.square_root,
    ops.Function.TANH: lambda op: tflite_functions.tanh_16,
}


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Unary: unary,
    ops.Clamp: clamp,
    ops.PRelu: prelu,
}
