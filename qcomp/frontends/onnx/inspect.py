"""Describe a model: what goes in and out, what it is made of, and what qcomp can't take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike

from qcomp.frontends.onnx.importer import Model, attempt_import
from qcomp.ir.graph import Graph, constants_of
from qcomp.ir.ops import Conv2d, Dense, MatMul, Movement, Op
from qcomp.ir.tensor import TensorId, TensorType


@dataclass(frozen=True)
class Layer:
    """One op of the imported graph that computes; `type` is its result's."""

    id: TensorId
    mnemonic: str
    type: TensorType
    parameters: int
    macs: int


@dataclass(frozen=True)
class Inspection:
    """The report of `qcomp inspect`; its numbers cover the supported part of the model.

    `layers` leaves out movements, most of which are the importer's and cancel later. `macs` counts
    multiplications of one run; a transposed convolution counts as it is executed, including the
    zeros between its pixels.
    """

    name: str
    opset: int
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def inspect_onnx(
    model: Model,
    bind: Mapping[str, int] | None = None,
    bind_values: Mapping[str, ArrayLike] | None = None,
) -> Inspection:
    """Unsupported operators are listed in `problems`; only a broken model raises ModelError."""
    attempt = attempt_import(model, bind or {}, bind_values or {})
    graph = attempt.graph
    operators = Counter(node.op_type for node in attempt.model.graph.node)
    return Inspection(
        name=graph.name,
        opset=attempt.model.opset,
        inputs={name: graph.type(id) for name, id in graph.inputs.items()},
        outputs={name: graph.type(id) for name, id in graph.outputs.items()},
        operators=dict(sorted(operators.items())),
        layers=layers_of(graph),
        parameters=sum(data.size for _, data in constants_of(graph)),
        macs=count_macs(graph),
        notes=attempt.notes,
        problems=attempt.problems,
    )


def layers_of(graph: Graph) -> tuple[Layer, ...]:
    """The ops that compute, in the order of the graph."""
    return tuple(
        Layer(
            op.id,
            op.mnemonic,
            graph.type(op.output),
            sum(graph.type(t).size for t in op.inputs if graph.is_constant(t)),
            macs_of(graph, op),
        )
        for op in graph.ops()
        if not isinstance(op, Movement)
    )


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of the convolutions and matrix products."""
    return sum(macs_of(graph, op) for op in graph.ops())


def macs_of(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one op; 0 for all but convolutions and matrix products."""
    size = graph.type(op.output).size
    match op:
        case Conv2d():
            return size * math.prod(graph.type(op.weight).shape[1:])
        case Dense():
            return size * graph.type(op.weight).shape[1]
        case MatMul():
            return size * graph.type(op.a).shape[-1]
        case _:
            return 0
