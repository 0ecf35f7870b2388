"""Lowering of convolutions and dense layers with operands or results of 16 or 32 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qcomp.ir.ops import Op, QConv2d, QDense, QWeighted
from qcomp.ir.tensor import Array
from qcomp.targets.cpu.emit.builder import I32
from qcomp.targets.cpu.emit.i16.spec import LayerConstants, ProductSpec, TapSpec
from qcomp.targets.cpu.emit.i32.products import SumProducts
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.kernels.axis import Axis, flattened_axes
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, element_types
from qcomp.targets.cpu.lower.i16.types import bytes_of
from qcomp.targets.cpu.lower.i32.types import is_i32
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.lower.windows import Window, windows
from qcomp.targets.cpu.machine import Isa, Kernel16
from qcomp.targets.cpu.program import Address
from qcomp.targets.cpu.storage import BIAS


def lower_conv2d(lowering: Lowering, op: QConv2d) -> None:
    """Depthwise layers go to their own kernel, everything else is a matrix product."""
    for window in windows(lowering, op):
        if is_depthwise(lowering.graph, op) and not is_i32(lowering.graph, op):
            _depthwise(lowering, op, window)
        else:
            _convolution(lowering, op, window)


def _convolution(lowering: Lowering, op: QConv2d, window: Window) -> None:
    outputs, _, _, depth = window.weight.shape
    x, bias, y = element_types(lowering.graph, op.x, op.bias, op.output)
    segments, pixels = window.runs(depth * bytes_of(x))
    each = outputs // op.groups
    spec = ProductSpec(
        groups=Axis(op.groups, depth * bytes_of(x), each * bytes_of(y)),
        batch=window.batch,
        rows=window.rows,
        columns=window.columns,
        segments=segments,
        length=pixels * depth,
        channels=each,
        source=x,
        sums=bias,
        result=y,
        ceiling=op.id in lowering.ceilings,
    )
    rows, columns = flattened_axes(spec.rows, spec.columns)
    spec = replace(spec, rows=rows, columns=columns)
    _product(lowering, op, spec, window.weight, window.source, window.result)


def lower_dense(lowering: Lowering, op: QDense) -> None:
    """[..., K] is an image of K channels; leading axes are one column unless borders part them."""
    x, y = lowering.place(op.x), lowering.place(op.output)
    weight = lowering.graph.data(op.weight)
    source, bias, result = element_types(lowering.graph, op.x, op.bias, op.output)
    steps = zip(x.layout.shape[:-1], x.layout.strides, y.layout.strides, strict=False)
    axes = simplified_axes([Axis(*step) for step in steps])
    batch, rows, columns = (*[Axis(1, 0, 0)] * (3 - len(axes)), *axes)
    spec = ProductSpec(
        groups=Axis(1, 0, 0),
        batch=batch,
        rows=rows,
        columns=columns,
        segments=(),
        length=weight.shape[1],
        channels=len(weight),
        source=source,
        sums=bias,
        result=result,
        ceiling=op.id in lowering.ceilings,
    )
    _product(lowering, op, spec, weight, x.start, y.start)


def _product(
    lowering: Lowering,
    op: QWeighted,
    spec: ProductSpec,
    weight: Array,
    source: Address,
    result: Address,
) -> None:
    spec = replace(spec, shared=lowering.data.beginnings)
    groups = spec.groups.count
    by_group = weight.reshape(groups, spec.channels, spec.segment_count, spec.length)
    layer = _constants(lowering, op, by_group, source)
    of_32 = I32 in (spec.source, spec.result)
    make = sum_products if of_32 else lowering.isa.machine.products_16
    kernel = make(spec, layer, lowering.isa)
    _call(lowering, op, "products", kernel, layer, (source, result))


def _depthwise(lowering: Lowering, op: QConv2d, window: Window) -> None:
    channels, height, width, _ = window.weight.shape
    x, bias, y = element_types(lowering.graph, op.x, op.bias, op.output)
    spec = TapSpec(
        batch=window.batch,
        rows=window.rows,
        columns=window.columns,
        kernel=(height, width),
        taps=window.taps,
        channels=channels,
        source=x,
        sums=bias,
        result=y,
        ceiling=op.id in lowering.ceilings,
    )
    weight = window.weight.reshape(channels, height, width)
    layer = _constants(lowering, op, weight, window.source)
    kernel = lowering.isa.machine.taps_16(spec, layer, lowering.isa)
    _call(lowering, op, "taps", kernel, layer, (window.source, window.result))


def _call(
    lowering: Lowering,
    op: QWeighted,
    kind: str,
    kernel: Kernel16,
    layer: LayerConstants,
    addresses: Sequence[Address],
) -> None:
    """The addresses are of source and result."""
    constants = map(lowering.constant, (*kernel.constants(layer), _limits(op)))
    lowering.ranged(kind, kernel.key, [*addresses, *constants], kernel.emit, kernel.units)


def _constants(lowering: Lowering, op: QWeighted, weight: Array, source: Address) -> LayerConstants:
    """Of weights as kernels take them, channels in the order of the tables."""
    ceiling = lowering.ceilings.get(op.id)
    bias, multiplier, shift = (lowering.graph.data(t) for t in (op.bias, op.multiplier, op.shift))
    sums = weight.reshape(len(bias), -1).astype(np.int64).sum(axis=1)
    folded = bias.astype(np.int64) - op.x_zero_point * sums
    return LayerConstants(
        weight,
        folded.astype(bias.dtype),
        multiplier,
        shift,
        None if ceiling is None else ceiling.values,
        op.requantize,
        BIAS if source.unsigned else 0,
    )


def _limits(op: QWeighted) -> Array:
    """What `Saturation.loaded` reads."""
    q = op.requantize
    return np.array([q.zero_point, q.qmin, q.qmax], np.int32)


def sum_products(spec: ProductSpec, layer: LayerConstants, isa: Isa) -> Kernel16:
    """Of 32 bits at either side, on any machine."""
    return SumProducts(spec, isa)


I16_LOWERINGS: Mapping[type[Op], LowerOp] = {
    QConv2d: lower_conv2d,
    QDense: lower_dense,
}

I32_LOWERINGS = I16_LOWERINGS
