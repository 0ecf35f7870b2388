"""What rounding of activations alone does to the outputs: weights stay as they are in trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qcomp.config import QuantizationConfig
from qcomp.execute.trials import Trials
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import assign_qparams
from qcomp.quant.qparams import QParams
from qcomp.quant.rounding import Rounding
from qcomp.recipes.judge import Feed, Judge, Judgement, PartNoise, with_quantized

Range = str | tuple[float, float]
Ranges = Mapping[TensorId, Range]
Assigned = Mapping[TensorId, QParams]

_RANKED_ON = 3  # is a third of the samples


@dataclass(frozen=True, eq=False)
class Activations:
    """Those of the float graph that is quantized, with trials of them on some samples.

    Equal trials are made once, on the first samples, and go on from there.
    """

    judge: Judge
    samples: Sequence[Feed]
    trials: Trials
    _known: dict[frozenset[tuple[TensorId, QParams]], list[PartNoise]] = field(
        default_factory=dict, repr=False
    )

    @staticmethod
    def of(judge: Judge, config: QuantizationConfig, samples: Sequence[Feed]) -> Activations:
        graph = judge.quantizer.equalized(config)
        every = assigned(judge, config)
        return Activations(judge, samples, Trials(graph, with_quantized(graph, every), samples))

    def noise(self, qparams: Assigned, count: int) -> Judgement:
        """With only these rounded, on the first samples."""
        known = self._known.setdefault(frozenset(qparams.items()), [])
        if (done := len(known)) < count:
            changes = {t: Rounding.of(q) for t, q in qparams.items()}
            known += self.judge.compared(
                self.trials.trial(changes, count, done), self.samples, done
            )
        return self.judge.summed(known[:count])

    def ranking(self, qparams: Assigned) -> Judgement:
        """The same on as many of them as rank activations."""
        return self.noise(qparams, -(-len(self.samples) // _RANKED_ON))


def assigned(judge: Judge, config: QuantizationConfig) -> Assigned:
    """The parameters of every activation that is read or returned."""
    graph = judge.quantizer.annotated(config)
    own = assign_qparams(graph, config).own
    return {t: q for t, q in own.items() if graph.consumers(t) or graph.is_output(t)}


def with_ranges(config: QuantizationConfig, ranges: Ranges) -> QuantizationConfig:
    """`config` with these ranges, where its own overrides do not say otherwise."""
    mine = {t: {"range": r} for t, r in ranges.items()}
    merged = {t: {**mine.get(t, {}), **config.overrides.get(t, {})} for t in mine}
    others = {k: v for k, v in config.overrides.items() if k not in mine}
    return dataclasses.replace(config, overrides={**merged, **others})
