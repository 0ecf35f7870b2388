"""Regions of elementwise ops that are a function of one real variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    Add,
    Binary,
    Clamp,
    ClampRange,
    Div,
    Maximum,
    Minimum,
    Mul,
    Op,
    Sub,
    Unary,
)
from qcomp.ir.tensor import TensorId

F64 = NDArray[np.float64]
LARGEST = 12  # ops; the longest usual form, gelu with tanh and a cube, has 10

BINARY: Mapping[type[Binary], Callable[[F64, F64], F64]] = {
    Add: np.add,
    Sub: np.subtract,
    Mul: np.multiply,
    Div: np.divide,
    Minimum: np.minimum,
    Maximum: np.maximum,
}


@dataclass(frozen=True)
class ScalarRegion:
    """The ops, in order, between the tensor x and the result of the last one.

    `constants` are the one-element constants that they read.
    """

    x: TensorId
    ops: tuple[Op, ...]
    constants: Mapping[TensorId, float]

    @property
    def joins(self) -> bool:
        """Some op reads two values that both depend on x."""
        return any(sum(t not in self.constants for t in op.inputs) > 1 for op in self.ops)

    def evaluate(self, x: F64) -> F64:
        """The region's function, in float64; non-finite where it is not defined."""
        values: dict[TensorId, F64] = {t: np.full_like(x, v) for t, v in self.constants.items()}
        values[self.x] = x
        with np.errstate(all="ignore"):
            for op in self.ops:
                values[op.output] = _apply(op, [values[t] for t in op.inputs])
        return values[self.ops[-1].output]


def _apply(op: Op, operands: list[F64]) -> F64:
    match op:
        case Unary():
            return FUNCTIONS[op.function](operands[0], op.alpha, op.beta)
        case Clamp():
            return _clamped(operands[0], op.clamp)
        case Binary():
            return _clamped(BINARY[type(op)](*operands), op.clamp)
    raise TypeError(f"{op.mnemonic} is no function of one variable")


def _clamped(x: F64, clamp: ClampRange) -> F64:
    return np.minimum(np.maximum(x, clamp.low), clamp.high)


def scalar_regions(
    graph: Graph, root: Op, position: Mapping[TensorId, int]
) -> Iterator[ScalarRegion]:
    """Regions that end in `root`, the smallest first: one wherever all paths meet in one tensor.

    `position` numbers the ops in topological order. The latest producer of the open tensors is
    taken in until one does not belong.
    """
    shape = graph.type(root.output).shape
    ops: list[Op] = []
    constants: dict[TensorId, float] = {}
    open_tensors = {root.output}
    while open_tensors and len(ops) < LARGEST:
        latest = max(open_tensors, key=lambda t: position.get(t, -1))
        op = graph.producer(latest)
        if op is None or not isinstance(op, Unary | Clamp | Binary):
            return
        for t in op.inputs:
            tensor = graph.tensor(t)
            if tensor.data is not None and tensor.data.size == 1:
                constants[t] = float(tensor.data.reshape(-1)[0])
            elif tensor.data is None and tensor.type.shape == shape:
                open_tensors.add(t)
            else:
                return
        open_tensors.remove(latest)
        ops.insert(0, op)
        if len(open_tensors) == 1:
            (x,) = open_tensors
            yield ScalarRegion(x, tuple(ops), dict(constants))
