"""`qcomp.mixed_precision`: the bits of each part, under a budget or down to a loss of accuracy.

Weights cost bytes and activations cost time, and what they do to the outputs adds; so the weights
of least noise for some bytes and the activations of least noise for some time are found apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from numpy.typing import ArrayLike

from qcomp.calibration.data import Source
from qcomp.config import QuantizationConfig
from qcomp.errors import CompileError
from qcomp.frontends import ModelLike
from qcomp.precision.costs import Cost, Costs
from qcomp.precision.front import Choice, Option, greedy, pareto
from qcomp.precision.metric import Metric, agreement
from qcomp.precision.mixed import MixedPrecision, Point
from qcomp.precision.parts import Kind, Part
from qcomp.precision.plan import Plan
from qcomp.precision.prepare import Preparation
from qcomp.precision.run import ACTIVATION_BITS, WEIGHT_BITS, table, whole
from qcomp.precision.space import Space
from qcomp.precision.table import SensitivityTable
from qcomp.precision.trial import Trial
from qcomp.precision.workers import started
from qcomp.quant.noise import Noise
from qcomp.targets.catalog import target as find_target

METHODS: Mapping[str, Callable[[Sequence[Sequence[Option]]], list[Choice]]] = {
    "front": pareto,
    "greedy": greedy,
}


def mixed_precision(
    model: ModelLike,
    *,
    calibration: Source,
    config: QuantizationConfig | None = None,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
    target: str = "native",
    weight_bits: Sequence[int] = WEIGHT_BITS,
    activation_bits: Sequence[int] = ACTIVATION_BITS,
    max_bytes: int | None = None,
    max_latency: float | None = None,
    max_drop: float | None = None,
    metric: Metric | None = None,
    method: str = "front",
    points: int = 12,
    processes: int | None = None,
    scheduler: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    samples: int | None = None,
    progress: bool = False,
) -> MixedPrecision:
    """The configuration with the least error within a budget, or the smallest within a loss.

    model, calibration, samples, config, bind, bind_values, processes, scheduler, cache: as for
        `sensitivity`. What the configuration says of bits is where the search starts from.
    weight_bits, activation_bits: to choose from, for each part.
    max_bytes: of the weights, as the target's libraries store them.
    max_latency: microseconds of a run on `target`, estimated (qcomp.precision.costs). Without it,
        no activation gets more bits than the configuration gives it, unless max_drop wants it.
    max_drop: by how much `metric` may be less than the float network's; the fewest bytes are taken.
    metric: called with a function from arrays (or dicts by name; the first axis counts samples) to
        outputs, which is the float network or a simulation of the integer code. Without it: the
        share of calibration samples whose largest output stays the largest.
    method: "front" (exact in the additive model) or "greedy" (its convex hull).
    points: of the front that are simulated.

    Raises CompileError, also for a budget that can't be kept; it says what could.
    """
    if method not in METHODS:
        raise CompileError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if max_bytes is None and max_latency is None and max_drop is None:
        raise CompileError("expected max_bytes, max_latency or max_drop: what to search for")
    found = find_target(target)
    preparation = Preparation(
        model, calibration, config, found.cost, bind, bind_values, progress, samples
    )
    allowed = {Kind.WEIGHTS: weight_bits, Kind.ACTIVATION: activation_bits}
    costs = Costs(preparation.graph, preparation.config, found)
    space = Space(preparation, allowed, costs)
    problem = preparation.problem(space.asked(Kind.WEIGHTS), space.asked(Kind.ACTIVATION))
    trial = None
    if max_drop is not None:
        trial = Trial(space, metric or agreement(problem), max_drop)
    store = None if cache is None else Path(cache)
    with started(problem, processes, scheduler) as workers:
        measured = table(problem, workers, store, progress=progress)
        search = Search(space, measured, METHODS[method])
        plan = search.best(max_bytes, max_latency, trial)
        plans = [*search.around(plan, points), plan]
        graphs = [space.quantized(p) for p in plans]
        noises = whole(problem, graphs, workers, store, progress=progress)
    *front, point = [
        Point(p, space.cost(p), search.predicted(p), noise)
        for p, noise in zip(plans, noises, strict=True)
    ]
    return MixedPrecision(
        config=space.config(plan),
        point=point,
        front=tuple(front),
        table=measured,
        float_metric=None if trial is None else trial.of_float,
        metric=None if trial is None else trial.value(plan),
    )


Priced = tuple[float, Plan]


@dataclass(frozen=True, eq=False)
class Search:
    """Plans by what the table says of single parts."""

    space: Space
    table: SensitivityTable
    method: Callable[[Sequence[Sequence[Option]]], list[Choice]]

    def predicted(self, plan: Plan) -> Noise:
        """The sum over the parts."""
        noise = sum(self._noise(part, bits) for part, bits in plan.items())
        return Noise(self.table.configured.signal, noise)

    @cached_property
    def weights(self) -> list[Priced]:
        """Plans for all weights with their bytes, the smallest first, the least noisy last."""
        return self._front(Kind.WEIGHTS, lambda cost: cost.bytes)

    @cached_property
    def activations(self) -> list[Priced]:
        """Plans for all activations with their us, the fastest first, the least noisy last."""
        return self._front(Kind.ACTIVATION, lambda cost: cost.us)

    def best(self, max_bytes: int | None, max_latency: float | None, trial: Trial | None) -> Plan:
        """Within the budgets; with a trial, of the fewest bytes that pass it."""
        weights = _within(self.weights, max_bytes, "max_bytes", "bytes")
        activations = _within(self.activations, max_latency, "max_latency", "us")
        given = {p: b for p, b in self.space.configured.items() if p.kind is Kind.ACTIVATION}
        usual = given if max_latency is None else activations[-1]
        if trial is None:
            return {**weights[-1], **usual}
        if trial.passes({**weights[-1], **usual}):
            return {**_first(weights, lambda w: trial.passes({**w, **usual})), **usual}
        widest = {**weights[-1], **activations[-1]}
        if not trial.passes(widest):
            drop = trial.of_float - trial.value(widest)
            raise CompileError(
                f"max_drop={trial.max_drop}: the least that the allowed bits and budgets reach is "
                f"{drop:.4g}, from {trial.of_float:.4g} of the float network"
            )
        wider = _first(activations, lambda a: trial.passes({**weights[-1], **a}))
        return {**weights[-1], **wider}

    def around(self, plan: Plan, points: int) -> list[Plan]:
        """What else there is: other weights with the plan's activations, and the other way round
        where these are not as configured.
        """
        found: list[Plan] = [{**plan, **w} for w in _spread(self.weights, points)]
        if any(self.space.configured[p] != b for p, b in plan.items() if p.kind is Kind.ACTIVATION):
            found += [{**plan, **a} for a in _spread(self.activations, points)]
        return found

    def _front(self, kind: Kind, price: Callable[[Cost], float]) -> list[Priced]:
        parts = [part for part in self.space.configured if part.kind is kind]
        options = [
            [
                Option(bits, self._noise(part, bits), price(self.space.costs.of(part, bits)))
                for bits in self.space.bits(part)
            ]
            for part in parts
        ]
        plans: list[Priced] = []
        for choice in self.method(options):
            bits = [of_part[i].bits for of_part, i in zip(options, choice.picked, strict=True)]
            plans.append((choice.cost, dict(zip(parts, bits, strict=True))))
        return plans

    def _noise(self, part: Part, bits: int) -> float:
        return self.table.row(part.kind, part.id).only_rounded[bits].noise


def _within(front: Sequence[Priced], limit: float | None, name: str, unit: str) -> list[Plan]:
    """The plans that cost no more; CompileError where all do."""
    plans = [plan for cost, plan in front if limit is None or cost <= limit]
    if not plans:
        raise CompileError(f"{name}={limit:.10g}: the least is {front[0][0]:.10g} {unit}")
    return plans


def _first(plans: Sequence[Plan], passes: Callable[[Plan], bool]) -> Plan:
    """The first that passes, if all behind one that passes do; the last is known to."""
    low, high = 0, len(plans) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(plans[middle]) else (middle + 1, high)
    return plans[high]


def _spread(front: Sequence[Priced], count: int) -> list[Plan]:
    """`count` of them at about equal distances, the ends included."""
    last = len(front) - 1
    places = [round(i * last / max(1, count - 1)) for i in range(count)]
    return [front[i][1] for i in dict.fromkeys(places)]
