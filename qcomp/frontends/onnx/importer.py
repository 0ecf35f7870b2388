"""The import: bind shapes, fold constants, apply one rule per node, collect every problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx
import onnx.helper

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.load import LoadedModel, load_model
from qcomp.frontends.onnx.nodes import NodeReader, used_names
from qcomp.frontends.onnx.shapes import bound_inputs, element_type
from qcomp.frontends.onnx.structure import ordered_nodes
from qcomp.frontends.onnx.tensors import element_type_name
from qcomp.frontends.origins import trace_moves
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph, sanitized
from qcomp.ir.ops import Reshape
from qcomp.ir.saturation import hides_lowest
from qcomp.ir.tensor import Origin
from qcomp.ir.verify import verify

Model = str | os.PathLike[str] | bytes | onnx.ModelProto


@dataclass(frozen=True)
class ImportedModel:
    """A graph in the model's own layout, its form, and what was decided on the way."""

    graph: Graph
    form: Form
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """The part of a model that could be imported, and every problem of the rest."""

    model: LoadedModel
    graph: Graph
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def import_onnx(model: Model, *, bind: Mapping[str, int] | None = None) -> ImportedModel:
    """A verified FLOAT graph of an ONNX model.

    `bind` gives sizes to dynamic dimensions, by name (`{"N": 1}`) or place (`{"x:0": 1}`).
    Raises ModelError for a broken model, UnsupportedOp with all unsupported nodes at once.
    """
    attempt = attempt_import(model, bind or {})
    if attempt.problems:
        raise UnsupportedOp(attempt.problems)
    attempt.graph.sweep()
    trace_moves(attempt.graph)
    verify(attempt.graph, Form.FLOAT)
    return ImportedModel(attempt.graph, Form.FLOAT, attempt.notes)


def attempt_import(model: Model, bind: Mapping[str, int]) -> Attempt:
    """Import as much as possible; raises only where the model itself is broken."""
    loaded = load_model(model)
    importer = _Importer(loaded, bind)
    importer.read_initializers()
    importer.read_inputs()
    importer.read_nodes()
    importer.read_outputs()
    context = importer.context
    if context.not_finite:
        names = ", ".join(context.not_finite)
        raise ModelError(f"{loaded.label} has NaN or infinity in the constants {names}")
    if problem := _misread_mask(context):
        raise ModelError(f"{loaded.label} has {problem}")
    if context.converted:
        kinds = ", ".join(sorted(set(context.converted.values())))
        context.notes.append(
            f"{len(context.converted)} constants converted from {kinds} to float32"
        )
    return Attempt(loaded, context.graph, tuple(context.notes), tuple(importer.problems))


def _misread_mask(context: Context) -> str | None:
    """What is wrong with a constant that has -inf, which is a mask before a softmax."""
    for (name, _), id in context.added.items():
        if name in context.masks and not hides_lowest(context.graph, id):
            readers = ", ".join(op.id for op in context.graph.consumers(id)) or "nothing"
            return (
                f"-inf in the constant {name}, which {readers} reads; accepted: in a mask that "
                "sums and copies take to a softmax"
            )
    return None


class _Importer:
    """Inputs, nodes and outputs, in this order."""

    def __init__(self, model: LoadedModel, bind: Mapping[str, int]) -> None:
        self.model = model
        self.bind = bind
        self.nodes = ordered_nodes(model.graph)
        graph = Graph(sanitized(model.name))
        used = used_names(self.nodes, model.graph)
        self.context = Context(graph, model.opset, model.folder, used)
        self.reader = NodeReader(model.folder)
        self.problems = self.reader.problems

    def read_initializers(self) -> None:
        self.reader.read_initializers(self.model.graph, self.context)

    def read_inputs(self) -> None:
        accepted = []
        for value in self.model.graph.input:
            if value.name in self.context.constants:
                continue
            kind = element_type(value)
            if kind == onnx.TensorProto.FLOAT:
                accepted.append(value)
            else:
                self.context.lost.add(value.name)
                self.problems.append(
                    f"input {value.name!r}: element type {element_type_name(kind)}; accepted: FLOAT"
                )
        types = bound_inputs(accepted, self.bind, self.context.notes)
        for name, type in types.items():
            id = self.context.graph.add_input(name, type)
            tensor = self.context.graph.tensor(id)
            self.context.graph.update_tensor(replace(tensor, origin=Origin(name)))
            self.context.values[name] = id

    def read_nodes(self) -> None:
        self.reader.read(self.nodes, self.context)

    def read_outputs(self) -> None:
        graph = self.context.graph
        for name in (output.name for output in self.model.graph.output):
            if name in self.context.constants:
                self.problems.append(
                    f"output {name!r} is a constant; accepted: results that depend on an input"
                )
            elif name in graph.inputs:
                self.problems.append(
                    f"output {name!r} is an input of the same name; accepted: results of nodes"
                )
            elif name in self.context.values:
                id = self.context.values[name]
                if id in graph.inputs.values():
                    id = graph.add_op(
                        Reshape(
                            inputs=(id,), output=graph.fresh_id(name), shape=graph.type(id).shape
                        )
                    )
                graph.outputs[name] = id
