"""The verifier: what must hold of a graph in each form. It runs after every pass."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np

from qcomp.errors import VerifyError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Dequantize,
    Domain,
    FakeQuantConstant,
    Op,
    QSoftmax,
    Quantize,
)
from qcomp.ir.tensor import DType, TensorId
from qcomp.ir.text import format_op
from qcomp.quant.qparams import SOFTMAX, SOFTMAX_16, QParams

_DOMAINS = {
    Form.FLOAT: (Domain.FLOAT, Domain.ANY),
    Form.ANNOTATED: (Domain.FLOAT, Domain.ANY),
    Form.QDQ: (Domain.FLOAT, Domain.ANY, Domain.BORDER),
    Form.INTEGER: (Domain.INTEGER, Domain.ANY),
}


_SOFTMAX: Mapping[int, QParams] = {8: SOFTMAX, 16: SOFTMAX_16}


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


def _structure(graph: Graph) -> list[str]:
    view = graph.view()
    if not nx.is_directed_acyclic_graph(view):
        cycle = [a for a, _ in nx.find_cycle(view)]
        return [f"cycle through {', '.join('%' + n for n in cycle if not n.startswith('op '))}"]
    problems = []
    for name, id in (*graph.inputs.items(), *graph.outputs.items()):
        if id not in graph:
            problems.append(f"{name}: %{id} does not exist")
    if not graph.outputs:
        problems.append("no outputs")
    for tensor in graph.tensors():
        defined = tensor.is_constant + (tensor.id in graph.inputs.values())
        if defined + (graph.producer(tensor.id) is not None) != 1:
            problems.append(f"%{tensor.id} must be exactly one of input, constant, result")
    for node, payload in view.nodes.items():
        if "op" not in payload:
            continue
        op: Op = payload["op"]
        if set(view.predecessors(node)) != set(op.inputs):
            problems.append(f"%{op.id}: edges do not agree with its operands")
        if list(view.successors(node)) != [op.output]:
            problems.append(f"%{op.id}: edges do not agree with its result")
    return problems


def _op_problems(graph: Graph, op: Op, form: Form) -> list[str]:
    if op.domain not in _DOMAINS[form]:
        return [f"{op.mnemonic} does not belong in form {form.value}"]
    if op.arity is not None and len(op.inputs) != op.arity:
        return [f"expected {op.arity} operands, got {len(op.inputs)}"]
    if not op.inputs:
        return ["expected at least one operand"]
    problems = [
        f"operand {i} (%{op.inputs[i]}) must be a constant"
        for i in op.constant_operands[: len(op.inputs)]
        if not _holds_constant(graph, op.inputs[i])
    ]
    try:
        expected = op.result_type(*(graph.type(t) for t in op.inputs))
    except ValueError as error:
        return [*problems, str(error)]
    if expected != graph.type(op.output):
        problems.append(f"expected the result {expected}")
    return problems


def _holds_constant(graph: Graph, id: TensorId) -> bool:
    """A constant, or in QDQ form one that is rounded where it stands."""
    return graph.is_constant(id) or isinstance(graph.producer(id), FakeQuantConstant)


def _form_problems(graph: Graph, form: Form) -> list[str]:
    problems: list[str] = []
    for tensor in graph.tensors():
        data = tensor.data
        if data is not None:
            if data.flags.writeable:
                problems.append(f"constant %{tensor.id} is writable")
            if data.dtype.kind == "f" and not np.isfinite(data).all():
                problems.append(f"constant %{tensor.id} has NaN or infinity")
    check = {Form.ANNOTATED: _annotated, Form.QDQ: _qdq, Form.INTEGER: _integer}.get(form)
    return problems + (check(graph) if check else [])


def _annotated(graph: Graph) -> list[str]:
    return [
        f"%{t.id} has no range"
        for t in graph.tensors()
        if not t.is_constant and t.type.dtype is DType.F32 and t.range is None
    ]


def _qdq(graph: Graph) -> list[str]:
    problems = _widths(graph)
    for op in graph.ops():
        if isinstance(op, Quantize) and graph.tensor(op.output).qparams is None:
            problems.append(f"{format_op(graph, op)}\n  the result has no qparams")
        if isinstance(op, Quantize | Dequantize | FakeQuantConstant):
            continue
        problems += [
            f"{format_op(graph, op)}\n  %{t} is not dequantized"
            for t in graph.activations(op)
            if not isinstance(graph.producer(t), Dequantize | FakeQuantConstant)
        ]
        if graph.type(op.output).dtype is DType.F32:
            readers = graph.consumers(op.output)
            if graph.is_output(op.output) or not all(isinstance(r, Quantize) for r in readers):
                problems.append(f"{format_op(graph, op)}\n  %{op.output} is not quantized")
    return problems


def _widths(graph: Graph) -> list[str]:
    """Qparams are those of the element type; i16 is symmetric."""
    problems = []
    for tensor in graph.tensors():
        q, dtype = tensor.qparams, tensor.type.dtype
        if q is None or tensor.is_constant:
            continue
        if dtype is not DType.activation(q.bits):
            problems.append(f"%{tensor.id}: {q} does not fit {tensor.type}")
        elif q.bits == 16 and q.zero_point != 0:
            problems.append(f"%{tensor.id} is i16 with zero_point {q.zero_point}; expected 0")
    return problems


def _integer(graph: Graph) -> list[str]:
    problems = _widths(graph)
    for tensor in graph.tensors():
        if tensor.type.dtype is DType.F32:
            problems.append(f"%{tensor.id} is f32")
        quantized = not tensor.is_constant and tensor.type.dtype in (DType.I8, DType.I16)
        if quantized and tensor.qparams is None:
            problems.append(f"%{tensor.id} has no qparams")
    for op in graph.ops():
        if op.copies_integers:
            scales = {graph.tensor(t).qparams for t in (*graph.activations(op), op.output)}
            if len(scales) > 1:
                problems.append(f"{format_op(graph, op)}\n  qparams of operands and result differ")
        found = graph.tensor(op.output).qparams
        if isinstance(op, QSoftmax) and found not in (None, _SOFTMAX.get(op.bits)):
            problems.append(f"{format_op(graph, op)}\n  expected qparams {_SOFTMAX[op.bits]}")
    return problems
