"""Lowering of movements: each is one or more copies between strided boxes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.ir.ops import (
    BlockOrder,
    BroadcastTo,
    DepthToSpace,
    Gather,
    Op,
    Pad,
    PadMode,
    Reshape,
    Slice,
    SpaceToDepth,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.nest import Nest, copy_body, of_bytes, simplified
from qcomp.targets.cpu.emit.shuffled import shuffled_copy
from qcomp.targets.cpu.emit.transpose import TransposedCopy, transpose_spec
from qcomp.targets.cpu.lower.context import Lowering, LowerOp, Place, broadcast_strides, offsets
from qcomp.targets.cpu.memory import dense_layout
from qcomp.targets.cpu.program import Address, as_stored, moved

SHUFFLED = 2  # bytes of an element, at most, that is copied by shuffles of bytes


def copy(
    lowering: Lowering,
    extents: tuple[int, ...],
    src: Address,
    src_strides: tuple[int, ...],
    dst: Address,
    dst_strides: tuple[int, ...],
    *,
    element: int,
    indexed: tuple[tuple[int, int], ...] = (),
    tables: tuple[Address, ...] = (),
) -> None:
    """dst[i] = src[i] over a box; `indexed` axes of src go through tables of byte offsets."""
    nest = simplified(Nest(extents, (src_strides, dst_strides), (element, element), indexed))
    src, dst = as_stored((src, dst))
    turned = transpose_spec(nest)
    if element <= SHUFFLED and (turned is None or turned.is_narrow):
        shuffled = shuffled_copy(of_bytes(nest), lowering.isa.machine.shuffles)
        if shuffled is not None:
            lowering.ranged("shuffled", shuffled, (src, dst), shuffled.emit, shuffled.units)
            return
    if turned is not None:
        kernel = TransposedCopy(turned, lowering.isa)
        lowering.ranged("transpose", turned, (src, dst), kernel.emit, kernel.units)
        return
    type = ir.IntType(8 * element)
    width = 4 * lowering.isa.lanes // element
    lowering.nest(
        "copy", nest, [src, dst], [type, type], copy_body, element, tables=tables, width=width
    )


def copy_tensor(lowering: Lowering, src: Place, dst: Place) -> None:
    """Between two layouts of the same shape."""
    copy(
        lowering, src.layout.shape, src.start, src.layout.strides, dst.start, dst.layout.strides,
        element=src.layout.element,
    )  # fmt: skip


def lower_reshape(lowering: Lowering, op: Reshape) -> None:
    """Nothing where the plan made the result a view; else a copy in row-major order."""
    src, dst = lowering.place(op.x), lowering.place(op.output)
    if src.start == dst.start:
        return
    element = src.layout.element
    if src.layout.is_contiguous:
        copy_tensor(lowering, Place(src.start, dense_layout(dst.layout.shape, element)), dst)
    elif dst.layout.is_contiguous:
        copy_tensor(lowering, src, Place(dst.start, dense_layout(src.layout.shape, element)))
    else:
        dense = dense_layout(src.layout.shape, element)
        between = Place(lowering.temporary(dense.bytes, unsigned=src.base.unsigned), dense)
        copy_tensor(lowering, src, between)
        copy_tensor(lowering, Place(between.base, dense_layout(dst.layout.shape, element)), dst)


def lower_transpose(lowering: Lowering, op: Transpose) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    strides = tuple(src.layout.strides[i] for i in op.permutation)
    copy(
        lowering, dst.layout.shape, src.start, strides, dst.start, dst.layout.strides,
        element=src.layout.element,
    )  # fmt: skip


def lower_slice(lowering: Lowering, op: Slice) -> None:
    """Nothing where the plan made the result a view."""
    src, dst = lowering.place(op.x), lowering.place(op.output)
    strides = src.layout.strides
    start = moved(src.start, sum(a * s for a, s in zip(op.starts, strides, strict=True)))
    steps = tuple(a * s for a, s in zip(op.steps, strides, strict=True))
    if start != dst.start:
        copy(
            lowering, op.sizes, start, steps, dst.start, dst.layout.strides,
            element=src.layout.element,
        )  # fmt: skip


def lower_pad(lowering: Lowering, op: Pad) -> None:
    """A constant fills the result first; the other modes are index tables."""
    src, dst = lowering.place(op.x), lowering.place(op.output)
    if op.mode is PadMode.CONSTANT:
        lowering.fill(dst, int(op.value), dst.layout.shape, dst.layout.offset)
        start = sum(a * s for a, s in zip(op.before, dst.layout.strides, strict=True))
        to = moved(dst.start, start)
        copy(
            lowering, src.layout.shape, src.start, src.layout.strides, to, dst.layout.strides,
            element=src.layout.element,
        )  # fmt: skip
        return
    axes = [i for i, (a, z) in enumerate(zip(op.before, op.after, strict=True)) if a or z]
    tables = tuple(
        lowering.constant(
            offsets(
                np.pad(
                    np.arange(src.layout.shape[i], dtype=np.int64),
                    (op.before[i], op.after[i]),
                    mode=op.mode.value,
                ),
                src.layout.strides[i],
            )
        )
        for i in axes
    )
    copy(
        lowering, dst.layout.shape, src.start, src.layout.strides, dst.start, dst.layout.strides,
        element=src.layout.element, indexed=tuple((i, 0) for i in axes), tables=tables,
    )  # fmt: skip


def lower_gather(lowering: Lowering, op: Gather) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    table = offsets(lowering.graph.data(op.indices), src.layout.strides[op.axis])
    copy(
        lowering, dst.layout.shape, src.start, src.layout.strides, dst.start, dst.layout.strides,
        element=src.layout.element, indexed=((op.axis, 0),), tables=(lowering.constant(table),),
    )  # fmt: skip


def lower_broadcast_to(lowering: Lowering, op: BroadcastTo) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    strides = broadcast_strides(src.layout, dst.layout.shape)
    copy(
        lowering, dst.layout.shape, src.start, strides, dst.start, dst.layout.strides,
        element=src.layout.element,
    )  # fmt: skip


def lower_tile(lowering: Lowering, op: Tile) -> None:
    """Each axis becomes (repeat, extent)."""
    src, dst = lowering.place(op.x), lowering.place(op.output)
    extents: list[int] = []
    src_strides: list[int] = []
    dst_strides: list[int] = []
    for extent, repeats, s, d in zip(
        src.layout.shape, op.repeats, src.layout.strides, dst.layout.strides, strict=True
    ):
        extents += [repeats, extent]
        src_strides += [0, s]
        dst_strides += [extent * d, d]
    copy(
        lowering, tuple(extents), src.start, tuple(src_strides), dst.start, tuple(dst_strides),
        element=src.layout.element,
    )  # fmt: skip


def _block_copy(
    lowering: Lowering, deep: Place, wide: Place, block: int, order: BlockOrder, to_wide: bool
) -> None:
    """Between [n, h, w, c * block^2] and [n, h * block, w * block, c]."""
    n, h, w, _ = deep.layout.shape
    c = wide.layout.shape[3]
    dn, dh, dw, dc = deep.layout.strides
    wn, wh, ww, wc = wide.layout.strides
    if order is BlockOrder.DCR:
        by, bx, bc = block * c * dc, c * dc, dc
    else:
        by, bx, bc = block * dc, dc, block * block * dc
    extents = (n, h, block, w, block, c)
    deep_strides = (dn, dh, by, dw, bx, bc)
    wide_strides = (wn, wh * block, wh, ww * block, ww, wc)
    src, dst = (deep.start, deep_strides), (wide.start, wide_strides)
    if not to_wide:
        src, dst = dst, src
    copy(lowering, extents, *src, *dst, element=deep.layout.element)


def lower_depth_to_space(lowering: Lowering, op: DepthToSpace) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    _block_copy(lowering, src, dst, op.block, op.order, to_wide=True)


def lower_space_to_depth(lowering: Lowering, op: SpaceToDepth) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    _block_copy(lowering, dst, src, op.block, op.order, to_wide=False)


def lower_zero_stuff(lowering: Lowering, op: ZeroStuff) -> None:
    src, dst = lowering.place(op.x), lowering.place(op.output)
    lowering.fill(dst, int(op.value), dst.layout.shape, dst.layout.offset)
    n, h, w, c = dst.layout.strides
    strides = (n, h * op.stride[0], w * op.stride[1], c)
    copy(
        lowering, src.layout.shape, src.start, src.layout.strides, dst.start, strides,
        element=src.layout.element,
    )  # fmt: skip


LOWERINGS: Mapping[type[Op], LowerOp] = {
    Reshape: lower_reshape,
    Transpose: lower_transpose,
    Slice: lower_slice,
    Pad: lower_pad,
    Gather: lower_gather,
    BroadcastTo: lower_broadcast_to,
    Tile: lower_tile,
    DepthToSpace: lower_depth_to_space,
    SpaceToDepth: lower_space_to_depth,
    ZeroStuff: lower_zero_stuff,
}

I16_LOWERINGS = LOWERINGS
