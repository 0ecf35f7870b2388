"""Where an integer op goes: what its rule asks the graph for, and puts into it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcomp.errors import PassError
from qcomp.ir import ops
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.passes.qdq import quantized_operand, rounding_grid
from qcomp.quant.binary_constants import I32_LANES, I64_LANES, Lanes
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.quant.qparams import INTEGERS, QParams, integer_range, quantize


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
        if isinstance(producer, ops.FakeQuantConstant):
            data, scale = self.fake_quant(producer)
            if scale.size != 1:
                raise PassError(f"%{tensor} has a scale per channel; expected one for all")
            bits = 8 if producer.bits <= 8 else 16
            qparams = QParams(float(scale[0]), 0, *integer_range(bits))
            return self.constant(producer.x, data.astype(INTEGERS[bits])), qparams
        id = quantized_operand(self.graph, tensor)
        found = self.graph.tensor(id).qparams
        assert found is not None
        return id, found

    def same_scale_operand(self, tensor: TensorId) -> TensorId:
        """An operand in the result's scale; a constant is quantized to it."""
        if self.graph.is_constant(tensor):
            return self.constant(tensor, quantize(self.graph.data(tensor), self.qparams))
        return quantized_operand(self.graph, tensor)

    def fake_quant(self, op: ops.FakeQuantConstant) -> tuple[Array, Array]:
        """The integers and the scales."""
        return rounding_grid(self.graph, op).integers(self.graph.data(op.x)), self.graph.data(
            op.scale
        )

    def constant(self, hint: TensorId, data: Array) -> TensorId:
        """A constant of the op's integers; the hint may be the tensor that they stand for."""
        origin = self.graph.tensor(hint).origin if hint in self.graph else None
        return self.graph.add_constant(f"{hint}.{DType.of(data.dtype).value}", data, origin)

    def saturation(self, clamp: ops.ClampRange) -> tuple[int, int]:
        """[qmin, qmax] of the result after the clamp; low and high round to the nearest step."""
        q = self.qparams
        limits = []
        for bound, limit in ((clamp.low, q.qmin), (clamp.high, q.qmax)):
            if math.isfinite(bound):
                limit = int(np.clip(np.rint(bound / q.scale) + q.zero_point, q.qmin, q.qmax))
            limits.append(limit)
        return limits[0], limits[1]

    def requantize(self, form: Form, clamp: ops.ClampRange = ops.NO_CLAMP) -> Requantize:
        q = self.qparams
        return Requantize(form, q.zero_point, *self.saturation(clamp), bits=q.bits)

    def lanes(self, *operands: QParams) -> Lanes:
        """Of an elementwise op on these operands: 64 bits wherever 16-bit values come or go."""
        return I64_LANES if self.is_wide(*operands) else I32_LANES

    def is_wide(self, *operands: QParams) -> bool:
        """Whether an operand or the result has 16 bits."""
        return 16 in (self.qparams.bits, *(q.bits for q in operands))
