"""16 bits for the few activations whose rounding decides, within a bound of the time.

Each unit of activations (same_scale.range_units) is rounded to 8 bits by itself, in an otherwise
float network. Noises of independent roundings add up, so what 16 bits spare is about the noise of
the unit; what they cost is estimated (estimated_time.py). Of all choices of units that the time
allows, the one that spares most noise is taken (knapsack.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qcomp.config import QuantizationConfig, matches
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import range_units
from qcomp.recipes.activations import Activations, assigned
from qcomp.recipes.estimated_time import CostOf, network_ns, op_ns
from qcomp.recipes.judge import Judge
from qcomp.recipes.knapsack import most_valuable

_LEFT_ALONE = 0.02  # of the sum of all noises: what the quietest units make together


@dataclass(frozen=True)
class WideUnit:
    """Activations that are to have 16 bits: what 8 bits cost by themselves, in dB and in time."""

    members: tuple[TensorId, ...]
    db: float
    slowdown: float

    def __str__(self) -> str:
        more = f" and {len(self.members) - 1} more" if len(self.members) > 1 else ""
        return (
            f"%{self.members[0]}{more}: {self.db:.1f} dB with 8 bits by itself; 16 bits take "
            f"{100 * self.slowdown:.1f} % more time"
        )


def wide_units(
    activations: Activations,
    config: QuantizationConfig,
    cost: CostOf,
    advance: Callable[[int, int], None],
) -> list[WideUnit]:
    """The units worth 16 bits, the loudest first, within `max_slowdown`.

    `advance(done, total)` is told of the progress.
    """
    judge = activations.judge
    graph, current = judge.quantizer.equalized(config), assigned(judge, config)
    units = free_units(judge, config)
    found: list[_Loud] = []
    for done, members in enumerate(units):
        noise = activations.ranking({t: current[t] for t in members})
        found.append(_Loud(members, _touched(graph, members), noise.total.noise, noise.db))
        advance(done + 1, len(units))
    whole = network_ns(graph, cost)
    chosen = _within((config.max_slowdown - 1.0) * whole, _loudest(found), graph, cost)
    chosen.sort(key=lambda pair: -pair[0].noise)
    return [WideUnit(unit.members, unit.db, extra / whole) for unit, extra in chosen]


def _within(
    allowed: float, units: Sequence[_Loud], graph: Graph, cost: CostOf
) -> list[tuple[_Loud, float]]:
    """The units that spare most within this time, each with what it takes beside the others.

    What some spare their neighbours leaves time for more.
    """
    alone = [max(_extra_ns(graph, unit, frozenset(), cost), 1.0) for unit in units]
    packed = most_valuable([unit.noise for unit in units], alone, allowed)
    left = [unit for i, unit in enumerate(units) if i not in packed]
    first = [units[i] for i in packed]
    chosen: list[tuple[_Loud, float]] = []
    wide: frozenset[TensorId] = frozenset()
    while first or left:
        waiting = first or left
        costs = [max(_extra_ns(graph, unit, wide, cost), 1.0) for unit in waiting]
        best = max(range(len(waiting)), key=lambda i: waiting[i].noise / costs[i])
        unit = waiting.pop(best)
        if costs[best] <= allowed:
            allowed -= costs[best]
            wide |= frozenset(unit.members)
            chosen.append((unit, costs[best]))
    return chosen


def _extra_ns(graph: Graph, unit: _Loud, wide: frozenset[TensorId], cost: CostOf) -> float:
    """What 16 bits for one unit more take; what these spare its neighbours counts."""
    more = wide | frozenset(unit.members)
    return sum(op_ns(graph, op, more, cost) - op_ns(graph, op, wide, cost) for op in unit.ops)


@dataclass(frozen=True)
class _Loud:
    """A unit with the ops that have 16 bits if it has, and its noise with 8."""

    members: tuple[TensorId, ...]
    ops: tuple[Op, ...]
    noise: float
    db: float


def _loudest(units: Sequence[_Loud]) -> list[_Loud]:
    """All but the quietest."""
    least = _LEFT_ALONE * sum(unit.noise for unit in units)
    quietest, left = 0.0, sorted(units, key=lambda unit: unit.noise)
    while left and quietest + left[0].noise <= least:
        quietest += left.pop(0).noise
    return left


def _touched(graph: Graph, members: Sequence[TensorId]) -> tuple[Op, ...]:
    """The ops that read or write one of these."""
    ops = [op for t in members for op in (graph.producer(t), *graph.consumers(t))]
    return tuple({op.id: op for op in ops if op is not None}.values())


def free_units(judge: Judge, config: QuantizationConfig) -> list[tuple[TensorId, ...]]:
    """Those for which no override says how many bits."""
    graph, current = judge.quantizer.equalized(config), assigned(judge, config)
    fixed = [key for key, fields in config.overrides.items() if "activation_bits" in fields]

    def is_fixed(id: TensorId) -> bool:
        op = graph.producer(id)
        return any(matches(key, id, None if op is None else op.mnemonic) for key in fixed)

    free = [unit for unit in range_units(graph) if not any(map(is_fixed, unit))]
    return [tuple(t for t in unit if t in current) for unit in free]


def with_wide(
    config: QuantizationConfig, given: QuantizationConfig, units: Iterable[Sequence[TensorId]]
) -> QuantizationConfig:
    """`config` with 16 bits for these activations, and all of their range.

    What was found for 8 bits may clip, which 16 bits need not. Ranges of `given` are the caller's.
    """
    overrides = {key: dict(fields) for key, fields in config.overrides.items()}
    for t in (t for unit in units for t in unit):
        mine = given.overrides.get(t, {})
        overrides[t] = {**overrides.get(t, {}), "range": "minmax", **mine, "activation_bits": 16}
    return dataclasses.replace(config, overrides=overrides)
