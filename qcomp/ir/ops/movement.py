"""Ops that move values without changing them: the same ops serve float and integer graphs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from qcomp.ir.ops.base import AxisUse, Domain, Op, Operand, broadcast_shapes, expect
from qcomp.ir.ops.linear import Pair
from qcomp.ir.tensor import DType, TensorType

__all__ = [
    "BlockOrder",
    "BroadcastTo",
    "Concat",
    "Coordinates",
    "DepthToSpace",
    "Gather",
    "Movement",
    "NearestRounding",
    "Pad",
    "PadMode",
    "Reshape",
    "Resize2d",
    "ResizeMode",
    "Slice",
    "SpaceToDepth",
    "Tile",
    "Transpose",
    "ZeroStuff",
]


@dataclass(frozen=True, kw_only=True)
class Movement(Op):
    """Base of the ops whose result has the element type and the qparams of the input."""

    domain: ClassVar[Domain] = Domain.ANY
    x = Operand(0)

    @property
    def copies_integers(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Reshape(Movement):
    """The same values in row-major order under another shape."""

    mnemonic: ClassVar[str] = "reshape"

    shape: tuple[int, ...]

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        result = x.with_shape(self.shape)
        expect(result.size == x.size, f"{x} can't become {list(self.shape)}")
        return result


@dataclass(frozen=True, kw_only=True)
class Transpose(Movement):
    """Axis i of the result is axis permutation[i] of x."""

    mnemonic: ClassVar[str] = "transpose"

    permutation: tuple[int, ...]

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(
            sorted(self.permutation) == list(range(x.rank)),
            f"{self.permutation} does not permute rank {x.rank}",
        )
        return x.with_shape(tuple(x.shape[i] for i in self.permutation))


@dataclass(frozen=True, kw_only=True)
class Concat(Movement):
    """Inputs one after the other along `axis` (non-negative)."""

    mnemonic: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    axis: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        first = inputs[0]
        expect(0 <= self.axis < first.rank, f"axis {self.axis} outside rank {first.rank}")
        for t in inputs:
            same = all(
                a == b
                for i, (a, b) in enumerate(zip(t.shape, first.shape, strict=False))
                if i != self.axis
            )
            expect(t.rank == first.rank and same, f"{t} does not join {first}")
            expect(t.dtype is first.dtype, f"{t} and {first} differ in type")
        shape = list(first.shape)
        shape[self.axis] = sum(t.shape[self.axis] for t in inputs)
        return first.with_shape(tuple(shape))


@dataclass(frozen=True, kw_only=True)
class Slice(Movement):
    """Per axis `sizes` elements from `starts` in `steps` (a negative step walks back)."""

    mnemonic: ClassVar[str] = "slice"

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(
            len(self.starts) == len(self.sizes) == len(self.steps) == x.rank,
            f"starts, sizes and steps must have {x.rank} entries",
        )
        for extent, start, size, step in zip(
            x.shape, self.starts, self.sizes, self.steps, strict=True
        ):
            last = start + (size - 1) * step
            expect(
                size >= 1 and step != 0 and 0 <= start < extent and 0 <= last < extent,
                f"slice start={start} size={size} step={step} leaves an axis of {extent}",
            )
        return x.with_shape(self.sizes)


class PadMode(enum.Enum):
    """What Pad puts outside."""

    CONSTANT = "constant"
    REFLECT = "reflect"
    EDGE = "edge"
    WRAP = "wrap"


@dataclass(frozen=True, kw_only=True)
class Pad(Movement):
    """Grow each axis by before[i] and after[i]; `value` is in the units of the tensor's type."""

    mnemonic: ClassVar[str] = "pad"

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: PadMode = PadMode.CONSTANT
    value: float = 0.0

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(len(self.before) == len(self.after) == x.rank, f"padding must have rank {x.rank}")
        expect(min((*self.before, *self.after), default=0) >= 0, "negative padding is a slice")
        for extent, before, after in zip(x.shape, self.before, self.after, strict=True):
            limit = {PadMode.REFLECT: extent - 1, PadMode.WRAP: extent}.get(self.mode)
            expect(
                limit is None or max(before, after) <= limit,
                f"{self.mode.value} padding ({before}, {after}) exceeds an axis of {extent}",
            )
        return x.with_shape(
            tuple(e + b + a for e, b, a in zip(x.shape, self.before, self.after, strict=True))
        )


@dataclass(frozen=True, kw_only=True)
class Gather(Movement):
    """Select indices (constant i64 [M], non-negative) along one axis (non-negative)."""

    mnemonic: ClassVar[str] = "gather"
    arity: ClassVar[int | None] = 2
    constant_operands: ClassVar[tuple[int, ...]] = (1,)
    indices = Operand(1)

    axis: int

    def result_type(self, *inputs: TensorType) -> TensorType:
        x, indices = inputs
        expect(
            indices.rank == 1 and indices.dtype is DType.I64,
            f"indices must be i64[M], not {indices}",
        )
        expect(0 <= self.axis < x.rank, f"axis {self.axis} outside rank {x.rank}")
        shape = list(x.shape)
        shape[self.axis] = indices.shape[0]
        return x.with_shape(tuple(shape))


@dataclass(frozen=True, kw_only=True)
class BroadcastTo(Movement):
    """Repeat axes of extent 1 (and new leading axes) until the shape is `shape`."""

    mnemonic: ClassVar[str] = "broadcast_to"

    shape: tuple[int, ...]

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(
            broadcast_shapes([x.shape, self.shape]) == self.shape,
            f"{x} does not broadcast to {list(self.shape)}",
        )
        return x.with_shape(self.shape)


@dataclass(frozen=True, kw_only=True)
class Tile(Movement):
    """Repeat the whole tensor repeats[i] times along axis i."""

    mnemonic: ClassVar[str] = "tile"

    repeats: tuple[int, ...]

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(len(self.repeats) == x.rank, f"repeats must have {x.rank} entries")
        expect(min(self.repeats, default=1) >= 1, f"repeats {self.repeats} must be positive")
        return x.with_shape(tuple(e * r for e, r in zip(x.shape, self.repeats, strict=True)))


class ResizeMode(enum.Enum):
    """Interpolation."""

    NEAREST = "nearest"
    LINEAR = "linear"


class Coordinates(enum.Enum):
    """Where a result position lies in the input; ONNX's coordinate_transformation_mode."""

    HALF_PIXEL = "half_pixel"
    HALF_PIXEL_SYMMETRIC = "half_pixel_symmetric"
    PYTORCH_HALF_PIXEL = "pytorch_half_pixel"
    ALIGN_CORNERS = "align_corners"
    ASYMMETRIC = "asymmetric"
    TF_HALF_PIXEL_FOR_NN = "tf_half_pixel_for_nn"


class NearestRounding(enum.Enum):
    """Which neighbour `nearest` takes; ONNX's nearest_mode."""

    ROUND_PREFER_FLOOR = "round_prefer_floor"
    ROUND_PREFER_CEIL = "round_prefer_ceil"
    FLOOR = "floor"
    CEIL = "ceil"


@dataclass(frozen=True, kw_only=True)
class Resize2d(Movement):
    """Resample H and W of NHWC to `size`; `scale` is the ratio that the coordinates use."""

    mnemonic: ClassVar[str] = "resize2d"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL

    size: Pair
    scale: tuple[float, float]
    mode: ResizeMode = ResizeMode.NEAREST
    coordinates: Coordinates = Coordinates.HALF_PIXEL
    rounding: NearestRounding = NearestRounding.ROUND_PREFER_FLOOR

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(x.rank == 4, f"expected NHWC, got {x}")
        expect(min(self.size) >= 1, f"size {self.size} must be positive")
        return x.with_shape((x.shape[0], *self.size, x.shape[3]))


class BlockOrder(enum.Enum):
    """Meaning of the deep axis: depth-column-row (TFLite, ONNX default) or column-row-depth."""

    DCR = "dcr"
    CRD = "crd"


@dataclass(frozen=True, kw_only=True)
class DepthToSpace(Movement):
    """Channels to blocks of pixels, NHWC."""

    mnemonic: ClassVar[str] = "depth_to_space"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL

    block: int
    order: BlockOrder = BlockOrder.DCR

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(x.rank == 4 and self.block >= 1, f"expected NHWC, got {x}")
        n, h, w, c = x.shape
        b = self.block
        expect(c % (b * b) == 0, f"{c} channels are not a multiple of block {b} squared")
        return x.with_shape((n, h * b, w * b, c // (b * b)))


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth(Movement):
    """Blocks of pixels to channels, NHWC."""

    mnemonic: ClassVar[str] = "space_to_depth"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL

    block: int
    order: BlockOrder = BlockOrder.DCR

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(x.rank == 4 and self.block >= 1, f"expected NHWC, got {x}")
        n, h, w, c = x.shape
        b = self.block
        expect(h % b == 0 and w % b == 0, f"{h}x{w} is not a multiple of block {b}")
        return x.with_shape((n, h // b, w // b, c * b * b))


@dataclass(frozen=True, kw_only=True)
class ZeroStuff(Movement):
    """`value` between pixels: H becomes (H - 1) * stride + 1. NHWC.

    A transposed convolution is ZeroStuff, then Pad, then a Conv2d with flipped kernels.
    """

    mnemonic: ClassVar[str] = "zero_stuff"
    axis_use: ClassVar[AxisUse | None] = AxisUse.ALL

    stride: Pair
    value: float = 0.0

    def result_type(self, *inputs: TensorType) -> TensorType:
        (x,) = inputs
        expect(x.rank == 4 and min(self.stride) >= 1, f"expected NHWC, got {x}")
        n, h, w, c = x.shape
        return x.with_shape((n, (h - 1) * self.stride[0] + 1, (w - 1) * self.stride[1] + 1, c))
