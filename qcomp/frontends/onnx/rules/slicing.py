"""Slice, Split and Pad: windows of a tensor, and tensors in larger ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.rules.reduction import normalized, normalized_all
from qcomp.ir.ops import Pad, PadMode, Slice
from qcomp.ir.tensor import TensorId


def slice_(node: Node) -> None:
    """Attributes before opset 10, then inputs; bounds are clamped as in Python."""
    x = node.shape()
    starts, ends, axes, steps = _operands(node)
    node.require(
        len(starts) == len(ends) == len(axes) == len(steps),
        "starts, ends, axes and steps differ in length",
    )
    start, size, step = [0] * len(x), list(x), [1] * len(x)
    for i, axis in enumerate(normalized_all(node, axes, len(x))):
        node.require(steps[i] != 0, "a step of 0")
        taken = range(*slice(starts[i], ends[i], steps[i]).indices(x[axis]))
        start[axis], size[axis], step[axis] = taken.start, len(taken), taken.step
    if 0 in size:
        node.empty(tuple(size))
    elif size == list(x) and all(s == 1 for s in step):
        node.alias(node.x())
    else:
        node.add(
            Slice(
                inputs=(node.x(),),
                output=node.out(),
                starts=tuple(start),
                sizes=tuple(size),
                steps=tuple(step),
            )
        )


def _operands(node: Node) -> tuple[tuple[int, ...], ...]:
    if node.opset < 10:
        starts, ends = node.integers("starts"), node.integers("ends")
        axes = node.integers("axes", tuple(range(len(starts))))
        return starts, ends, axes, (1,) * len(starts)
    starts, ends = node.integer_list(1, "starts"), node.integer_list(2, "ends")
    axes = node.integer_list(3, "axes") if node.has(3) else tuple(range(len(starts)))
    steps = node.integer_list(4, "steps") if node.has(4) else (1,) * len(starts)
    return starts, ends, axes, steps


def split(node: Node) -> None:
    x = node.shape()
    axis = normalized(node, node.integer("axis", 0), len(x))
    sizes = _split_sizes(node, x[axis])
    node.require(
        len(sizes) == len(node.proto.output) and sum(sizes) == x[axis] and min(sizes) >= 0,
        f"parts {list(sizes)} of axis {axis} with extent {x[axis]}",
        "as many parts as outputs, which add up to the extent",
    )
    start = 0
    for index, size in enumerate(sizes):
        if node.proto.output[index] and size == 0:
            node.empty((*x[:axis], 0, *x[axis + 1 :]), index)
        elif node.proto.output[index]:
            node.add(
                Slice(
                    inputs=(node.x(),),
                    output=node.out(index),
                    starts=tuple(start if i == axis else 0 for i in range(len(x))),
                    sizes=tuple(size if i == axis else e for i, e in enumerate(x)),
                    steps=(1,) * len(x),
                )
            )
        start += size


def _split_sizes(node: Node, extent: int) -> tuple[int, ...]:
    """Given as input (opset 13) or attribute; else equal parts, the last may be smaller."""
    if node.has(1):
        return node.integer_list(1, "split")
    if "split" in node.attributes:
        return node.integers("split")
    count = node.integer("num_outputs", len(node.proto.output))
    node.require(count == len(node.proto.output), f"num_outputs={count}", "one per output")
    node.require(
        node.opset >= 18 or extent % count == 0, f"{count} equal parts of an extent of {extent}"
    )
    part = math.ceil(extent / count)
    return (*((part,) * (count - 1)), extent - part * (count - 1))


def pad(node: Node) -> None:
    """Negative pads crop, and are a Slice before the Pad."""
    mode = node.text("mode", "constant")
    node.require(
        mode in {m.value for m in PadMode}, f"mode={mode}", ", ".join(m.value for m in PadMode)
    )
    before, after = _pads(node)
    value = _pad_value(node)
    cropping = min((*before, *after), default=0) < 0
    node.require(not cropping or mode == "constant", f"negative pads in mode {mode}")
    node.require(math.isfinite(value), f"padding with {value}", "a finite value")
    grows = any(p > 0 for p in (*before, *after))
    x = _cropped(node, before, after, grows) if cropping else node.x()
    if grows:
        node.add(
            Pad(
                inputs=(x,),
                output=node.out(),
                before=tuple(max(p, 0) for p in before),
                after=tuple(max(p, 0) for p in after),
                mode=PadMode(mode),
                value=value,
            )
        )
    elif not cropping:
        node.alias(x)


def _cropped(node: Node, before: tuple[int, ...], after: tuple[int, ...], grows: bool) -> TensorId:
    starts = tuple(max(-p, 0) for p in before)
    sizes = tuple(e - s - max(-p, 0) for e, s, p in zip(node.shape(), starts, after, strict=True))
    return node.add(
        Slice(
            inputs=(node.x(),),
            output=node.part("cropped") if grows else node.out(),
            starts=starts,
            sizes=sizes,
            steps=(1,) * len(sizes),
        )
    )


def _pads(node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Before and after per axis of the input; ONNX lists all befores first."""
    rank = len(node.shape())
    pads = node.integer_list(1, "pads") if node.opset >= 11 else node.integers("pads")
    given = node.integer_list(3, "axes") if node.has(3) else tuple(range(rank))
    axes = normalized_all(node, given, rank)
    node.require(len(pads) == 2 * len(axes), f"{len(pads)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    return tuple(before), tuple(after)


def _pad_value(node: Node) -> float:
    if node.opset < 11:
        return node.number("value", 0.0)
    return node.scalar(2, "the constant value") if node.has(2) else 0.0


RULES: Mapping[str, Rule] = {
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
}
