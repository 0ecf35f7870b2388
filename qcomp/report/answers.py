"""What graphs of any form answer to a few samples, in real numbers: how a pass is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcomp.calibration.evidence import Evidence
from qcomp.execute.session import FloatSession
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.observers import Answers, OutputDifference
from qcomp.quant.qparams import dequantize, quantize
from qcomp.report.integers import IntegerSession

_SAMPLES = 2

Feed = Mapping[str, Array]


def output_difference(imported: Graph, evidence: Evidence) -> OutputDifference:
    """An observer that notes in the log of each pass by how much it moved the outputs."""
    return OutputDifference(_answers(imported, evidence))


def _answers(graph: Graph, evidence: Evidence) -> Answers:
    """How graphs answer the first samples, or random numbers where there is no data."""
    samples = _samples(graph, evidence)

    def answered(changed: Graph, form: Form) -> Sequence[Feed]:
        if form is Form.INTEGER:
            return _of_integers(changed, samples)
        session = FloatSession(changed, threads=1)  # QDQ graphs are simulated
        return [session.run(sample) for sample in samples]

    return answered


def _samples(graph: Graph, evidence: Evidence) -> Sequence[Feed]:
    if evidence.data is not None:
        return evidence.data.first(_SAMPLES)
    random = np.random.default_rng(0)
    types = {name: graph.type(id) for name, id in graph.inputs.items()}
    return [
        {
            name: random.uniform(*evidence.input_range, t.shape).astype(t.dtype.numpy)
            for name, t in types.items()
        }
    ]


def _of_integers(graph: Graph, samples: Sequence[Feed]) -> Sequence[Feed]:
    session = IntegerSession(graph, "answers")
    found = []
    for sample in samples:
        given = {name: _rounded(graph, id, sample[name]) for name, id in graph.inputs.items()}
        answer = session.run(given)
        found.append({name: _real(graph, id, answer[name]) for name, id in graph.outputs.items()})
    return found


def _rounded(graph: Graph, id: TensorId, value: Array) -> Array:
    q = graph.tensor(id).qparams
    return value if q is None else quantize(value, q)


def _real(graph: Graph, id: TensorId, value: Array) -> Array:
    q = graph.tensor(id).qparams
    return value if q is None else dequantize(value, q)
