"""Where an integer op goes: what its rule asks the graph for, and puts into it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, DType, Mark, TensorId
from qcomp.passes.lib.qdq import quantized_operand, stored
from qcomp.quant.binary_constants import I32_LANES, I64_LANES, SUM_LANES, Lanes
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import INTEGERS, QParams, integer_range, quantize

Steps = Callable[[float, float], float]
"""How many steps of a scale, the second, a bound is: a whole number."""


def nearest_steps(bound: float, scale: float) -> float:
    return float(np.rint(bound / scale))


@dataclass
class Site:
    """Where an integer op goes; `remark` ends the log line."""

    graph: Graph
    output: TensorId
    remark: str = ""

    @property
    def qparams(self) -> QParams:
        found = self.graph.tensor(self.output).qparams
        assert found is not None
        return found

    def operand(self, tensor: TensorId) -> tuple[TensorId, QParams]:
        """The integer tensor behind an operand, with its qparams; constants are quantized here."""
        producer = self.graph.producer(tensor)
        if isinstance(producer, ops.QuantizedConstant):
            return self._constant_operand(producer)
        id = quantized_operand(self.graph, tensor)
        found = self.graph.tensor(id).qparams
        assert found is not None
        return id, found

    def _constant_operand(self, op: ops.QuantizedConstant) -> tuple[TensorId, QParams]:
        """The integers, in the width of the grid or of the type that they were given in."""
        found = stored(self.graph, op)
        if found.scale.size != 1:
            raise PassError(f"%{op.output} has a scale per channel; expected one for all")
        given = self.graph.type(op.x).dtype
        bits = op.bits if isinstance(op, ops.FakeQuantConstant) else 8 * given.bytes
        if bits > 16:
            raise PassError(f"%{op.output} has integers of {bits} bits; expected 8 or 16")
        width = 8 if bits <= 8 else 16
        scale, zero_point = float(found.scale[0]), int(found.zero_point[0])
        qparams = QParams(scale, zero_point, *integer_range(width))
        return self.constant(op.x, found.integers.astype(INTEGERS[width])), qparams

    def same_scale_operand(self, tensor: TensorId) -> TensorId:
        """An operand in the result's scale; a constant is quantized to it."""
        if self.graph.is_constant(tensor):
            return self.constant(tensor, quantize(self.graph.data(tensor), self.qparams))
        return quantized_operand(self.graph, tensor)

    def constant(self, hint: TensorId, data: Array) -> TensorId:
        """A constant of the op's integers; the hint may be the tensor that they stand for."""
        origin = self.graph.tensor(hint).origin if hint in self.graph else None
        return self.graph.add_constant(f"{hint}.{DType.of(data.dtype).value}", data, origin)

    def is_unsigned(self, tensor: TensorId) -> bool:
        """Whether the model has the tensor in bytes without a sign."""
        return Mark.UNSIGNED in self.graph.tensor(tensor).marks

    def saturation(self, clamp: ops.ClampRange, steps: Steps = nearest_steps) -> tuple[int, int]:
        """[qmin, qmax] of the result after the clamp, whose ends are so many steps of the scale."""
        q = self.qparams
        limits = []
        for bound, limit in ((clamp.low, q.qmin), (clamp.high, q.qmax)):
            if math.isfinite(bound):
                limit = int(np.clip(steps(bound, q.scale) + q.zero_point, q.qmin, q.qmax))
            limits.append(limit)
        return limits[0], limits[1]

    def requantize(self, form: Form, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
        q = self.qparams
        return Requantize(form, q.zero_point, *self.saturation(clamp), bits=q.bits)

    def lanes(self, *operands: QParams) -> Lanes:
        """Lanes of an elementwise op: of 64 bits where an operand or the result has more than 8."""
        if any(q.bits == 32 for q in operands):
            return SUM_LANES
        return I64_LANES if self.is_wide(*operands) else I32_LANES

    def is_wide(self, *operands: QParams) -> bool:
        """Whether an operand or the result has 16 or 32 bits."""
        return any(q.bits > 8 for q in (self.qparams, *operands))


IntegerRule = Callable[[Site, Any], ops.Op]
