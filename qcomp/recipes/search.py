"""Recipe "auto": try what may help on calibration data, keep what gives the best outputs.

Every trial is judged by the signal-to-noise ratio of the network's outputs, of the worst part of
them (judge.py), simulated in the QDQ form on calibration samples that ranges are not taken from. In
order, each with the best of what came before:

1. no smoothing of transformers, and equalization, also through opened gates;
2. one range estimator for all activations;
3. how weights get their ranges, and whether biases are corrected;
4. a range of its own for each activation (own_ranges.py);
5. 16 bits for single activations, where 8 bits fall short (wide_activations.py);
6. whether all this also helps when biases are corrected layer by layer, and whether they should be;
7. weights fitted layer by layer by GPTQ, where 8 bits fall short, as they cost no time of a run.

What the caller has chosen is not tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcomp.config import AUTO, QuantizationConfig
from qcomp.execute.blocks import work_of
from qcomp.ir.graph import Graph, computes_the_same
from qcomp.passes.lib.gates import gates
from qcomp.progress import Bar, Silent
from qcomp.recipes.activations import Activations, assigned, with_ranges
from qcomp.recipes.choice import WORTHWHILE_DB, Choice
from qcomp.recipes.estimated_time import CostOf
from qcomp.recipes.judge import Feed, Judge, Trial, decided
from qcomp.recipes.own_ranges import OwnRange, own_ranges
from qcomp.recipes.widen import widen

ESTIMATORS = ("mse", "minmax", "percentile", "kl", "aciq")
TRIALS: Mapping[str, tuple[Any, ...]] = {
    "smooth": (False,),
    "equalize": (True, "gates"),
    "range": ESTIMATORS,
    "weight_range": ("minmax", "mse"),
    "bias_correction": ("empirical", None),
}
_GPTQ = "rounding=gptq"
_LEAST_SAMPLES = 4
_BUDGET = 5e11  # multiplications of all trials, with what moving the activations costs
_FIRST = 4  # samples that tell a hopeless estimator
_HOPELESS_DB = 2.0  # more than the other samples make up for
_TRIED = 50  # clips of all the activations that count, each about one run of the network


def search(
    judge: Judge,
    config: QuantizationConfig,
    start: QuantizationConfig,
    samples: Sequence[Feed],
    cost: CostOf,
    shown: Bar | None = None,
) -> Choice:
    """The best configuration; `start` is `config` with a first answer for each "auto" field.

    `cost` is that of the target; `shown` is told of the progress, and of what it is for.
    """
    bar = shown or Silent()
    advance = bar.reach
    few = samples[: affordable(judge.quantizer.normalized, len(samples))]
    first = judge.trial(start, samples)
    told = ", ".join(f"{name}={getattr(start, name)}" for name in TRIALS)
    choice, begin = Choice(start, first), first.now
    choice.log.note(f"{len(begin.runs)} samples, {told}: {begin.db:.2f} dB", db=begin.db)

    def tell() -> None:
        bar.tell(f"until now {_gain(first, choice.trial)}, of which --recipe fast has the first")

    tell()
    _try(judge, choice, config, ("smooth", "equalize"), samples)
    activations = Activations.of(judge, choice.config, few)
    if config.range == AUTO:
        _estimators(activations, choice, samples)
    _try(judge, choice, config, ("weight_range", "bias_correction"), samples)
    tell()
    if config.range == AUTO:
        _own_ranges(activations, choice, samples, advance)
        tell()
    short = config.activation_bits == AUTO
    if short:
        short = widen(activations, choice, start, samples, cost, advance)
    if choice.config.bias_correction == "empirical":
        first = _confirm(judge, choice, config, start, samples)
    if config.rounding == AUTO and (short or not choice.is_good_without(_GPTQ)):
        _fit_weights(judge, choice, samples)
    choice.gain = _gain(first, choice.trial)
    return choice


def _try(
    judge: Judge,
    choice: Choice,
    config: QuantizationConfig,
    names: Sequence[str],
    samples: Sequence[Feed],
) -> None:
    """Each answer for the fields of these names that `config` leaves open."""
    for name in names:
        for answer in TRIALS[name] if getattr(config, name) == AUTO else ():
            other = dataclasses.replace(choice.config, **{name: answer})
            if not _is_known(judge, choice.config, other):
                choice.consider(f"{name}={answer}", other, judge.trial(other, samples))


def _is_known(judge: Judge, a: QuantizationConfig, b: QuantizationConfig) -> bool:
    """Whether two configurations differ in nothing, or in scales that find nothing to do.

    Without gates to open, that which would open them is what was tried before it.
    """
    if b.equalize == "gates" and not gates(judge.quantizer.normalized):
        return True
    if a == b or dataclasses.replace(a, equalize=b.equalize, smooth=b.smooth) != b:
        return a == b
    return computes_the_same(judge.quantizer.equalized(a), judge.quantizer.equalized(b))


def _gain(first: Trial, last: Trial) -> str:
    """The ratio before and after, of the part that fell short most where there are several."""
    samples = max(len(first.now.runs), len(last.now.runs))
    begin, end = first.on(samples), last.on(samples)
    part = begin.worst
    before, after = begin.parts[part].db, end.parts[part].db
    where = f" in the worst part, {part}" if len(begin.parts) > 1 else ""
    return f"{before:.1f} to {after:.1f} dB on {samples} samples{where}"


def _confirm(
    judge: Judge,
    choice: Choice,
    config: QuantizationConfig,
    start: QuantizationConfig,
    samples: Sequence[Feed],
) -> Trial:
    """Correct biases as is best, or go back to the start if that is; the trial of the start.

    Trials correct each layer by itself, by the means of the float network: bias_correction is
    "analytic" there. Layer by layer, biases also take back what activations and the layers before
    have moved, as far as the samples that they are fitted to tell, which may be worse or better.
    """
    found, apart = choice.config, choice.trial
    theirs = judge.trial(start, samples, judge.fitting)
    choice.config, choice.trial, choice.is_fitted = start, theirs, True
    if found != start:
        ours = judge.trial(found, samples, judge.fitting)
        after, before = decided(ours, theirs, 0.0)
        what, told = "biases corrected layer by layer", f"{before.db:.2f} to {after.db:.2f} dB"
        if after.is_better(before, 0.0):
            choice.log.did(f"{what}: {told}", before_db=before.db, after_db=after.db)
            choice.config, choice.trial = found, ours
        else:
            declined = f"all of this, {what}"
            choice.log.declined(declined, told, before_db=before.db, after_db=after.db)
    if config.bias_correction == AUTO:
        other = dataclasses.replace(found, bias_correction="analytic")
        choice.consider("bias_correction=analytic", other, apart)
    return theirs


def _estimators(activations: Activations, choice: Choice, samples: Sequence[Feed]) -> None:
    """The estimator with which activations alone disturb least, if the whole is better with it.

    Those that are far worse on the first samples are not run on the others.
    """
    start, count = choice.config, len(activations.samples)
    few = min(_FIRST, count)
    best, first = start, activations.noise(assigned(activations.judge, start), count)
    least = first
    for estimator in ESTIMATORS:
        if estimator == start.range:
            continue
        other = dataclasses.replace(start, range=estimator)
        qparams = assigned(activations.judge, other)
        noise = activations.noise(qparams, few)
        if noise.db < first.db_of_first(few) - _HOPELESS_DB:
            told = f"{noise.db:.2f} dB of activations alone, on {few} samples"
            choice.log.note(f"range={estimator}: {told}", after_db=noise.db)
            continue
        noise = activations.noise(qparams, count)
        told = f"{first.db:.2f} to {noise.db:.2f} dB of activations alone"
        choice.log.note(f"range={estimator}: {told}", before_db=first.db, after_db=noise.db)
        if noise.is_better(least, WORTHWHILE_DB):
            best, least = other, noise
    if best is not start:
        choice.consider(f"range={best.range}", best, activations.judge.trial(best, samples))


def _own_ranges(
    activations: Activations,
    choice: Choice,
    samples: Sequence[Feed],
    advance: Callable[[int, int], None],
) -> None:
    judge, few = activations.judge, activations.samples
    found = list(own_ranges(activations, choice.config, advance))
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
    choice.consider(told, other, judge.trial(other, samples))
    return choice.config is other


def _fit_weights(judge: Judge, choice: Choice, samples: Sequence[Feed]) -> None:
    """GPTQ, whose rounding depends on the layers before, if it helps.

    It is compared with biases that are corrected layer by layer on the same samples.
    """
    if not choice.is_fitted:
        choice.trial = judge.trial(choice.config, samples, judge.fitting)
    fitted = dataclasses.replace(choice.config, rounding="gptq", weight_range="seqmse")
    choice.consider(_GPTQ, fitted, judge.trial(fitted, samples, judge.fitting))


def affordable(graph: Graph, available: int) -> int:
    """How many samples the activations of a float graph are tried on, within the budget.

    All are ranked, from each of them on: half of the network on average, on half of the samples.
    """
    ops = graph.ops()
    runs = len(ops) / 4 + _TRIED
    count = int(_BUDGET / max(sum(work_of(graph, op) for op in ops) * runs, 1))
    return min(max(count, _LEAST_SAMPLES), available)
