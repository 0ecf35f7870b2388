"""Constants of a model that is quantized already: its own integers instead of grids for them.

`fake_quant_constant` finds steps for a constant of floats, and its integers with them, in float64.
What a model stores is more: the float32 scale itself, zero points of weights, the integer -128,
biases of more than 24 bits. This pass puts them behind layers with weights, and behind constant
operands of sums and products. A bias that the model has in floats is rounded to steps of the
float32 product of both scales, as ONNX Runtime does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.form import Form
from qcomp.ir.given import GivenIntegers
from qcomp.ir.graph import Graph
from qcomp.ir.ops import FakeQuantConstant, IntegerConstant, Weighted
from qcomp.ir.tensor import Array, DType, Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import operand_qparams

_I32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class TakeGivenIntegers:
    """`given`: by the names of the model's constants; those behind other values are left alone."""

    given: Mapping[str, GivenIntegers]

    name: ClassVar[str] = "take-given-integers"
    needs: ClassVar[Form] = Form.QDQ
    gives: ClassVar[Form] = Form.QDQ

    def run(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if isinstance(op, Weighted):
                self._layer(graph, op, log)
        for op in graph.ops():
            if isinstance(op, FakeQuantConstant) and (found := self._behind(graph, op)) is not None:
                _replace(graph, op, found)

    def _layer(self, graph: Graph, op: Weighted, log: PassLog) -> None:
        weight, bias = graph.producer(op.weight), graph.producer(op.bias)
        if not isinstance(weight, FakeQuantConstant) or not isinstance(bias, FakeQuantConstant):
            return
        if (w := self._behind(graph, weight)) is None:
            log.declined(op.id, "the model has no integers for its weights as they are here")
            return
        b, steps = self._behind(graph, bias), _f32_product(operand_qparams(graph, op.x).scale, w)
        if b is None or not np.allclose(b.scale, steps, rtol=1e-6, atol=0.0):
            b = _rounded(graph.data(bias.x), steps)
        _replace(graph, weight, w)
        _replace(graph, bias, b)
        log.did(f"{op.id}: weights as the model stores them", op=op.id)

    def _behind(self, graph: Graph, op: FakeQuantConstant) -> GivenIntegers | None:
        """The integers of a constant, if the model has any for these very values."""
        tensor = graph.tensor(op.x)
        origin, data = tensor.origin, graph.data(op.x)
        if origin is None or origin.name is None or origin.name not in self.given:
            return None
        return self.given[origin.name].behind(data, origin)


def _f32_product(x_scale: float, weight: GivenIntegers) -> NDArray[np.float64]:
    return np.asarray(np.float32(x_scale) * weight.scale.astype(np.float32), np.float64)


def _rounded(data: Array, steps: NDArray[np.float64]) -> GivenIntegers:
    """A bias [C] in steps [C] or [1]: quotients of float32, half to even."""
    quotients = np.rint(data / steps.astype(np.float32)).astype(np.float64)
    integers = np.clip(quotients, _I32.min, _I32.max).astype(np.int32)
    return GivenIntegers(integers, steps, np.zeros(len(steps), np.int64), 0)


def _replace(graph: Graph, op: FakeQuantConstant, found: GivenIntegers) -> None:
    """By the integers, those without a sign less 128."""
    less = {np.dtype(np.uint8): 2**7, np.dtype(np.uint16): 2**15}.get(found.integers.dtype, 0)
    signed = np.dtype(f"i{found.integers.dtype.itemsize}")
    integers = (found.integers.astype(np.int64) - less).astype(signed)
    zero_point = (found.zero_point - less).astype(np.int8)
    tensor = graph.tensor(op.x)
    origin = tensor.marked(Mark.UNSIGNED) if less else tensor.origin
    hint: TensorId = op.x
    inputs = (
        graph.add_constant(f"{hint}.{DType.of(signed).value}", integers, origin),
        graph.add_constant(f"{hint}.step", found.scale),
        graph.add_constant(f"{hint}.zero_point", zero_point),
    )
    graph.replace_op(IntegerConstant(inputs=inputs, output=op.output, axis=found.axis))
