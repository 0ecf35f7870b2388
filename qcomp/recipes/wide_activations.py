"""16 bits for the few activations whose rounding decides, within a bound of the time.

Each unit of activations (same_scale.range_units) is rounded to 8 bits by itself, in an otherwise
float network. Noises of independent roundings add up, so what 16 bits spare is about the noise of
the unit; what they cost is estimated (estimated_time.py). Of all choices of units that the time
allows, the one that spares most noise is taken (knapsack.py).

Clipped values may be the same in one unit and in those behind it, and then neither noise is that of
the unit alone. Whoever takes a choice tries it on the whole network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

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
class Unit:
    """Activations that have 16 bits together, with the ops that have them then, and the noise that
    8 bits make of them alone.
    """

    members: tuple[TensorId, ...]
    ops: tuple[Op, ...]
    noise: float
    db: float


@dataclass(frozen=True)
class Budget:
    """What 16 bits may cost: a share of the estimated time of a run with 8 bits everywhere."""

    graph: Graph
    cost: CostOf
    slowdown: float

    @cached_property
    def whole(self) -> float:
        """Nanoseconds of a run with 8 bits everywhere."""
        return network_ns(self.graph, self.cost)

    @property
    def allowed(self) -> float:
        return (self.slowdown - 1.0) * self.whole

    def extra(self, unit: Unit, wide: Collection[TensorId] = ()) -> float:
        """What 16 bits for one unit more take; what these spare its neighbours counts."""
        more = frozenset(wide) | frozenset(unit.members)
        ops, cost = unit.ops, self.cost
        return sum(
            op_ns(self.graph, op, more, cost) - op_ns(self.graph, op, wide, cost) for op in ops
        )

    def best(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that spare most within this time, the loudest first.

        What some spare their neighbours leaves time for more.
        """
        alone = [max(self.extra(unit), 1.0) for unit in units]
        packed = most_valuable([unit.noise for unit in units], alone, self.allowed)
        waiting = [*(units[i] for i in packed)]
        waiting += sorted(
            (unit for i, unit in enumerate(units) if i not in packed),
            key=lambda unit: -unit.noise / max(self.extra(unit), 1.0),
        )
        return sorted(self.affordable(waiting), key=lambda unit: -unit.noise)

    def affordable(self, units: Iterable[Unit]) -> list[Unit]:
        """Each one in turn that the time left allows."""
        left, chosen = self.allowed, list[Unit]()
        wide: frozenset[TensorId] = frozenset()
        for unit in units:
            extra = self.extra(unit, wide)
            if extra <= left:
                left -= extra
                wide |= frozenset(unit.members)
                chosen.append(unit)
        return chosen

    def told(self, unit: Unit) -> str:
        """What is gained and what it costs, for the log."""
        more = f" and {len(unit.members) - 1} more" if len(unit.members) > 1 else ""
        return (
            f"%{unit.members[0]}{more}: {unit.db:.1f} dB with 8 bits by itself; 16 bits take "
            f"{100 * self.extra(unit) / self.whole:.1f} % more time"
        )


def loud_units(
    activations: Activations, config: QuantizationConfig, advance: Callable[[int, int], None]
) -> list[Unit]:
    """The units that make nearly all of the noise, the loudest first.

    `advance(done, total)` is told of the progress.
    """
    judge = activations.judge
    graph, current = judge.quantizer.equalized(config), assigned(judge, config)
    units = free_units(judge, config)
    found: list[Unit] = []
    for done, members in enumerate(units):
        noise = activations.ranking({t: current[t] for t in members})
        found.append(Unit(members, _touched(graph, members), noise.total.noise, noise.db))
        advance(done + 1, len(units))
    return sorted(_loudest(found), key=lambda unit: -unit.noise)


def _loudest(units: Sequence[Unit]) -> list[Unit]:
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
