"""Lowering of convolutions with one input and one output channel per group."""

from __future__ import annotations

import numpy as np

from qcomp.ir.ops import QConv2d
from qcomp.targets.cpu.emit.depthwise import Depthwise
from qcomp.targets.cpu.emit.depthwise_taps import DepthwiseTaps, pack_tap_tables, pack_taps
from qcomp.targets.cpu.kernels.depthwise_layout import DepthwiseSpec, pack_depthwise, pack_tables
from qcomp.targets.cpu.kernels.depthwise_tiling import oriented
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.layer import (
    clamps,
    epilogue_tables,
    layer_header,
    rectifies,
    shifts_right,
)
from qcomp.targets.cpu.lower.reach import depthwise_reach
from qcomp.targets.cpu.lower.windows import Window


def lower_depthwise(lowering: Lowering, op: QConv2d, window: Window) -> None:
    """Of weights in one part."""
    weight = window.weight
    channels, height, width, _ = weight.shape
    machine = lowering.isa.machine
    upright = DepthwiseSpec(
        batch=window.batch,
        rows=window.rows,
        columns=window.columns,
        kernel=(height, width),
        steps=window.taps,
        channels=channels,
        form=op.requantize.form,
        layout=machine.blocks,
        ceiling=op.id in lowering.ceilings,
        lookup=op.id in lowering.lookups,
        clamped=clamps(lowering, op),
        rectified=rectifies(lowering, op),
        shifts_right=shifts_right(lowering, op),
        pairs=machine.taps and int(weight.min()) > -128,
    )
    taps = weight.reshape(channels, height, width)
    tables = epilogue_tables(lowering, op, weight)
    kernel: Depthwise | DepthwiseTaps
    if machine.taps:
        spec = upright.transposed() if upright.columns.count == 1 else upright
        taps = taps if spec == upright else taps.swapaxes(1, 2)
        kernel = DepthwiseTaps(spec, lowering.isa)
        weights, parameters = pack_taps(taps), pack_tap_tables(tables)
    else:
        spec = oriented(upright, machine.depthwise.layout)
        taps = taps if spec == upright else taps.swapaxes(1, 2)
        kernel = Depthwise(spec, lowering.isa)
        weights = pack_depthwise(taps, kernel.taps, spec.layout)
        parameters = pack_tables(tables, spec.layout)
    arguments = (
        window.source,
        window.result,
        lowering.constant(weights),
        lowering.constant(np.concatenate([layer_header(lowering, op), parameters])),
    )
    reach = depthwise_reach(kernel)
    lowering.ranged("depthwise", spec, arguments, kernel.emit, kernel.units, reach)
