"""Functions of one value: 256-entry tables, and PReLU."""

from __future__ import annotations

import numpy as np

from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.tensor import TensorId
from qcomp.passes.integer_rules.site import Site
from qcomp.quant import binary_constants, tables


def rescale(site: Site, x: TensorId) -> ops.Op:
    """A quantize of a dequantized tensor: a table."""
    source = site.graph.tensor(x).qparams
    assert source is not None
    table = site.constant(site.output, tables.rescale_table(source, site.qparams))
    return ops.Table(inputs=(x, table), output=site.output)


def unary(site: Site, op: ops.Unary) -> ops.Op:
    x_id, x = site.operand(op.x)
    function = FUNCTIONS[op.function]
    table = tables.unary_table(lambda real: function(real, op.alpha, op.beta), x, site.qparams)
    return ops.Table(inputs=(x_id, site.constant(op.id, table)), output=site.output)


def clamp(site: Site, op: ops.Clamp) -> ops.Op:
    x_id, x = site.operand(op.x)
    function = lambda real: np.clip(real, op.clamp.low, op.clamp.high)  # noqa: E731
    table = tables.unary_table(function, x, site.qparams)
    return ops.Table(inputs=(x_id, site.constant(op.id, table)), output=site.output)


def prelu(site: Site, op: ops.PRelu) -> ops.Op:
    x_id, x = site.operand(op.x)
    slope = site.graph.data(op.slope)
    positive, negative, shift = binary_constants.prelu_constants(x.scale, site.qparams.scale, slope)
    return ops.QPRelu(
        inputs=(x_id, site.constant(op.slope, negative)),
        output=site.output,
        x_zero_point=x.zero_point,
        positive_multiplier=positive,
        shift=shift,
        zero_point=site.qparams.zero_point,
    )
