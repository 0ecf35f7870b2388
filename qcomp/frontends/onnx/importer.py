"""The import: bind shapes, fold constants, apply one rule per node, collect every problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from numpy.typing import ArrayLike

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.model import ImportedModel
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.inputs import note_inputs, read_inputs
from qcomp.frontends.onnx.load import LoadedModel, load_model
from qcomp.frontends.onnx.nodes import NodeReader, used_names
from qcomp.frontends.onnx.rules.quantization import LIMITS, spread_qparams
from qcomp.frontends.onnx.structure import ordered_nodes
from qcomp.frontends.onnx.tensors import element_type_name
from qcomp.frontends.origins import trace_moves
from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers
from qcomp.ir.graph import Graph, sanitized
from qcomp.ir.ops import Reshape
from qcomp.ir.saturation import hides_lowest
from qcomp.ir.tensor import Origin
from qcomp.ir.verify import verify

Model = str | os.PathLike[str] | bytes | onnx.ModelProto


@dataclass(frozen=True)
class Attempt:
    """The part of a model that could be imported, and every problem of the rest."""

    model: LoadedModel
    graph: Graph
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    integers: Mapping[str, GivenIntegers]


def import_onnx(
    model: Model,
    *,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> ImportedModel:
    """A verified FLOAT graph of an ONNX model.

    `bind` gives sizes to dynamic dimensions, by name (`{"N": 1}`) or place (`{"x:0": 1}`);
    `bind_values` makes inputs constants, by name.
    Raises ModelError for a broken model, UnsupportedOp with all unsupported nodes at once.
    """
    attempt = attempt_import(model, bind or {}, bind_values or {})
    if attempt.problems:
        raise UnsupportedOp(attempt.problems)
    attempt.graph.sweep()
    trace_moves(attempt.graph)
    spread_qparams(attempt.graph)
    verify(attempt.graph, Form.FLOAT)
    return ImportedModel(attempt.graph, Form.FLOAT, attempt.notes, attempt.integers)


def attempt_import(
    model: Model, bind: Mapping[str, int], bind_values: Mapping[str, ArrayLike]
) -> Attempt:
    """Import as much as possible; raises only where the model itself is broken."""
    loaded = load_model(model)
    importer = _Importer(loaded)
    importer.read_initializers()
    importer.read_inputs(bind, bind_values)
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
    return Attempt(
        loaded,
        context.graph,
        tuple(context.notes),
        tuple(importer.problems),
        context.integers,
    )


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

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.nodes = ordered_nodes(model.graph)
        graph = Graph(sanitized(model.name))
        used = used_names(self.nodes, model.graph)
        self.context = Context(graph, model.opset, model.folder, used)
        self.reader = NodeReader(model.folder)
        self.problems = self.reader.problems

    def read_initializers(self) -> None:
        self.reader.read_initializers(self.model.graph, self.context)

    def read_inputs(self, bind: Mapping[str, int], values: Mapping[str, ArrayLike]) -> None:
        self.problems += read_inputs(self.model.graph, bind, values, self.context)

    def read_nodes(self) -> None:
        self.reader.read(self.nodes, self.context)
        note_inputs(self.context)

    def read_outputs(self) -> None:
        """Constants are outputs too, as long as something depends on an input."""
        names = [output.name for output in self.model.graph.output]
        if names and all(name in self.context.constants for name in names):
            self.problems.append(
                f"output {', '.join(names)}: nothing depends on an input; accepted: some result "
                "that does"
            )
        for name in names:
            if name in self.context.graph.inputs:
                self.problems.append(
                    f"output {name!r} is an input of the same name; accepted: results of nodes"
                )
            elif name in self.context.sequences:
                self.problems.append(f"output {name!r} is a sequence; accepted: tensors")
            elif name in self.context.constants:
                self._return_constant(name)
            elif name in self.context.values:
                self._return_value(name)

    def _return_constant(self, name: str) -> None:
        if self.context.constants[name].size == 0:
            self.problems.append(f"output {name!r} has no elements")
            return
        data = self.context.floats(name)
        self.context.graph.outputs[name] = self.context.graph.add_constant(name, data, Origin(name))
        self.context.notes.append(f"output {name} is a constant")

    def _return_value(self, name: str) -> None:
        """An input that is returned is copied."""
        graph, id = self.context.graph, self.context.values[name]
        if id in graph.inputs.values():
            shape = graph.type(id).shape
            id = graph.add_op(Reshape(inputs=(id,), output=graph.fresh_id(name), shape=shape))
        graph.outputs[name] = id
        kind = self.context.element_type(name)
        if kind in LIMITS and graph.tensor(id).qparams is not None:
            self.context.notes.append(
                f"output {name} of {element_type_name(kind)} is given as the values it stands for"
            )
