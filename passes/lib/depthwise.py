"""A factor and a shift per channel as a depthwise 1x1 convolution."""

from __future__ import annotations

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Conv2d, Op, Reshape
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.channel_affine import ChannelAffine


def depthwise_of(graph: Graph, affine: ChannelAffine, output: TensorId) -> Op:
    """The op whose result `output` is that function; what it needs before is added.

    Values of another rank than 4 are seen as pixels for the convolution; a reshape is free.
    """
    shape = graph.type(affine.x).shape
    batch, channels = (shape[0] if len(shape) > 1 else 1), shape[-1]
    if len(shape) == 4:
        return _convolution(graph, affine.x, affine, output)
    pixels = (batch, 1, graph.type(affine.x).size // (batch * channels), channels)
    id = graph.fresh_id(f"{output}.pixels")
    x = graph.add_op(Reshape(inputs=(affine.x,), output=id, shape=pixels))
    scaled = graph.add_op(_convolution(graph, x, affine, graph.fresh_id(f"{output}.scaled")))
    return Reshape(inputs=(scaled,), output=output, shape=shape)


def _convolution(graph: Graph, x: TensorId, affine: ChannelAffine, output: TensorId) -> Conv2d:
    channels = affine.scale.size
    weight = affine.scale.astype(np.float32).reshape(channels, 1, 1, 1)
    shift = affine.shift.astype(np.float32)
    return Conv2d(
        inputs=(
            x,
            graph.add_constant(f"{output}.weight", weight),
            graph.add_constant(f"{output}.bias", shift),
        ),
        output=output,
        groups=channels,
        clamp=affine.clamp,
    )
