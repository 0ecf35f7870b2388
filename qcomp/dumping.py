"""What a compilation with a dump is observed by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcomp.calibration.evidence import Evidence
from qcomp.ir.graph import Graph
from qcomp.passes.base import Observer
from qcomp.passes.observers import Answers, Dump, OutputDifference


def dumping(directory: Path, imported: Graph, evidence: Evidence) -> tuple[Observer, ...]:
    """A dump of every pass, whose logs say how much each moves the outputs of a float graph."""
    return OutputDifference(_answers(imported, evidence)), Dump(directory)


def _answers(graph: Graph, evidence: Evidence) -> Answers:
    """How float graphs answer the first sample, or random numbers where there is no data."""
    from qcomp.execute.session import FloatSession

    if evidence.data is not None:
        (sample,) = evidence.data.first(1)
    else:
        random = np.random.default_rng(0)
        types = {name: graph.type(id) for name, id in graph.inputs.items()}
        sample = {
            name: random.uniform(*evidence.input_range, t.shape).astype(t.dtype.numpy)
            for name, t in types.items()
        }
    return lambda changed: FloatSession(changed, threads=1).run(sample)
