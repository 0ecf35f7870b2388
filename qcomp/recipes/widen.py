"""16 bits for the activations that decide, where 8 bits fall short and the time allows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qcomp.config import QuantizationConfig
from qcomp.recipes.activations import Activations
from qcomp.recipes.choice import Choice
from qcomp.recipes.estimated_time import CostOf
from qcomp.recipes.judge import Feed, Judge, decided
from qcomp.recipes.wide_activations import Budget, Unit, free_units, loud_units, with_wide

_SHORT_DB = 1.0  # by which 16 bits are better where 8 bits fall short
_WORTH_TIME_DB = 0.3  # more than chance, as it costs time
_TRIED_ALONE = 8  # units of activations that get 16 bits where they don't gain together


def widen(
    activations: Activations,
    choice: Choice,
    start: QuantizationConfig,
    samples: Sequence[Feed],
    cost: CostOf,
    advance: Callable[[int, int], None],
) -> bool:
    """16 bits for the activations that decide: for all that the time allows, or, where these don't
    gain together, for one after the other of the loudest. Returns whether 8 bits fell short.
    """
    what, judge = "16 bits for single activations", activations.judge
    if choice.is_good_without(what):
        return False
    everywhere = with_wide(choice.config, start, free_units(judge, choice.config))
    wide, narrow = decided(judge.trial(everywhere, samples), choice.trial, _SHORT_DB)
    if not wide.is_better(narrow, _SHORT_DB):
        told = f"{narrow.db:.2f} dB, {wide.db:.2f} with 16 bits everywhere"
        choice.log.declined(what, told)
        return True
    loud = loud_units(activations, choice.config, advance)
    budget = Budget(judge.quantizer.equalized(choice.config), cost, choice.config.max_slowdown)
    if not take_loudest(judge, choice, start, budget, loud, samples):
        choice.log.declined(what, "none helps within the time allowed")
    return True


def take_loudest(
    judge: Judge,
    choice: Choice,
    start: QuantizationConfig,
    budget: Budget,
    loud: Sequence[Unit],
    samples: Sequence[Feed],
) -> list[Unit]:
    """The units that have got 16 bits, of `loud` ones."""
    taken = _take(judge, choice, start, budget, budget.best(loud), samples)
    for unit in loud[:_TRIED_ALONE] if not taken else ():
        if len(budget.affordable([*taken, unit])) > len(taken):
            taken += _take(judge, choice, start, budget, [unit], samples)
    return taken


def _take(
    judge: Judge,
    choice: Choice,
    start: QuantizationConfig,
    budget: Budget,
    units: Sequence[Unit],
    samples: Sequence[Feed],
) -> list[Unit]:
    """The units, if the outputs gain by 16 bits for all of them; else none."""
    if not units:
        return []
    other = with_wide(choice.config, start, [unit.members for unit in units])
    trial = judge.trial(other, samples)
    after, before = decided(trial, choice.trial, _WORTH_TIME_DB)
    if not after.is_better(before, _WORTH_TIME_DB):
        return []
    for unit in units:
        choice.log.note(f"16 bits: {budget.told(unit)}", tensor=unit.members[0], alone_db=unit.db)
    choice.consider(f"16 bits for {len(units)} units of activations", other, trial)
    return list(units)
