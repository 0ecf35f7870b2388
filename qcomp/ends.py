"""Before anything else: what the floats outside take over at a model's inputs and outputs."""

from __future__ import annotations

from qcomp.calibration.evidence import Evidence
from qcomp.errors import CalibrationError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.passes.base import run_pass
from qcomp.passes.move_affine_ends import MoveAffineEnds


def ends_outside(graph: Graph, form: Form, evidence: Evidence) -> Graph:
    """The graph inside of its affine ends; as it is where nothing is known of its ranges."""
    if form is not Form.FLOAT:
        return graph
    try:
        inside, _ = run_pass(graph, MoveAffineEnds(evidence.moments_of))
    except CalibrationError:
        return graph
    return inside
