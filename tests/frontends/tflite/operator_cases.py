"""One TFLite file for each operator that is imported, or more where it has several ways.

A case is a function of a `Net`; tensors are floats, or integers with a scale where `Net.bits` says
so. What the net's operators are fed is drawn from its generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tflite_models import ModelBuilder

RELU6 = 3
SAME, VALID = 0, 1


@dataclass
class Net:
    """A builder that knows whether its activations are floats or integers."""

    dtype: Any = np.float32
    builder: ModelBuilder = field(default_factory=ModelBuilder)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    outputs: list[int] = field(default_factory=list)
    low: float = -2.0

    @property
    def quantized(self) -> bool:
        return self.dtype != np.float32

    def scale(self, low: float, high: float) -> Any:
        """(scale, zero point) of a range; None for floats."""
        if not self.quantized:
            return None
        if self.dtype == np.int16:
            return max(-low, high) / 32767, 0
        step = (high - low) / 255
        least = int(np.iinfo(self.dtype).min)
        return step, round(least - low / step)

    @property
    def unit(self) -> tuple[float, int]:
        """What TensorFlow Lite fixes for results from 0 to 1."""
        return {np.int16: (1 / 32768, 0), np.uint8: (1 / 256, 0)}.get(self.dtype, (1 / 256, -128))

    @property
    def sign(self) -> tuple[float, int]:
        """What it fixes for results from -1 to 1."""
        return {np.int16: (1 / 32768, 0), np.uint8: (1 / 128, 128)}.get(self.dtype, (1 / 128, 0))

    def x(self, *shape: int, low: float | None = None, high: float = 2.0) -> int:
        low = self.low if low is None else low
        name = f"x{len(self.builder.inputs)}"
        return self.builder.input(name, shape, self.dtype, self.scale(low, high))

    def y(self, *shape: int, low: float = -4.0, high: float = 4.0, scale: Any = None) -> int:
        scale = scale if self.quantized and scale else self.scale(low, high)
        index = self.builder.tensor(f"y{len(self.outputs)}", shape, self.dtype, scale)
        self.outputs.append(index)
        return index

    def same(self, x: int, *shape: int) -> int:
        """A result with the scale of an operand."""
        q = self.builder.tensors[x].quantization
        return self.y(*shape, scale=(q.scale, q.zeroPoint) if self.quantized else None)

    def ints(self, *values: Any) -> int:
        return self.builder.constant(f"c{len(self.builder.tensors)}", np.array(values, np.int32))

    def weights(self, *shape: int, axis: int = 0, x: float = 4 / 255) -> tuple[int, int]:
        """Weights per channel and a bias; `x` is the scale of what they multiply."""
        name, b = f"w{len(self.builder.tensors)}", self.builder
        channels = shape[axis]
        if not self.quantized:
            w = (self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
            return b.constant(name, w), b.constant(
                f"{name}.b", self.rng.normal(size=channels).astype(np.float32)
            )
        if self.dtype == np.uint8:
            bytes_ = self.rng.integers(30, 256, shape).astype(np.uint8)
            bias = self.rng.integers(-300, 300, channels).astype(np.int32)
            step = np.float32(0.0075) * np.float32(x)
            return b.constant(name, bytes_, (0.0075, 140)), b.constant(f"{name}.b", bias, (step, 0))
        scale = self.rng.uniform(0.005, 0.01, channels)
        integers = self.rng.integers(-127, 128, shape).astype(np.int8)
        wide = np.int64 if self.dtype == np.int16 else np.int32
        bias = self.rng.integers(-300, 300, channels).astype(wide)
        zeros = np.zeros(channels, np.int64)
        return (
            b.constant(name, integers, (scale, zeros, axis)),
            b.constant(f"{name}.b", bias, (np.float32(scale) * np.float32(x), zeros, 0)),
        )

    def value(self, *shape: int, low: float = -2.0, high: float = 2.0) -> int:
        """A constant operand."""
        real = self.rng.uniform(low, high, shape)
        name = f"v{len(self.builder.tensors)}"
        if not self.quantized:
            return self.builder.constant(name, real.astype(np.float32))
        scale, zero = self.scale(low, high)
        limits = np.iinfo(self.dtype)
        integers = np.clip(np.rint(real / scale) + zero, limits.min, limits.max)
        return self.builder.constant(name, integers.astype(self.dtype), (scale, zero))

    def op(self, name: str, inputs: Sequence[int], *outputs: int, **options: Any) -> None:
        self.builder.op(name, inputs, outputs, **options)

    def feeds(self) -> list[NDArray[Any]]:
        """For each input: floats over the range of x, or any integers."""
        found = []
        for i in self.builder.inputs:
            shape = self.builder.tensors[i].shape
            if self.quantized:
                limits = np.iinfo(self.dtype)
                x = self.rng.integers(limits.min, int(limits.max) + 1, shape).astype(self.dtype)
            else:
                x = self.rng.uniform(self.low, 2.0, shape).astype(np.float32)
            found.append(x)
        return found

    @property
    def model(self) -> bytes:
        return self.builder.build(*self.outputs)


Case = Callable[[Net], None]


def x_scale(net: Net) -> float:
    if not net.quantized:
        return 1.0
    return float(net.builder.tensors[net.builder.inputs[0]].quantization.scale[0])


def conv(padding: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> Case:
    def case(net: Net) -> None:
        x = net.x(1, 7, 6, 4)
        w, b = net.weights(6, 3, 2, 4 // groups, x=x_scale(net))
        height = -(-7 // stride) if padding == SAME else -(-(7 - 2 * dilation) // stride)
        width = -(-6 // stride) if padding == SAME else -(-(6 - dilation) // stride)
        net.op(
            "CONV_2D",
            [x, w, b],
            net.y(1, height, width, 6),
            table="Conv2DOptions",
            padding=padding,
            strideH=stride,
            strideW=stride,
            dilationHFactor=dilation,
            dilationWFactor=dilation,
            fusedActivationFunction=RELU6 if stride > 1 else 0,
        )

    return case


def depthwise(multiplier: int) -> Case:
    def case(net: Net) -> None:
        x, channels = net.x(1, 6, 5, 3), 3 * multiplier
        w, b = net.weights(1, 3, 3, channels, axis=3, x=x_scale(net))
        net.op(
            "DEPTHWISE_CONV_2D",
            [x, w, b],
            net.y(1, 3, 3, channels),
            table="DepthwiseConv2DOptions",
            padding=SAME,
            strideH=2,
            strideW=2,
            depthMultiplier=multiplier,
        )

    return case


def transpose_conv(padding: int) -> Case:
    def case(net: Net) -> None:
        out = (1, 8, 6, 5) if padding == SAME else (1, 9, 7, 5)
        shape = net.ints(*out)
        x = net.x(1, 4, 3, 4)
        w, b = net.weights(5, 3, 3, 4, x=x_scale(net))
        net.op(
            "TRANSPOSE_CONV",
            [shape, w, x, b],
            net.y(*out),
            table="TransposeConvOptions",
            padding=padding,
            strideH=2,
            strideW=2,
        )

    return case


def dense(keep: bool) -> Case:
    def case(net: Net) -> None:
        x = net.x(2, 3, 8)
        w, b = net.weights(5, 8, x=x_scale(net))
        y = net.y(2, 3, 5) if keep else net.y(6, 5)
        net.op("FULLY_CONNECTED", [x, w, b], y, table="FullyConnectedOptions", keepNumDims=keep)

    return case


def matmul(adjoint: bool) -> Case:
    def case(net: Net) -> None:
        a, b = net.x(2, 3, 4), net.x(2, 5, 4) if adjoint else net.x(2, 4, 5)
        y = net.y(2, 3, 5, low=-12.0, high=12.0)
        net.op("BATCH_MATMUL", [a, b], y, table="BatchMatMulOptions", adjY=adjoint)

    return case


def pool(name: str, padding: int) -> Case:
    def case(net: Net) -> None:
        x = net.x(1, 7, 6, 3)
        shape = (1, 4, 3, 3) if padding == SAME else (1, 3, 2, 3)
        net.op(
            name,
            [x],
            net.same(x, *shape),
            table="Pool2DOptions",
            padding=padding,
            strideH=2,
            strideW=2,
            filterHeight=3,
            filterWidth=3,
        )

    return case


def reduce(name: str, keep: bool = False) -> Case:
    def case(net: Net) -> None:
        x, axes = net.x(2, 3, 4, 5), net.ints(1, -2)
        shape = (2, 1, 1, 5) if keep else (2, 5)
        extreme = name in ("REDUCE_MAX", "REDUCE_MIN")
        high = 9.0 if name == "SUM" else 1.0
        y = net.same(x, *shape) if extreme else net.y(*shape, low=-high, high=high)
        net.op(name, [x, axes], y, table="ReducerOptions", keepDims=keep)

    return case


def unary(name: str, low: float = -2.0, table: str | None = None, **options: Any) -> Case:
    def case(net: Net) -> None:
        net.low = low
        x = net.x(2, 50)
        fixed = {"LOGISTIC": net.unit, "TANH": net.sign}.get(name)
        net.op(name, [x], net.y(2, 50, scale=fixed), table=table, **options)

    return case


def binary(name: str, table: str | None = None, kind: str = "x", low: float = -2.0) -> Case:
    """kind: what the second operand is, another input, a row that broadcasts, a constant."""

    def case(net: Net) -> None:
        net.low = low
        a = net.x(2, 3, 4)
        b = {"x": lambda: net.x(2, 3, 4), "row": lambda: net.x(1, 4)}.get(
            kind, lambda: net.value(3, 4)
        )()
        copies = name in ("MAXIMUM", "MINIMUM")
        y = net.same(a, 2, 3, 4) if copies else net.y(2, 3, 4)
        options: dict[str, Any] = {"fusedActivationFunction": 1} if table and kind == "row" else {}
        if name in ("ADD", "SUB"):
            options["potScaleInt16"] = False
        net.op(name, [a, b], y, table=table, **options)

    return case


def moved(name: str, shape: Sequence[int], *given: Any, table: str = "", **options: Any) -> Case:
    """An operator on x [2, 3, 4] with constant integers as further operands."""

    def case(net: Net) -> None:
        x = net.x(2, 3, 4)
        constants = [net.ints(*v) if isinstance(v, tuple) else net.scalar(v) for v in given]
        net.op(name, [x, *constants], net.same(x, *shape), table=table or None, **options)

    return case


def scalar(net: Net, value: int) -> int:
    return net.builder.constant(f"s{len(net.builder.tensors)}", np.array(value, np.int32))


Net.scalar = scalar  # type: ignore[attr-defined]


def image(name: str, shape: Sequence[int], *given: int, table: str, **options: Any) -> Case:
    def case(net: Net) -> None:
        x = net.x(1, 4, 6, 4)
        constants = [net.ints(*given)] if given else []
        net.op(name, [x, *constants], net.same(x, *shape), table=table, **options)

    return case


def joined(net: Net) -> None:
    a, b = net.x(2, 3), net.x(2, 4)
    net.op("CONCATENATION", [a, b], net.same(a, 2, 7), table="ConcatenationOptions", axis=-1)


def packed(net: Net) -> None:
    a, b = net.x(2, 3), net.x(2, 3)
    net.op("PACK", [a, b], net.same(a, 2, 2, 3), table="PackOptions", axis=1, valuesCount=2)


def unpacked(net: Net) -> None:
    x = net.x(2, 3)
    net.op("UNPACK", [x], net.same(x, 3), net.same(x, 3), table="UnpackOptions", axis=0, num=2)


def split(net: Net) -> None:
    axis = scalar(net, 1)
    x = net.x(2, 6)
    net.op(
        "SPLIT", [axis, x], net.same(x, 2, 3), net.same(x, 2, 3), table="SplitOptions", numSplits=2
    )


def split_v(net: Net) -> None:
    x = net.x(2, 6)
    sizes, axis = net.ints(2, -1), scalar(net, -1)
    net.op(
        "SPLIT_V",
        [x, sizes, axis],
        net.same(x, 2, 2),
        net.same(x, 2, 4),
        table="SplitVOptions",
        numSplits=2,
    )


def softmax(net: Net) -> None:
    x = net.x(3, 7)
    net.op("SOFTMAX", [x], net.y(3, 7, scale=net.unit), table="SoftmaxOptions", beta=1.0)


def log_softmax(net: Net) -> None:
    x = net.x(3, 7)
    net.op("LOG_SOFTMAX", [x], net.y(3, 7, scale=(16 / 256, 127)))


def prelu(net: Net) -> None:
    x = net.x(1, 3, 4, 5)
    net.op("PRELU", [x, net.value(1, 1, 5)], net.y(1, 3, 4, 5))


def power(net: Net) -> None:
    net.low = 0.5
    x = net.x(2, 3)
    exponent = net.builder.constant("e", np.array(1.5, np.float32))
    net.op("POW", [x, exponent], net.y(2, 3))


def add_n(net: Net) -> None:
    net.op("ADD_N", [net.x(2, 3), net.x(2, 3), net.x(2, 3)], net.y(2, 3))


def quantize(net: Net) -> None:
    x = net.x(2, 9)
    net.op("QUANTIZE", [x], net.y(2, 9, low=-3.0, high=3.0))


def half_weights(net: Net) -> None:
    """Weights of 16 bits, made larger by a DEQUANTIZE."""
    x = net.x(3, 4)
    small = net.builder.constant("h", net.rng.normal(size=(2, 4)).astype(np.float16))
    w = net.builder.tensor("w", (2, 4))
    net.op("DEQUANTIZE", [small], w)
    net.op("FULLY_CONNECTED", [x, w, -1], net.y(3, 2), table="FullyConnectedOptions")


def cast(net: Net) -> None:
    x = net.builder.input("x", (2, 3), np.uint8)
    y = net.builder.tensor("f", (2, 3))
    net.op("CAST", [x], y, table="CastOptions", inDataType=3, outDataType=0)
    net.op("NEG", [y], net.y(2, 3))


def gathered(net: Net) -> None:
    x = net.x(2, 3, 4)
    indices = net.builder.constant("i", np.array([[2, 0], [1, 1]], np.int32))
    net.op("GATHER", [x, indices], net.same(x, 2, 2, 2, 4), table="GatherOptions", axis=1)


def padded(net: Net) -> None:
    x = net.x(2, 3)
    pads = net.builder.constant("p", np.array([[1, 0], [0, 2]], np.int32))
    net.op("PAD", [x, pads], net.same(x, 3, 5))


def padded_by(net: Net) -> None:
    x = net.x(2, 3)
    pads = net.builder.constant("p", np.array([[1, 0], [0, 2]], np.int32))
    value = net.builder.constant("v", np.array(1.5, np.float32))
    net.op("PADV2", [x, pads, value], net.same(x, 3, 5))


def mirrored(net: Net) -> None:
    x = net.x(2, 3)
    pads = net.builder.constant("p", np.array([[1, 0], [0, 2]], np.int32))
    net.op("MIRROR_PAD", [x, pads], net.same(x, 3, 5), table="MirrorPadOptions", mode=0)


def normalized(net: Net) -> None:
    net.op(
        "L2_NORMALIZATION", [net.x(3, 8)], net.y(3, 8, scale=(1 / 128, 0)), table="L2NormOptions"
    )


def lstm(
    activation: int = 4, *, coupled: bool = False, peepholes: bool = False, time_major: bool = False
) -> Case:
    """24 operands, of which the last before those of normalization are the file's own states."""
    steps, batch, size, hidden = 5, 2, 3, 4

    def case(net: Net) -> None:
        def weights(name: str, *shape: int, absent: bool = False) -> int:
            if absent:
                return -1
            return net.builder.constant(name, net.rng.normal(0, 0.5, shape).astype(np.float32))

        x = net.x(*(steps, batch, size) if time_major else (batch, steps, size))
        operands = [x]
        for kind, shape in (("w", (hidden, size)), ("r", (hidden, hidden))):
            lacking = [coupled and gate == "i" for gate in "ifco"]
            operands += [
                weights(kind + gate, *shape, absent=no)
                for gate, no in zip("ifco", lacking, strict=True)
            ]
        operands += [
            weights(f"p{gate}", hidden, absent=not peepholes or (coupled and gate == "i"))
            for gate in "ifo"
        ]
        operands += [
            weights(f"b{gate}", hidden, absent=no) for gate, no in zip("ifco", lacking, strict=True)
        ]
        states = [net.builder.tensor(name, (batch, hidden)) for name in ("h", "c")]
        for state in states:
            net.builder.tensors[state].isVariable = True
        y = net.y(*(steps, batch, hidden) if time_major else (batch, steps, hidden))
        net.builder.op(
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [*operands, -1, -1, *states, -1, -1, -1, -1],
            [y],
            table="UnidirectionalSequenceLSTMOptions",
            fusedActivationFunction=activation,
            timeMajor=time_major,
        )

    return case


BOTH: Mapping[str, Case] = {
    "ADD": binary("ADD", "AddOptions"),
    "ADD of a row": binary("ADD", "AddOptions", "row"),
    "ADD of a constant": binary("ADD", "AddOptions", "constant"),
    "AVERAGE_POOL_2D": pool("AVERAGE_POOL_2D", SAME),
    "CONCATENATION": joined,
    "CONV_2D": conv(SAME),
    "CONV_2D, stride": conv(VALID, stride=2),
    "CONV_2D, dilation": conv(SAME, dilation=2),
    "CONV_2D, groups": conv(VALID, groups=2),
    "DEPTHWISE_CONV_2D": depthwise(1),
    "DEPTHWISE_CONV_2D, two each": depthwise(2),
    "DEPTH_TO_SPACE": image("DEPTH_TO_SPACE", (1, 8, 12, 1), table="DepthToSpaceOptions",
                            blockSize=2),
    "EXPAND_DIMS": moved("EXPAND_DIMS", (2, 1, 3, 4), 1),
    "FULLY_CONNECTED": dense(False),
    "FULLY_CONNECTED, axes kept": dense(True),
    "GATHER": gathered,
    "HARD_SWISH": unary("HARD_SWISH", table="HardSwishOptions"),
    "LEAKY_RELU": unary("LEAKY_RELU", table="LeakyReluOptions", alpha=0.25),
    "LOGISTIC": unary("LOGISTIC"),
    "MAXIMUM": binary("MAXIMUM"),
    "MAX_POOL_2D": pool("MAX_POOL_2D", SAME),
    "MAX_POOL_2D, inside": pool("MAX_POOL_2D", VALID),
    "MEAN": reduce("MEAN"),
    "MEAN, axes kept": reduce("MEAN", keep=True),
    "MINIMUM": binary("MINIMUM"),
    "MIRROR_PAD": mirrored,
    "MUL": binary("MUL", "MulOptions"),
    "MUL by a row": binary("MUL", "MulOptions", "row"),
    "PACK": packed,
    "PAD": padded,
    "PRELU": prelu,
    "QUANTIZE": quantize,
    "REDUCE_MAX": reduce("REDUCE_MAX"),
    "REDUCE_MIN": reduce("REDUCE_MIN", keep=True),
    "RELU": unary("RELU"),
    "RELU6": unary("RELU6"),
    "RELU_N1_TO_1": unary("RELU_N1_TO_1"),
    "RESHAPE": moved("RESHAPE", (6, 4), (6, -1), table="ReshapeOptions"),
    "RESIZE_NEAREST_NEIGHBOR": image("RESIZE_NEAREST_NEIGHBOR", (1, 7, 9, 4), 7, 9,
                                     table="ResizeNearestNeighborOptions"),
    "REVERSE_V2": moved("REVERSE_V2", (2, 3, 4), (1,)),
    "SLICE": moved("SLICE", (1, 2, 4), (1, 0, 0), (1, 2, -1)),
    "SOFTMAX": softmax,
    "SPACE_TO_DEPTH": image("SPACE_TO_DEPTH", (1, 2, 3, 16), table="SpaceToDepthOptions",
                            blockSize=2),
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": image("SQUEEZE", (4, 6, 4), table="SqueezeOptions", squeezeDims=[0]),
    "STRIDED_SLICE": moved("STRIDED_SLICE", (2, 2), (0, 1, -1), (2, 3, 0), (1, 1, 1),
                           table="StridedSliceOptions", shrinkAxisMask=4),
    "SUB": binary("SUB", "SubOptions"),
    "TANH": unary("TANH"),
    "TILE": moved("TILE", (2, 6, 4), (1, 2, 1)),
    "TRANSPOSE": moved("TRANSPOSE", (4, 2, 3), (2, 0, 1)),
    "TRANSPOSE_CONV": transpose_conv(SAME),
    "TRANSPOSE_CONV, inside": transpose_conv(VALID),
    "UNPACK": unpacked,
}  # fmt: skip
"""Taken with floats, and with integers of 8 bits."""

FLOATS: Mapping[str, Case] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm(),
    "UNIDIRECTIONAL_SEQUENCE_LSTM, time first": lstm(time_major=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM, peepholes": lstm(peepholes=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM, coupled": lstm(coupled=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM, coupled with peepholes": lstm(coupled=True, peepholes=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM, ReLU": lstm(1),
    "ABS": unary("ABS"),
    "ADD_N": add_n,
    "BATCH_MATMUL": matmul(False),
    "BATCH_MATMUL, adjoint": matmul(True),
    "BROADCAST_TO": moved("BROADCAST_TO", (5, 2, 3, 4), (5, 2, 3, 4), version=2),
    "CAST": cast,
    "CEIL": unary("CEIL"),
    "COS": unary("COS"),
    "DEQUANTIZE of weights": half_weights,
    "DIV": binary("DIV", "DivOptions", low=0.5),
    "ELU": unary("ELU"),
    "EXP": unary("EXP", low=-6.0),
    "FLOOR": unary("FLOOR"),
    "GELU": unary("GELU", table="GeluOptions", approximate=False),
    "GELU, approximate": unary("GELU", table="GeluOptions", approximate=True),
    "L2_NORMALIZATION": normalized,
    "LOG": unary("LOG", low=0.25),
    "LOG_SOFTMAX": log_softmax,
    "NEG": unary("NEG"),
    "PADV2": padded_by,
    "POW": power,
    "RELU_0_TO_1": unary("RELU_0_TO_1"),
    "RESIZE_BILINEAR": image("RESIZE_BILINEAR", (1, 7, 9, 4), 7, 9, table="ResizeBilinearOptions"),
    "RESIZE_BILINEAR, centers": image("RESIZE_BILINEAR", (1, 7, 9, 4), 7, 9,
                                      table="ResizeBilinearOptions", halfPixelCenters=True),
    "RESIZE_BILINEAR, corners": image("RESIZE_BILINEAR", (1, 7, 9, 4), 7, 9,
                                      table="ResizeBilinearOptions", alignCorners=True),
    "RESIZE_NEAREST_NEIGHBOR, centers": image(
        "RESIZE_NEAREST_NEIGHBOR", (1, 7, 9, 4), 7, 9, table="ResizeNearestNeighborOptions",
        halfPixelCenters=True),
    "RESIZE_NEAREST_NEIGHBOR, corners": image(
        "RESIZE_NEAREST_NEIGHBOR", (1, 7, 9, 4), 7, 9, table="ResizeNearestNeighborOptions",
        alignCorners=True),
    "ROUND": unary("ROUND"),
    "RSQRT": unary("RSQRT", low=0.25),
    "SIGN": unary("SIGN"),
    "SIN": unary("SIN"),
    "SQRT": unary("SQRT", low=0.25),
    "SQUARE": unary("SQUARE"),
    "SQUARED_DIFFERENCE": binary("SQUARED_DIFFERENCE", "SquaredDifferenceOptions"),
    "SUM": reduce("SUM"),
}  # fmt: skip
"""Tested with floats only."""
