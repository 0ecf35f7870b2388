"""Kernel, stride, padding and dilation of convolutions and pools, from ONNX's attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcomp.frontends.limits import MAX_RESULT_ELEMENTS
from qcomp.frontends.onnx.context import Node

Pair = tuple[int, int]
_AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Axis:
    """The window along one spatial axis."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int = 0
    after: int = 0

    @property
    def extent(self) -> int:
        """How far the dilated kernel reaches."""
        return (self.kernel - 1) * self.dilation + 1


NO_AXIS = Axis(size=1, kernel=1, stride=1, dilation=1)


def positive(node: Node, name: str, count: int) -> tuple[int, ...]:
    """A per-axis attribute that is 1 by default."""
    values = node.integers(name, (1,) * count)
    node.require(
        len(values) == count and min(values) >= 1,
        f"{name}={list(values)}",
        f"{count} positive values",
    )
    return values


def auto_pad(node: Node) -> str:
    mode = node.text("auto_pad", "NOTSET")
    node.require(mode in _AUTO_PADS, f"auto_pad={mode}", ", ".join(_AUTO_PADS))
    return mode


def explicit_pads(node: Node, count: int) -> list[Pair]:
    """ONNX lists all befores, then all afters."""
    pads = node.integers("pads", (0,) * (2 * count))
    node.require(
        len(pads) == 2 * count and min(pads) >= 0, f"pads={list(pads)}", f"{2 * count} values >= 0"
    )
    return list(zip(pads[:count], pads[count:], strict=True))


def axes(node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...]) -> list[Axis]:
    """The windows of Conv and the pools, with auto_pad resolved."""
    count = len(sizes)
    node.require(
        len(kernel) == count and min(kernel) >= 1, f"kernel {list(kernel)} for {count} spatial axes"
    )
    stride = positive(node, "strides", count)
    dilation = positive(node, "dilations", count)
    mode = auto_pad(node)
    pads = explicit_pads(node, count) if mode == "NOTSET" else [(0, 0)] * count
    result = []
    for i in range(count):
        axis = Axis(sizes[i], kernel[i], stride[i], dilation[i], *pads[i])
        result.append(_same(axis, mode) if mode.startswith("SAME") else axis)
    padded = math.prod(axis.size + axis.before + axis.after for axis in result)
    node.require(
        padded <= MAX_RESULT_ELEMENTS,
        f"an image padded to {padded} positions",
        f"up to {MAX_RESULT_ELEMENTS}",
    )
    return result


def _same(axis: Axis, mode: str) -> Axis:
    """Padding for ceil(size / stride) results; SAME_UPPER puts the odd one after."""
    positions = -(-axis.size // axis.stride)
    total = max((positions - 1) * axis.stride + axis.extent - axis.size, 0)
    small, large = total // 2, total - total // 2
    before, after = (small, large) if mode == "SAME_UPPER" else (large, small)
    return Axis(axis.size, axis.kernel, axis.stride, axis.dilation, before, after)


@dataclass(frozen=True)
class Window:
    """Window attributes as the IR's ops take them; a single spatial axis is the horizontal one."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[int, int, int, int]


def window(along: list[Axis]) -> Window:
    v, h = along if len(along) == 2 else (NO_AXIS, along[0])
    return Window(
        kernel=(v.kernel, h.kernel),
        stride=(v.stride, h.stride),
        dilation=(v.dilation, h.dilation),
        padding=(v.before, h.before, v.after, h.after),
    )
