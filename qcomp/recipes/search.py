"""Recipe "auto": try what may help on calibration data, keep what gives the best outputs.

Every trial is judged by the signal-to-noise ratio of the network's outputs, of the worst part of
them (judge.py), simulated in the QDQ form on calibration samples that ranges are not taken from. In
order, each with the best of what came before:

1. one range estimator for all activations;
2. how weights get their ranges, and whether biases are corrected;
3. a range of its own for each activation (own_ranges.py);
4. whether all this also helps when biases are corrected layer by layer, as they will be.

What the caller has chosen is not tried, nor is equalization: with weight scales per tensor it
always helps, with scales per channel it gains nothing on most networks (docs/decisions.md).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcomp.config import AUTO, QuantizationConfig
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Quantize, Weighted
from qcomp.passes.events import PassLog
from qcomp.recipes.judge import Feed, Judge, Judgement
from qcomp.recipes.own_ranges import ESTIMATORS, OwnRange, own_ranges, with_ranges

TRIALS: Mapping[str, tuple[Any, ...]] = {
    "range": ESTIMATORS,
    "weight_range": ("minmax", "mse"),
    "bias_correction": ("empirical", None),
}
_LEAST_SAMPLES = 6
_WORTHWHILE_DB = 0.05  # less is chance
_BUDGET = 2e12  # multiplications of all trials, with what moving the activations costs
_ELEMENT = 50  # multiplications that one activation costs
_RUNS = 3  # of each activation by itself


@dataclass
class Choice:
    """A configuration, and how it was found: an event for each decision."""

    config: QuantizationConfig
    noise: Judgement
    log: PassLog = field(default_factory=PassLog)
    gain: str = ""

    def consider(self, what: str, config: QuantizationConfig, noise: Judgement) -> None:
        """Take another configuration if it is better."""
        better = noise.is_better(self.noise, _WORTHWHILE_DB)
        told = f"{self.noise.db:.2f} to {noise.db:.2f} dB"
        before, after = self.noise.db, noise.db
        if better:
            self.log.did(f"{what}: {told}", before_db=before, after_db=after)
            self.config, self.noise = config, noise
        else:
            self.log.declined(what, told, before_db=before, after_db=after)


def search(
    judge: Judge,
    config: QuantizationConfig,
    start: QuantizationConfig,
    samples: Sequence[Feed],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Choice:
    """The best configuration; `start` is `config` with a first answer for each "auto" field.

    `advance(done, total)` is told of the progress.
    """
    qdq = judge.quantizer.quantized(start)
    few = samples[: affordable(qdq, len(samples))]
    first = judge.noise(qdq, samples)
    told = ", ".join(f"{name}={getattr(start, name)}" for name in TRIALS)
    choice = Choice(start, first)
    choice.log.note(f"{len(samples)} samples, {told}: {first.db:.2f} dB", db=first.db)
    for name, answers in TRIALS.items():
        for answer in answers if getattr(config, name) == AUTO else ():
            if getattr(choice.config, name) != answer:
                other = dataclasses.replace(choice.config, **{name: answer})
                choice.consider(f"{name}={answer}", other, judge.tried(other, samples))
    if config.range == AUTO:
        _own_ranges(judge, choice, samples, few, advance)
    if choice.config != start and choice.config.bias_correction == "empirical":
        first = _confirm(judge, choice, start, samples)
    choice.gain = _gain(first, choice.noise, len(samples))
    return choice


def _gain(first: Judgement, last: Judgement, samples: int) -> str:
    """The ratio before and after, of the part that fell short most where there are several."""
    part = first.worst
    before, after = first.parts[part].db, last.parts[part].db
    where = f" in the worst part, {part}" if len(first.parts) > 1 else ""
    return f"{before:.1f} to {after:.1f} dB on {samples} samples{where}"


def _confirm(
    judge: Judge, choice: Choice, start: QuantizationConfig, samples: Sequence[Feed]
) -> Judgement:
    """Go back to the start if that is better with biases corrected layer by layer; its noise.

    Trials correct each layer by itself, which is quicker, but may rank ranges differently.
    """
    ours, theirs = (judge.tried(c, samples, judge.fitting) for c in (choice.config, start))
    what, told = "biases corrected layer by layer", f"{theirs.db:.2f} to {ours.db:.2f} dB"
    before, after = theirs.db, ours.db
    if ours.is_better(theirs, 0.0):
        choice.log.did(f"{what}: {told}", before_db=before, after_db=after)
        choice.noise = ours
    else:
        choice.log.declined(f"all of this, {what}", told, before_db=before, after_db=after)
        choice.config, choice.noise = start, theirs
    return theirs


def _own_ranges(
    judge: Judge,
    choice: Choice,
    samples: Sequence[Feed],
    few: Sequence[Feed],
    advance: Callable[[int, int], None],
) -> None:
    found = list(own_ranges(judge, choice.config, few, advance))
    if not found:
        choice.log.declined("own ranges", f"none helps on {len(few)} samples")
        return
    for own in found:
        first = own.members[0]
        choice.log.note(str(own), tensor=first, before_db=own.before, after_db=own.after)
    # Together they may gain less than each by itself promised; then those of most noise are left.
    while found and not _took(judge, choice, found, samples):
        found = found[: len(found) // 2]


def _took(judge: Judge, choice: Choice, found: Sequence[OwnRange], samples: Sequence[Feed]) -> bool:
    ranges = {t: r for own in found for t, r in own.ranges.items()}
    other = with_ranges(choice.config, ranges)
    told = f"own ranges for {len(ranges)} activations"
    choice.consider(told, other, judge.tried(other, samples))
    return choice.config is other


def affordable(qdq: Graph, available: int) -> int:
    """How many samples each activation is tried on by itself, within the budget."""
    work = quantized = 0
    for op in qdq.ops():
        size = qdq.type(op.output).size
        work += _ELEMENT * size
        quantized += isinstance(op, Quantize)
        if isinstance(op, Weighted):
            work += size * math.prod(qdq.type(op.weight).shape[1:])
    count = int(_BUDGET / max(work * _RUNS * quantized, 1))
    return min(max(count, _LEAST_SAMPLES), available)
