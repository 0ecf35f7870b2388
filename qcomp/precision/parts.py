"""The parts of a network that are quantized apart from each other.

A convolution or dense layer has two: its weights, with the bias, and the activation that it writes.
Tensors that integers are copied between have one scale, so they are one part; the constants of
other ops (a factor, a summand) belong to the activation that the op writes.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass

from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import scale_groups


class Kind(enum.Enum):
    """What is rounded; the value is the letter of "W4A8"."""

    WEIGHTS = "W"
    ACTIVATION = "A"


@dataclass(frozen=True)
class Part:
    """Weights of the layer `id`, or the activations `members` that share a scale, `id` the first.

    `mnemonic` is of the op whose result `id` is, "input" if there is none.
    """

    kind: Kind
    id: TensorId
    mnemonic: str
    members: tuple[TensorId, ...]


def parts_of(graph: Graph) -> list[Part]:
    """The parts of a FLOAT graph in its order, a layer's weights before its activation."""
    groups = {members[0]: members for members in scale_groups(graph)}
    parts = [_activation(graph, groups[id]) for id in graph.inputs.values() if id in groups]
    for op in graph.ops():
        if isinstance(op, Weighted):
            parts.append(Part(Kind.WEIGHTS, op.id, op.mnemonic, (op.id,)))
        if op.output in groups:
            parts.append(_activation(graph, groups[op.output]))
    return [part for part in parts if _is_read(graph, part)]


def _activation(graph: Graph, members: list[TensorId]) -> Part:
    producer = graph.producer(members[0])
    mnemonic = "input" if producer is None else producer.mnemonic
    return Part(Kind.ACTIVATION, members[0], mnemonic, tuple(members))


def _is_read(graph: Graph, part: Part) -> bool:
    return any(graph.consumers(t) or graph.is_output(t) for t in part.members)


def with_bits(config: QuantizationConfig, kind: Kind, bits: int) -> QuantizationConfig:
    """The configuration with the same bits for every part of a kind, first and last included."""
    field = "weight_bits" if kind is Kind.WEIGHTS else "activation_bits"
    kept = {
        key: {name: value for name, value in fields.items() if name != field}
        for key, fields in config.overrides.items()
    }
    overrides = {key: fields for key, fields in kept.items() if fields}
    if kind is Kind.ACTIVATION:
        return dataclasses.replace(config, activation_bits=bits, overrides=overrides)
    return dataclasses.replace(
        config, weight_bits=bits, first_last_weight_bits=bits, overrides=overrides
    )
