"""From an integer graph to kernels: which tensors lie in memory, and which are never stored.

A function of an op gives its result as an expression of its operands. What its reader may read in
place, each element once, stays an expression and becomes the epilogue of a kernel; everything else
gets a kernel and a buffer. The reader says by how it asks for an operand: `stored` or `pointwise`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.tensor import TensorId, TensorType
from qcomp.targets.tvm.api.expressions import Expr
from qcomp.targets.tvm.api.tensors import (
    Tensor,
    compute,
    dtype_of,
    identity,
    is_placeholder,
    is_reduced,
    operands_of,
    placeholder,
    shape_of,
    text_of,
)
from qcomp.targets.tvm.api.tensors import function as function_of
from qcomp.targets.tvm.machine import Machine
from qcomp.targets.tvm.program import (
    ConstantData,
    Input,
    Kernel,
    Launch,
    Output,
    Place,
    Program,
    Scratch,
    planned,
)
from qcomp.targets.tvm.requantize import Factor, uniform
from qcomp.targets.tvm.schedule import scheduled

MOST_OPERANDS = 12  # of a kernel: more become kernels of their own
_KEY_DIGITS = 16  # of a kernel's key: equal texts have equal ones

ComputeOp = Callable[["Builder", Any], Tensor]


@dataclass
class Builder:
    """The state of one graph's way to kernels."""

    graph: Graph
    machine: Machine
    prefix: str
    data: ConstantData = field(init=False)
    launches: list[Launch] = field(default_factory=list)
    _places: dict[Any, Place] = field(default_factory=dict)
    _values: dict[TensorId, Tensor] = field(default_factory=dict)
    _kernels: dict[str, Kernel] = field(default_factory=dict)
    _constants: dict[tuple[Place, tuple[int, ...], str], Tensor] = field(default_factory=dict)
    _scratch: int = 0
    _op: TensorId = ""
    _reducing: TensorId | None = None

    def __post_init__(self) -> None:
        self.data = ConstantData(self.machine.align)
        for n, id in enumerate(self.graph.inputs.values()):
            self._values.setdefault(id, self._at(Input(n), self.graph.type(id)))

    # ------------------------------------------------------------- what ops ask for

    def type(self, id: TensorId) -> TensorType:
        return self.graph.type(id)

    def array(self, id: TensorId) -> NDArray[Any]:
        """Of a constant."""
        return self.graph.data(id)

    def stored(self, id: TensorId) -> Tensor:
        """A tensor in memory, to be read anywhere and often."""
        if id not in self._values:
            return self.constant(self.array(id))
        value = self._values[id]
        if not is_placeholder(value):
            reader, self._op = self._op, id
            value = self._values[id] = self.kernel(value)
            self._op = reader
        return value

    def pointwise(self, id: TensorId, shape: Sequence[int]) -> Tensor:
        """A tensor of which each element is read by one of the result's, at the same indices."""
        value = self._values.get(id)
        if value is None or is_placeholder(value) or shape_of(value) != tuple(shape):
            return self.stored(id)
        if has_reduction(value):
            if self._reducing not in (None, id):  # a kernel has one
                return self.stored(id)
            self._reducing = id
        return value

    def moved(self, id: TensorId) -> Tensor:
        """A tensor of which each element is read at most once, in another order."""
        value = self._values.get(id)
        if value is None or is_placeholder(value) or has_reduction(value):
            return self.stored(id)
        return value

    def constant(self, array: NDArray[Any]) -> Tensor:
        place = self.data.add(array)
        key = (place, array.shape, str(array.dtype))
        if key not in self._constants:
            self._constants[key] = self._new(place, array.shape, str(array.dtype))
        return self._constants[key]

    def factors(self, multiplier: TensorId, shift: TensorId) -> Callable[[Expr], Factor]:
        """The multiplier and shift of a channel."""
        m, s = self.channel(self.array(multiplier)), self.channel(self.array(shift))
        return lambda c: Factor(m(c), s(c))

    def channel(self, values: NDArray[Any]) -> Callable[[Expr], Expr | int]:
        """What a parameter is of a channel; a number where it is one for all."""
        if (one := uniform(values)) is not None:
            return lambda c: one
        tensor = self.constant(values)
        return lambda c: tensor[c]

    def view(self, tensor: Tensor, shape: Sequence[int], dtype: str | None = None) -> Tensor:
        """A stored tensor's bytes under another shape or type."""
        return self._new(self._places[identity(tensor)], shape, dtype or dtype_of(tensor))

    def kernel(self, tensor: Tensor, place: Place | None = None) -> Tensor:
        """A kernel that computes the tensor into memory."""
        if place is None:
            elements = int(np.prod(shape_of(tensor), dtype=np.int64))
            place = Scratch(self._scratch, elements * np.dtype(dtype_of(tensor)).itemsize)
            self._scratch += 1
        operands = placeholders(tensor)
        places = (*(self._places[identity(p)] for p in operands), place)
        self.launches.append(Launch(self._op, self._kernel(operands, tensor), places))
        return self._new(place, shape_of(tensor), dtype_of(tensor))

    # ------------------------------------------------------------- the way

    def add(self, op: Op, function: ComputeOp) -> None:
        """The op's result, stored at once where it is an output or several read it."""
        self._op, self._reducing = op.id, None
        result = function(self, op)
        if not is_placeholder(result):
            if self.graph.sole_consumer(op.output) is None:
                result = self.kernel(result, self._output(op.output))
            elif len(placeholders(result)) > MOST_OPERANDS:
                result = self.kernel(result)
        self._values[op.output] = result

    def program(self) -> Program:
        """After the last op: outputs that are views, inputs or constants are copied."""
        for n, id in enumerate(self.graph.outputs.values()):
            value = self.stored(id)
            if self._places[identity(value)] != Output(n):
                self._op = id
                self.kernel(copied(value), Output(n))
        launches = tuple(self.launches)
        return Program(self.graph, launches, self.data, planned(launches, self.machine.align))

    def _output(self, id: TensorId) -> Output | None:
        found = [n for n, t in enumerate(self.graph.outputs.values()) if t == id]
        return Output(found[0]) if found else None

    def _at(self, place: Place, type: TensorType) -> Tensor:
        return self._new(place, type.shape, str(type.dtype.numpy))

    def _new(self, place: Place, shape: Sequence[int], dtype: str) -> Tensor:
        tensor = placeholder(shape, dtype, len(self._places))
        self._places[identity(tensor)] = place
        return tensor

    def _kernel(self, operands: Sequence[Tensor], result: Tensor) -> Kernel:
        """Equal functions are one kernel."""
        text = text_of(function_of(operands, result))
        if text not in self._kernels:
            name = f"{self.prefix}_{len(self._kernels)}"
            key = hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]
            self._kernels[text] = scheduled(
                lambda: function_of(operands, result), key, name, self.machine
            )
        return self._kernels[text]


def copied(tensor: Tensor) -> Tensor:
    return compute(shape_of(tensor), lambda *i: tensor[i])


def placeholders(tensor: Tensor) -> list[Tensor]:
    """What an expression reads from memory, each once, in the order of reading."""
    return [t for t in within(tensor) if is_placeholder(t)]


def within(tensor: Tensor) -> list[Tensor]:
    """The tensors of an expression, each once."""
    found: dict[Any, Tensor] = {}
    waiting = [tensor]
    while waiting:
        t = waiting.pop()
        if identity(t) not in found:
            found[identity(t)] = t
            waiting += reversed(operands_of(t))
    return [*found.values()]


def has_reduction(tensor: Tensor) -> bool:
    """Whether an expression has a sum or an extreme."""
    return any(is_reduced(t) for t in within(tensor))


Functions = Mapping[type[Op], ComputeOp]
