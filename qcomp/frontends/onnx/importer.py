"""The import: bind shapes, fold constants, apply one rule per node, collect every problem."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx
import onnx.helper

from qcomp.errors import ModelError, UnsupportedOp
from qcomp.frontends.model import ImportedModel
from qcomp.frontends.onnx.constants import fold
from qcomp.frontends.onnx.context import Context, Node, Refused
from qcomp.frontends.onnx.decode import decode_node
from qcomp.frontends.onnx.infer import InferredType, inferred_types, one_node_model
from qcomp.frontends.onnx.load import DEFAULT_DOMAINS, LoadedModel, load_model
from qcomp.frontends.onnx.rules import FOLDED_ONLY, RULES
from qcomp.frontends.onnx.shapes import bound_inputs, element_type
from qcomp.frontends.onnx.structure import describe, ordered_nodes
from qcomp.frontends.onnx.tensors import decode_tensor, element_type_name
from qcomp.frontends.origins import trace_moves
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph, sanitized
from qcomp.ir.ops import Reshape
from qcomp.ir.tensor import DType, Origin, Tensor, TensorType
from qcomp.ir.verify import verify

Model = str | os.PathLike[str] | bytes | onnx.ModelProto


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
    if context.converted:
        kinds = ", ".join(sorted(set(context.converted.values())))
        context.notes.append(
            f"{len(context.converted)} constants converted from {kinds} to float32"
        )
    return Attempt(loaded, context.graph, tuple(context.notes), tuple(importer.problems))


class _Importer:
    """One walk over the nodes. Values that could not be made are `lost`, with their readers."""

    def __init__(self, model: LoadedModel, bind: Mapping[str, int]) -> None:
        self.model = model
        self.bind = bind
        self.nodes = ordered_nodes(model.graph)
        used = {name for node in self.nodes for name in node.input}
        used |= {output.name for output in model.graph.output}
        graph = Graph(sanitized(model.name))
        self.context = Context(graph, model.opset, model.folder, used)
        self.problems: list[str] = []
        self.lost: set[str] = set()

    def read_initializers(self) -> None:
        for proto in self.model.graph.initializer:
            label = f"initializer {proto.name!r}"
            data = decode_tensor(proto, self.model.folder, label)
            self.context.constants[proto.name] = data

    def read_inputs(self) -> None:
        accepted = []
        for value in self.model.graph.input:
            if value.name in self.context.constants:
                continue
            kind = element_type(value)
            if kind == onnx.TensorProto.FLOAT:
                accepted.append(value)
            else:
                self.lost.add(value.name)
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
        for proto in self.nodes:
            lost = any(name in self.lost for name in proto.input)
            problem = _refusal(proto, lost)
            if problem is None and lost:
                self._lose(proto)
                continue
            try:
                if problem is not None:
                    raise Refused(problem)
                _apply(decode_node(self.context, proto))
            except (Refused, ValueError) as error:
                self.problems.append(f"{describe(proto)}: {error}")
                self._lose(proto)

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

    def _lose(self, proto: onnx.NodeProto) -> None:
        """Go on with the types that onnx infers, so that later nodes are looked at too."""
        types = self._inferred(proto)
        for name in filter(None, proto.output):
            self.context.constants.pop(name, None)
            type = types.get(name)
            if type is None or type.element_type != onnx.TensorProto.FLOAT or not type.size:
                self.context.values.pop(name, None)
                self.lost.add(name)
            else:
                id = self.context.graph.fresh_id(name)
                self.context.graph.add_tensor(Tensor(id, TensorType(DType.F32, type.shape)))
                self.context.values[name] = id

    def _inferred(self, proto: onnx.NodeProto) -> Mapping[str, InferredType]:
        """The types that a refused node would have given; none if its operands are unknown too."""
        names = list(filter(None, proto.input))
        if proto.domain not in DEFAULT_DOMAINS or any(name in self.lost for name in names):
            return {}
        context = self.context
        constants = {n: context.constants[n] for n in names if n in context.constants}
        types = {
            name: InferredType(
                onnx.helper.np_dtype_to_tensor_dtype(constants[name].dtype)
                if name in constants
                else onnx.TensorProto.FLOAT,
                context.shape(name),
            )
            for name in names
        }
        return inferred_types(one_node_model(proto, types, context.opset), constants)


def _refusal(proto: onnx.NodeProto, lost: bool) -> str | None:
    """Why no rule needs to look at the node, or None. A lost operand can't be folded away."""
    if proto.domain not in DEFAULT_DOMAINS:
        return f"domain {proto.domain!r} is unknown; accepted: ai.onnx"
    if lost and proto.op_type not in RULES and proto.op_type not in FOLDED_ONLY:
        return str(_unsupported(proto.op_type))
    return None


def _unsupported(op_type: str) -> Refused:
    if op_type in FOLDED_ONLY:
        return Refused("its operands are not constant", "operands known at compile time")
    return Refused(f"operator {op_type} is not supported", "those of docs/onnx-operators.md")


def _apply(node: Node) -> None:
    if fold(node):
        return
    rule = RULES.get(node.op_type)
    if rule is None:
        raise _unsupported(node.op_type)
    rule(node)
