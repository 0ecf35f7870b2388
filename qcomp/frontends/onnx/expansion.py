"""A node in terms of simpler nodes: the operands of one, and names for the values between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx.helper import make_node

from qcomp.frontends.limits import Refused
from qcomp.frontends.onnx.context import Context
from qcomp.frontends.onnx.grids import given, real
from qcomp.ir.tensor import Array

_NO_ZERO = np.zeros(1, np.int32)
Nodes = list[onnx.NodeProto]
Expansion = Callable[["Source"], Nodes]


class Source:
    """A node: its operands, and names for the values of its expansion."""

    def __init__(self, context: Context, proto: onnx.NodeProto) -> None:
        self.context, self.proto = context, proto

    def input(self, index: int) -> str:
        """The name of an operand, "" where there is none."""
        return str(self.proto.input[index]) if index < len(self.proto.input) else ""

    def constant(self, index: int, what: str) -> Array:
        name = self.input(index)
        if name not in self.context.constants:
            raise Refused(f"{what} must be a constant", "an initializer or constant expression")
        return self.context.constants[name]

    def result(self, index: int) -> str:
        """The name of a result, "" where nothing reads it; Refused where the node has fewer."""
        if index >= len(self.proto.output):
            raise Refused(f"it has no result {index}")
        return str(self.proto.output[index])

    @property
    def output(self) -> str:
        """The name of the first result."""
        return self.result(0)

    def shape(self, index: int) -> tuple[int, ...]:
        """Of an operand."""
        name = self.input(index)
        if not name:
            raise Refused(f"input {index} is missing")
        if name in self.context.sequences:
            raise Refused(f"{name!r} is a sequence", "tensors")
        return self.context.shape(name)

    def number(self, index: int, what: str, default: int | None = None) -> float:
        """An operand with one element, which must be known; `default` where the node lacks it."""
        if not self.input(index) and default is not None:
            return default
        data = self.constant(index, what)
        if data.size != 1 or data.dtype.kind not in "iufb" or not np.isfinite(data).all():
            raise Refused(f"{what} must be one finite number")
        return float(data.reshape(-1)[0])

    def integer(self, name: str, default: int | None = None) -> int:
        """An attribute."""
        for a in self.proto.attribute:
            if a.name == name and a.type == onnx.AttributeProto.INT:
                return int(a.i)
        if default is None:
            raise Refused(f"attribute {name} is missing or no integer")
        return default

    def text(self, name: str, default: str) -> str:
        """An attribute."""
        found = [a.s for a in self.proto.attribute if a.name == name]
        return bytes(found[0]).decode("utf-8", "replace") if found else default

    def given(self, role: str, data: Array) -> str:
        """A constant that the expansion needs; its name."""
        self.context.constants[self.name(role)] = data
        return self.name(role)

    def integers(self, role: str, values: Sequence[int]) -> str:
        """A shape, a list of axes and the like."""
        return self.given(role, np.array(values, np.int64))

    def name(self, role: str) -> str:
        return f"{self.output}.{role}"

    def zero(self, index: int) -> Array:
        """A zero point, 0 where the node has none."""
        return self.constant(index, "the zero point") if self.input(index) else _NO_ZERO

    def real(self, index: int, axis: int) -> str:
        """A constant of integers, with the scale and the zero point behind it, as floats."""
        scale, zero = self.constant(index + 1, "the scale"), self.zero(index + 2)
        return self.floats(f"real{index}", self.constant(index, "the weight"), scale, zero, axis)

    def centered(self, index: int, zero: int, axis: int) -> str:
        """A constant of integers without its zero point."""
        data = self.constant(index, "the weight")
        return self.floats(f"real{index}", data, np.ones(1), self.zero(zero), axis)

    def bias(self, index: int, x_scale: int, w_scale: int) -> str:
        """A bias i32 in steps of the product of two scales."""
        scales = [self.constant(i, "the scale").astype(np.float64) for i in (x_scale, w_scale)]
        data = self.constant(index, "the bias")
        return self.floats("bias", data, scales[0] * scales[1], _NO_ZERO, 0)

    def floats(self, role: str, data: Array, scale: Array, zero: Array, axis: int) -> str:
        """A constant of the real values of integers; its name."""
        name = self.name(role)
        self.context.constants[name] = real(data, scale, zero, axis)
        self.context.integers[name] = given(data, scale, zero, axis)
        return name

    def read(self, index: int) -> tuple[str, onnx.NodeProto]:
        """An activation, dequantized with the operands behind it."""
        name = self.name(f"x{index}")
        operands = [self.input(i) for i in range(index, index + 3) if self.input(i)]
        return name, make_node("DequantizeLinear", operands, [name])

    def written(self, index: int) -> tuple[str, onnx.NodeProto]:
        """The result, quantized with the operands from `index` on."""
        name = self.name("y")
        operands = [name, *(self.input(i) for i in (index, index + 1) if self.input(i))]
        return name, make_node("QuantizeLinear", operands, [self.output])

    def node(
        self, op: str, inputs: Sequence[str], output: str, **changes: object
    ) -> onnx.NodeProto:
        """A node of floats with this one's attributes."""
        made = make_node(op, inputs, [output])
        kept = {a.name for a in made.attribute} | {n for n, v in changes.items() if v is None}
        made.attribute.extend(a for a in self.proto.attribute if a.name not in kept)
        return made
