"""What a choice of bits costs: bytes of weights, and an estimate of the time of a run.

Bytes are those that weights take in the target's libraries, with what is stored for each channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.precision.parts import Kind, Part
from qcomp.recipes.estimated_time import activation_ns
from qcomp.targets.base import Target


@dataclass(frozen=True)
class Cost:
    """Of one part, or of a network: they add."""

    bytes: int = 0
    us: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.us + other.us)


@dataclass(frozen=True, eq=False)
class Costs:
    """Of the parts of a FLOAT graph, quantized by a configuration, on a target."""

    graph: Graph
    config: QuantizationConfig
    target: Target

    def of(self, part: Part, bits: int) -> Cost:
        """Weights cost bytes; an activation the time of its readers' products and of its bytes."""
        if part.kind is Kind.WEIGHTS:
            op = self.graph.op(part.id)
            assert isinstance(op, Weighted)
            own = self.config.at(op.id, op.mnemonic)
            shape = self.graph.type(op.weight).shape
            return Cost(self.target.weight_bytes(shape, op.groups, _stored(own, shape, bits)))
        cost = self.target.cost
        return Cost(us=sum(activation_ns(self.graph, t, bits, cost) for t in part.members) / 1e3)


def _stored(own: QuantizationConfig, shape: tuple[int, ...], bits: int) -> int:
    """Integers times those of their group have 8 bits, and so have the weights of i16 kernels."""
    grouped = own.group_size and (not own.per_channel or own.group_size < math.prod(shape[1:]))
    return 8 if grouped or own.decided_activation_bits > 8 else bits
