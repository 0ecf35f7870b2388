"""Lowering of convolution and dense layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from qcomp.ir.ops import Op, QConv2d, QDense, QWeighted
from qcomp.ir.tensor import Array
from qcomp.targets.cpu.emit.reduce import simplified_axes
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.kernels.codes import gain
from qcomp.targets.cpu.kernels.gemm import (
    GemmSpec,
    Packing,
    flattened,
    pack_channels,
    pack_weights,
    with_joined_ends,
)
from qcomp.targets.cpu.lower.context import Lowering, LowerOp
from qcomp.targets.cpu.lower.depthwise import lower_depthwise
from qcomp.targets.cpu.lower.grouping import groupings
from qcomp.targets.cpu.lower.layer import (
    clamps,
    epilogue_tables,
    layer_header,
    other_strides,
    rectifies,
    shifts_right,
)
from qcomp.targets.cpu.lower.reach import gemm_reach
from qcomp.targets.cpu.lower.residual import is_depthwise
from qcomp.targets.cpu.lower.weight_bits import Coding, coding
from qcomp.targets.cpu.lower.weight_parts import by_channel, repeats, weight_parts
from qcomp.targets.cpu.lower.windows import Window, windows
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.program import Address


@dataclass(frozen=True, eq=False)
class _Product:
    """A layer as a matrix product: its shape class, and its weights [groups, N, segments, K]."""

    spec: GemmSpec
    weights: Array

    def coded(self, coding: Coding, isa: Isa) -> _Product:
        codes = coding.codes(self.weights)
        spec = coding.of(self.spec, codes)
        pairs = isa.machine.products.pairs and int(codes.min()) << gain(spec.weight_bits) > -128
        return replace(self, spec=replace(spec, pairs=pairs), weights=codes)


def lower_conv2d(lowering: Lowering, op: QConv2d) -> None:
    """Depthwise layers go to their own kernel, everything else is a GEMM, also they where their
    weights have several parts.
    """
    for window in windows(lowering, op):
        if is_depthwise(lowering.graph, op) and len(window.parts) == 1:
            lower_depthwise(lowering, op, window)
        else:
            ways = partial(_products, lowering, op, window)
            addresses = (window.source, window.result, *window.others)
            _gemm(lowering, op, ways, window.parts, addresses)


def _products(
    lowering: Lowering, op: QConv2d, window: Window, packing: Packing
) -> Iterator[_Product]:
    """The ways to compute a convolution: groups taken together, ends of segments joined."""
    _, _, kh, _, _ = window.parts.shape
    ways = (groupings(part, op.groups, lowering.isa) for part in window.parts)
    for grouping, *others in zip(*ways, strict=True):
        groups, channels, _, _, depth = grouping.weight.shape
        segments, pixels = window.runs(depth)
        together = np.stack([g.weight for g in (grouping, *others)], axis=2)
        spec = GemmSpec(
            groups=Axis(groups, grouping.step, channels),
            batch=window.batch,
            rows=window.rows,
            columns=window.columns,
            segments=repeats(window.parts) + segments,
            length=pixels * depth,
            channels=channels,
            form=op.requantize.form,
            packing=packing,
            ceiling=op.id in lowering.ceilings,
            residual=op.id in lowering.residuals,
            lookup=op.id in lowering.lookups,
            clamped=clamps(lowering, op),
            rectified=rectifies(lowering, op),
            shifts_right=shifts_right(lowering, op),
            mixed=grouping.mixed,
        )
        if kh == 1:
            spec = flattened(spec)
        weights = together.reshape(groups, channels, spec.segment_count, spec.length)
        yield _Product(spec, weights)
        joined = with_joined_ends(spec)
        if joined is not None:
            yield _Product(joined, weights)


def lower_dense(lowering: Lowering, op: QDense) -> None:
    """[..., K] is an image of K channels; leading axes are one column unless borders part them."""
    x, y = lowering.place(op.x), lowering.place(op.output)
    parts = weight_parts(lowering.graph, op)
    _, outputs, depth = parts.shape
    strides = (x.layout.strides, y.layout.strides, other_strides(lowering, op))
    steps = zip(x.layout.shape[:-1], *strides, strict=False)
    axes = simplified_axes([Axis(*step) for step in steps])
    batch, rows, columns = (*[Axis(1, 0, 0)] * (3 - len(axes)), *axes)
    residual = lowering.residuals.get(op.id)

    def ways(packing: Packing) -> Iterator[_Product]:
        spec = GemmSpec(
            groups=Axis(1, 0, 0),
            batch=batch,
            rows=rows,
            columns=columns,
            segments=repeats(parts),
            length=depth,
            channels=outputs,
            form=op.requantize.form,
            packing=packing,
            ceiling=op.id in lowering.ceilings,
            residual=residual is not None,
            lookup=op.id in lowering.lookups,
            clamped=clamps(lowering, op),
            rectified=rectifies(lowering, op),
            shifts_right=shifts_right(lowering, op),
        )
        yield _Product(spec, by_channel(parts)[None])

    others = [lowering.place(residual.other).start] if residual else []
    _gemm(lowering, op, ways, parts, (x.start, y.start, *others))


def _gemm(
    lowering: Lowering,
    op: QWeighted,
    ways: Callable[[Packing], Iterator[_Product]],
    parts: Array,
    addresses: Sequence[Address],
) -> None:
    """The cheapest of several ways; the addresses are of source, result and, maybe, residual."""
    isa, weight = lowering.isa, by_channel(parts)
    tables = epilogue_tables(lowering, op, weight)
    stored = coding(weight, tables, op.requantize.form)
    planned = (
        (family.kernel(product.spec, isa), product)
        for family in isa.machine.gemms
        for product in (way.coded(stored, isa) for way in ways(family.packing))
    )
    possible = ((kernel, product) for kernel, product in planned if kernel is not None)
    kernel, product = min(possible, key=lambda way: way[0].cost)
    spec = product.spec
    weights = np.concatenate([pack_weights(group, spec) for group in product.weights])
    params = np.concatenate(
        [
            pack_channels(part, spec)
            for group in range(spec.groups.count)
            for part in (
                t[group * spec.channels : (group + 1) * spec.channels]
                for t in stored.tables(tables)
            )
        ]
    )
    source, result, *others = addresses
    arguments = [
        source,
        result,
        lowering.constant(weights),
        lowering.constant(np.concatenate([layer_header(lowering, op), params])),
        *others,
    ]
    lowering.ranged("gemm", spec, arguments, kernel.emit, kernel.units, gemm_reach(kernel))


LOWERINGS: Mapping[type[Op], LowerOp] = {
    QConv2d: lower_conv2d,
    QDense: lower_dense,
}
