"""Builds a TensorFlow Lite model of integers: tensors, buffers and operators by number.

In a QDQ graph every float that an op reads is `dequantize` of an integer tensor, or a constant that
stands for integers, and every result is read by a `quantize`. An operator of the file computes on
the integers themselves. Where its operands and its result differ in width, operands of 8 bits are
written with 16 first, which changes no value, and a result of 16 is written with 8 behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from qcomp.errors import UnsupportedOp
from qcomp.exporters.tflite.integers import (
    Integers,
    computed_in,
    fused,
    in_bits,
    interval,
    stored,
)
from qcomp.exporters.tflite.operators import version_of
from qcomp.formats.tflite import ELEMENT_TYPES, OPERATORS, OPTIONS
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    NO_CLAMP,
    ClampRange,
    Dequantize,
    Op,
    Quantize,
    QuantizedConstant,
)
from qcomp.ir.tensor import Array, TensorId
from qcomp.ir.text import format_op
from qcomp.quant.qparams import INTEGERS, QParams, integer_range, quantize

_KINDS: Mapping[str, str] = {
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}
_TABLES: Mapping[str, int] = {name: number for number, name in OPTIONS.items()}


@dataclass
class Writer:
    """What is written so far."""

    graph: Graph
    tensors: list[dict[str, Any]] = field(default_factory=list)
    buffers: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    codes: list[dict[str, Any]] = field(default_factory=list)
    operators: list[dict[str, Any]] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)
    _values: dict[TensorId, int] = field(default_factory=dict)
    _wide: dict[int, int] = field(default_factory=dict)  # of 8 bits, written with 16
    _literals: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _absorbed: set[TensorId] = field(default_factory=set)

    # ----------------------------------------------------------------- tensors

    def tensor(
        self, name: str, shape: Sequence[int], dtype: Any, quantization: Mapping[str, Any] | None
    ) -> int:
        kind = ELEMENT_TYPES.index(_KINDS[np.dtype(dtype).name])
        record = {"name": name, "shape": list(shape), "type": kind, "quantization": quantization}
        self.tensors.append(record)
        return len(self.tensors) - 1

    def activation(self, name: str, shape: Sequence[int], q: QParams) -> int:
        scale = {"scale": [q.scale], "zero_point": [q.zero_point]}
        return self.tensor(name, shape, INTEGERS[q.bits], scale)

    def constant(
        self, name: str, data: Array, quantization: Mapping[str, Any] | None = None
    ) -> int:
        index = self.tensor(name, data.shape, data.dtype, quantization)
        self.buffers.append({"data": np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)})
        self.tensors[index]["buffer"] = len(self.buffers) - 1
        return index

    def integers(self, name: str, values: Integers) -> int:
        """A constant of a file, with its scales."""
        zero = [values.zero_point] * values.scale.size
        scale = {"scale": values.scale.astype(np.float32), "zero_point": zero}
        return self.constant(name, values.data, {**scale, "quantized_dimension": values.axis})

    def numbers(self, values: ArrayLike) -> int:
        """A shape, a list of axes and the like; equal ones share a tensor."""
        data = np.asarray(values, np.int32)
        key = (data.shape, data.tobytes())
        if key not in self._literals:
            self._literals[key] = self.constant(f"numbers.{len(self.tensors)}", data)
        return self._literals[key]

    def literal(self, real: Array, q: QParams) -> int:
        """A constant that is rounded with the parameters of a tensor that it meets."""
        data = quantize(np.asarray(real, np.float32), q)
        key = (data.dtype.str, data.shape, data.tobytes(), q.scale, q.zero_point)
        if key not in self._literals:
            values = Integers(data, np.array([q.scale]), zero_point=q.zero_point)
            self._literals[key] = self.integers(f"constant.{len(self.tensors)}", values)
        return self._literals[key]

    # ------------------------------------------------------------------ values

    def define(self, id: TensorId, index: int) -> None:
        """Say which tensor of the file a value is, be it as a float or as integers."""
        self._values[id] = index

    def value(self, id: TensorId) -> int:
        """The tensor of the file that a value is."""
        return self._values[id]

    def absorb(self, op: Op) -> None:
        """Say that another op writes what this one does."""
        self._absorbed.add(op.output)

    def is_absorbed(self, id: TensorId) -> bool:
        return id in self._absorbed

    def parameters(self, id: TensorId) -> QParams:
        """Of a float: those that it was dequantized from, or is quantized to first."""
        return self.qparams(id) if self.is_activation(id) else self._first_quantized(id)

    def shape(self, id: TensorId) -> tuple[int, ...]:
        return self.graph.type(id).shape

    def require(self, op: Op, condition: bool, reason: str, accepted: str) -> None:
        """Refuse the op, by its line, unless `condition`."""
        if not condition:
            line = format_op(self.graph, op)
            raise UnsupportedOp([f"{line}\n  TFLite: {reason}; accepted: {accepted}"])

    def is_activation(self, id: TensorId) -> bool:
        return isinstance(self.graph.producer(id), Dequantize)

    def qparams(self, id: TensorId) -> QParams:
        """Of an operand that is dequantized."""
        producer = self.graph.producer(id)
        q = self.graph.tensor(producer.x).qparams if isinstance(producer, Dequantize) else None
        if q is None:
            raise UnsupportedOp([f"%{id} is not dequantized; expected a graph in form qdq"])
        return q

    def result_qparams(self, op: Op) -> QParams:
        """What the op's result is quantized to first."""
        return self._first_quantized(op.output)

    def _first_quantized(self, id: TensorId) -> QParams:
        for reader in self.graph.consumers(id):
            if isinstance(reader, Quantize):
                q = self.graph.tensor(reader.output).qparams
                if q is not None:
                    return q
        raise UnsupportedOp([f"%{id} is not quantized; expected a graph in form qdq"])

    def bits(self, op: Op) -> int:
        """The width that the op is computed in: the widest of its operands and its result."""
        read = [self.qparams(t).bits for t in op.inputs if self.is_activation(t)]
        return max([*read, self.result_qparams(op).bits])

    def operand(self, id: TensorId, bits: int, like: QParams | None = None) -> int:
        """The tensor that an op of this width reads; `like`: the parameters of plain constants."""
        producer = self.graph.producer(id)
        if isinstance(producer, Dequantize):
            index = self.value(producer.x)
            return self._widened(index, id) if bits > self.qparams(id).bits else index
        if isinstance(producer, QuantizedConstant):
            values = stored(self.graph, producer)
            kept = values.data.astype(INTEGERS[bits])
            moved = Integers(kept, values.scale, values.axis, values.zero_point)
            return self.integers(id, moved)
        if like is None or not self.graph.is_constant(id):
            raise UnsupportedOp([f"%{id} is not quantized; expected a graph in form qdq"])
        return self.literal(self.graph.data(id), like)

    def _widened(self, index: int, id: TensorId) -> int:
        """An i8 tensor in 16 bits of the same scale, with every value as it was."""
        if index not in self._wide:
            q = in_bits(self.qparams(id), 16)
            wide = self.activation(f"{self.tensors[index]['name']}.wide", self.shape(id), q)
            self.emit("QUANTIZE", [index], [wide], bits=16)
            self._wide[index] = wide
        return self._wide[index]

    # --------------------------------------------------------------- operators

    def emit(
        self,
        operator: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        bits: int = 8,
        table: str | None = None,
        **options: Any,
    ) -> None:
        """Append an operator; `table` names its options."""
        version = version_of(operator, bits)
        if operator not in self._codes:
            self._codes[operator] = len(self.codes)
            number = OPERATORS.index(operator)
            self.codes.append(
                {"deprecated_builtin_code": min(number, 127), "builtin_code": number, "version": 0}
            )
        code = self.codes[self._codes[operator]]
        code["version"] = max(code["version"], version)
        record: dict[str, Any] = {
            "opcode_index": self._codes[operator],
            "inputs": list(inputs),
            "outputs": list(outputs),
        }
        if table is not None:
            record |= {"builtin_options_type": _TABLES[table], "builtin_options": options}
        self.operators.append(record)

    def through(
        self, operator: str, x: int, shape: Sequence[int], q: QParams, *more: int, **options: Any
    ) -> int:
        """A result between, with these parameters, of an operator that reads x first."""
        y = self.activation(f"{operator.lower()}.{len(self.tensors)}", shape, q)
        self.emit(operator, [x, *more], [y], bits=q.bits, **options)
        return y

    def finish(
        self,
        op: Op,
        operator: str,
        inputs: Sequence[int],
        *,
        bits: int | None = None,
        gives: QParams | None = None,
        clamp: ClampRange = NO_CLAMP,
        fuses: bool = False,
        **options: Any,
    ) -> None:
        """Append the operator whose result the op's is.

        gives: the parameters that the operator fixes, where it does; the result is requantized.
        fuses: whether its options name an activation, for the clamp.
        """
        width = self.bits(op) if bits is None else bits
        made, low, high = self.plan(op, width, clamp, gives)
        if fuses:
            number = fused(low, high, made)
            options["fused_activation_function"] = number or 0
            if number is not None:
                low, high = integer_range(made.bits)
        y = self.activation(op.output, self.shape(op.output), made)
        self.emit(operator, inputs, [y], bits=width, **options)
        self.settle(op, y, made, low, high)

    def plan(
        self, op: Op, bits: int, clamp: ClampRange = NO_CLAMP, gives: QParams | None = None
    ) -> tuple[QParams, int, int]:
        """The parameters in which the op is computed, and what its integers are clamped to."""
        wanted = self.result_qparams(op)
        made = gives or computed_in(wanted, bits)
        return made, *interval(clamp, made, wanted)

    def settle(
        self, op: Op, y: int, made: QParams, low: int | None = None, high: int | None = None
    ) -> None:
        """The op's result from one of these parameters, clamped to [low, high] of its integers."""
        wanted, shape = self.result_qparams(op), self.shape(op.output)
        least, most = integer_range(made.bits)
        for operator, bound, idle in (("MAXIMUM", low, least), ("MINIMUM", high, most)):
            if bound is not None and bound != idle:
                real = np.array(made.scale * (bound - made.zero_point), np.float32)
                y = self.through(operator, y, shape, made, self.literal(real, made))
        if (made.scale, made.zero_point, made.bits) != (
            wanted.scale,
            wanted.zero_point,
            wanted.bits,
        ):
            y = self.through("QUANTIZE", y, shape, wanted)
        self.define(op.output, y)
