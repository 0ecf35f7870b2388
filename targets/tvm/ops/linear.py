"""Layers with weights, and products of matrices: sums of products and their epilogue.

Zero points are folded into the bias, and padding has the zero point of the activations, so that
the sums are products of i8:  sum(w * (x - zx)) + bias = sum(w * x) + (bias - zx * sum(w)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.integer_linear import centered_weight
from qcomp.ir.ops import QConv2d, QDense, QMatMul, QWeighted
from qcomp.ir.tensor import DType
from qcomp.targets.tvm.api.expressions import (
    Expr,
    const,
    floor_quotient,
    function_of_c,
    vector_function,
)
from qcomp.targets.tvm.api.tensors import Tensor, axis, compute, dtype_of, shape_of, total
from qcomp.targets.tvm.arithmetic import I32, I64, WIDTHS
from qcomp.targets.tvm.builder import Builder, Functions
from qcomp.targets.tvm.machine import DOT4, PIXELS
from qcomp.targets.tvm.ops.indexing import broadcast, padded
from qcomp.targets.tvm.requantize import Factor, requantize

Array = NDArray[Any]

LARGEST_SUM = 2**31


@dataclass(frozen=True)
class Layer:
    """Weights [O, ..., I] without a zero point, and the bias that has that of the activations.

    `lanes` are as wide as the sums: 32 bits where the bias has them and nothing leaves them.
    """

    weight: Array
    bias: Array
    lanes: str


def layer(b: Builder, op: QWeighted) -> Layer:
    zero = [] if op.weight_zero_point is None else [b.array(op.weight_zero_point)]
    weight = centered_weight(b.array(op.weight), *zero)
    if weight.min(initial=0) >= -128 and weight.max(initial=0) <= 127:
        weight = weight.astype(np.int8)
    wide, axes = weight.astype(np.int64), tuple(range(1, weight.ndim))
    bias = b.array(op.bias).astype(np.int64) - op.x_zero_point * wide.sum(axes)
    x_is_i8 = b.type(op.x).dtype is DType.I8
    largest = np.abs(wide).sum(axes) * (2**7 if x_is_i8 else 2**15) + np.abs(bias)
    fits = b.type(op.bias).dtype is DType.I32 and int(largest.max(initial=0)) < LARGEST_SUM
    return Layer(weight, bias.astype(np.int32 if fits else np.int64), I32 if fits else I64)


def requantized(b: Builder, op: QWeighted, bias: Array, sums: Tensor) -> Tensor:
    """The epilogue, channels last."""
    factors, offset = b.factors(op.multiplier, op.shift), b.channel(bias)
    lane = WIDTHS[dtype_of(sums)]

    def element(*i: Expr) -> Expr:
        return requantize(sums[i] + lane(offset(i[-1])), factors(i[-1]), op.requantize)

    return compute(shape_of(sums), element)


@dataclass(frozen=True)
class Operand:
    """Activations whose last axis is read in steps of `width` elements: 4 in one word, or one."""

    tensor: Tensor
    width: int
    outside: int  # of a step


def stepped(b: Builder, id: str, channels: int, own: Layer, zero_point: int) -> Operand:
    """Steps of four i8, where the machine multiplies them at once and the channels divide."""
    x = b.stored(id)
    four = dtype_of(x) == "int8" and own.weight.dtype == np.int8 and own.lanes == I32
    if not (b.machine.dot4 and four and channels % 4 == 0 and shape_of(x)[-1] % 4 == 0):
        return Operand(x, 1, zero_point)
    shape = shape_of(x)
    word = int(np.frombuffer(np.full(4, zero_point, np.int8).tobytes(), np.int32)[0])
    return Operand(b.view(x, (*shape[:-1], shape[-1] // 4), "int32"), 4, word)


def weights_by_step(weight: Array, width: int) -> Array:
    """[O, ..., I] to [..., I / width, O], so that neighbouring channels lie side by side."""
    last = np.ascontiguousarray(np.moveaxis(weight, 0, -1))  # [..., I, O]
    if width == 1:
        return last
    *front, depth, outputs = last.shape
    steps = last.reshape(*front, depth // 4, 4, outputs)
    return np.ascontiguousarray(np.moveaxis(steps, -2, -1)).view(np.int32)[..., 0]


def product(b: Builder, x: Expr, w: Expr, width: int, lanes: str) -> Expr:
    if width == 4:
        call = vector_function if b.machine.dot4 > 1 else function_of_c
        return call(I32, DOT4, x, w)
    return WIDTHS[lanes](x) * WIDTHS[lanes](w)


def q_conv2d(b: Builder, op: QConv2d) -> Tensor:
    own = layer(b, op)
    outputs, kh, kw, depth = own.weight.shape
    x = stepped(b, op.x, depth, own, op.x_zero_point)
    steps = depth // x.width
    weight = b.constant(weights_by_step(own.weight, x.width))
    i, j, k = axis(kh), axis(kw), axis(steps) if steps > 1 else const(0, I32)
    walks = (i, j, k) if steps > 1 else (i, j)
    top, left, bottom, right = op.padding
    checked = (False, bool(top or bottom), bool(left or right), False)
    channel = _channel(op.groups, outputs, steps)

    source = x.tensor
    if any(checked) and op.stride[1] == 1:
        n_, height, width, depth_ = shape_of(source)
        source = compute(
            (n_, height + top + bottom, width + left + right, depth_),
            lambda n, y, z, c: padded(x.tensor, (n, y - top, z - left, c), checked, x.outside),
            PIXELS,
        )
        top = left = 0
        checked = (False,) * 4

    def element(n: Expr, y: Expr, z: Expr, c: Expr) -> Expr:
        row = y * op.stride[0] + i * op.dilation[0] - top
        column = z * op.stride[1] + j * op.dilation[1] - left
        pixel = padded(source, (n, row, column, channel(c, k)), checked, x.outside)
        return total(product(b, pixel, weight[i, j, k, c], x.width, own.lanes), walks)

    return requantized(b, op, own.bias, compute(b.type(op.output).shape, element))


def _channel(groups: int, outputs: int, steps: int) -> Callable[[Expr, Expr], Expr]:
    """Which step of the activations step k of an output channel's group is."""
    each = outputs // groups
    if groups == 1:
        return lambda c, k: k
    if each == 1:
        return lambda c, k: c if steps == 1 else c * steps + k
    return lambda c, k: floor_quotient(c, const(each, I32)) * steps + k


def dense_sums(b: Builder, id: str, own: Layer, zero_point: int, shape: Sequence[int]) -> Tensor:
    depth = own.weight.shape[1]
    x = stepped(b, id, depth, own, zero_point)
    weight, k = b.constant(weights_by_step(own.weight, x.width)), axis(depth // x.width)

    def element(*i: Expr) -> Expr:
        return total(product(b, x.tensor[(*i[:-1], k)], weight[k, i[-1]], x.width, own.lanes), (k,))

    return compute(shape, element)


def q_dense(b: Builder, op: QDense) -> Tensor:
    own = layer(b, op)
    sums = dense_sums(b, op.x, own, op.x_zero_point, b.type(op.output).shape)
    return requantized(b, op, own.bias, sums)


def q_matmul(b: Builder, op: QMatMul) -> Tensor:
    """Products of two activations, less their zero points."""
    x, y = b.stored(op.a), b.stored(op.b)
    narrow = dtype_of(x) == dtype_of(y) == "int8"
    lane, k = WIDTHS[I32 if narrow else I64], axis(shape_of(x)[-1])
    factor = Factor(op.multiplier, op.shift)

    def sums(*i: Expr) -> Expr:
        a = lane(broadcast(x, (*i[:-1], k))) - lane(op.a_zero_point)
        c = lane(broadcast(y, (*i[:-2], k, i[-1]))) - lane(op.b_zero_point)
        return total(a * c, (k,))

    acc = compute(b.type(op.output).shape, sums)
    return compute(shape_of(acc), lambda *i: requantize(acc[i], factor, op.requantize))


FUNCTIONS: Functions = {QConv2d: q_conv2d, QDense: q_dense, QMatMul: q_matmul}
