"""Before anything else: what the floats outside take over at a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcomp.calibration.evidence import Evidence
from qcomp.config import QuantizationConfig
from qcomp.errors import CalibrationError, CompileError
from qcomp.input_forms import input_forms
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.passes.base import run_pass
from qcomp.passes.leave_float_tail import LeaveFloatTail
from qcomp.passes.move_affine_ends import MoveAffineEnds
from qcomp.passes.take_inputs import TakeInputs
from qcomp.states import with_states


def taken_as(imported: Graph, form: Form, config: QuantizationConfig) -> Graph:
    """The graph with inputs, and states between runs, as a configuration has them; itself where it
    says nothing of them.
    """
    graph = _with_inputs(imported, form, config.inputs)
    return with_states(graph, form, config.states, config.outputs)


def _with_inputs(imported: Graph, form: Form, inputs: Mapping[str, Any]) -> Graph:
    if not inputs:
        return imported
    if form is not Form.FLOAT:
        raise CompileError(
            f"inputs: the model comes in form {form.value}, whose inputs are integers already; "
            "expected a float model"
        )
    graph, _ = run_pass(imported, TakeInputs(input_forms(inputs)))
    return graph


def ends_outside(graph: Graph, form: Form, evidence: Evidence, *, float_tail: bool) -> Graph:
    """The graph inside of its affine ends; as it is where nothing is known of its ranges.

    CompileError for a `float_tail` where no output ends in one.
    """
    if float_tail:
        graph = _without_tails(graph, form)
    if form is not Form.FLOAT:
        return graph
    try:
        inside, _ = run_pass(graph, MoveAffineEnds(evidence.moments_of))
    except CalibrationError:
        return graph
    return inside


def _without_tails(graph: Graph, form: Form) -> Graph:
    if form is not Form.FLOAT:
        raise CompileError(
            f"float_tail: the model comes in form {form.value}; expected a float model"
        )
    inside, log = run_pass(graph, LeaveFloatTail())
    if not inside.tails:
        reasons = "; ".join(str(event) for event in log.events)
        raise CompileError(
            f"float_tail: {reasons}; expected an output that a sigmoid or a softmax makes"
        )
    return inside
