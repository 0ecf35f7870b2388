"""Lowering of convolution and dense layers."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from qcomp.ir.ops import QConv2d, QDense
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu.emit.builder import Value
from qcomp.targets.cpu.emit.amx import gemm_kernel
from qcomp.targets.cpu.emit.depthwise import DepthwiseSpec, emit_depthwise, padded_channels
from qcomp.targets.cpu.emit.epilogue import header
from qcomp.targets.cpu.emit.gemm import (
    Axis,
    GemmSpec,
    flattened,
    pack_channels,
    pack_weights,
    plan_gemm,
)
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.isa import BIAS
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.program import Address, moved


def folded_bias(
    weight: Array, bias: Array, shift: Array, x_zero_point: int, q: Requantize
) -> NDArray[np.int32]:
    """bias - x_zero_point * sum(w), and the narrow form's rounding; certified to fit i32."""
    sums = weight.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    folded = bias.astype(np.int64) - x_zero_point * sums
    if q.form is Form.NARROW:
        folded += np.where(shift > 0, np.int64(1) << np.maximum(shift.astype(np.int64) - 1, 0), 0)
    result: NDArray[np.int32] = folded.astype(np.int32)
    return result


def _tables(lowering: Lowering, op: QConv2d | QDense, weight: Array) -> list[NDArray[np.int32]]:
    """The parameters of the epilogue: bias, multiplier, shift and, where one is fused, ceiling."""
    graph = lowering.graph
    shift = graph.data(op.shift)
    stored = op.x_zero_point + (BIAS if lowering.place(op.x).base.unsigned else 0)
    bias = folded_bias(weight, graph.data(op.bias), shift, stored, op.requantize)
    tables = [bias, graph.data(op.multiplier), shift]
    ceiling = lowering.ceilings.get(op.id)
    return [*tables, ceiling.values] if ceiling else tables


def lower_conv2d(lowering: Lowering, op: QConv2d) -> None:
    """Depthwise layers go to their own kernel, everything else is a GEMM."""
    graph = lowering.graph
    weight = graph.data(op.weight)
    if is_depthwise(graph, op):
        _depthwise(lowering, op, weight)
    else:
        _convolution(lowering, op, weight)


def _window_start(lowering: Lowering, op: QConv2d) -> Address:
    """The address of the first window's first element, in the border."""
    x = lowering.place(op.x)
    _, row, pixel, _ = x.layout.strides
    top, left, _, _ = op.padding
    return moved(x.start, -(top * row + left * pixel))


def _axes(lowering: Lowering, op: QConv2d) -> tuple[Axis, Axis, Axis]:
    """batch, rows and columns of the result."""
    x, y = lowering.place(op.x).layout, lowering.place(op.output).layout
    n, h, w, _ = y.shape
    other = _other_strides(lowering, op)
    return (
        Axis(n, x.strides[0], y.strides[0], other[0]),
        Axis(h, x.strides[1] * op.stride[0], y.strides[1], other[1]),
        Axis(w, x.strides[2] * op.stride[1], y.strides[2], other[2]),
    )


def _other_strides(lowering: Lowering, op: QConv2d | QDense) -> tuple[int, ...]:
    """How the operand of a fused residual addition steps along the axes of the result."""
    residual = lowering.residuals.get(op.id)
    if residual is None:
        return (0,) * lowering.graph.type(op.output).rank
    return lowering.place(residual.other).layout.strides


def _depthwise(lowering: Lowering, op: QConv2d, weight: Array) -> None:
    isa = lowering.isa
    batch, rows, columns = _axes(lowering, op)
    channels, kh, kw, _ = weight.shape
    _, row, pixel, _ = lowering.place(op.x).layout.strides
    taps = tuple(
        y * op.dilation[0] * row + x * op.dilation[1] * pixel for y in range(kh) for x in range(kw)
    )
    spec = DepthwiseSpec(
        batch, rows, columns, taps, channels, op.requantize.form, op.id in lowering.ceilings
    )
    padded = padded_channels(spec, isa)
    table = np.zeros((kh * kw, padded), np.int8)
    table[:, :channels] = weight.reshape(channels, kh * kw).T
    tables = _tables(lowering, op, weight)
    params = np.zeros((len(tables), padded), np.int32)
    params[:, :channels] = tables

    def emit(b: ir.IRBuilder, pointers: tuple[Value, ...]) -> None:
        emit_depthwise(b, spec, isa, *pointers)

    arguments = (
        _window_start(lowering, op),
        lowering.place(op.output).start,
        lowering.constant(table),
        lowering.constant(np.concatenate([header(op.requantize), params.reshape(-1)])),
    )
    lowering.call("depthwise", spec, arguments, emit)


def _convolution(lowering: Lowering, op: QConv2d, weight: Array) -> None:
    batch, rows, columns = _axes(lowering, op)
    outputs, kh, kw, depth = weight.shape
    _, row, pixel, _ = lowering.place(op.x).layout.strides
    segments: list[tuple[int, int]] = [(kh, op.dilation[0] * row)]
    length = depth
    if op.dilation[1] == 1 and pixel == depth:
        length = kw * depth
    else:
        segments.append((kw, op.dilation[1] * pixel))
    per_group = outputs // op.groups
    spec = GemmSpec(
        groups=Axis(op.groups, depth, per_group),
        batch=batch,
        rows=rows,
        columns=columns,
        segments=tuple(s for s in segments if s[0] > 1),
        length=length,
        channels=per_group,
        form=op.requantize.form,
        ceiling=op.id in lowering.ceilings,
        residual=op.id in lowering.residuals,
    )
    if kh == 1:
        spec = flattened(spec)
    packed = weight.reshape(op.groups, per_group, spec.segment_count, length)
    _gemm(lowering, op, spec, packed, weight, _window_start(lowering, op))


def lower_dense(lowering: Lowering, op: QDense) -> None:
    """[..., K] is an image of K channels; leading axes are one column unless borders part them."""
    x, y = lowering.place(op.x), lowering.place(op.output)
    weight = lowering.graph.data(op.weight)
    outputs, depth = weight.shape
    strides = (x.layout.strides, y.layout.strides, _other_strides(lowering, op))
    steps = zip(x.layout.shape[:-1], *strides, strict=False)
    axes = simplified_axes([Axis(*step) for step in steps])
    batch, rows, columns = (*[Axis(1, 0, 0)] * (3 - len(axes)), *axes)
    spec = GemmSpec(
        groups=Axis(1, 0, 0),
        batch=batch,
        rows=rows,
        columns=columns,
        segments=(),
        length=depth,
        channels=outputs,
        form=op.requantize.form,
        ceiling=op.id in lowering.ceilings,
        residual=op.id in lowering.residuals,
    )
    _gemm(lowering, op, spec, weight[None, :, None, :], weight, x.start)


def _gemm(
    lowering: Lowering,
    op: QConv2d | QDense,
    spec: GemmSpec,
    packed: Array,
    weight: Array,
    start: Address,
) -> None:
    """`packed` is [groups, N, segments, length]."""
    weights = np.concatenate([pack_weights(group, spec) for group in packed])
    tables = _tables(lowering, op, weight)
    params = np.concatenate(
        [
            pack_channels(part, spec)
            for group in range(spec.groups.count)
            for part in (t[group * spec.channels : (group + 1) * spec.channels] for t in tables)
        ]
    )
    residual = lowering.residuals.get(op.id)
    constants = header(op.requantize, residual.addition if residual else None)
    arguments = [
        start,
        lowering.place(op.output).start,
        lowering.constant(weights),
        lowering.constant(np.concatenate([constants, params])),
    ]
    if residual:
        arguments.append(lowering.place(residual.other).start)
    plan = plan_gemm(spec, lowering.isa)
    kernel = gemm_kernel(spec, plan, lowering.isa)
    lowering.ranged("gemm", spec, arguments, kernel.emit, plan.units)
