"""What graphs of any form answer to a few samples, in real numbers: how a pass is judged.

Outputs, or every tensor that stands for one of the model: in the model's layout and units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qcomp.calibration.evidence import Evidence
from qcomp.calibration.statistics import with_all_results
from qcomp.execute.session import FloatSession
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.region import with_outputs
from qcomp.ir.tensor import Array, Mark, Tensor, TensorId
from qcomp.passes.observers import Answers, OutputDifference
from qcomp.passes.tensor_ratios import TensorRatios
from qcomp.quant.qparams import dequantize, quantize
from qcomp.report.integers import IntegerSession

_SAMPLES = 2
_SAME_VALUES = {Mark.ROUNDED, Mark.CORRECTED, Mark.FITTED}

Feed = Mapping[str, Array]


def output_difference(imported: Graph, evidence: Evidence) -> OutputDifference:
    """An observer that notes in the log of each pass by how much it moved the outputs."""
    return OutputDifference(_answers(imported, evidence))


def tensor_ratios(imported: Graph, evidence: Evidence) -> TensorRatios:
    """An observer that notes in the log of each pass how near every tensor is to the model's."""
    samples = _samples(imported, evidence)

    def values(graph: Graph, form: Form) -> Sequence[Feed]:
        return list(_tensors(graph, form, samples))

    return TensorRatios(values)


def _tensors(graph: Graph, form: Form, samples: Sequence[Feed]) -> Iterator[Feed]:
    """Of a name that several tensors have, what the last of them is: what readers see."""
    if form is Form.INTEGER:
        ids = [op.id for op in graph.ops() if graph.tensor(op.output).qparams is not None]
        integers = IntegerSession(with_outputs(graph, ids), "tensors")
    else:
        floats = FloatSession(with_all_results(graph), threads=1)
    for sample in samples:
        given = {id: sample[name] for name, id in graph.inputs.items()}
        if form is Form.INTEGER:
            rounded = {id: _rounded(graph, id, value) for id, value in given.items()}
            answers = {id: _real(graph, id, v) for id, v in integers.run(rounded).items()}
        else:
            answers = floats.run(given)
        yield {
            name: value
            for op in graph.ops()
            if op.output in answers
            for name, value in _of_model(graph.tensor(op.output), answers[op.output])
        }


def _of_model(tensor: Tensor, value: Array) -> Iterator[tuple[str, Array]]:
    """The value as the model has it; none of what is no longer a tensor of the model."""
    origin = tensor.origin
    if origin is None or origin.name is None or not _SAME_VALUES.issuperset(origin.rewritten_by):
        return
    if origin.scale is not None:
        if not origin.scale.all():
            return
        value = (value / origin.scale).astype(np.float32)
    if origin.permutation is not None:
        value = value.transpose(np.argsort(origin.permutation))
    yield origin.name, value


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
