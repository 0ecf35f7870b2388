"""The state of one import, and the arguments of a rule: one operator and the graph it extends.

Values are those of the file's tensors, by index. Every one is f32 in the graph. In a file of
integers it is one between a dequantize and a quantize, with the parameters of the file; constants
are `integer_constant`s there, which nothing rounds again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qcomp.frontends.limits import Folding, Refused, check_result
from qcomp.frontends.tflite.load import ABSENT, FileModel, FileTensor, Operator
from qcomp.frontends.tflite.quantized import is_activation, qparams_of, real
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    RELU,
    RELU6,
    AveragePool2d,
    ClampRange,
    Dequantize,
    Function,
    IntegerConstant,
    MaxPool2d,
    Movement,
    Op,
    Unary,
)
from qcomp.ir.round_trip import round_trip
from qcomp.ir.tensor import Array, Mark, Origin, TensorId
from qcomp.quant.qparams import QParams

ACTIVATIONS: Sequence[tuple[str, ClampRange | None]] = (
    ("NONE", NO_CLAMP),
    ("RELU", RELU),
    ("RELU_N1_TO_1", ClampRange(-1.0, 1.0)),
    ("RELU6", RELU6),
    ("TANH", None),
    ("SIGN_BIT", None),
)
"""By number; None where it is no clamp."""
_MOST_INTEGERS = 1024  # of axes, pads, shapes and parts


@dataclass
class Context:
    """The state of one import. `lost` are tensors that refused operators would have made."""

    file: FileModel
    graph: Graph
    form: Form
    constants: dict[int, Array] = field(default_factory=dict)
    values: dict[int, TensorId] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    folding: Folding = field(default_factory=Folding)
    converted: dict[str, str] = field(default_factory=dict)
    added: dict[tuple[int, str], TensorId] = field(default_factory=dict)

    def is_quantized(self, index: int) -> bool:
        """Whether the tensor is an activation of integers with a scale."""
        return self.form is Form.QDQ and is_activation(self.file.tensors[index])

    def rounded(self, id: TensorId, qparams: QParams, origin: Origin | None) -> TensorId:
        """quantize, dequantize; the id of the dequantized tensor."""
        return round_trip(self.graph, id, id, qparams, origin)

    def origin(self, tensor: FileTensor, *, named: bool = True) -> Origin:
        """Of an activation's integers; that of a value inside of an operator has no name."""
        origin = Origin(tensor.name if named else None)
        return origin.marked(Mark.UNSIGNED) if tensor.kind == "UINT8" else origin


@dataclass(frozen=True)
class Node:
    """One operator: operands by position, options by name, and ways to add ops for it."""

    context: Context
    op: Operator

    # ------------------------------------------------------------------ asking

    @property
    def graph(self) -> Graph:
        return self.context.graph

    def require(self, condition: bool, reason: str, accepted: str = "") -> None:
        """Refuse this operator unless `condition`."""
        if not condition:
            raise Refused(reason, accepted)

    def has(self, index: int) -> bool:
        return index < len(self.op.inputs) and self.op.inputs[index] != ABSENT

    def tensor(self, index: int) -> FileTensor:
        """An operand as the file has it."""
        self.require(self.has(index), f"operand {index} is missing")
        return self.context.file.tensors[self.op.inputs[index]]

    def result(self, index: int = 0) -> FileTensor:
        self.require(index < len(self.op.outputs), f"result {index} is missing")
        return self.context.file.tensors[self.op.outputs[index]]

    def is_constant(self, index: int) -> bool:
        return self.has(index) and self.op.inputs[index] in self.context.constants

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Of an operand, as the graph has it: the file's may be of another batch."""
        self.require(self.has(index), f"operand {index} is missing")
        at = self.op.inputs[index]
        if at in self.context.constants:
            return self.context.constants[at].shape
        return self.graph.type(self.context.values[at]).shape

    @property
    def quantized(self) -> bool:
        """Whether the operator computes on integers."""
        return self.context.is_quantized(self.op.outputs[0])

    # ----------------------------------------------------------------- options

    def option(self, name: str, default: Any = None) -> Any:
        """One of its options; `default` where the file has no options for it."""
        options = self.op.options
        if options is None and default is not None:
            return default
        if options is None or name not in options:
            raise Refused(f"its options lack {name}; they are {self.op.table or 'none'}")
        return options[name]

    def clamp(self) -> ClampRange:
        """The activation that is fused into it, which must be a clamp."""
        number = int(self.option("fused_activation_function", 0))
        known = 0 <= number < len(ACTIVATIONS)
        name, clamp = ACTIVATIONS[number] if known else (f"{number}", None)
        if clamp is None:
            accepted = ", ".join(n for n, c in ACTIVATIONS if c is not None)
            raise Refused(f"the fused activation {name}", accepted)
        return clamp

    # ---------------------------------------------------------------- operands

    def x(self, index: int = 0) -> TensorId:
        """An operand as an f32 tensor of the graph, constant or not."""
        self.require(self.has(index), f"operand {index} is missing")
        if self.is_constant(index):
            return self.weight(index)
        return self.context.values[self.op.inputs[index]]

    def constant(self, index: int, what: str) -> Array:
        """The elements of an operand that must be known at compile time, as the file has them."""
        self.require(self.is_constant(index), f"{what} must be a constant", "a buffer of the file")
        return self.context.constants[self.op.inputs[index]]

    def integer_list(self, index: int, what: str) -> tuple[int, ...]:
        """A constant operand as integers: axes, pads, a shape."""
        data = self.constant(index, what)
        self.require(data.dtype.kind in "iu", f"{what} must be integers, not {data.dtype}")
        self.require(data.size <= _MOST_INTEGERS, f"{what}: a list of {data.size} integers")
        return tuple(int(v) for v in data.reshape(-1))

    def floats(self, index: int, what: str) -> Array:
        """The real values of a constant operand."""
        data, tensor = self.constant(index, what), self.tensor(index)
        return real(data, tensor) if tensor.quantization is not None else self._f32(index, data)

    def weight(
        self, index: int, layout: str = "", change: Callable[[Array], Array] | None = None
    ) -> TensorId:
        """A constant operand, changed in shape or order; once for each layout.

        Scales per channel are along the first axis then, where the file has any.
        """
        key = self.op.inputs[index], layout
        if key not in self.context.added:
            change = change or _as_it_is
            data, tensor = self.constant(index, "the operand"), self.tensor(index)
            self.require(data.size > 0, "the operand is empty")
            if self.quantized and tensor.quantization is not None:
                made = self._integers(change(data), tensor)
            else:
                origin = Origin(tensor.name)
                if layout:
                    origin = origin.marked(Mark.IMPORTED)
                floats = change(self.floats(index, "the operand"))
                made = self.graph.add_constant(tensor.name, np.ascontiguousarray(floats), origin)
            self.context.added[key] = made
        return self.context.added[key]

    def bias(self, index: int, channels: int, weight: TensorId) -> TensorId:
        """The constant bias of a layer, or zeros."""
        if self.has(index):
            self.require(self.is_constant(index), "the bias must be a constant", "a buffer")
            size = self.constant(index, "the bias").size
            self.require(size == channels, f"a bias of {size} for {channels} channels")
            return self.weight(index, "bias", lambda b: b.reshape(-1))
        zeros = np.zeros(channels, np.float32)
        if not self.quantized:
            return self.graph.add_constant(f"{self.result().name}.bias", zeros)
        scale = self.graph.op(weight).inputs[1]
        none = self.graph.add_constant(f"{weight}.none", zeros.astype(np.int32))
        zero = self.graph.add_constant(
            f"{weight}.zero", np.zeros(self.graph.type(scale).shape, np.int8)
        )
        id = self.graph.fresh_id(f"{self.result().name}.bias")
        return self.graph.add_op(IntegerConstant(inputs=(none, scale, zero), output=id, axis=0))

    def _integers(self, data: Array, tensor: FileTensor) -> TensorId:
        """Bytes without a sign are moved by 128, as activations are."""
        quantization = tensor.quantization
        assert quantization is not None
        zero = quantization.zero_point
        if data.dtype == np.uint8:
            data, zero = (data.astype(np.int16) - 128).astype(np.int8), zero - 128
        accepted = ", ".join(str(np.dtype(t)) for t in (np.int8, np.int16, np.int32, np.int64))
        if data.dtype == np.int64:  # biases of 16-bit activations
            fits = bool((np.abs(data) < 2**31).all())
            self.require(fits, f"{tensor.name!r} has 64-bit integers beyond 32 bits")
            data = data.astype(np.int32)
        known = data.dtype in (np.int8, np.int16, np.int32)
        self.require(known, f"{tensor.name!r} has elements of {data.dtype}", accepted)
        fits = bool((np.abs(zero + 0.5) < 128).all())
        self.require(fits, f"{tensor.name!r} has a zero point beyond 8 bits")
        parts = (data, quantization.scale.astype(np.float64), zero.astype(np.int8))
        hints = (f"{tensor.name}.integers", f"{tensor.name}.scale", f"{tensor.name}.zero_point")
        origins = (Origin(tensor.name), None, None)
        ids = tuple(
            self.graph.add_constant(hint, np.ascontiguousarray(part), origin)
            for hint, part, origin in zip(hints, parts, origins, strict=True)
        )
        id = self.graph.fresh_id(tensor.name)
        return self.graph.add_op(IntegerConstant(inputs=ids, output=id, axis=0))

    def _f32(self, index: int, data: Array) -> Array:
        tensor = self.tensor(index)
        if data.dtype != np.float32:
            self.context.converted[tensor.name] = tensor.kind
            with np.errstate(over="ignore"):
                data = data.astype(np.float32)
        finite = bool(np.isfinite(data).all())
        self.require(finite, f"the constant {tensor.name!r} has NaN or infinity")
        return data

    # ----------------------------------------------------------------- emitting

    def part(self, role: str) -> TensorId:
        """A fresh id for a value inside this operator's expansion."""
        return self.graph.fresh_id(f"{self.result().name}.{role}")

    def out(self, index: int = 0) -> TensorId:
        """A fresh id for a result, by its name."""
        return self.graph.fresh_id(self.result(index).name)

    def add(self, op: Op) -> TensorId:
        """Add an op inside of the expansion; what it makes of integers stays on their grid."""
        id = self._added(op)
        if not self.quantized:
            return id
        source = self.graph.producer(op.inputs[0])
        on_the_grid = isinstance(op, Movement | MaxPool2d | AveragePool2d)
        if not on_the_grid or not isinstance(source, Dequantize):
            raise Refused(f"it takes the steps {op.mnemonic} and more, of floats", "floats")
        qparams = self.graph.tensor(source.x).qparams
        assert qparams is not None
        return self.context.rounded(id, qparams, self.context.origin(self.result(), named=False))

    def finish(self, op: Op, index: int = 0) -> None:
        """Add the op that makes a result."""
        self.give(self._added(op, Origin(self.result(index).name)), index)

    def give(self, id: TensorId, index: int = 0) -> None:
        """`id` is a result, in integers where the file has it so."""
        at = self.op.outputs[index]
        if self.context.is_quantized(at):
            tensor = self.context.file.tensors[at]
            id = self.context.rounded(id, qparams_of(tensor), self.context.origin(tensor))
        self.context.values[at] = id

    def alias(self, id: TensorId, index: int = 0) -> None:
        """`id` is a result as it is: an operator that does nothing here."""
        self.context.values[self.op.outputs[index]] = id

    def finish_unary(self, function: Function, alpha: float = 1.0, beta: float = 0.0) -> None:
        self.finish(
            Unary(inputs=(self.x(),), output=self.out(), function=function, alpha=alpha, beta=beta)
        )

    def _added(self, op: Op, origin: Origin | None = None) -> TensorId:
        id = self.graph.add_op(op, origin)
        check_result(self.graph.type(id))
        return id


def _as_it_is(data: Array) -> Array:
    return data


Rule = Callable[[Node], None]
