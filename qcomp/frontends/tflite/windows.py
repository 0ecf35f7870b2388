"""Strides, dilations and padding of a window over NHWC, as TensorFlow Lite computes them."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.frontends.limits import MAX_RESULT_ELEMENTS
from qcomp.frontends.tflite.context import Node

PADDINGS = ("SAME", "VALID")
_MOST = 1 << 24


@dataclass(frozen=True)
class Window:
    """Height before width; padding top, left, bottom, right."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]


def window(node: Node, kernel: tuple[int, int], dilated: bool = True) -> Window:
    """Of the first operand; the end gets the larger half of an odd padding."""
    node.require(len(node.shape()) == 4, f"an operand of rank {len(node.shape())}", "NHWC")
    stride = node.option("stride_h"), node.option("stride_w")
    dilation = (1, 1)
    if dilated:
        dilation = node.option("dilation_h_factor"), node.option("dilation_w_factor")
    for what, values in (("stride", stride), ("dilation", dilation), ("kernel", kernel)):
        node.require(1 <= min(values) <= max(values) <= _MOST, f"{what} {values}", "1 or more")
    same = is_same(node)
    ends = [
        _same(size, k, s, d) if same else (0, 0)
        for size, k, s, d in zip(node.shape()[1:3], kernel, stride, dilation, strict=True)
    ]
    (top, bottom), (left, right) = ends
    height, width = (e + sum(p) for e, p in zip(node.shape()[1:3], ends, strict=True))
    n, _, _, c = node.shape()
    padded = n * height * width * c
    node.require(padded <= MAX_RESULT_ELEMENTS, f"{padded} elements with padding")
    return Window(stride, dilation, (top, left, bottom, right))


def is_same(node: Node) -> bool:
    number = node.option("padding")
    node.require(0 <= number < len(PADDINGS), f"padding {number}", ", ".join(PADDINGS))
    return PADDINGS[number] == "SAME"


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """As many positions as strides fit; half of what they lack lies before."""
    positions = -(-size // stride)
    missing = max((positions - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return missing // 2, missing - missing // 2
