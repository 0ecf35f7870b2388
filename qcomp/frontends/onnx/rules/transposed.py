"""ConvTranspose as zeros between the pixels and a convolution with flipped kernels.

With stride s, kernel extent e = (k - 1) * dilation + 1 and pads (p, q), the stuffed input has
(n - 1) * s + 1 positions and the convolution pads it by e - 1 - p before and e - 1 - q plus the
output padding after, which gives s * (n - 1) + e - p - q + output_padding results. Where that
padding is negative, the stuffed input is cropped instead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.layout import channels_first, channels_last, require_spatial
from qcomp.frontends.onnx.rules.linear import bias_or_zeros
from qcomp.frontends.onnx.windows import (
    NO_AXIS,
    Axis,
    Pair,
    auto_pad,
    explicit_pads,
    positive,
)
from qcomp.ir.ops import Conv2d, Slice, ZeroStuff
from qcomp.ir.tensor import Array, TensorId


def conv_transpose(node: Node) -> None:
    sizes = require_spatial(node)
    weight = node.floats(1, "the weight")
    node.require(weight.ndim == len(sizes) + 2, f"weight of rank {weight.ndim}")
    kernel = node.integers("kernel_shape", weight.shape[2:])
    node.require(kernel == weight.shape[2:], f"kernel_shape={kernel} for weight {weight.shape}")
    groups = node.integer("group", 1)
    node.require(
        groups >= 1 and weight.shape[0] % groups == 0,
        f"group={groups} for {weight.shape[0]} input channels",
    )
    along = _axes(node, sizes, kernel)
    v, h = along if len(along) == 2 else (NO_AXIS, along[0])
    x = _stuffed(node, channels_last(node), v, h)
    ohwi = _forward_weight(weight, groups)
    y = node.add(
        Conv2d(
            inputs=(
                x,
                node.weight(1, ohwi, f"flipped OHWI of {groups} groups"),
                bias_or_zeros(node, 2, ohwi.shape[0]),
            ),
            output=node.part("conv"),
            padding=(max(v.before, 0), max(h.before, 0), max(v.after, 0), max(h.after, 0)),
            dilation=(v.dilation, h.dilation),
            groups=groups,
        )
    )
    channels_first(node, y, weight.ndim)


def _forward_weight(weight: Array, groups: int) -> Array:
    """[groups * I, O / groups, H, W] to the OHWI weight of the convolution, kernels flipped."""
    iohw = weight if weight.ndim == 4 else weight[:, :, np.newaxis, :]
    inputs, outputs, height, width = iohw.shape
    grouped = iohw[:, :, ::-1, ::-1].reshape(groups, inputs // groups, outputs, height, width)
    ohwi = grouped.transpose(0, 2, 3, 4, 1)
    return ohwi.reshape(groups * outputs, height, width, inputs // groups)


def _stuffed(node: Node, x: TensorId, v: Axis, h: Axis) -> TensorId:
    """x with zeros between pixels, cropped where the convolution's padding is negative."""
    if (v.stride, h.stride) != (1, 1):
        x = node.add(
            ZeroStuff(inputs=(x,), output=node.part("stuffed"), stride=(v.stride, h.stride))
        )
    n, height, width, c = node.graph.type(x).shape
    starts = (0, max(-v.before, 0), max(-h.before, 0), 0)
    sizes = (
        n,
        height - starts[1] - max(-v.after, 0),
        width - starts[2] - max(-h.after, 0),
        c,
    )
    if sizes == (n, height, width, c):
        return x
    node.require(min(sizes) >= 1, "pads larger than the result")
    return node.add(
        Slice(
            inputs=(x,), output=node.part("cropped"), starts=starts, sizes=sizes, steps=(1, 1, 1, 1)
        )
    )


def _axes(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> list[Axis]:
    """Per axis the stride, dilation and the padding of the convolution (may be negative)."""
    count = len(sizes)
    stride = positive(node, "strides", count)
    dilation = positive(node, "dilations", count)
    extra = node.integers("output_padding", (0,) * count)
    node.require(len(extra) == count and min(extra) >= 0, f"output_padding={list(extra)}")
    result = []
    for i, (before, after) in enumerate(_pads(node, sizes, kernel, stride, dilation, extra)):
        reach = (kernel[i] - 1) * dilation[i]
        result.append(
            Axis(
                sizes[i],
                kernel[i],
                stride[i],
                dilation[i],
                reach - before,
                reach - after + extra[i],
            )
        )
    return result


def _pads(
    node: Node,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    extra: tuple[int, ...],
) -> list[Pair]:
    """ONNX's pads: given, or such that the result has `output_shape` or size * stride.

    An odd pad goes after for SAME_UPPER, else before; what lacks is appended after.
    """
    count = len(sizes)
    mode = auto_pad(node)
    wanted = node.integers("output_shape", ())[-count:]
    if not wanted and not mode.startswith("SAME"):
        return explicit_pads(node, count) if mode == "NOTSET" else [(0, 0)] * count
    target = wanted or tuple(n * s for n, s in zip(sizes, stride, strict=True))
    node.require(len(target) == count, f"output_shape={list(target)}", f"{count} extents")
    pads = []
    for i in range(count):
        full = stride[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilation[i] + 1
        total = full - target[i]
        node.require(
            total >= 0 or bool(wanted),
            f"auto_pad={mode} with kernels smaller than the stride",
            "explicit pads or output_shape",
        )
        if total < 0:
            pads.append((0, total))
            continue
        small, large = total // 2, total - total // 2
        pads.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return pads


RULES: Mapping[str, Rule] = {
    "ConvTranspose": conv_transpose,
}
