"""What to try next, by what was measured: each with its number and the option that helps.

What an option gains can be measured where the passes can run again: the network is simulated with
and without it, in the QDQ form, on a few calibration samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.accuracy.parts import parts_of
from qcomp.accuracy.record import finite
from qcomp.config import QuantizationConfig
from qcomp.execute.session import FloatSession
from qcomp.ir.form import Form
from qcomp.ir.given import is_quantized_already
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import TensorId
from qcomp.quantizer import Quantizer
from qcomp.recipes.judge import Feed, Judge
from qcomp.recipes.wide_activations import with_wide
from qcomp.report.alone import Cause
from qcomp.report.measure import Errors, Subject

_MOST = 3  # ops that are named
_MUCH = 0.1  # of the error at the outputs, from which an op is named
_BIASED = 0.5  # of an error, that is the mean of channels
_LARGE = 0.3  # of an op's error, from which a cause is named
_HEAD = 0.2  # of the error at the outputs, that their own rounding makes
_SATURATED = 0.01  # of an output's values
_LEAST_GAIN_DB = 0.1

_HELP = {
    Cause.WEIGHTS: "its weights: --rounding adaround or --recipe best",
    Cause.BIAS: "its bias, corrected without data: --recipe best",
    Cause.CLIPPING: "its range cuts values off: --range minmax, or more --calibration data",
    Cause.ROUNDING: "its steps are coarse: activation_bits: 16 for it, in a recipe file",
    Cause.REQUANTIZE: "its fixed-point factors, which should be far below the rounding",
    Cause.TABLE: "its table, which should be far below the rounding",
}


@dataclass(frozen=True)
class Advice:
    """Something that was noticed, and what helps.

    id: the integer tensor that it is of. config: the choices with which it is tried; None where
    there is nothing to try by itself. before, after: ratios in dB by part of the outputs, without
    and with them; empty where it was not tried.
    """

    text: str
    id: TensorId | None = None
    config: QuantizationConfig | None = None
    before: Mapping[str, float] = dataclasses.field(default_factory=dict)
    after: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def gain_db(self) -> float | None:
        """Of the part that is worst without it; None where it was not tried."""
        if not self.after:
            return None
        worst = min(self.before, key=lambda part: self.before[part])
        return self.after[worst] - self.before[worst]

    @property
    def gain(self) -> str:
        """Both ratios of each part, for people; "" where it was not tried."""
        shown = [f"{p}: {self.before[p]:.1f} to {self.after[p]:.1f} dB" for p in self.after]
        return ", ".join(shown)

    def __str__(self) -> str:
        return f"{self.text} (tried: {self.gain})" if self.after else self.text


def advice(
    found: Subject | None,
    findings: Sequence[str],
    errors: Errors | None,
    *,
    tries: bool = False,
) -> list[Advice]:
    """Findings of the compilation, then what errors, channels and choices tell.

    tries: it will be tried, so what only a trial can tell is there too.
    """
    listed = [Advice(text) for text in findings]
    if found is None:
        return listed
    config = found.net.config
    if errors is not None:
        listed += _of_ops(errors, config)
        listed += _of_outputs(found, errors)
    if found.replay is not None and not found.replay.is_quantized:
        listed += _of_channels(found.replay.quantizer, config)
        listed += [*_of_grids(config), *(_of_others(config) if tries else ())]
    return listed


def tried(
    listed: Sequence[Advice], quantizer: Quantizer, given: QuantizationConfig
) -> list[Advice]:
    """What each gains, the best first; what was tried and gains nothing is left out."""
    samples = quantizer.samples(given)
    if not samples or not _is_ours(quantizer):
        return list(listed)
    session = FloatSession(quantizer.normalized)
    answers = [session.run(sample) for sample in samples]
    weights = dict.fromkeys(parts_of(quantizer.normalized, answers), 1.0)
    judge = Judge(quantizer, weights=weights)
    before = _ratios(judge, given, samples)
    done = []
    for one in listed:
        if one.config is None:
            done.append(one)
            continue
        after = _ratios(judge, one.config, samples)
        one = dataclasses.replace(one, before=before, after=after)
        if (one.gain_db or 0.0) >= _LEAST_GAIN_DB:
            done.append(one)
    return sorted(done, key=lambda one: -(one.gain_db or 0.0))


def _ratios(judge: Judge, config: QuantizationConfig, samples: Sequence[Feed]) -> dict[str, float]:
    found = judge.tried(config, samples).parts
    return {str(part): finite(noise.db) or 0.0 for part, noise in found.items()}


def _is_ours(quantizer: Quantizer) -> bool:
    """Whether there is anything to choose."""
    return quantizer.form is Form.FLOAT and not is_quantized_already(quantizer.normalized)


def _of_ops(errors: Errors, config: QuantizationConfig) -> Iterator[Advice]:
    """Those that do most to the outputs."""
    for share in errors.shares[:_MOST]:
        error = errors.of[share.id]
        alone = error.isolated
        if share.share < _MUCH or alone is None:
            continue
        noise = alone.figures.noise.noise
        inside = {c: power for c, power in alone.causes.items() if c not in alone.outside}
        parts = {c: power / noise for c, power in inside.items() if power}
        large = [c for c in sorted(parts, key=lambda c: -parts[c]) if parts[c] >= _LARGE]
        by = " and ".join(f"{min(100 * parts[c], 100):.0f} % of it by {c}" for c in large)
        text = (
            f"%{share.id} alone makes {100 * share.share:.0f} % of the error at the outputs, {by}: "
            + "; ".join(_HELP[c] for c in large)
        )
        if alone.figures.bias > _BIASED * noise:
            text += "; it shifts the means of channels"
        helps = error.qparams.bits == 8 and {Cause.ROUNDING, Cause.CLIPPING} & {*large}
        trial = with_wide(config, QuantizationConfig(), [[error.real]]) if helps else None
        yield Advice(text, share.id, trial)


def _of_outputs(found: Subject, errors: Errors) -> Iterator[Advice]:
    """Heads whose own rounding counts, and outputs at the ends of their ranges."""
    shares = {share.id: share.share for share in errors.shares}
    heads = _heads(found.net.graph)
    narrow = {
        name: id
        for name, id in heads.items()
        if _is_coarse(errors, id) and shares.get(id, 0.0) >= _HEAD
    }
    for name, id in narrow.items():
        trial = with_wide(found.net.config, QuantizationConfig(), [[errors.of[id].real]])
        text = (
            f"the output {name}: its own rounding, of %{id}, makes {100 * shares[id]:.0f} % of the "
            "error there; its head wants 16 bits"
        )
        yield Advice(text, id, trial)
    for name, id in heads.items():
        alone = errors.of[id].isolated if id in errors.of else None
        if alone is not None and alone.clipped >= _SATURATED:
            text = (
                f"the output {name}: {100 * alone.clipped:.1f} % of its values are beyond the "
                f"range of %{id}: give --calibration samples with such values, or --range minmax"
            )
            config = found.net.config
            trial = dataclasses.replace(config, range="minmax", overrides=_without_ranges(config))
            yield Advice(text, id, trial)


def _is_coarse(errors: Errors, id: TensorId) -> bool:
    """Whether a tensor has 8 bits, and errs by rounding most."""
    error = errors.of.get(id)
    if error is None or error.isolated is None:
        return False
    return error.qparams.bits == 8 and error.isolated.main_cause is Cause.ROUNDING


def _heads(graph: Graph) -> dict[str, TensorId]:
    """The tensor that makes the integers of each output, behind ops that copy them."""
    heads = {}
    for name, id in graph.outputs.items():
        op = graph.producer(id)
        while op is not None and op.copies_integers and len(graph.activations(op)) == 1:
            id = graph.activations(op)[0]
            op = graph.producer(id)
        heads[name] = id
    return heads


def _of_channels(quantizer: Quantizer, config: QuantizationConfig) -> Iterator[Advice]:
    """Channels that are 0 on all data; their means are known where layers read them."""
    if quantizer.evidence.data is None:
        return
    statistics = quantizer.statistics(config)
    dead, layers = 0, []
    for id, means in statistics.channel_means.items():
        known = statistics.distributions.get(id)
        if known is None or known.extremes[0] < 0.0:
            continue
        count = int(np.count_nonzero(means == 0.0))
        if count:
            dead += count
            layers.append(f"%{id} ({count} of {len(means)})")
    if dead:
        more = f" and {len(layers) - _MOST} more" if len(layers) > _MOST else ""
        are = "s are" if dead > 1 else " is"
        yield Advice(
            f"{dead} channel{are} 0 on all calibration data: {', '.join(layers[:_MOST])}{more}; "
            "that takes bytes and time only: prune, or give samples that reach it"
        )


def _of_grids(config: QuantizationConfig) -> Iterator[Advice]:
    """Scales of weights that it was not compiled with, though they cost no time."""
    if not config.per_channel:
        yield Advice(
            "weights have one scale per tensor: one per channel, without --per-tensor",
            config=dataclasses.replace(config, per_channel=True),
        )


def _of_others(config: QuantizationConfig) -> Iterator[Advice]:
    """Factors, ranges and bits for the whole network that it was not compiled with."""
    if config.equalize is False:
        yield Advice(
            "channels are not equalized: equalize: true in a recipe file, or --recipe auto",
            config=dataclasses.replace(config, equalize=True),
        )
    for name in ("mse", "minmax", "percentile"):
        if config.range != name:
            yield Advice(
                f"ranges by {config.range}: --range {name}",
                config=dataclasses.replace(config, range=name, overrides=_without_ranges(config)),
            )
    if config.activation_bits == 8:
        yield Advice(
            "activations have 8 bits: --activation-bits 16, which takes longer to run",
            config=dataclasses.replace(
                config, activation_bits=16, range="mse", overrides=_without_ranges(config)
            ),
        )


def _without_ranges(config: QuantizationConfig) -> dict[str, dict[str, object]]:
    kept = {
        key: {name: value for name, value in fields.items() if name != "range"}
        for key, fields in config.overrides.items()
    }
    return {key: fields for key, fields in kept.items() if fields}
