"""Describe a model: what goes in and out, what it is made of, and what qcomp can't take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from qcomp.frontends.onnx.importer import Model, attempt_import
from qcomp.ir.graph import Graph, constants_of
from qcomp.ir.ops import Conv2d, Dense, MatMul
from qcomp.ir.tensor import TensorType


@dataclass(frozen=True)
class Inspection:
    """What `qcomp inspect` prints; figures cover the supported part of the model.

    `macs` counts multiplications of one run; a transposed convolution counts as it is executed,
    including the zeros between its pixels.
    """

    name: str
    opset: int
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    operators: Mapping[str, int]
    parameters: int
    macs: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def inspect_onnx(model: Model, bind: Mapping[str, int] | None = None) -> Inspection:
    """Unsupported operators are listed in `problems`; only a broken model raises ModelError."""
    attempt = attempt_import(model, bind or {})
    graph = attempt.graph
    operators = Counter(node.op_type for node in attempt.model.graph.node)
    return Inspection(
        name=graph.name,
        opset=attempt.model.opset,
        inputs={name: graph.type(id) for name, id in graph.inputs.items()},
        outputs={name: graph.type(id) for name, id in graph.outputs.items()},
        operators=dict(sorted(operators.items())),
        parameters=sum(data.size for _, data in constants_of(graph)),
        macs=count_macs(graph),
        notes=attempt.notes,
        problems=attempt.problems,
    )


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates of the convolutions and matrix products."""
    total = 0
    for op in graph.ops():
        size = graph.type(op.output).size
        match op:
            case Conv2d():
                total += size * math.prod(graph.type(op.weight).shape[1:])
            case Dense():
                total += size * graph.type(op.weight).shape[1]
            case MatMul():
                total += size * graph.type(op.a).shape[-1]
    return total
