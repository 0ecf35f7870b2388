"""The import: bind inputs, fold constants, apply a rule per operator, collect every problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.limits import MAX_ELEMENTS, Refused
from qcomp.frontends.model import ImportedModel
from qcomp.frontends.tflite.context import Context, Node
from qcomp.frontends.tflite.fold import fold
from qcomp.frontends.tflite.load import FileModel, FileTensor, Operator, load_model
from qcomp.frontends.tflite.quantized import QPARAMS, is_activation, qparams_of
from qcomp.frontends.tflite.rules import RULES, TO_FLOAT
from qcomp.frontends.tflite.tensors import WHOLE, decode
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph, sanitized
from qcomp.ir.tensor import DType, Origin, TensorType
from qcomp.ir.verify import verify
from qcomp.quant.qparams import QParams

Model = str | os.PathLike[str] | bytes

BYTES: Mapping[str, QParams] = {"UINT8": QParams(1.0, -128), "INT8": QParams(1.0, 0)}
"""Inputs of integers without a scale: no value is rounded."""


@dataclass(frozen=True)
class Attempt:
    """The part of a model that could be imported, and every problem of the rest."""

    file: FileModel
    graph: Graph
    form: Form
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def import_tflite(
    model: Model,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> ImportedModel:
    """A verified graph of a TFLite file or its bytes: FLOAT, or QDQ where activations are integers.

    `bind` gives sizes to dynamic axes by place (`{"x:0": 8}`), which else have the file's, 1;
    `bind_values` makes inputs constants, by name.
    Raises ModelError for a broken model, UnsupportedOp with all unsupported operators at once.
    """
    attempt = attempt_import(model, bind or {}, bind_values or {})
    if attempt.problems:
        raise UnsupportedOp(attempt.problems)
    attempt.graph.sweep()
    verify(attempt.graph, attempt.form)
    return ImportedModel(attempt.graph, attempt.form, attempt.notes)


def attempt_import(
    model: Model, bind: Mapping[str, int], bind_values: Mapping[str, ArrayLike]
) -> Attempt:
    """Import as much as possible; raises only where the model itself is broken."""
    file = load_model(model)
    made = [file.tensors[i] for op in file.operators for i in op.outputs]
    form = Form.QDQ if any(map(is_activation, made)) else Form.FLOAT
    context = Context(file, Graph(sanitized(file.name)), form)
    if file.more_graphs:
        context.notes.append(f"{file.more_graphs} more graphs in the file are not read")
    problems = _read_constants(context)
    problems += _read_inputs(context, bind, bind_values)
    problems += [problem for op in file.operators if (problem := _read(op, context))]
    problems += _read_outputs(context)
    if context.converted:
        kinds = ", ".join(sorted(set(context.converted.values())))
        told = f"{len(context.converted)} constants converted from {kinds} to float32"
        context.notes.append(told)
    return Attempt(file, context.graph, form, tuple(context.notes), tuple(problems))


def _read_constants(context: Context) -> list[str]:
    problems = []
    given = set(context.file.inputs)
    for i, tensor in enumerate(context.file.tensors):
        if tensor.data is None or i in given:
            continue
        try:
            context.constants[i] = decode(tensor)
            context.folding.given(context.constants[i].size)
        except ModelError as error:
            problems.append(str(error))
            context.lost.add(i)
    return problems


def _read_inputs(
    context: Context, bind: Mapping[str, int], values: Mapping[str, ArrayLike]
) -> list[str]:
    """Add the inputs to the graph; what is wrong with the others."""
    tensors = {i: context.file.tensors[i] for i in context.file.inputs}
    names = [t.name for t in tensors.values()]
    if len(set(names)) < len(names):
        raise ModelError(f"inputs share a name: {', '.join(sorted(names))}")
    places = {f"{t.name}:{a}" for t in tensors.values() for a in t.dynamic}
    for given, known, what in ((bind, places, "dynamic axis"), (values, set(names), "input")):
        if unknown := [name for name in given if name not in known]:
            raise ModelError(
                f"no {what} is named {', '.join(map(repr, unknown))}; the model has: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    problems = []
    for i, tensor in tensors.items():
        try:
            shape = _bound_shape(tensor, bind, context)
            if tensor.name in values:
                context.constants[i] = _bound_value(tensor, values[tensor.name], shape)
            else:
                _add_input(i, tensor, shape, context)
        except Refused as error:
            problems.append(f"input {tensor.name!r}: {error}")
            context.lost.add(i)
    return problems


def _bound_shape(tensor: FileTensor, bind: Mapping[str, int], context: Context) -> tuple[int, ...]:
    shape = list(tensor.shape)
    for axis in tensor.dynamic:
        place = f"{tensor.name}:{axis}"
        size = bind.get(place, shape[axis])
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_ELEMENTS:
            raise ModelError(f"{place}={size!r}; accepted: a size from 1 to {MAX_ELEMENTS}")
        if place not in bind:
            context.notes.append(
                f"input {tensor.name}: axis {axis} is dynamic, and taken as {size}"
            )
        shape[axis] = size
    return tuple(shape)


def _bound_value(tensor: FileTensor, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    if tensor.kind not in WHOLE:
        raise Refused(f"element type {tensor.kind}", ", ".join(WHOLE))
    try:
        return np.broadcast_to(np.asarray(value, WHOLE[tensor.kind]), shape).copy()
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"input {tensor.name!r} can't be bound to {value!r}: {error}") from error


def _add_input(i: int, tensor: FileTensor, shape: tuple[int, ...], context: Context) -> None:
    """All are f32 in the graph; integers with a scale are read in it, others as they are."""
    quantized = tensor.quantization is not None and tensor.kind in QPARAMS
    whole = tensor.kind in BYTES and context.form is Form.FLOAT
    if tensor.kind != "FLOAT32" and not whole and not quantized:
        raise Refused(f"element type {tensor.kind}", "FLOAT32, UINT8, INT8, INT16 with a scale")
    qparams = qparams_of(tensor) if quantized else BYTES.get(tensor.kind)
    graph, origin = context.graph, Origin(tensor.name)
    id = graph.add_input(tensor.name, TensorType(DType.F32, shape))
    float_form = context.form is Form.FLOAT
    given = replace(graph.tensor(id), origin=origin, qparams=qparams if float_form else None)
    graph.update_tensor(given)
    if qparams is not None and not float_form:
        id = context.rounded(id, qparams, context.origin(tensor))
    context.values[i] = id


def _read(op: Operator, context: Context) -> str | None:
    """Apply the rule of an operator; what is wrong with it."""
    node = Node(context, op)
    try:
        if any(i in context.lost for i in op.inputs):
            context.lost.update(op.outputs)
            return None if op.name in RULES else f"{op}: {_unsupported(op)}"
        if not op.outputs:
            raise Refused("it has no result")
        if fold(node):
            return None
        if op.name not in RULES:
            raise _unsupported(op)
        _require_one_kind(node)
        RULES[op.name](node)
    except (Refused, ArithmeticError, ValueError) as error:
        context.lost.update(op.outputs)
        return f"{op}: {error}"
    return None


def _require_one_kind(node: Node) -> None:
    """In a network of integers, what reads or gives floats is a border."""
    floats = [
        t.name
        for t in (node.context.file.tensors[i] for i in node.op.outputs)
        if t.kind in ("FLOAT32", "FLOAT16")
    ]
    if node.context.form is Form.QDQ and floats and node.op.name != TO_FLOAT:
        raise Refused(
            f"it computes floats, {floats[0]!r}, in a network of integers",
            "networks whose activations all are integers, or all floats",
        )


def _unsupported(op: Operator) -> Refused:
    return Refused("this operator is not supported", "those of docs/tflite-operators.md")


def _read_outputs(context: Context) -> list[str]:
    problems = []
    graph, tensors = context.graph, context.file.tensors
    if not context.file.outputs:
        raise ModelError(f"{context.file.label} has no outputs")
    inputs = {context.values.get(i) for i in context.file.inputs}
    for i in context.file.outputs:
        name = tensors[i].name
        if i in context.constants:
            problems.append(f"output {name!r} is a constant; accepted: results of operators")
        elif context.values.get(i) in inputs and i not in context.lost:
            problems.append(f"output {name!r} is an input; accepted: results of operators")
        elif name in graph.outputs:
            problems.append(f"two outputs have the name {name!r}; accepted: a name for each")
        elif i in context.values:
            graph.outputs[name] = context.values[i]
    return problems
