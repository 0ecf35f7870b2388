"""The plans that there are for a network, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from qcomp.config import QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.precision.costs import Cost, Costs
from qcomp.precision.parts import Kind, Part, parts_of
from qcomp.precision.plan import Plan, configured_bits, least_bits, with_plan
from qcomp.precision.prepare import Preparation


@dataclass(frozen=True, eq=False)
class Space:
    """`allowed` are the bits to choose from for a part of each kind."""

    preparation: Preparation
    allowed: Mapping[Kind, Sequence[int]]
    costs: Costs

    @cached_property
    def configured(self) -> Plan:
        """What the configuration says, for all parts."""
        graph, config = self.preparation.graph, self.preparation.config
        return {part: configured_bits(graph, config, part) for part in parts_of(graph)}

    def asked(self, kind: Kind) -> list[int]:
        """All bits that some part of a kind may have."""
        parts = [part for part in self.configured if part.kind is kind]
        return list(dict.fromkeys(bits for part in parts for bits in self.bits(part)))

    def bits(self, part: Part) -> list[int]:
        """What a part may have; what the configuration says where nothing else is allowed."""
        least = least_bits(self.preparation.graph, self.preparation.config, part)
        found = [b for b in dict.fromkeys(self.allowed[part.kind]) if b >= least]
        return found or [self.configured[part]]

    def cost(self, plan: Plan) -> Cost:
        return sum((self.costs.of(part, bits) for part, bits in plan.items()), Cost())

    def config(self, plan: Plan) -> QuantizationConfig:
        return with_plan(self.preparation.config, self.preparation.graph, plan)

    def quantized(self, plan: Plan) -> Graph:
        """The QDQ graph of a plan for all parts."""
        return self.preparation.quantized(self.config(plan))
