"""The graph whose states are known, as a configuration names them or as they are found."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qcomp.config import AUTO
from qcomp.errors import CompileError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Concat
from qcomp.ir.states import state_from
from qcomp.state_names import option, state_pairs


def with_states(
    graph: Graph, form: Form, states: Mapping[str, str] | str, indices: Collection[str]
) -> Graph:
    """The graph that knows which inputs are what outputs were in the run before; outputs that are
    asked for as `indices` are none of these.

    An output that is a cache with the new rows behind it gives those rows only. CompileError for
    names and types that are none of a state, and where "auto" finds none.
    """
    if not states:
        return graph
    if form is not Form.FLOAT:
        raise CompileError(
            f"states: the model comes in form {form.value}, whose scales are given; expected a "
            "float model"
        )
    graph = graph.clone()
    graph.states.update(_found(graph) if isinstance(states, str) else states)
    for name, output in graph.states.items():
        if name not in graph.inputs or output not in graph.outputs:
            raise CompileError(
                f"states: {name!r} from {output!r}; expected one of the inputs "
                f"{', '.join(graph.inputs)} and one of the outputs {', '.join(graph.outputs)}"
            )
        if output in indices or list(graph.states.values()).count(output) > 1:
            raise CompileError(f"states: {output!r} is asked for in two ways; expected one")
        graph.outputs[output] = _rows_that_are_new(graph, name, output)
        try:
            state_from(
                name, output, graph.type(graph.inputs[name]), graph.type(graph.outputs[output])
            )
        except ValueError as error:
            raise CompileError(f"states: {error}") from error
    graph.sweep()
    return graph


def states_note(graph: Graph, form: Form) -> tuple[str, ...]:
    """What looks like a state and is not taken as one, with the option that does."""
    pairs = {} if graph.states or form is not Form.FLOAT else state_pairs(graph)
    if not pairs:
        return ()
    named = ", ".join(f"{name} from {output}" for name, output in pairs.items())
    given = option(pairs.items()) if len(pairs) < 4 else "--state auto"
    return (
        f"inputs that look like states of the run before, by name and type: {named}; taken as any "
        f"input, through floats. {given} keeps them in integers between runs",
    )


def _found(graph: Graph) -> dict[str, str]:
    if pairs := state_pairs(graph):
        return pairs
    raise CompileError(
        f"states={AUTO!r}: no input and output look like a state by name and type; expected names "
        f"such as h_in and h_out, or {{input: output}}; inputs {', '.join(graph.inputs)}, outputs "
        f"{', '.join(graph.outputs)}"
    )


def _rows_that_are_new(graph: Graph, name: str, output: str) -> str:
    """The tensor that an output appends to a cache; itself where it does not."""
    id, cache = graph.outputs[output], graph.inputs[name]
    concat = graph.producer(id)
    if isinstance(concat, Concat) and len(concat.inputs) == 2 and concat.inputs[0] == cache:
        return concat.inputs[1]
    return id
