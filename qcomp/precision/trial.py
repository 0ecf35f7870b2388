"""A user's metric on the networks of plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from qcomp.precision.metric import Metric, Predict
from qcomp.precision.plan import Plan
from qcomp.precision.space import Space


@dataclass(frozen=True, eq=False)
class Trial:
    """Evaluates `metric` once for each plan; it may lose `max_drop` of the float's."""

    space: Space
    metric: Metric
    max_drop: float
    _values: dict[tuple[int, ...], float] = field(default_factory=dict)

    @cached_property
    def of_float(self) -> float:
        return float(self.metric(Predict(self.space.preparation.graph)))

    def value(self, plan: Plan) -> float:
        key = tuple(plan[part] for part in self.space.configured)
        if key not in self._values:
            self._values[key] = float(self.metric(Predict(self.space.quantized(plan))))
        return self._values[key]

    def passes(self, plan: Plan) -> bool:
        least = self.of_float - self.max_drop
        return self.value(plan) >= least
