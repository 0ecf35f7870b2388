"""Broadcasting ops on two operands."""

from __future__ import annotations

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules.site import Site
from qcomp.quant import binary_constants
from qcomp.quant.fixed_point import Form


def add(site: Site, op: ops.Add | ops.Sub) -> ops.Op:
    """Use 16-bit lanes where the scales allow it, else 32-bit lanes; 64-bit lanes for i16."""
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    subtract = isinstance(op, ops.Sub)
    scales = (a.scale, b.scale, site.qparams.scale)
    qmin, qmax = site.saturation(op.clamp)
    narrow = None
    if not site.is_wide(a, b):
        narrow = binary_constants.add_constants(*scales, subtract=subtract)
    if narrow is not None:
        return ops.QAdd(
            inputs=(a_id, b_id),
            output=site.output,
            a_zero_point=a.zero_point,
            b_zero_point=b.zero_point,
            a_multiplier=narrow.a_multiplier,
            b_multiplier=narrow.b_multiplier,
            fraction_bits=narrow.fraction_bits,
            zero_point=site.qparams.zero_point,
            qmin=qmin,
            qmax=qmax,
        )
    a_multiplier, b_multiplier, shift = binary_constants.add_wide_constants(
        *scales, subtract=subtract, lanes=site.lanes(a, b)
    )
    return ops.QAddWide(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        a_multiplier=a_multiplier,
        b_multiplier=b_multiplier,
        shift=shift,
        zero_point=site.qparams.zero_point,
        qmin=qmin,
        qmax=qmax,
        bits=site.qparams.bits,
    )


def mul(site: Site, op: ops.Mul) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    multiplier, shift = binary_constants.mul_constants(a.scale, b.scale, site.qparams.scale)
    return ops.QMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE, op.clamp),
    )


def div(site: Site, op: ops.Div) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    multiplier, shift = binary_constants.div_constants(
        a.scale, b.scale, site.qparams.scale, site.lanes(a, b)
    )
    qmin, qmax = site.saturation(op.clamp)
    return ops.QDiv(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        zero_point=site.qparams.zero_point,
        qmin=qmin,
        qmax=qmax,
        bits=site.qparams.bits,
    )


def extreme(site: Site, op: ops.Minimum | ops.Maximum) -> ops.Op:
    qmin, qmax = site.saturation(op.clamp)
    cls = ops.QMinimum if isinstance(op, ops.Minimum) else ops.QMaximum
    inputs = tuple(site.same_scale_operand(t) for t in op.inputs)
    return cls(inputs=inputs, output=site.output, qmin=qmin, qmax=qmax)
