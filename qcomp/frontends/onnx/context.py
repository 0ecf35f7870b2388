"""The arguments of a rule: one node with decoded attributes, and the graph that it extends."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.helper

from qcomp.frontends.limits import Folding, Refused, check_result
from qcomp.ir.given import GivenIntegers
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.saturation import NOT_AT_ALL
from qcomp.ir.tensor import Array, Mark, Origin, TensorId, TensorType
from qcomp.quant.qparams import QParams

_MOST_INTEGERS = 1024  # of axes, pads, shapes and parts

Attribute = (
    int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | onnx.TensorProto
)


@dataclass
class Context:
    """The state of one import; ONNX value names are the keys.

    `lost` has the values that refused nodes would have given, where nothing is known of them.
    """

    graph: Graph
    opset: int
    folder: Path | None
    used: set[str]
    constants: MutableMapping[str, Array] = field(default_factory=dict)
    integers: dict[str, GivenIntegers] = field(default_factory=dict)  # behind constants of floats
    values: MutableMapping[str, TensorId] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)  # constant to the dtype it had
    not_finite: dict[str, None] = field(default_factory=dict)
    masks: dict[str, None] = field(default_factory=dict)  # those that have -inf
    folding: Folding = field(default_factory=Folding)
    added: dict[tuple[str, str], TensorId] = field(default_factory=dict)
    element_types: MutableMapping[str, int] = field(default_factory=dict)  # of what is no float
    sequences: MutableMapping[str, list[str]] = field(default_factory=dict)  # their elements
    looked_up: dict[str, onnx.NodeProto] = field(default_factory=dict)  # rows of integers
    depth: int = 0  # of the subgraph
    quantized: dict[tuple[TensorId, QParams], TensorId] = field(default_factory=dict)
    whole_of: dict[TensorId, TensorId] = field(default_factory=dict)  # what was truncated

    def inner(self, used: set[str]) -> Context:
        """The state inside of a subgraph, which sees the values around it and adds its own."""
        return replace(
            self,
            used=used,
            constants=ChainMap({}, self.constants),
            values=ChainMap({}, self.values),
            lost=set(self.lost),
            element_types=ChainMap({}, self.element_types),
            sequences=ChainMap({}, self.sequences),
            added={},
            depth=self.depth + 1,
        )

    def __contains__(self, name: object) -> bool:
        """Whether the name is that of a value so far."""
        return name in self.constants or name in self.values or name in self.lost

    def bind(self, name: str, inner: Context, source: str) -> None:
        """`name` is what `source` is inside of a subgraph."""
        if source in inner.constants:
            self.constants[name] = inner.constants[source]
        elif source in inner.values:
            self.values[name] = inner.values[source]
            self.element_types[name] = inner.element_type(source)
        elif source in inner.sequences:
            raise Refused(f"a branch gives the sequence {source!r}", "tensors")
        else:
            self.lost.add(name)

    def element_type(self, name: str) -> int:
        """The ONNX element type of any value; activations are floats in the graph."""
        constant = self.constants.get(name)
        if constant is None or name in self.element_types:  # of few bits, in bytes
            return self.element_types.get(name, onnx.TensorProto.FLOAT)
        return int(onnx.helper.np_dtype_to_tensor_dtype(constant.dtype))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of any value; a constant does not enter the graph for it."""
        constant = self.constants.get(name)
        return self.graph.type(self.values[name]).shape if constant is None else constant.shape

    def floats(self, name: str) -> Array:
        """A constant as f32; remembers what was converted and what is not finite."""
        data = self.constants[name]
        if data.dtype == np.bool_:
            return data.astype(np.float32)
        if data.dtype != np.float32:
            self.converted[name] = str(data.dtype)
            with np.errstate(over="ignore"):
                data = data.astype(np.float32)
        if not (data < np.inf).all():
            self.not_finite[name] = None
            return np.zeros_like(data)  # the import fails, but first looks at the other nodes
        if not np.isfinite(data).all():
            self.masks[name] = None
            return np.maximum(data, NOT_AT_ALL)
        return data


@dataclass(frozen=True)
class Node:
    """One ONNX node: operands by position, typed attributes, and ways to add ops for it."""

    context: Context
    proto: onnx.NodeProto
    attributes: Mapping[str, Attribute]

    # ------------------------------------------------------------------ asking

    @property
    def op_type(self) -> str:
        return str(self.proto.op_type)

    @property
    def opset(self) -> int:
        return self.context.opset

    @property
    def graph(self) -> Graph:
        return self.context.graph

    def require(self, condition: bool, reason: str, accepted: str = "") -> None:
        """Refuse this node unless `condition`."""
        if not condition:
            raise Refused(reason, accepted)

    @property
    def arity(self) -> int:
        return len(self.proto.input)

    def has(self, index: int) -> bool:
        return index < len(self.proto.input) and self.proto.input[index] != ""

    def is_constant(self, index: int) -> bool:
        return self.has(index) and self.proto.input[index] in self.context.constants

    def element_type(self, index: int) -> int:
        """The ONNX element type of an operand."""
        return self.context.element_type(self.proto.input[index])

    def unused(self, output: int) -> bool:
        """No node reads the output, and the graph does not return it."""
        names = self.proto.output
        return output >= len(names) or names[output] not in self.context.used

    # ---------------------------------------------------------------- operands

    def x(self, index: int = 0) -> TensorId:
        """An operand as a tensor of the graph; a constant becomes an f32 constant."""
        self.require(self.has(index), f"input {index} is missing")
        name = self.proto.input[index]
        if name in self.context.constants:
            self.require(self.context.constants[name].size > 0, "the operand is empty")
            return self.weight(index, self.context.floats(name), "")
        return self.context.values[name]

    def type(self, index: int = 0) -> TensorType:
        return self.graph.type(self.x(index))

    def shape(self, index: int = 0) -> tuple[int, ...]:
        self.require(self.has(index), f"input {index} is missing")
        return self.context.shape(self.proto.input[index])

    def constant(self, index: int, what: str) -> Array:
        """An operand that must be known at compile time."""
        self.require(
            self.is_constant(index),
            f"{what} must be a constant",
            "an initializer or constant expression",
        )
        return self.context.constants[self.proto.input[index]]

    def floats(self, index: int, what: str = "the operand") -> Array:
        """A constant operand as f32 weights."""
        data = self.constant(index, what)
        self.require(
            data.dtype.kind == "f", f"{what} has element type {data.dtype}", "floating point"
        )
        self.require(data.size > 0, f"{what} is empty")
        return self.context.floats(self.proto.input[index])

    def integer_list(self, index: int, what: str) -> tuple[int, ...]:
        """A constant operand as integers: axes, pads, a shape."""
        data = self.constant(index, what)
        self.require(data.dtype.kind in "iu" and data.ndim <= 1, f"{what} must be integers")
        self.require(data.size <= _MOST_INTEGERS, f"{what}: a list of {data.size} integers")
        return tuple(int(v) for v in data.reshape(-1))

    def scalar(self, index: int, what: str) -> float:
        """A constant operand with one element."""
        data = self.constant(index, what)
        self.require(data.size == 1 and data.dtype.kind in "iufb", f"{what} must be one number")
        return float(data.reshape(-1)[0])

    # -------------------------------------------------------------- attributes

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise Refused(f"attribute {name} is missing or no integer")
        return value

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self.attributes.get(name, default)
        if not isinstance(value, tuple):
            raise Refused(f"attribute {name} is missing or no list of integers")
        return tuple(int(v) for v in value)

    def number(self, name: str, default: float) -> float:
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise Refused(f"attribute {name} is no number")
        return float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self.attributes.get(name)
        if not isinstance(value, tuple):
            raise Refused(f"attribute {name} is missing or no list of numbers")
        return tuple(float(v) for v in value)

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise Refused(f"attribute {name} is no string")
        return value

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self.attributes.get(name, default)
        if not (isinstance(value, tuple) and all(isinstance(v, str) for v in value)):
            raise Refused(f"attribute {name} is no list of strings")
        return tuple(map(str, value))

    # ----------------------------------------------------------------- emitting

    def weight(self, index: int, data: Array, layout: str) -> TensorId:
        """A constant made from an operand; the same operand in the same layout is added once."""
        name = self.proto.input[index]
        key = (name, layout)
        if key not in self.context.added:
            origin = _origin(name, self.context.constants[name], data)
            self.context.added[key] = self.graph.add_constant(name, data, origin)
        return self.context.added[key]

    def new_constant(self, role: str, data: Array) -> TensorId:
        """A constant that no ONNX value names, such as a missing bias."""
        return self.graph.add_constant(f"{self._output_name(0)}.{role}", data)

    def out(self, index: int = 0) -> TensorId:
        """The id of a result: the ONNX value's name."""
        name = self._output_name(index)
        if name not in self.context.values:
            self.context.values[name] = self.graph.fresh_id(name)
        return self.context.values[name]

    def part(self, role: str) -> TensorId:
        """A fresh id for a value inside this node's expansion."""
        return self.graph.fresh_id(f"{self._output_name(0)}.{role}")

    def add(self, op: Op) -> TensorId:
        """Add an op; refuses results that no machine could hold."""
        named = [n for n in self.proto.output if self.context.values.get(n) == op.output]
        id = self.graph.add_op(op, Origin(named[0]) if named else None)
        check_result(self.graph.type(id))
        return id

    def alias(self, tensor: TensorId, index: int = 0) -> None:
        """The result is `tensor` itself: an operator that does nothing here."""
        self.context.values[self._output_name(index)] = tensor

    def empty(self, shape: tuple[int, ...], index: int = 0) -> None:
        """The result has no elements, which is a constant."""
        self.context.constants[self._output_name(index)] = np.zeros(shape, np.float32)

    def _output_name(self, index: int) -> str:
        return str(self.proto.output[index])


def _origin(name: str, source: Array, data: Array) -> Origin:
    """Of a constant that a rule took as it is, with its axes moved, or computed from."""
    orders = (tuple(range(source.ndim)), (1, 0), (0, 2, 1), (0, 2, 3, 1))
    moves = [p for p in orders if len(p) == source.ndim and source.size == data.size]
    for permutation in moves:
        moved = source.transpose(permutation)
        if moved.shape == data.shape and np.array_equal(moved, data):
            return Origin(name).permuted(permutation)
    for permutation in moves:
        if np.array_equal(source.transpose(permutation).reshape(data.shape), data):
            return Origin(name).permuted(permutation).marked(Mark.RESHAPED)
    return Origin(name).marked(Mark.IMPORTED)


Rule = Callable[[Node], None]
