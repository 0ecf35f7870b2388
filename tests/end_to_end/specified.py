"""The accuracy of a network's integers by their meaning in numpy, without generated code."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from network_builder import Array

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.samples import samples_of
from qcomp.config import QuantizationConfig
from qcomp.ends import ends_outside
from qcomp.execute.session import FloatSession
from qcomp.frontends import import_model
from qcomp.ir.evaluate import evaluate
from qcomp.ir.graph import Graph
from qcomp.quant.metrics import sqnr_db
from qcomp.quantizer import Quantizer
from qcomp.recipes.named import settled
from qcomp.runtime.interface import describe_tensors

Runs = list[dict[str, Array]]


def quantized(model: onnx.ModelProto, calibration: Runs, **choices: Any) -> Graph:
    """The integer graph by the recipe "fast"."""
    imported = import_model(model)
    config = settled(QuantizationConfig(recipe="fast", **choices), calibrated=True)
    evidence = Evidence(samples_of(imported.graph, calibration), (-1.0, 1.0))
    graph = ends_outside(imported.graph, imported.form, evidence, float_tail=config.float_tail)
    return Quantizer(graph, imported.form, evidence.inside(graph)).integer(config)


def sqnr_by_output(model: onnx.ModelProto, graph: Graph, runs: Runs) -> dict[str, float]:
    """How near the dequantized outputs of an integer graph are to those of the float network."""
    session = FloatSession(import_model(model).graph)
    expected, found = [session.run(run) for run in runs], [answers(graph, run) for run in runs]
    return {
        name: sqnr_db(
            np.concatenate([e[name].ravel() for e in expected]),
            np.concatenate([f[name].ravel() for f in found]),
        )
        for name in graph.outputs
    }


def answers(graph: Graph, run: dict[str, Array]) -> dict[str, Array]:
    """Float in, float out."""
    inputs = {i.name: i.quantized(run[i.name]) for i in describe_tensors(graph, graph.inputs)}
    outputs = evaluate(graph, inputs)
    return {o.name: o.dequantized(outputs[o.name]) for o in describe_tensors(graph, graph.outputs)}
