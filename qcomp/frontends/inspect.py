"""Describe a model: what goes in and out, what it is made of, and what qcomp can't take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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

    `version`: of the format, as in `opset 17`.

    `layers` leaves out movements, most of which are the importer's and cancel later. `macs` counts
    multiplications of one run; a transposed convolution counts as it is executed, including the
    zeros between its pixels.
    """

    name: str
    version: str
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    operators: Mapping[str, int]
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def inspection_of(
    graph: Graph,
    version: str,
    operators: Iterable[str],
    notes: Sequence[str],
    problems: Sequence[str],
) -> Inspection:
    """Of the part of a model that was imported; `operators` are all of the model's."""
    return Inspection(
        name=graph.name,
        version=version,
        inputs={name: graph.type(id) for name, id in graph.inputs.items()},
        outputs={name: graph.type(id) for name, id in graph.outputs.items()},
        operators=dict(sorted(Counter(operators).items())),
        layers=layers_of(graph),
        parameters=sum(data.size for _, data in constants_of(graph)),
        macs=count_macs(graph),
        notes=tuple(notes),
        problems=tuple(problems),
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
