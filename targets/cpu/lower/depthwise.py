"""Lowering of convolutions with one input and one output channel per group."""

from __future__ import annotations

import numpy as np

from qcomp.ir.ops import QConv2d
from qcomp.targets.cpu.emit.depthwise import Depthwise
from qcomp.targets.cpu.emit.depthwise_layout import DepthwiseSpec, pack_depthwise, pack_tables
from qcomp.targets.cpu.emit.depthwise_tiling import oriented, plan_taps
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.layer import (
    epilogue_tables,
    layer_header,
    window_axes,
    window_start,
)


def lower_depthwise(lowering: Lowering, op: QConv2d) -> None:
    weight = lowering.graph.data(op.weight)
    channels, height, width, _ = weight.shape
    batch, rows, columns = window_axes(lowering, op)
    _, row, pixel, _ = lowering.place(op.x).layout.strides
    upright = DepthwiseSpec(
        batch=batch,
        rows=rows,
        columns=columns,
        kernel=(height, width),
        steps=(op.dilation[0] * row, op.dilation[1] * pixel),
        channels=channels,
        form=op.requantize.form,
        ceiling=op.id in lowering.ceilings,
        lookup=op.id in lowering.lookups,
    )
    spec = oriented(upright)
    taps = weight.reshape(channels, height, width)
    if spec != upright:
        taps = taps.swapaxes(1, 2)
    tables = pack_tables(epilogue_tables(lowering, op, weight))
    arguments = (
        window_start(lowering, op),
        lowering.place(op.output).start,
        lowering.constant(pack_depthwise(taps, plan_taps(spec))),
        lowering.constant(np.concatenate([layer_header(lowering, op), tables])),
    )
    kernel = Depthwise(spec, lowering.isa)
    lowering.ranged("depthwise", spec, arguments, kernel.emit, kernel.units)
