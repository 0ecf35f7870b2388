"""Broadcasting ops on two operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from qcomp.ir import ops
from qcomp.passes.lib.integer_rules import binary
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.tflite_rules.grid import requantize
from qcomp.quant.fixed_point import Form, multiplier_tflite
from qcomp.quant.tflite_constants import add_rescaled_constants, f32_quotient


def add(site: Site, op: ops.Add | ops.Sub) -> ops.Op:
    """Operands are brought to one scale first."""
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    constants = add_rescaled_constants(a.scale, b.scale, site.qparams.scale, a.bits)
    return ops.QAddRescaled(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        b_sign=-1 if isinstance(op, ops.Sub) else 1,
        requantize=requantize(site, Form.TFLITE, op.clamp),
        **asdict(constants),
    )


def mul(site: Site, op: ops.Mul) -> ops.Op:
    (_, a), (_, b) = site.operand(op.a), site.operand(op.b)
    return mul_by(site, op, f32_quotient(a.scale, b.scale, by=site.qparams.scale))


def mul_by(site: Site, op: ops.Mul, factor: float) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    multiplier, shift = multiplier_tflite(factor)
    return ops.QMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=requantize(site, Form.TFLITE, op.clamp),
    )


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Add: add,
    ops.Sub: add,
    ops.Mul: mul,
    ops.Minimum: binary.extreme,
    ops.Maximum: binary.extreme,
}
