"""How good a compiled network is: its accuracy, and what was found that costs some."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping

from qcomp.accuracy.measure import measured_accuracy
from qcomp.accuracy.steps import MOST_STEPS, measured_steps
from qcomp.calibration.samples import Samples
from qcomp.config import QuantizationConfig
from qcomp.findings.find import Demands, of_data, of_outputs, of_ranges
from qcomp.findings.outputs import Ratios
from qcomp.findings.record import Finding, in_order, told
from qcomp.ir.form import Form
from qcomp.ir.given import is_quantized_already
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array
from qcomp.quantizer import Quantizer
from qcomp.recipes.judge import Judge
from qcomp.runtime.network import CompiledNetwork

Run = Mapping[str, Array]
_SPECIFIED_STEPS = 64  # which are slow

_LOG = logging.getLogger("qcomp.findings")


def assess(
    net: CompiledNetwork,
    imported: Graph,
    data: Samples | None,
    quantizer: Quantizer,
    demands: Demands,
    taken_at: Callable[[int], Graph],
) -> None:
    """Measure a network's accuracy and collect findings; FindingsError for those refused.

    `data` is as it was given, for the imported graph; `taken_at` is that at another length.
    """
    if net.samples:
        lacking = net.lacking
        answers = net if lacking is None else net.specification
        if lacking is not None:
            net.notes += (f"the output SQNR is that of the specification: {lacking}",)
        real = [output.name for output in net.outputs if output.is_quantized]
        held_back = () if data is None else data.held_back(len(net.samples))
        found = measured_accuracy(imported, real, answers, held_back or net.samples)
        if found is not None and data is not None:
            count = found.samples * data.batch
            found = dataclasses.replace(found, samples=count, held_back=bool(held_back))
            if imported.states:
                stream = net.stream(specification=lacking is not None)
                most = MOST_STEPS if lacking is None else _SPECIFIED_STEPS
                steps = measured_steps(imported, real, stream, data, most)
                found = dataclasses.replace(found, steps=steps)
        net.accuracy = found
        for plan, size in zip(net.shorter, net.lengths[1:], strict=True):
            answers = plan if lacking is None else plan.specification
            cut = [_cut(sample, plan) for sample in held_back or net.samples]
            plan.accuracy = measured_accuracy(taken_at(size), real, answers, cut)
    net.findings = in_order(_findings(net, imported, data, quantizer, demands))
    demands.check(net.findings, net.accuracy)
    for line in told(net.findings):
        _LOG.warning("%s", line)


def _findings(
    net: CompiledNetwork,
    imported: Graph,
    data: Samples | None,
    quantizer: Quantizer,
    demands: Demands,
) -> Iterator[Finding]:
    if quantizer.form is Form.FLOAT and data is not None:  # others have their ranges already
        yield from of_data(imported, data)
    given = quantizer.form is not Form.FLOAT or is_quantized_already(quantizer.normalized)
    if not given and (inner := quantizer.evidence.data) is not None:
        graph = quantizer.equalized(net.config)
        yield from of_ranges(graph, quantizer.statistics(net.config), inner)
    if net.accuracy is not None:
        yield from of_outputs(net.accuracy, lambda: _wider(net, quantizer), demands)
    for plan, size in zip(net.shorter, net.lengths[1:], strict=True):
        if plan.accuracy is not None:
            for finding in of_outputs(plan.accuracy, dict, demands):
                yield dataclasses.replace(finding, where=f"{finding.where} at length {size}")


def _cut(sample: Run, plan: CompiledNetwork) -> Run:
    """The first rows of a sample, as many as a shorter plan takes."""
    shapes = {info.name: info.shape for info in plan.inputs}
    return {name: array[tuple(map(slice, shapes[name]))] for name, array in sample.items()}


def _wider(net: CompiledNetwork, quantizer: Quantizer) -> Ratios:
    """The ratio of each part with activations of 16 bits, simulated; none where they have them."""
    config = net.config
    if quantizer.form is not Form.FLOAT or is_quantized_already(quantizer.normalized):
        return {}
    if config.activation_bits == 16 or net.accuracy is None:
        return {}
    weights = {part.part: 1.0 for part in net.accuracy.parts}
    judgement = Judge(quantizer, weights=weights).tried(
        _with_16_bits(config), quantizer.samples(config)
    )
    return {part: noise.db for part, noise in judgement.parts.items()}


def _with_16_bits(config: QuantizationConfig) -> QuantizationConfig:
    """As `--activation-bits 16` compiles: ranges that were found for 8 bits are not kept."""
    overrides = {
        key: {name: value for name, value in fields.items() if name != "range"}
        for key, fields in config.overrides.items()
    }
    return dataclasses.replace(config, activation_bits=16, range="mse", overrides=overrides)
