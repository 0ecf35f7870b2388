"""Resize and Upsample over the two spatial axes (or one)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qcomp.frontends.onnx.context import Node, Rule
from qcomp.frontends.onnx.layout import channels_first, channels_last
from qcomp.frontends.onnx.rules.reduction import normalized_all
from qcomp.ir.ops import Coordinates, NearestRounding, Resize2d, ResizeMode

_MODES = {"nearest": ResizeMode.NEAREST, "linear": ResizeMode.LINEAR, "bilinear": ResizeMode.LINEAR}


@dataclass(frozen=True)
class _Sampling:
    """How values are interpolated."""

    mode: ResizeMode
    coordinates: Coordinates
    rounding: NearestRounding


# Upsample and the Resize of opset 10: x_in = floor(x_out / scale).
_ASYMMETRIC = (Coordinates.ASYMMETRIC, NearestRounding.FLOOR)


def upsample(node: Node) -> None:
    scales = node.numbers("scales") if node.opset < 9 else _number_list(node, 1, "scales")
    _resized(node, scales, _scaled_sizes(node, scales), _Sampling(_mode(node), *_ASYMMETRIC))


def resize(node: Node) -> None:
    if node.opset < 11:
        scales = _number_list(node, 1, "scales")
        _resized(node, scales, _scaled_sizes(node, scales), _Sampling(_mode(node), *_ASYMMETRIC))
        return
    node.require(node.integer("antialias", 0) == 0, "antialias=1", "antialias=0")
    node.require(node.integer("exclude_outside", 0) == 0, "exclude_outside=1", "exclude_outside=0")
    sampling = _Sampling(_mode(node), _coordinates(node), _rounding(node))
    rank = len(node.shape())
    axes = normalized_all(node, node.integers("axes", tuple(range(rank))), rank)
    if _given(node, 3):
        scales, sizes = _from_sizes(node, axes)
    else:
        scales = _over_all_axes(node, _number_list(node, 2, "scales"), axes)
        sizes = _scaled_sizes(node, scales)
    _resized(node, scales, sizes, sampling)


def _given(node: Node, index: int) -> bool:
    """An operand that is there and not empty."""
    return node.has(index) and math.prod(node.shape(index)) > 0


def _mode(node: Node) -> ResizeMode:
    mode = node.text("mode", "nearest")
    node.require(mode in _MODES, f"mode={mode}", "nearest, linear")
    return _MODES[mode]


def _coordinates(node: Node) -> Coordinates:
    name = node.text("coordinate_transformation_mode", "half_pixel")
    accepted = [c.value for c in Coordinates]
    node.require(name in accepted, f"coordinate_transformation_mode={name}", ", ".join(accepted))
    return Coordinates(name)


def _rounding(node: Node) -> NearestRounding:
    name = node.text("nearest_mode", "round_prefer_floor")
    accepted = [r.value for r in NearestRounding]
    node.require(name in accepted, f"nearest_mode={name}", ", ".join(accepted))
    return NearestRounding(name)


def _number_list(node: Node, index: int, what: str) -> tuple[float, ...]:
    node.require(_given(node, index), f"{what} are missing")
    data = node.constant(index, what)
    node.require(data.dtype.kind == "f" and data.ndim == 1, f"{what} must be a list of numbers")
    return tuple(float(v) for v in data)


def _over_all_axes(
    node: Node, scales: tuple[float, ...], axes: tuple[int, ...]
) -> tuple[float, ...]:
    node.require(len(scales) == len(axes), f"{len(scales)} scales for {len(axes)} axes")
    result = [1.0] * len(node.shape())
    for axis, scale in zip(axes, scales, strict=True):
        result[axis] = scale
    return tuple(result)


def _scaled_sizes(node: Node, scales: tuple[float, ...]) -> tuple[int, ...]:
    x = node.shape()
    node.require(len(scales) == len(x), f"{len(scales)} scales for rank {len(x)}")
    node.require(all(math.isfinite(s) and s > 0 for s in scales), f"scales {list(scales)}")
    # In f32, as onnx's shape inference and onnxruntime do: 10 * 0.7f is 7.
    with np.errstate(over="ignore"):
        sizes = [np.float32(e) * np.float32(s) for e, s in zip(x, scales, strict=True)]
    node.require(all(map(math.isfinite, sizes)), f"scales {list(scales)} of {list(x)}")
    return tuple(map(math.floor, sizes))


def _from_sizes(node: Node, axes: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and sizes from the `sizes` operand and the aspect policy."""
    x = node.shape()
    wanted = node.integer_list(3, "sizes")
    node.require(
        len(wanted) == len(axes) and min(wanted) >= 1, f"sizes {list(wanted)} for {len(axes)} axes"
    )
    ratios = [size / x[axis] for axis, size in zip(axes, wanted, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    node.require(
        policy in ("stretch", "not_larger", "not_smaller"),
        f"keep_aspect_ratio_policy={policy}",
        "stretch, not_larger, not_smaller",
    )
    if policy != "stretch":
        common = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [common] * len(axes)
        wanted = tuple(math.floor(common * x[axis] + 0.5) for axis in axes)
    sizes = list(x)
    for axis, size in zip(axes, wanted, strict=True):
        sizes[axis] = size
    return _over_all_axes(node, tuple(ratios), axes), tuple(sizes)


def _resized(
    node: Node, scales: tuple[float, ...], sizes: tuple[int, ...], sampling: _Sampling
) -> None:
    """Resize2d on the spatial axes: of NCHW or NCL, or of an NHWC that the model itself keeps."""
    x = node.shape()
    moved = {i for i in range(len(x)) if scales[i] != 1.0 or sizes[i] != x[i]}
    if not moved:
        node.alias(node.x())
        return
    if sampling.coordinates is Coordinates.ALIGN_CORNERS:
        node.require(
            all(abs(e * s - size) < 1e-3 for e, s, size in zip(x, scales, sizes, strict=True)),
            f"align_corners with scales {list(scales)} that do not divide {list(x)} evenly, where "
            "ONNX and onnxruntime differ",
            "sizes, or scales that give whole sizes",
        )
    rank = len(x)
    if rank in (3, 4) and moved <= set(range(2, rank)):
        pair = (sizes[-2], sizes[-1]) if rank == 4 else (1, sizes[-1])
        ratio = (scales[-2], scales[-1]) if rank == 4 else (1.0, scales[-1])
        op = _op(channels_last(node), node.part("resized"), pair, ratio, sampling)
        channels_first(node, node.add(op), rank)
        return
    node.require(
        rank == 4 and moved <= {1, 2}, f"axes {sorted(moved)} of rank {rank} are resized", "H and W"
    )
    node.add(_op(node.x(), node.out(), (sizes[1], sizes[2]), (scales[1], scales[2]), sampling))


def _op(
    x: str, output: str, size: tuple[int, int], scale: tuple[float, float], sampling: _Sampling
) -> Resize2d:
    return Resize2d(
        inputs=(x,),
        output=output,
        size=size,
        scale=scale,
        mode=sampling.mode,
        coordinates=sampling.coordinates,
        rounding=sampling.rounding,
    )


RULES: Mapping[str, Rule] = {
    "Resize": resize,
    "Upsample": upsample,
}
