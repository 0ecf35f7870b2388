"""Broadcasting ops on two operands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.sums import (
    BoundSums,
    Epilogue,
    Sums,
    exact,
    largest_centered,
    product_of,
    scalar_epilogue,
    sum_bits,
)
from qcomp.quant import binary_constants
from qcomp.quant.fixed_point import Form
from qcomp.quant.qparams import QParams
from qcomp.quant.weights import REACH


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
    largest = min(REACH[a.bits] * REACH[b.bits], 2**62)
    multiplier, shift = binary_constants.mul_constants(
        a.scale, b.scale, site.qparams.scale, max(largest, 2**31 - 1)
    )
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


def square(site: Site, x_id: TensorId, x: QParams) -> ops.Op:
    """The product of an operand with itself."""
    multiplier, shift = binary_constants.mul_constants(x.scale, x.scale, site.qparams.scale)
    return ops.QMul(
        inputs=(x_id, x_id),
        output=site.output,
        a_zero_point=x.zero_point,
        b_zero_point=x.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
    )


def extreme(site: Site, op: ops.Minimum | ops.Maximum) -> ops.Op:
    qmin, qmax = site.saturation(op.clamp)
    cls = ops.QMinimum if isinstance(op, ops.Minimum) else ops.QMaximum
    inputs = tuple(site.same_scale_operand(t) for t in op.inputs)
    return cls(inputs=inputs, output=site.output, qmin=qmin, qmax=qmax)


def add_sums(graph: Graph, op: ops.QAdd) -> Sums:
    """The multipliers must fit the 16-bit lanes as well."""
    terms = [(128 * reach * m + 2**14) >> 15 for reach, m in _scaled_operands(graph, op)]
    multipliers = abs(op.a_multiplier), abs(op.b_multiplier)
    return Sums(exact(max(sum(terms) + (2**op.fraction_bits >> 1), *multipliers)), bits=15)


def add_wide_sums(graph: Graph, op: ops.QAddWide) -> Sums:
    terms = [reach * m for reach, m in _scaled_operands(graph, op)]
    return Sums(
        exact(sum(terms) + (2**op.shift >> 1)),
        bits=sum_bits(graph, (*op.inputs, op.output)),
        factors=(op.a_multiplier, op.b_multiplier),
    )


def add_rescaled_sums(graph: Graph, op: ops.QAddRescaled) -> Sums:
    """Three sums, which are the channels of its problems: a, b, and both of them rescaled."""
    multipliers = np.array([op.a_multiplier, op.b_multiplier, op.multiplier], object)
    shifts = np.array([op.a_shift, op.b_shift, op.shift], object)
    terms = [
        largest_centered(graph, t, zero_point) << op.left_shift
        for t, zero_point in ((op.a, op.a_zero_point), (op.b, op.b_zero_point))
    ]
    # A multiplier is below 1, a shift to the right rounds up by at most 1.
    rescaled = [
        ((t << max(s, 0)) >> max(-s, 0)) + 1 for t, s in zip(terms, shifts[:2], strict=True)
    ]
    largest = np.array([*terms, sum(rescaled)], object)
    return Sums(largest, Epilogue(op.requantize, multipliers, shifts))


def mul_sums(graph: Graph, op: ops.QMul) -> Sums:
    return Sums(product_of(graph, op), scalar_epilogue(op.requantize, op.multiplier, op.shift))


def div_sums(graph: Graph, op: ops.QDiv) -> Sums:
    n = largest_centered(graph, op.a, op.a_zero_point) * abs(op.multiplier)
    d = largest_centered(graph, op.b, op.b_zero_point) << op.shift
    wide = sum_bits(graph, (*op.inputs, op.output)) == 63
    return Sums(exact(max(n, d)), bits=61 if wide else 30)


def _scaled_operands(graph: Graph, op: ops.QAdd | ops.QAddWide) -> list[tuple[int, int]]:
    """Largest |q - zero_point| and |multiplier| of both operands."""
    return [
        (largest_centered(graph, op.a, op.a_zero_point), abs(op.a_multiplier)),
        (largest_centered(graph, op.b, op.b_zero_point), abs(op.b_multiplier)),
    ]


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Add: add,
    ops.Sub: add,
    ops.Mul: mul,
    ops.Div: div,
    ops.Minimum: extreme,
    ops.Maximum: extreme,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QAdd: add_sums,
    ops.QAddWide: add_wide_sums,
    ops.QAddRescaled: add_rescaled_sums,
    ops.QMul: mul_sums,
    ops.QDiv: div_sums,
}

NO_SUMS: Exemptions = {
    ops.QMinimum: "compares",
    ops.QMaximum: "compares",
}
