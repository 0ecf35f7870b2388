"""MaxPool, AveragePool and the global pools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.layout import channels_first, channels_last, require_spatial
from qcomp.frontends.onnx.windows import Axis, Window, auto_pad, axes, window
from qcomp.ir.ops import AveragePool2d, MaxPool2d, Pad, Reduce, Reduction, Transpose
from qcomp.ir.tensor import TensorId

MAX_WINDOW = 1 << 20  # positions; no convolution is as large, as its weights would be in the file


def max_pool(node: Node) -> None:
    node.require(node.integer("storage_order", 0) == 0, "storage_order=1", "storage_order=0")
    node.require(node.unused(1), "its Indices output is used", "the first output only")
    along = _axes(node)
    _require_no_empty_window(node, along)
    w = window([_ceiled(a, node.integer("ceil_mode", 0)) for a in along])
    y = node.add(
        MaxPool2d(
            inputs=(channels_last(node),),
            output=node.part("pool"),
            kernel=w.kernel,
            stride=w.stride,
            padding=w.padding,
            dilation=w.dilation,
        )
    )
    channels_first(node, y, len(node.shape()))


def average_pool(node: Node) -> None:
    """Cells that only ceil_mode reaches never count, whether or not the padding does."""
    along = _axes(node)
    include = node.integer("count_include_pad", 0) == 1
    ceiled = [_ceiled(a, node.integer("ceil_mode", 0)) for a in along]
    if not include:
        _require_no_empty_window(node, along)
    x = channels_last(node)
    if include and ceiled != along:
        x = _zero_padded(node, x, window(along))
        ceiled = [
            replace(c, before=0, after=c.after - a.after)
            for a, c in zip(along, ceiled, strict=True)
        ]
        include = False
    w = window(ceiled)
    y = node.add(
        AveragePool2d(
            inputs=(x,),
            output=node.part("pool"),
            kernel=w.kernel,
            stride=w.stride,
            padding=w.padding,
            dilation=w.dilation,
            count_include_pad=include,
        )
    )
    channels_first(node, y, len(node.shape()))


def _axes(node: Node) -> list[Axis]:
    along = axes(node, require_spatial(node), node.integers("kernel_shape"))
    positions = math.prod(a.kernel for a in along)
    node.require(
        positions <= MAX_WINDOW, f"a window of {positions} positions", f"up to {MAX_WINDOW}"
    )
    if auto_pad(node).startswith("SAME"):
        node.require(
            all(a.dilation == 1 and a.stride <= a.kernel + 1 for a in along),
            "auto_pad with dilation, or stride beyond the kernel: ONNX and onnxruntime differ",
            "explicit pads",
        )
    return along


def _require_no_empty_window(node: Node, along: list[Axis]) -> None:
    node.require(
        all(max(a.before, a.after) < a.extent for a in along),
        "padding as large as the kernel",
        "padding smaller than the kernel",
    )


def _ceiled(axis: Axis, ceil_mode: int) -> Axis:
    """Extend the padding at the end so that a last partial window fits (ceil_mode).

    A window that would start in the padding after the input is left out.
    """
    if not ceil_mode:
        return axis
    padded = axis.size + axis.before + axis.after
    positions = -(-(padded - axis.extent) // axis.stride) + 1
    if (positions - 1) * axis.stride >= axis.size + axis.before:
        positions -= 1
    missing = (positions - 1) * axis.stride + axis.extent - padded
    return replace(axis, after=axis.after + max(missing, 0))


def _zero_padded(node: Node, x: TensorId, w: Window) -> TensorId:
    top, left, bottom, right = w.padding
    if not any(w.padding):
        return x
    return node.add(
        Pad(
            inputs=(x,),
            output=node.part("padded"),
            before=(0, top, left, 0),
            after=(0, bottom, right, 0),
        )
    )


def global_average_pool(node: Node) -> None:
    _global_pool(node, Reduction.MEAN)


def global_max_pool(node: Node) -> None:
    _global_pool(node, Reduction.MAX)


def _global_pool(node: Node, kind: Reduction) -> None:
    """A Reduce over the spatial axes, written channels last."""
    rank = len(node.shape())
    node.require(rank >= 3, f"input of rank {rank}", "rank 3 or more")
    last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
    x = node.add(Transpose(inputs=(node.x(),), output=node.part("last"), permutation=last))
    y = node.add(
        Reduce(inputs=(x,), output=node.part("pool"), kind=kind, axes=tuple(range(1, rank - 1)))
    )
    node.add(Transpose(inputs=(y,), output=node.out(), permutation=first))


RULES: Mapping[str, Rule] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MaxPool": max_pool,
}
