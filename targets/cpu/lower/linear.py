"""Lowering of convolution and dense layers."""

from __future__ import annotations

import numpy as np

from qcomp.ir.ops import QConv2d, QDense
from qcomp.ir.tensor import Array
from qcomp.targets.cpu.emit.amx import gemm_kernel
from qcomp.targets.cpu.emit.gemm import (
    Axis,
    GemmSpec,
    flattened,
    pack_channels,
    pack_weights,
    plan_gemm,
)
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.depthwise import lower_depthwise
from qcomp.targets.cpu.lower.layer import (
    epilogue_tables,
    layer_header,
    other_strides,
    window_axes,
    window_start,
)
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.program import Address


def lower_conv2d(lowering: Lowering, op: QConv2d) -> None:
    """Depthwise layers go to their own kernel, everything else is a GEMM."""
    if is_depthwise(lowering.graph, op):
        lower_depthwise(lowering, op)
    else:
        _convolution(lowering, op)


def _convolution(lowering: Lowering, op: QConv2d) -> None:
    batch, rows, columns = window_axes(lowering, op)
    weight = lowering.graph.data(op.weight)
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
        lookup=op.id in lowering.lookups,
    )
    if kh == 1:
        spec = flattened(spec)
    packed = weight.reshape(op.groups, per_group, spec.segment_count, length)
    _gemm(lowering, op, spec, packed, weight, window_start(lowering, op))


def lower_dense(lowering: Lowering, op: QDense) -> None:
    """[..., K] is an image of K channels; leading axes are one column unless borders part them."""
    x, y = lowering.place(op.x), lowering.place(op.output)
    weight = lowering.graph.data(op.weight)
    outputs, depth = weight.shape
    strides = (x.layout.strides, y.layout.strides, other_strides(lowering, op))
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
        lookup=op.id in lowering.lookups,
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
    tables = epilogue_tables(lowering, op, weight)
    params = np.concatenate(
        [
            pack_channels(part, spec)
            for group in range(spec.groups.count)
            for part in (t[group * spec.channels : (group + 1) * spec.channels] for t in tables)
        ]
    )
    arguments = [
        start,
        lowering.place(op.output).start,
        lowering.constant(weights),
        lowering.constant(np.concatenate([layer_header(lowering, op), params])),
    ]
    if residual := lowering.residuals.get(op.id):
        arguments.append(lowering.place(residual.other).start)
    plan = plan_gemm(spec, lowering.isa)
    kernel = gemm_kernel(spec, plan, lowering.isa)
    lowering.ranged("gemm", spec, arguments, kernel.emit, plan.units)
