"""Small networks with the structure of well-known ones; `NETWORKS` has them by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from network_builder import Builder, Network


def resnet(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 7, 7), strides=[2, 2])
    y = b("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for channels, out, stride in ((16, 16, 1), (16, 24, 2)):
        z = b.block(y, (out, channels, 3, 3), strides=[stride] * 2)
        z = b.block(z, (out, out, 3, 3), "")
        same = channels == out and stride == 1
        short = y if same else b.block(y, (out, channels, 1, 1), "", strides=[stride] * 2)
        y = b("Relu", b("Add", z, short))
    return [b.head(y, 24)]


def densenet(b: Builder, x: str) -> list[str]:
    """Batch normalisation stands before its convolution, behind a concatenation."""
    y, channels = b.conv(x, (12, 3, 3, 3)), 12
    for _ in range(3):
        z = b.conv(b("Relu", b.norm(y, channels)), (16, channels, 1, 1))
        z = b.conv(b("Relu", b.norm(z, 16)), (5, 16, 3, 3))
        y, channels = b("Concat", y, z, axis=1), channels + 5
    y = b("AveragePool", b("Relu", b.norm(y, channels)), kernel_shape=[2, 2], strides=[2, 2])
    return [b.head(y, channels)]


def _inverted(b: Builder, x: str, sizes: tuple[int, int, int], k: int, act: str, gate: str) -> str:
    """Expand, depthwise, squeeze and excite, project; the input is added where it fits."""
    channels, wide, out = sizes
    y = b.block(x, (wide, channels, 1, 1), act)
    y = b.block(y, (wide, 1, k, k), act, group=wide)
    if gate:
        z = b("Relu", b.conv(b("GlobalAveragePool", y), (wide // 4, wide, 1, 1)))
        y = b("Mul", y, b(gate, b.conv(z, (wide, wide // 4, 1, 1))))
    y = b.block(y, (out, wide, 1, 1), "")
    return b("Add", x, y) if channels == out else y


def mobilenet_v3(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 3, 3), "hard-swish", strides=[2, 2])
    y = _inverted(b, y, (16, 32, 16), 3, "Relu", "HardSigmoid")
    y = _inverted(b, y, (16, 40, 20), 5, "hard-swish", "HardSigmoid")
    y = b.activation(b.head(y, 20, 24), "hard-swish")
    return [b.dense(y, 24, 10)]


def efficientnet(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 3, 3), "silu", strides=[2, 2])
    y = _inverted(b, y, (16, 32, 16), 5, "silu", "Sigmoid")
    return [b.head(y, 16)]


def mobilenet_v2(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 3, 3), "relu6", strides=[2, 2])
    y = _inverted(b, y, (16, 48, 16), 3, "relu6", "")
    return [b.head(_inverted(b, y, (16, 48, 24), 3, "relu6", ""), 24)]


def shufflenet(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 3, 3), strides=[2, 2])
    for _ in range(2):
        left, right = b.several("Split", y, outputs=2, axis=1)
        right = b.block(right, (8, 8, 1, 1))
        right = b.block(b.block(right, (8, 1, 3, 3), "", group=8), (8, 8, 1, 1))
        y = b("Reshape", b("Concat", left, right, axis=1), [1, 2, 8, 8, 8])
        y = b("Reshape", b("Transpose", y, perm=[0, 2, 1, 3, 4]), [1, 16, 8, 8])
    return [b.head(y, 16)]


def ghostnet(b: Builder, x: str) -> list[str]:
    """The cheap half is cut to an odd number of channels; grouped convolution as in RegNet."""
    y = b.block(x, (9, 3, 1, 1))
    y = b("Concat", y, b.block(y, (9, 1, 3, 3), group=9), axis=1)
    y = b("Slice", y, [0], [15], [1])
    return [b.head(b.block(y, (20, 3, 3, 3), group=5), 20)]


def unet(b: Builder, x: str) -> list[str]:
    wide = b.block(x, (12, 3, 3, 3))
    deep = b.block(b("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2]), (20, 12, 3, 3))
    up = b("ConvTranspose", deep, b.normal(20, 12, 4, 4) * 2, strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.block(b("Concat", wide, b("Relu", up), axis=1), (12, 24, 3, 3))
    return [b("Softmax", b.conv(y, (4, 12, 1, 1)), axis=1)]


def detector(b: Builder, x: str) -> list[str]:
    """A feature pyramid, nearest and linear, whose levels share a head; boxes as SSD has them."""
    fine = b.block(x, (12, 3, 3, 3), strides=[2, 2])
    coarse = b.block(fine, (16, 12, 3, 3), strides=[2, 2])
    top = b.conv(b.block(coarse, (16, 16, 3, 3), strides=[2, 2]), (8, 16, 1, 1))
    levels = [top]
    for side, channels, mode in ((coarse, 16, "nearest"), (fine, 12, "linear")):
        up = b("Resize", levels[-1], "", [1.0, 1.0, 2.0, 2.0], mode=mode)
        levels.append(b("Add", up, b.conv(side, (8, channels, 1, 1))))
    weight, rows = b.constant(b.normal(10, 8, 3, 3)), []
    for level in levels:
        y = b("Conv", level, weight, pads=[1, 1, 1, 1])
        rows.append(b("Reshape", b("Transpose", y, perm=[0, 2, 3, 1]), [1, -1, 5]))
    boxes = b("Concat", *rows, axis=1)
    return [
        b("Slice", boxes, [0], [4], [2]),
        b("Sigmoid", b("Slice", boxes, [4], [5], [2])),
    ]


def yolo(b: Builder, x: str) -> list[str]:
    y = b.activation(b.norm(b.conv(x, (16, 3, 3, 3), strides=[2, 2]), 16), "silu")
    y = b("Conv", b("LeakyRelu", b.conv(y, (16, 16, 3, 3)), alpha=0.1), b.normal(21, 16, 1, 1))
    y = b("Transpose", b("Reshape", y, [1, 3, 7, 8, 8]), perm=[0, 1, 3, 4, 2])
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), -1)[None, None]
    anchors = np.array([[2.0, 1.0], [3.0, 4.0], [5.0, 2.0]])[None, :, None, None]
    xy, wh, scores = (b("Slice", y, [i], [j], [4]) for i, j in ((0, 2), (2, 4), (4, 7)))
    xy = b("Mul", b("Add", b("Sigmoid", xy), grid), 2.0)
    wh = b("Mul", b("Exp", b("Tanh", wh)), anchors)
    boxes = b("Concat", xy, wh, axis=-1)
    return [b("Reshape", boxes, [1, -1, 4]), b("Reshape", b("Sigmoid", scores), [1, -1, 3])]


def focus(b: Builder, x: str) -> list[str]:
    """Strided slices instead of a stem, cross-stage split, spatial pyramid pooling."""
    starts = [(0, 0), (1, 0), (0, 1), (1, 1)]
    parts = [b("Slice", x, list(s), [99, 99], [2, 3], [2, 2]) for s in starts]
    y = b.block(b("Concat", *parts, axis=1), (16, 12, 3, 3), "silu")
    left, right = b.several("Split", y, outputs=2, axis=1)
    pools = [b("MaxPool", right, kernel_shape=[k, k], pads=[k // 2] * 4) for k in (5, 9)]
    return [b.conv(b("Concat", left, right, *pools, axis=1), (5, 32, 1, 1))]


def super_resolution(b: Builder, x: str) -> list[str]:
    y = b("Tanh", b.conv(x, (16, 1, 5, 5)))
    return [b("DepthToSpace", b.conv(y, (9, 16, 3, 3)), blocksize=3, mode="CRD")]


def style(b: Builder, x: str) -> list[str]:
    """Reflected and repeated borders, and an output in 0 .. 255."""
    y = b("Pad", x, [0, 0, 2, 1, 0, 0, 2, 3], mode="reflect")
    y = b.block(y, (8, 3, 5, 5), pads=[0] * 4)
    z = b.block(b("Pad", y, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge"), (8, 8, 3, 3), "", pads=[0] * 4)
    y = b("Resize", b("Add", y, z), "", [1.0, 1.0, 2.0, 2.0], mode="nearest")
    return [b("Add", b("Mul", b("Tanh", b.conv(y, (3, 8, 3, 3))), 127.5), 127.5)]


def audio(b: Builder, x: str) -> list[str]:
    y = b.block(x, (12, 1, 25), strides=[4])
    y = b("MaxPool", y, kernel_shape=[4], strides=[4])
    y = b.block(b.block(y, (12, 1, 3), group=12), (20, 12, 1))
    y = b("AveragePool", y, kernel_shape=[3], strides=[2], pads=[1, 1], count_include_pad=1)
    return [b("LogSoftmax", b.head(y, 20, 6), axis=1)]


def temporal(b: Builder, x: str) -> list[str]:
    """Causal, dilated: the pads are on one side only, and in the second block cut off again."""
    y = b("Relu", b.conv(b("Pad", x, [0, 0, 4, 0, 0, 0]), (12, 5, 3), pads=[0, 0], dilations=[2]))
    z = b.conv(y, (12, 12, 3), pads=[8, 8], dilations=[4])
    z = b("Elu", b("Slice", z, [0], [-8], [2]))
    gate = b("Sigmoid", b.conv(y, (12, 12, 1)))
    y = b("Add", y, b("Mul", z, gate))
    return [b.dense(b("Gather", y, -1, axis=2), 12, 3)]


def transformer(b: Builder, x: str) -> list[str]:
    """One encoder block of two heads; layer normalisation and GELU written out in parts."""

    def layer_norm(v: str) -> str:
        centred = b("Sub", v, b("ReduceMean", v, axes=[-1]))
        variance = b("ReduceMean", b("Pow", centred, 2.0), axes=[-1])
        y = b("Div", centred, b("Sqrt", b("Add", variance, 1e-5)))
        return b("Add", b("Mul", y, b.random.uniform(0.5, 1.5, 16)), b.normal(16) * 0.1)

    def heads(v: str, perm: list[int]) -> str:
        return b("Transpose", b("Reshape", b.linear(normed, 16, 16), [0, 9, 2, 8]), perm=perm)

    normed = layer_norm(x)
    query, key = heads(normed, [0, 2, 1, 3]), heads(normed, [0, 2, 3, 1])
    scores = b("Softmax", b("Mul", b("MatMul", query, key), 8**-0.5), axis=-1)
    mixed = b("Transpose", b("MatMul", scores, heads(normed, [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    y = b("Add", x, b.linear(b("Reshape", mixed, [0, 9, 16]), 16, 16))
    z = b.linear(layer_norm(y), 16, 32)
    erf = b("Add", b("Erf", b("Div", z, 2**0.5)), 1.0)
    return [b("Add", y, b.linear(b("Mul", b("Mul", z, erf), 0.5), 32, 16))]


def face(b: Builder, x: str) -> list[str]:
    y = b("PRelu", b.conv(x, (10, 3, 3, 3), pads=[0] * 4), b.random.uniform(-0.1, 0.5, (10, 1, 1)))
    y = b("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    y = b("PRelu", b.conv(y, (12, 10, 3, 3)), b.random.uniform(0, 0.5, (12, 1, 1)))
    y = b("AveragePool", y, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    return [b.dense(b("Flatten", y), 12 * 9, 6)]


def pools(b: Builder, x: str) -> list[str]:
    """Four outputs, of which the first is read by the others."""
    y = b.block(x, (19, 3, 3, 3))
    both = dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b("AveragePool", y, count_include_pad=1, **both)
    z = b.block(b("AveragePool", y, count_include_pad=0, **both), (21, 19, 3, 3))
    return [y, b("ReduceMax", z, axes=[2, 3]), b("GlobalMaxPool", z), b("ReduceMean", z, axes=[1])]


def siamese(b: Builder, left: str, right: str) -> list[str]:
    """Two inputs through the same weights."""
    conv, dense = b.constant(b.normal(12, 3, 3, 3)), b.constant(b.normal(8, 12))
    vectors = []
    for x in (left, right):
        y = b("Relu", b("Conv", x, conv, strides=[2, 2]))
        vectors.append(b("Gemm", b("Flatten", b("GlobalAveragePool", y)), dense, transB=1))
    return [b("Sigmoid", b("ReduceSum", b("Abs", b("Sub", *vectors)), [1], keepdims=0))]


def segmenter(b: Builder, x: str) -> list[str]:
    y = b.block(x, (16, 3, 3, 3), strides=[2, 2])
    rates = [b.block(y, (6, 16, 3, 3), dilations=[d, d], pads=[d] * 4) for d in (1, 2, 3)]
    whole = b.block(b("GlobalAveragePool", y), (6, 16, 1, 1))
    whole = b("Resize", whole, "", "", [1, 6, 8, 8], mode="linear")
    y = b.conv(b("Concat", *rates, whole, axis=1), (5, 24, 1, 1))
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    y = b("Resize", y, "", "", [1, 5, 16, 16], **how)
    return [b("LogSoftmax", y, axis=1), b("ArgMax", y, axis=1, keepdims=0)]


def tf_mobilenet(b: Builder, x: str) -> list[str]:
    """NHWC at the edges, a transposition around each convolution, scale and shift unfolded."""

    def conv(v: str, *shape: int, **attributes: Any) -> str:
        y = b("Transpose", v, perm=[0, 3, 1, 2])
        y = b("Conv", y, b.normal(*shape), auto_pad="SAME_UPPER", **attributes)
        return b("Transpose", y, perm=[0, 2, 3, 1])

    y = b("Mul", conv(x, 12, 3, 3, 3, strides=[2, 2]), b.random.uniform(0.5, 1.5, 12))
    y = b.activation(b("Add", y, b.normal(12) * 0.1), "relu6")
    z = b("Relu", conv(y, 12, 1, 3, 3, group=12))
    y = b("Add", conv(z, 12, 12, 1, 1), y)
    return [b("Softmax", b.linear(b("ReduceMean", y, axes=[1, 2], keepdims=0), 12, 7), axis=-1)]


def arithmetic(b: Builder, x: str) -> list[str]:
    """Every binary op with constants of every shape, and quotients and extremes of activations."""
    y = b("Div", b("Sub", 2.0, b("Mul", x, b.random.uniform(0.5, 2, (1, 1, 10, 1)))), 1.5)
    z = b("Reciprocal", b("Add", b("Abs", y), 1.0))
    low = b("Max", b("Min", y, 1.5, b("Pow", z, 0.5)), b.random.normal(size=(6, 10, 11)))
    mean = b("Expand", b("ReduceMean", low, axes=[2, 3]), [1, 6, 10, 11])
    return [b("Div", low, b("Add", b("Exp", mean), 0.5)), b("Sqrt", b("Neg", b("Sub", z, 1.1)))]


def movement(b: Builder, x: str) -> list[str]:
    """Values only move; one output is the input itself."""
    y = b("Concat", b("Transpose", x, perm=[0, 1, 3, 2]), b("Tile", x, [1, 1, 2, 1]), axis=-2)
    y = b("Slice", y, [-1, 0], [-99, 99], [1, 2], [-1, 2])
    y = b("Gather", y, [2, 0, 2], axis=1)
    return [
        b("Reshape", y, [0, -1, 6]),
        b("Identity", x),
        b("Squeeze", b("Slice", x, [0], [1], [1]), [1]),
    ]


NETWORKS = {
    "resnet": Network(resnet, (1, 3, 24, 24), (37,), opset=9),
    "densenet": Network(densenet, (1, 3, 12, 12), (20,), opset=11),
    "mobilenet_v2": Network(mobilenet_v2, (1, 3, 16, 16), (31,)),
    "mobilenet_v3": Network(mobilenet_v3, (1, 3, 16, 16), (17,)),
    "efficientnet": Network(efficientnet, (1, 3, 16, 16), (34,)),
    "shufflenet": Network(shufflenet, (1, 3, 16, 16), (31,)),
    "ghostnet": Network(ghostnet, (1, 3, 9, 11), (38,)),
    "unet": Network(unet, (1, 3, 16, 16), (32,)),
    "detector": Network(detector, (1, 3, 16, 24), (29, 32)),
    "yolo": Network(yolo, (1, 3, 16, 16), (37, 35)),
    "focus": Network(focus, (1, 3, 14, 18), (27,)),
    "super_resolution": Network(super_resolution, (1, 1, 9, 10), (29,)),
    "style": Network(style, (1, 3, 10, 12), (26,)),
    "audio": Network(audio, (1, 1, 400), (39,)),
    "temporal": Network(temporal, (1, 5, 33), (17,)),
    "transformer": Network(transformer, (1, 9, 16), (20,)),
    "face": Network(face, (1, 3, 16, 16), (30,)),
    "pools": Network(pools, (1, 3, 15, 13), (31, 37, 37, 42)),
    "siamese": Network(siamese, (1, 3, 12, 12), (36,), inputs=2),
    "segmenter": Network(segmenter, (1, 3, 16, 16), (33,)),
    "tf_mobilenet": Network(tf_mobilenet, (1, 15, 17, 3), (34,)),
    "arithmetic": Network(arithmetic, (1, 6, 10, 11), (33, 40)),
    "movement": Network(movement, (1, 3, 6, 6), (37, 37, 37)),
}
