"""Activations rounded by themselves, unit by unit, in an otherwise float network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcomp.config import QuantizationConfig
from qcomp.execute.trials import Trials
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.same_scale import assign_qparams
from qcomp.quant.qparams import QParams
from qcomp.quant.rounding import Rounding
from qcomp.quantizer import Quantizer
from qcomp.recipes.judge import Feed, Judge, Judgement, with_quantized

Assigned = Mapping[TensorId, QParams]


@dataclass(frozen=True, eq=False)
class Units:
    """Units of activations and their trials; `current` are the parameters that `config` gives."""

    judge: Judge
    config: QuantizationConfig
    samples: Sequence[Feed]
    units: Sequence[Sequence[TensorId]]
    current: Assigned
    trials: Trials

    @staticmethod
    def of(
        judge: Judge,
        config: QuantizationConfig,
        samples: Sequence[Feed],
        units: Sequence[Sequence[TensorId]],
    ) -> Units:
        graph, current = judge.quantizer.equalized(config), assigned(judge.quantizer, config)
        tried = {t: current[t] for unit in units for t in unit}
        trials = Trials(graph, with_quantized(graph, tried), samples)
        return Units(judge, config, samples, units, current, trials)

    def noise(self, unit: Sequence[TensorId], qparams: Assigned, count: int) -> Judgement:
        """Of the unit alone, on the first samples."""
        answers = self.trials.trial({t: Rounding.of(qparams[t]) for t in unit}, count)
        return self.judge.judged(answers, self.samples[:count])


def assigned(quantizer: Quantizer, config: QuantizationConfig) -> Assigned:
    """The parameters of every float activation."""
    return assign_qparams(quantizer.annotated(config), config).own
