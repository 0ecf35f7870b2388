"""Which units of activations get 16 bits: the most that the time buys, tried on the network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from known_trials import KnownTrial

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.parse import parse
from qcomp.quant.noise import Noise
from qcomp.quantizer import Quantizer
from qcomp.recipes.choice import Choice
from qcomp.recipes.judge import Judge, Judgement, Trial
from qcomp.recipes.named import settled
from qcomp.recipes.wide_activations import Budget, Unit
from qcomp.recipes.widen import take_loudest

# Three results, of 2, 1 and 1 elements.
GRAPH = parse(
    """graph @g(%x: f32[2], %y: f32[1], %z: f32[1]) {
  %a = unary(%x) {function=abs} : f32[2]
  %b = unary(%y) {function=abs} : f32[1]
  %c = unary(%z) {function=abs} : f32[1]
  return a=%a, b=%b, c=%c
}"""
)


def unit(id: str, noise: float) -> Unit:
    return Unit((id,), (GRAPH.op(id),), noise, 10.0)


LOUD = [unit("a", 5.0), unit("b", 4.0), unit("c", 2.0)]


def budget(elements: float) -> Budget:
    """For 16 bits of so many results."""
    found = Budget(GRAPH, lambda macs, results, bytes, bits: results / 6, 1.0)
    return dataclasses.replace(found, slowdown=1.0 + elements / found.whole)


@pytest.mark.parametrize(
    ("elements", "taken"), [(2.0, "bc"), (3.0, "ab"), (4.0, "abc"), (0.5, ""), (1.5, "b")]
)
def test_units_that_spare_most_together_are_taken(elements: float, taken: str) -> None:
    assert "".join(u.members[0] for u in budget(1.02 * elements).best(LOUD)) == taken


def test_the_log_tells_what_a_unit_costs() -> None:
    found = budget(1.0)
    assert found.told(LOUD[1]) == (
        f"%b: 10.0 dB with 8 bits by itself; 16 bits take {100 / found.whole:.1f} % more time"
    )


@dataclasses.dataclass
class Known(Judge):
    """Judges by the activations that have 16 bits."""

    noises: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def trial(self, config: Any, samples: Any, fitted_to: Any = None) -> Trial:
        wide = "".join(sorted(config.overrides))
        return KnownTrial(Judgement((Noise(1.0, self.noises[wide]),)))


@pytest.mark.parametrize(
    ("noises", "taken"),
    [
        ({"": 1.0, "ab": 0.1}, "ab"),
        ({"": 1.0, "ab": 1.2, "a": 1.1, "b": 0.8, "bc": 0.4}, "bc"),
        ({"": 1.0, "ab": 1.2, "a": 0.7, "c": 0.9}, "a"),
        ({"": 1.0, "ab": 1.2, "a": 1.1, "b": 1.3, "c": 0.99}, ""),
    ],
)
def test_units_that_do_not_gain_together_are_taken_one_by_one(
    noises: Mapping[str, float], taken: str
) -> None:
    noises = {"ab": 1.2, "ac": 2.0, **noises}
    judge = Known(Quantizer(GRAPH, Form.FLOAT, Evidence(None, (-1.0, 1.0))), noises=noises)
    start = settled(QuantizationConfig(), calibrated=True)
    choice = Choice(start, judge.trial(start, []))
    found = take_loudest(judge, choice, start, budget(3.06), LOUD, [])
    assert sorted(u.members[0] for u in found) == sorted(taken)
    assert sorted(choice.config.overrides) == sorted(taken)
    assert all(fields["activation_bits"] == 16 for fields in choice.config.overrides.values())
