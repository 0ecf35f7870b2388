"""Convolution, dense and matrix product: integer sums and a requantize."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.evaluate.integer_linear import centered_weight
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.passes.lib.integer_rules.site import IntegerRule, Site
from qcomp.passes.lib.qdq import Stored, stored
from qcomp.passes.lib.sums import (
    BoundSums,
    Epilogue,
    Sums,
    largest_centered,
    product_of,
    scalar_epilogue,
    sum_bits,
)
from qcomp.quant import binary_constants
from qcomp.quant.fixed_point import (
    Form,
    Requantize,
    multiplier_narrow,
    multiplier_wide,
    wide_multiplier_bits,
)
from qcomp.quant.qparams import QParams
from qcomp.quant.weights import REACH


@dataclass(frozen=True, eq=False)
class Layer:
    """Operands of a float op with weights, and the integers behind them."""

    x_id: TensorId
    x: QParams
    weight_id: TensorId
    bias_id: TensorId
    weight: Stored
    bias: Stored

    @property
    def channels(self) -> int:
        return len(self.weight.integers)

    @property
    def largest(self) -> int:
        """The magnitude that no sum exceeds."""
        taps = np.abs(self.weight.centered).reshape(self.channels, -1).sum(axis=1)
        return int((np.abs(self.bias.integers) + REACH[self.x.bits] * taps).max())

    def doubled(self, times: Array) -> Layer:
        """With each channel's integers doubled so often; they have no zero point."""
        weights = (self.weight.integers.T << times).T
        return replace(
            self,
            weight=replace(self.weight, integers=weights),
            bias=replace(self.bias, integers=self.bias.integers << times),
        )


Linear = Callable[[Site, ops.Weighted], tuple[tuple[TensorId, ...], QParams, Requantize]]
"""Operands (x, weight, bias, multiplier, shift), qparams of x, and the epilogue."""


def conv2d_by(linear: Linear) -> IntegerRule:
    def rule(site: Site, op: ops.Conv2d) -> ops.Op:
        inputs, x, requantize = linear(site, op)
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

    return rule


def dense_by(linear: Linear) -> IntegerRule:
    def rule(site: Site, op: ops.Dense) -> ops.Op:
        inputs, x, requantize = linear(site, op)
        return ops.QDense(
            inputs=inputs, output=site.output, x_zero_point=x.zero_point, requantize=requantize
        )

    return rule


def layer_of(site: Site, op: ops.Weighted) -> Layer:
    """PassError where its integers can't be summed as they are."""
    x_id, x = site.operand(op.x)
    weight, bias = site.graph.producer(op.weight), site.graph.producer(op.bias)
    if not isinstance(weight, ops.QuantizedConstant) or not isinstance(bias, ops.QuantizedConstant):
        raise PassError(f"{op.id}: weight and bias must be quantized constants")
    w, b = stored(site.graph, weight), stored(site.graph, bias)
    _expect_sums(op, w, b, x)
    return Layer(x_id, x, weight.x, bias.x, w, b)


def operands(
    site: Site, op: ops.Weighted, layer: Layer, multiplier: Array, shift: Array, acc: DType
) -> tuple[TensorId, ...]:
    """Of the integer op, whose accumulators have the type `acc`."""
    constants = [
        site.constant(layer.weight_id, layer.weight.integers.astype(np.int8)),
        site.constant(layer.bias_id, layer.bias.integers.astype(acc.numpy)),
        site.constant(f"{op.id}.multiplier", multiplier),
        site.constant(f"{op.id}.shift", shift),
    ]
    if layer.weight.zero_point.any():
        zero_point = layer.weight.zero_point.astype(np.int8)
        constants.append(site.constant(f"{op.id}.weight_zero_point", zero_point))
    return layer.x_id, *constants


def _linear(site: Site, op: ops.Weighted) -> tuple[tuple[TensorId, ...], QParams, Requantize]:
    layer = layer_of(site, op)
    x, w, largest = layer.x, layer.weight, layer.largest
    real = np.broadcast_to(x.scale * w.scale / site.qparams.scale, layer.channels)
    acc = DType.I64 if x.bits == 32 or (x.bits == 16 and largest >= 2**31) else DType.I32
    if site.is_wide(x):
        form = Form.WIDE
        multiplier, shift = wide_constants(real, largest)
    else:
        doublings = np.zeros(layer.channels, np.int64)
        if not w.zero_point.any():
            doublings = doublings_to_narrow(w.integers, largest, real)
        layer = layer.doubled(doublings)
        form, multiplier, shift = requantize_constants(np.ldexp(real, -doublings))
    site.remark = f", {form.value}{', i64' if acc is DType.I64 else ''}"
    inputs = operands(site, op, layer, multiplier, shift, acc)
    return inputs, x, site.requantize(form, op.clamp)


def _expect_sums(op: ops.Weighted, weight: Stored, bias: Stored, x: QParams) -> None:
    """Integers that were given can be summed as they are: i8 weights, the bias in their steps."""
    low, high = int(weight.integers.min()), int(weight.integers.max())
    if not -128 <= low <= high <= 127:
        raise PassError(f"{op.id}: weights in [{low}, {high}]; expected [-128, 127]")
    if bias.zero_point.any():
        raise PassError(f"{op.id}: the bias has a zero point; expected none")
    steps = x.scale * weight.scale
    if bias.integers.any() and not np.allclose(bias.scale, steps, rtol=1e-6, atol=0.0):
        raise PassError(
            f"{op.id}: the bias has the scale {bias.scale.max():.9g}; expected scale_x * "
            f"scale_weight, {steps.max():.9g}"
        )


def doublings_to_narrow(weight: Array, largest: int, real: Array) -> Array:
    """How often each channel's integers are doubled, so that all factors are in NARROW's reach.

    Integers of few bits leave room in i8 for it; none where one channel's do not. The sums, of at
    most `largest` before, stay below 2^30.
    """
    peaks = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    most = min(6, 30 - largest.bit_length())
    found = [
        next((n for n in range(most + 1) if multiplier_narrow(r * 2.0**-n) and p << n <= 127), None)
        for r, p in zip(real.tolist(), peaks.tolist(), strict=True)
    ]
    none = np.zeros(len(weight), np.int64)
    return none if None in found else np.array(found, np.int64)


def requantize_constants(real: Array) -> tuple[Form, Array, Array]:
    """NARROW where every channel's factor is in its reach (2^-36 to 1), else WIDE."""
    narrow = [multiplier_narrow(float(r)) for r in real]
    pairs = [f for f in narrow if f is not None]
    if len(pairs) < len(narrow):
        return Form.WIDE, *wide_constants(real, 2**31 - 1)
    multiplier, shift = np.array(pairs, np.int32).reshape(-1, 2).T
    return Form.NARROW, multiplier, shift


def wide_constants(real: Array, largest: int) -> tuple[Array, Array]:
    """Multipliers and shifts of form WIDE for sums of at most that magnitude."""
    bits = wide_multiplier_bits(largest)
    pairs = [multiplier_wide(float(r), bits) for r in real]
    multiplier, shift = np.array(pairs, np.int32).reshape(-1, 2).T
    return multiplier, shift


def matmul(site: Site, op: ops.MatMul) -> ops.Op:
    (a_id, a), (b_id, b) = site.operand(op.a), site.operand(op.b)
    depth = site.graph.type(a_id).shape[-1]
    multiplier, shift = binary_constants.mul_constants(
        a.scale, b.scale, site.qparams.scale, depth * REACH[a.bits] * REACH[b.bits]
    )
    return ops.QMatMul(
        inputs=(a_id, b_id),
        output=site.output,
        a_zero_point=a.zero_point,
        b_zero_point=b.zero_point,
        multiplier=multiplier,
        shift=shift,
        requantize=site.requantize(Form.WIDE),
    )


def linear_sums(graph: Graph, op: ops.QWeighted) -> Sums:
    zero_point = () if op.weight_zero_point is None else (graph.data(op.weight_zero_point),)
    taps = _taps(centered_weight(graph.data(op.weight), *zero_point))
    bias = np.abs(graph.data(op.bias).astype(object))
    largest = bias + taps.astype(object) * largest_centered(graph, op.x, op.x_zero_point)
    multiplier = graph.data(op.multiplier).astype(np.int64)
    shift = graph.data(op.shift).astype(np.int64)
    bits = 63 if graph.type(op.bias).dtype is DType.I64 else 31
    return Sums(largest, Epilogue(op.requantize, multiplier, shift), bits)


def _taps(weight: Array) -> NDArray[np.int64]:
    """The sum of each output channel's |weight|."""
    magnitudes = np.abs(weight.astype(np.int64))
    return np.asarray(magnitudes.reshape(len(weight), -1).sum(axis=1))


def matmul_sums(graph: Graph, op: ops.QMatMul) -> Sums:
    depth = graph.type(op.a).shape[-1]
    return Sums(
        depth * product_of(graph, op),
        scalar_epilogue(op.requantize, op.multiplier, op.shift),
        sum_bits(graph, op.inputs),
    )


RULES: Mapping[type[ops.Op], IntegerRule] = {
    ops.Conv2d: conv2d_by(_linear),
    ops.Dense: dense_by(_linear),
    ops.MatMul: matmul,
}

SUMS: Mapping[type[ops.Op], BoundSums] = {
    ops.QConv2d: linear_sums,
    ops.QDense: linear_sums,
    ops.QMatMul: matmul_sums,
}
