"""What a compilation with a dump is observed by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcomp.calibration.evidence import Evidence
from qcomp.files import write_file
from qcomp.ir.evaluate import evaluate
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.passes.base import Observer, PassRecord
from qcomp.passes.ledger import Ledger
from qcomp.passes.ledger_file import SUFFIX, packed
from qcomp.passes.observers import Answers, Dump, OutputDifference
from qcomp.quant.qparams import dequantize, quantize

_SAMPLES = 2  # on which outputs are compared; integer graphs take seconds for each

Feed = Mapping[str, Array]


def dumping(
    directory: Path, imported: Graph, evidence: Evidence, ledger: Ledger
) -> tuple[Observer, ...]:
    """A dump of every pass, whose logs say how much each moves the outputs."""
    difference = OutputDifference(_answers(imported, evidence))
    return difference, Dump(directory), ledger, LedgerFile(directory, ledger)


@dataclass(frozen=True)
class LedgerFile:
    """Keeps a directory's ledger up to date, so that it tells of a compilation that fails too."""

    directory: Path
    ledger: Ledger

    def began(self, graph: Graph, form: Form) -> None:
        """There is no entry yet."""

    def passed(self, graph: Graph, record: PassRecord) -> None:
        self.recorded(record)

    def recorded(self, record: PassRecord) -> None:
        write_file(self.directory / SUFFIX, packed(self.ledger.entries))


def _answers(graph: Graph, evidence: Evidence) -> Answers:
    """How graphs answer the first samples, or random numbers where there is no data."""
    samples = _samples(graph, evidence)
    return lambda changed, form: [_answer(changed, form, sample) for sample in samples]


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


def _answer(graph: Graph, form: Form, sample: Feed) -> Feed:
    """Real numbers of the outputs: simulated in form QDQ, by the specification in form INTEGER."""
    from qcomp.execute.session import FloatSession

    if form is not Form.INTEGER:
        return FloatSession(graph, threads=1).run(sample)
    feed = {name: _rounded(graph, id, sample[name]) for name, id in graph.inputs.items()}
    found = evaluate(graph, feed)
    return {name: _real(graph, id, found[name]) for name, id in graph.outputs.items()}


def _rounded(graph: Graph, id: TensorId, value: Array) -> Array:
    q = graph.tensor(id).qparams
    return value if q is None else quantize(value, q)


def _real(graph: Graph, id: TensorId, value: Array) -> Array:
    q = graph.tensor(id).qparams
    return value if q is None else dequantize(value, q)
