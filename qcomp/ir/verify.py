"""The verifier: what must hold of a graph in each form. It runs after every pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import networkx as nx
import numpy as np

from qcomp.errors import VerifyError
from qcomp.ir.digraph import topological_order
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.invariants import integer_edges, quantized_edges, ranges_of_floats
from qcomp.ir.ops import Domain, Op, QuantizedConstant
from qcomp.ir.states import state_from
from qcomp.ir.tensor import TensorId
from qcomp.ir.text import format_op

_DOMAINS = {
    Form.FLOAT: (Domain.FLOAT, Domain.ANY),
    Form.ANNOTATED: (Domain.FLOAT, Domain.ANY),
    Form.QDQ: (Domain.FLOAT, Domain.ANY, Domain.BORDER),
    Form.INTEGER: (Domain.INTEGER, Domain.ANY, Domain.BORDER),
}
_INVARIANTS: Mapping[Form, Callable[[Graph], list[str]]] = {
    Form.FLOAT: lambda graph: [],
    Form.ANNOTATED: ranges_of_floats,
    Form.QDQ: quantized_edges,
    Form.INTEGER: integer_edges,
}


def verify(graph: Graph, form: Form) -> None:
    """Raise VerifyError that lists every broken invariant with the op's line."""
    problems = [*_structure(graph)]
    if not problems:
        for op in graph.ops():
            problems += [f"{format_op(graph, op)}\n  {p}" for p in _op_problems(graph, op, form)]
        problems += _form_problems(graph, form)
    if problems:
        raise VerifyError(
            f"graph @{graph.name} is not in form {form.value}:\n" + "\n".join(problems)
        )


def _has_axis(graph: Graph, id: TensorId | None, axis: int) -> bool:
    """A scalar counts as one number along axis 0."""
    return id is not None and (id not in graph or axis < max(graph.type(id).rank, 1))


def _structure(graph: Graph) -> list[str]:
    view = graph.view()
    try:
        order = topological_order(view)
    except nx.NetworkXUnfeasible:
        cycle = [a for a, _ in nx.find_cycle(view)]
        return [f"cycle through {', '.join('%' + n for n in cycle if not n.startswith('op '))}"]
    problems = []
    for name, id in (*graph.inputs.items(), *graph.outputs.items()):
        if id not in graph:
            problems.append(f"{name}: %{id} does not exist")
    problems += [
        f"{name} is converted; expected the name of an input or of an output"
        for name in graph.conversions
        if (name in graph.inputs) == (name in graph.outputs)
    ]
    problems += [
        f"{name} has a tail along axis {tail.axis}; expected an output with that axis"
        for name, tail in graph.tails.items()
        if not _has_axis(graph, graph.outputs.get(name), tail.axis)
    ]
    problems += [p for pair in graph.states.items() if (p := _state_problem(graph, *pair))]
    if not graph.outputs:
        problems.append("no outputs")
    inputs = set(graph.inputs.values())
    for tensor in graph.tensors():
        defined = tensor.is_constant + (tensor.id in inputs)
        if defined + (graph.producer(tensor.id) is not None) != 1:
            problems.append(f"%{tensor.id} must be exactly one of input, constant, result")
    ops = {node: payload["op"] for node, payload in view.nodes(data=True) if "op" in payload}
    if graph.ops() != [ops[node] for node in order if node in ops]:
        problems.append("the ops are not in the order of their edges")
    for node, op in ops.items():
        if set(view.pred[node]) != set(op.inputs):
            problems.append(f"%{op.id}: edges do not agree with its operands")
        if list(view.succ[node]) != [op.output]:
            problems.append(f"%{op.id}: edges do not agree with its result")
    return problems


def _state_problem(graph: Graph, name: str, output: str) -> str | None:
    """What keeps an output's integers from being those of an input."""
    where = f"state {name} from {output}"
    if name not in graph.inputs or output not in graph.outputs:
        return f"{where}: expected the name of an input, and that of an output"
    ends = [graph.inputs[name], graph.outputs[output]]
    if not all(id in graph for id in ends):
        return None  # which is told
    one, other = (graph.tensor(id) for id in ends)
    try:
        state_from(name, output, one.type, other.type)
    except ValueError as error:
        return f"state: {error}"
    if None not in (one.qparams, other.qparams) and one.qparams != other.qparams:
        return f"{where}: {one.qparams} from {other.qparams}; expected one scale"
    changed = {name, output} & {*graph.conversions, *graph.tails}
    return f"{where}: {', '.join(changed)} is computed in floats outside" if changed else None


def _op_problems(graph: Graph, op: Op, form: Form) -> list[str]:
    if not _belongs(graph, op, form):
        return [f"{op.mnemonic} does not belong in form {form.value}"]
    if op.arity is not None and len(op.inputs) != op.arity:
        return [f"expected {op.arity} operands, got {len(op.inputs)}"]
    if not op.inputs:
        return ["expected at least one operand"]
    problems = [
        f"operand {i} (%{op.inputs[i]}) must be a constant"
        for i in op.constant_operands
        if i < len(op.inputs) and not _holds_constant(graph, op.inputs[i])
    ]
    try:
        expected = op.result_type(*(graph.type(t) for t in op.inputs))
    except ValueError as error:
        return [*problems, str(error)]
    if expected != graph.type(op.output):
        problems.append(f"expected the result {expected}")
    return problems


def _belongs(graph: Graph, op: Op, form: Form) -> bool:
    """By its domain; a float op that is kept stands among integers too, a rounding constant not."""
    if form is Form.INTEGER:
        kept = op.domain is Domain.FLOAT and graph.is_kept(op)
        return kept or (op.domain in _DOMAINS[form] and not isinstance(op, QuantizedConstant))
    return op.domain in _DOMAINS[form]


def _holds_constant(graph: Graph, id: TensorId) -> bool:
    """A constant, or in QDQ form one that stands for integers."""
    return graph.is_constant(id) or isinstance(graph.producer(id), QuantizedConstant)


def _form_problems(graph: Graph, form: Form) -> list[str]:
    problems: list[str] = []
    for tensor in graph.tensors():
        data = tensor.data
        if data is not None:
            if data.flags.writeable:
                problems.append(f"constant %{tensor.id} is writable")
            if data.dtype.kind == "f" and not np.isfinite(data).all():
                problems.append(f"constant %{tensor.id} has NaN or infinity")
    return problems + _INVARIANTS[form](graph)
