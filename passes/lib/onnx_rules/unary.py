"""Functions of one byte: a table of what float32 gives; other scales are such functions too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.onnx_rules.grid import expect_bytes, saturation
from qcomp.quant.onnx_functions import F32, table
from qcomp.quant.qparams import QParams


def rescale(site: Site, x: TensorId) -> ops.Op:
    source = site.graph.tensor(x).qparams
    assert source is not None
    return _tabulated(site, x, source, lambda values: values, ops.NO_CLAMP)


def clamp(site: Site, op: ops.Clamp) -> ops.Op:
    x_id, x = site.operand(op.x)
    expect_bytes(site, op, x)
    return _tabulated(site, x_id, x, lambda values: values, op.clamp)


def unary(site: Site, op: ops.Unary) -> ops.Op:
    x_id, x = site.operand(op.x)
    expect_bytes(site, op, x)

    def function(values: F32) -> F32:
        return np.asarray(
            FUNCTIONS[op.function](values.astype(np.float64), op.alpha, op.beta), np.float32
        )

    return _tabulated(site, x_id, x, function, ops.NO_CLAMP)


def _tabulated(
    site: Site, x_id: TensorId, x: QParams, function: Callable[[F32], F32], clamp: ops.ClampRange
) -> ops.Op:
    entries = table(function, x, site.qparams, *saturation(site, clamp))
    return ops.Table(inputs=(x_id, site.constant(site.output, entries)), output=site.output)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Unary: unary,
    ops.Clamp: clamp,
}
