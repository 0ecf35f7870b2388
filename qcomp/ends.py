"""Before anything else: what the floats outside take over at a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qcomp.calibration.evidence import Evidence
from qcomp.errors import CalibrationError, CompileError
from qcomp.input_forms import input_forms
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.passes.base import run_pass
from qcomp.passes.leave_float_tail import LeaveFloatTail
from qcomp.passes.move_affine_ends import MoveAffineEnds
from qcomp.passes.take_inputs import TakeInputs


def inputs_taken(imported: Graph, form: Form, inputs: Mapping[str, Any]) -> Graph:
    """The graph that takes its inputs as a configuration says; itself where it says nothing."""
    if not inputs:
        return imported
    if form is not Form.FLOAT:
        raise CompileError(
            f"inputs: the model comes in form {form.value}, whose inputs are integers already; "
            "expected a float model"
        )
    graph, _ = run_pass(imported, TakeInputs(input_forms(inputs)))
    return graph


def with_states(
    graph: Graph, form: Form, states: Mapping[str, str], indices: Collection[str]
) -> Graph:
    """The graph that knows which inputs are what outputs were in the run before; outputs that are
    asked for as `indices` are none of these.
    """
    if not states:
        return graph
    if form is not Form.FLOAT:
        raise CompileError(
            f"states: the model comes in form {form.value}, whose scales are given; expected a "
            "float model"
        )
    graph = graph.clone()
    graph.states.update(states)
    for name, output in states.items():
        if name not in graph.inputs or output not in graph.outputs:
            raise CompileError(
                f"states: {name!r} from {output!r}; expected one of the inputs "
                f"{', '.join(graph.inputs)} and one of the outputs {', '.join(graph.outputs)}"
            )
        types = graph.type(graph.inputs[name]), graph.type(graph.outputs[output])
        if types[0] != types[1]:
            raise CompileError(f"states: {name!r} is {types[0]} and {output!r} {types[1]}")
        if output in indices or list(states.values()).count(output) > 1:
            raise CompileError(f"states: {output!r} is asked for in two ways; expected one")
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
