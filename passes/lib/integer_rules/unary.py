"""Functions of one value: tables of an i8, interpolation and changes of scale of an i16, PReLU; of
a sum of 32 bits interpolation by octaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.exemptions import Exemptions
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.lib.integer_rules.binary import square
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.qdq import stored
from qcomp.passes.lib.sums import (
    BoundSums,
    Epilogue,
    Sums,
    exact,
    largest_centered,
    scalar_epilogue,
    sum_bits,
)
from qcomp.quant import binary_constants, tables
from qcomp.quant.fixed_point import Form
from qcomp.quant.interpolation import interpolation_table
from qcomp.quant.octaves import octaves_table
from qcomp.quant.qparams import QParams

F64 = NDArray[np.float64]


def rescale(site: Site, x: TensorId) -> ops.Op:
    """A quantize of a dequantized tensor."""
    source = site.graph.tensor(x).qparams
    assert source is not None
    return _saturated(site, site.output, x, source, ops.NO_CLAMP)


def clamp(site: Site, op: ops.Clamp) -> ops.Op:
    return _saturated(site, op.id, *site.operand(op.x), op.clamp)


def _saturated(
    site: Site, id: TensorId, x_id: TensorId, x: QParams, clamp: ops.ClampRange
) -> ops.Op:
    """A clamp and a change of scale."""
    clipped = lambda real: np.clip(real, clamp.low, clamp.high)  # noqa: E731
    if x.bits == 8:
        return _tabulated(site, id, x_id, x, clipped)
    if x.bits == 32 and not clamp.is_none:
        return _by_octaves(site, id, x_id, x, clipped)
    return _rescaled(site, x_id, x, x.scale, clamp)


def _rescaled(
    site: Site, x_id: TensorId, x: QParams, scale: float, clamp: ops.ClampRange
) -> ops.Op:
    """x, its steps taken for `scale`, in those of the result."""
    multiplier, shift = binary_constants.sum_constants(scale, site.qparams.scale)
    return ops.QRescale(
        inputs=(x_id,),
        output=site.output,
        x_zero_point=x.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE, clamp),
    )


def unary(site: Site, op: ops.Unary) -> ops.Op:
    x_id, x = site.operand(op.x)
    function = lambda real: np.asarray(FUNCTIONS[op.function](real, op.alpha, op.beta))  # noqa: E731
    if x.bits == 8:
        return _tabulated(site, op.id, x_id, x, function)
    if op.function is ops.Function.SIGN:
        return _sign(site, x_id, x)
    if x.bits == 32:
        return _by_octaves(site, op.id, x_id, x, function)
    y = site.qparams
    if y.bits == 32:
        if op.function is ops.Function.POW and op.alpha == 2.0:
            return square(site, x_id, x)
        raise ValueError(
            f"%{site.output} has 32 bits; expected 8 or 16 of {op.function.value} of an i16"
        )
    step_bits, table = interpolation_table(function, x, y)
    return ops.Interpolate(
        inputs=(x_id, site.constant(op.id, table)),
        output=site.output,
        step_bits=step_bits,
        zero_point=y.zero_point,
        qmin=y.qmin,
        qmax=y.qmax,
        bits=y.bits,
    )


def _sign(site: Site, x_id: TensorId, x: QParams) -> ops.Op:
    """Of an i16: one step from zero is beyond -1 and 1, where the result saturates."""
    return _rescaled(site, x_id, x, 2.0, ops.ClampRange(-1.0, 1.0))


def _by_octaves(
    site: Site, id: TensorId, x_id: TensorId, x: QParams, function: Callable[[F64], F64]
) -> ops.Op:
    y = site.qparams
    step_bits, table = octaves_table(function, x, y)
    site.remark = f", {len(table)} entries"
    return ops.InterpolateOctaves(
        inputs=(x_id, site.constant(id, table)),
        output=site.output,
        step_bits=step_bits,
        zero_point=y.zero_point,
        qmin=y.qmin,
        qmax=y.qmax,
        bits=y.bits,
    )


def _tabulated(
    site: Site, id: TensorId, x_id: TensorId, x: QParams, function: Callable[[F64], F64]
) -> ops.Op:
    table = tables.unary_table(function, x, site.qparams)
    return ops.Table(inputs=(x_id, site.constant(id, table)), output=site.output)


def prelu(site: Site, op: ops.PRelu) -> ops.Op:
    x_id, x = site.operand(op.x)
    y = site.qparams
    positive, negative, shift = binary_constants.prelu_constants(
        x.scale, y.scale, _real_constant(site, op.slope), site.lanes(x)
    )
    return ops.QPRelu(
        inputs=(x_id, site.constant(op.slope, negative)),
        output=site.output,
        x_zero_point=x.zero_point,
        positive_multiplier=positive,
        shift=shift,
        zero_point=y.zero_point,
        qmin=y.qmin,
        qmax=y.qmax,
        bits=y.bits,
    )


def _real_constant(site: Site, id: TensorId) -> Array:
    """The numbers of a constant, which may be integers that were given."""
    producer = site.graph.producer(id)
    if not isinstance(producer, ops.QuantizedConstant):
        return site.graph.data(id)
    found = stored(site.graph, producer)
    along = (-1,) + (1,) * (found.integers.ndim - 1)
    return np.asarray(found.centered * found.scale.reshape(along), np.float32)


def prelu_rescaled_sums(graph: Graph, op: ops.QPReluRescaled) -> Sums:
    """Two sums, which are the channels of its problems: the operand, and its products."""
    x = largest_centered(graph, op.x, op.x_zero_point)
    slope = largest_centered(graph, op.slope, op.slope_zero_point)
    multipliers = np.array([op.positive_multiplier, op.multiplier], object)
    shifts = np.array([op.positive_shift, op.shift], object)
    largest = np.array([x, x * slope], object)
    return Sums(largest, Epilogue(op.requantize, multipliers, shifts))


def rescale_sums(graph: Graph, op: ops.QRescale) -> Sums:
    return Sums(
        exact(largest_centered(graph, op.x, op.x_zero_point)),
        scalar_epilogue(op.requantize, op.multiplier, op.shift),
    )


def prelu_sums(graph: Graph, op: ops.QPRelu) -> Sums:
    negative = np.abs(graph.data(op.negative_multiplier).astype(np.int64)).max(initial=0)
    multiplier = max(abs(op.positive_multiplier), int(negative))
    return Sums(
        exact(largest_centered(graph, op.x, op.x_zero_point) * multiplier + (2**op.shift >> 1)),
        bits=sum_bits(graph, (op.x, op.output)),
        factors=(multiplier,),
    )


def interpolate_sums(graph: Graph, op: ops.Interpolate) -> Sums:
    """Of both terms by themselves, and of their sum, which is between two entries times 2^k."""
    table = graph.data(op.table).astype(np.int64)
    k = op.step_bits
    largest = (int(np.abs(table).max()) << k) + (1 << (k + 6))
    slope = int(np.abs(np.diff(table)).max()) * ((1 << k) - 1)
    return Sums(exact(max(largest, slope)))


def octaves_sums(graph: Graph, op: ops.InterpolateOctaves) -> Sums:
    """Of the difference of two entries times 15 bits, with its rounding."""
    table = graph.data(op.table).astype(np.int64)
    largest = int(np.abs(table).max(initial=0))
    return Sums(exact((2 * largest << 15) + (1 << 14) + largest), bits=63)


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Unary: unary,
    ops.Clamp: clamp,
    ops.PRelu: prelu,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QRescale: rescale_sums,
    ops.QPRelu: prelu_sums,
    ops.QPReluRescaled: prelu_rescaled_sums,
    ops.Interpolate: interpolate_sums,
    ops.InterpolateOctaves: octaves_sums,
}

NO_SUMS: Exemptions = {
    ops.Table: "looks its results up",
    ops.PairTable: "looks its results up",
}
