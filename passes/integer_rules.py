"""Float op to integer op: one rule each, and the table of them.

A rule gets the site (the graph and the id of the quantized result) and the float op, and gives the integer
op that takes the quantize's place. `ValueError` from the choosers of constants means that the scales
admit no exact integer form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import DType, TensorId
from qcomp.passes.qdq import quantized_operand
from qcomp.quant import binary_constants, tables
from qcomp.quant.fixed_point import Form, Requantize, multiplier_wide
from qcomp.quant.qparams import QParams, quantize, quantize_channels
from qcomp.quant.weights import narrow_factor


@dataclass
class Site:
    """Where an integer op goes; `remark` ends the log line."""

    graph: Graph
    output: TensorId
    remark: str = ""

    @property
    def qparams(self) -> QParams:
        found = self.graph.tensor(self.output).qparams
        assert found is not None
        return found

    def operand(self, tensor: TensorId) -> tuple[TensorId, QParams]:
        """The i8 tensor behind an operand, with its qparams; constants are quantized here."""
        producer = self.graph.producer(tensor)
        if isinstance(producer, ops.FakeQuantConstant):
            data, scale = self.fake_quant(producer)
            return self.constant(producer.x, data.astype(np.int8)), QParams(float(scale[0]))
        id = quantized_operand(self.graph, tensor)
        found = self.graph.tensor(id).qparams
        assert found is not None
        return id, found

    def fake_quant(self, op: ops.FakeQuantConstant) -> tuple[np.ndarray, np.ndarray]:
        """The integers and the scales."""
        scale = self.graph.data(op.scale)
        return quantize_channels(self.graph.data(op.x), scale, op.axis, op.qmin, op.qmax), scale

    def constant(self, hint: TensorId, data: np.ndarray) -> TensorId:
        return self.graph.add_constant(f"{hint}.{DType.of(data.dtype).value}", data)

    def saturation(self, clamp: ops.ClampRange) -> tuple[int, int]:
        """[qmin, qmax] of the result after the clamp; low and high round to the nearest step."""
        q = self.qparams
        limits = []
        for bound, limit in ((clamp.low, q.qmin), (clamp.high, q.qmax)):
            if math.isfinite(bound):
                limit = int(np.clip(np.rint(bound / q.scale) + q.zero_point, q.qmin, q.qmax))
            limits.append(limit)
        return limits[0], limits[1]

    def requantize(self, form: Form, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
        return Requantize(form, self.qparams.zero_point, *self.saturation(clamp))


def rescale(site: Site, x: TensorId) -> ops.Op:
    """A quantize of a dequantized tensor: a table."""
    source = site.graph.tensor(x).qparams
    assert source is not None
    table = site.constant(site.output, tables.rescale_table(source, site.qparams))
    return ops.Table(inputs=(x, table), output=site.output)


def conv2d(site: Site, op: ops.Conv2d) -> ops.Op:
    inputs, x, requantize = _linear(site, op)
    return ops.QConv2d(
        inputs=inputs,
        output=site.output,
        x_zero_point=x.zero_point,
        requantize=requantize,
        stride=op.stride,
        padding=op.padding,
        dilation=op.dilation,
        groups=op.groups,
    )


def dense(site: Site, op: ops.Dense) -> ops.Op:
    inputs, x, requantize = _linear(site, op)
    return ops.QDense(
        inputs=inputs, output=site.output, x_zero_point=x.zero_point, requantize=requantize
    )


def _linear(
    site: Site, op: ops.Conv2d | ops.Dense
) -> tuple[tuple[TensorId, ...], QParams, Requantize]:
    """Operands (x, weight, bias, multiplier, shift), qparams of x, and the epilogue."""
    x_id, x = site.operand(op.x)
    weight, bias = site.graph.producer(op.weight), site.graph.producer(op.bias)
    if not isinstance(weight, ops.FakeQuantConstant) or not isinstance(bias, ops.FakeQuantConstant):
        raise PassError(f"{op.id}: weight and bias must be quantized constants")
    w, scales = site.fake_quant(weight)
    b, _ = site.fake_quant(bias)
    real = np.broadcast_to(x.scale * scales / site.qparams.scale, len(w))
    form, multiplier, shift = requantize_constants(real)
    site.remark = f", {form.value}"
    operands = (
        site.constant(weight.x, w.astype(np.int8)),
        site.constant(bias.x, b.astype(np.int32)),
        site.constant(f"{op.id}.multiplier", multiplier),
        site.constant(f"{op.id}.shift", shift),
    )
    return (x_id, *operands), x, site.requantize(form, op.clamp)


_NARROW_TOLERANCE = 2.0**-9


def requantize_constants(real: np.ndarray) -> tuple[Form, np.ndarray, np.ndarray]:
    """NARROW where every channel's multiplier has 10 bits to within 2^-9, else WIDE."""
    factors = [narrow_factor(float(r)) for r in real]
    if all(
        f is not None and abs(math.ldexp(f[0], -(f[1] + 15)) / r - 1.0) <= _NARROW_TOLERANCE
        for f, r in zip(factors, real, strict=True)
    ):
        form, pairs = Form.NARROW, [f for f in factors if f is not None]
    else:
        form, pairs = Form.WIDE, [multiplier_wide(float(r)) for r in real]
    return (
        form,
        np.array([m for m, _ in pairs], np.int32),
        np.array([k for _, k in pairs], np.int32),
    )


def matmul(site: Site, op: ops.MatMul) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    multiplier, shift = binary_constants.mul_constants(a.scale, b.scale, site.qparams.scale)
    return ops.QMatMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
    )


def add(site: Site, op: ops.Add | ops.Sub) -> ops.Op:
    """In 16-bit lanes where the scales allow it, else in 32-bit lanes."""
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    subtract = isinstance(op, ops.Sub)
    scales = (a.scale, b.scale, site.qparams.scale)
    qmin, qmax = site.saturation(op.clamp)
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
        *scales, subtract=subtract
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
    multiplier, shift = binary_constants.div_constants(a.scale, b.scale, site.qparams.scale)
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
    )


def extreme(site: Site, op: ops.Minimum | ops.Maximum) -> ops.Op:
    qmin, qmax = site.saturation(op.clamp)
    cls = ops.QMinimum if isinstance(op, ops.Minimum) else ops.QMaximum
    inputs = tuple(_same_scale_operand(site, t) for t in op.inputs)
    return cls(inputs=inputs, output=site.output, qmin=qmin, qmax=qmax)


def _same_scale_operand(site: Site, tensor: TensorId) -> TensorId:
    """An operand in the result's scale; a constant is quantized to it."""
    if site.graph.is_constant(tensor):
        return site.constant(tensor, quantize(site.graph.data(tensor), site.qparams))
    return quantized_operand(site.graph, tensor)


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


def average_pool2d(site: Site, op: ops.AveragePool2d) -> ops.Op:
    x_id, x = site.operand(op.x)
    multipliers, shift = binary_constants.average_multipliers(
        x.scale, site.qparams.scale, op.kernel[0] * op.kernel[1]
    )
    return ops.QAveragePool2d(
        inputs=(x_id, site.constant(f"{op.id}.multiplier", multipliers)),
        output=site.output,
        x_zero_point=x.zero_point,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
        kernel=op.kernel,
        stride=op.stride,
        padding=op.padding,
        dilation=op.dilation,
        count_include_pad=op.count_include_pad,
    )


def reduce(site: Site, op: ops.Reduce) -> ops.Op:
    x_id, x = site.operand(op.x)
    if op.kind in (ops.Reduction.MAX, ops.Reduction.MIN):
        return ops.QReduceExtreme(
            inputs=(x_id,), output=site.output, kind=op.kind, axes=op.axes, keepdims=op.keepdims
        )
    shape = site.graph.type(x_id).shape
    count = math.prod(shape[a] for a in op.axes) if op.kind is ops.Reduction.MEAN else 1
    multiplier, shift = binary_constants.sum_constants(x.scale, site.qparams.scale, divisor=count)
    return ops.QReduceSum(
        inputs=(x_id,),
        output=site.output,
        axes=op.axes,
        keepdims=op.keepdims,
        x_zero_point=x.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
    )


def softmax(site: Site, op: ops.Softmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    table = site.constant(f"{op.id}.exp", tables.exp_table(x.scale))
    return ops.QSoftmax(inputs=(x_id, table), output=site.output, axis=op.axis)


def log_softmax(site: Site, op: ops.LogSoftmax) -> ops.Op:
    x_id, x = site.operand(op.x)
    multiplier, shift, units = tables.log_softmax_constants(x.scale, site.qparams.scale)
    exp = site.constant(f"{op.id}.exp", tables.exp_table(x.scale))
    log = site.constant(f"{op.id}.log", tables.log_table(units))
    return ops.QLogSoftmax(
        inputs=(x_id, exp, log),
        output=site.output,
        axis=op.axis,
        multiplier=multiplier,
        shift=shift,
        zero_point=site.qparams.zero_point,
    )


def movement(site: Site, op: ops.Movement | ops.MaxPool2d) -> ops.Op:
    """The same op on integers; constant operands are quantized, indices stay."""
    inputs = tuple(
        t if i in op.constant_operands else _same_scale_operand(site, t)
        for i, t in enumerate(op.inputs)
    )
    moved = replace(op, inputs=inputs, output=site.output)
    if isinstance(moved, ops.Pad | ops.ZeroStuff):
        value = quantize(np.array([moved.value], np.float32), site.qparams)[0]
        moved = replace(moved, value=float(value))
    return moved


RULES: Mapping[type[ops.Op], Callable[[Site, Any], ops.Op]] = {
    ops.Conv2d: conv2d,
    ops.Dense: dense,
    ops.MatMul: matmul,
    ops.Add: add,
    ops.Sub: add,
    ops.Mul: mul,
    ops.Div: div,
    ops.Minimum: extreme,
    ops.Maximum: extreme,
    ops.Unary: unary,
    ops.Clamp: clamp,
    ops.PRelu: prelu,
    ops.AveragePool2d: average_pool2d,
    ops.Reduce: reduce,
    ops.Softmax: softmax,
    ops.LogSoftmax: log_softmax,
    ops.MaxPool2d: movement,
    ops.Reshape: movement,
    ops.Transpose: movement,
    ops.Concat: movement,
    ops.Slice: movement,
    ops.Pad: movement,
    ops.Gather: movement,
    ops.BroadcastTo: movement,
    ops.Tile: movement,
    ops.Resize2d: movement,
    ops.DepthToSpace: movement,
    ops.SpaceToDepth: movement,
    ops.ZeroStuff: movement,
}
