"""What stands between a layer's sums and what later layers see of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, Minimum, Op, PRelu, Quantize, Weighted
from qcomp.ir.tensor import TensorId
from qcomp.reconstruction.engine import Engine, Value

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Activation:
    """y -> clip(y if y >= 0 else slope * y, low, high), parameters [G, 1, O / G] or [1, 1, 1]."""

    low: F32
    high: F32
    slope: F32

    @property
    def is_identity(self) -> bool:
        """Whether it changes no value of any channel."""
        unbounded = np.isneginf(self.low).all() and np.isposinf(self.high).all()
        return bool(unbounded and (self.slope == 1).all())

    def on(self, engine: Engine) -> Activation:
        """With the parameters as arrays of the engine, for the two functions below."""
        return Activation(*(engine.array(p) for p in (self.low, self.high, self.slope)))

    def __call__(self, engine: Engine, y: Value) -> Value:
        xp = engine.xp
        return xp.clip(xp.where(y >= 0, y, y * self.slope), self.low, self.high)

    def derivative(self, engine: Engine, y: Value) -> Value:
        """0 where the clip holds the value."""
        xp = engine.xp
        slope = xp.where(y >= 0, xp.ones_like(y), self.slope)
        bent = y * slope
        return slope * ((bent > self.low) & (bent < self.high))


def activation_of(graph: Graph, layer: Weighted) -> Activation:
    """The layer's clamp; else a PReLU or a minimum per channel that alone reads its result."""
    groups = layer.groups
    low, high, slope = (_shaped(v, groups) for v in (layer.clamp.low, layer.clamp.high, 1.0))
    reader = _sole_reader(graph, layer.output) if layer.clamp.is_none else None
    if isinstance(reader, PRelu) and _per_channel(graph, layer, reader.inputs[1]):
        slope = _shaped(graph.data(reader.inputs[1]), groups)
    elif isinstance(reader, Minimum):
        bounds = [t for t in reader.inputs if _per_channel(graph, layer, t)]
        high = _shaped(graph.data(bounds[0]), groups) if bounds else high
    return Activation(low, high, slope)


def seen_result(graph: Graph, layer: Weighted) -> TensorId:
    """The tensor behind that activation; a quantized graph and its float graph have the same."""
    reader = _sole_reader(graph, layer.output) if layer.clamp.is_none else None
    bent = isinstance(reader, PRelu | Minimum) and any(
        _per_channel(graph, layer, t) for t in reader.inputs
    )
    return reader.output if bent and reader is not None else layer.output


def _sole_reader(graph: Graph, id: TensorId) -> Op | None:
    """The one op that reads a value, behind quantize and dequantize."""
    reader = graph.sole_consumer(id)
    while isinstance(reader, Quantize | Dequantize):
        reader = graph.sole_consumer(reader.output)
    return reader


def _per_channel(graph: Graph, layer: Weighted, id: TensorId) -> bool:
    channels = graph.type(layer.output).shape[-1]
    return (
        graph.is_constant(id)
        and graph.data(id).shape[-1:] in ((1,), (channels,))
        and (graph.data(id).size in (1, channels))
    )


def _shaped(value: object, groups: int) -> F32:
    data = np.asarray(value, np.float32).reshape(-1)
    return data.reshape(groups, 1, -1) if data.size > 1 else data.reshape(1, 1, 1)
