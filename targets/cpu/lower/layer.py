"""What convolutions and dense layers share: the parameters of the epilogue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.ops import QDense, QWeighted
from qcomp.ir.tensor import Array
from qcomp.quant.fixed_point import AWAY_LOW_BITS, Form, Requantize
from qcomp.targets.cpu.emit.requantize import AWAY_SHIFT_BITS, UNCLAMPED
from qcomp.targets.cpu.kernels.constants import header
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.storage import BIAS


def folded_bias(
    weight: Array, bias: Array, shift: Array, x_zero_point: int, q: Requantize
) -> NDArray[np.int32]:
    """bias - x_zero_point * sum(w), and the narrow form's rounding; certified to fit i32."""
    sums = weight.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    folded = bias.astype(np.int64) - x_zero_point * sums
    if q.form is Form.NARROW:
        folded += np.where(shift > 0, np.int64(1) << np.maximum(shift.astype(np.int64) - 1, 0), 0)
    result: NDArray[np.int32] = folded.astype(np.int32)
    return result


def epilogue_tables(lowering: Lowering, op: QWeighted, weight: Array) -> list[NDArray[np.int32]]:
    """The parameters of the epilogue: bias, multiplier, shift and, where one is fused, ceiling."""
    graph = lowering.graph
    shift = graph.data(op.shift)
    stored = op.x_zero_point + (BIAS if lowering.place(op.x).base.unsigned else 0)
    bias = folded_bias(weight, graph.data(op.bias), shift, stored, op.requantize)
    tables = [bias, *_stored_factors(op.form, graph.data(op.multiplier), shift)]
    ceiling = lowering.ceilings.get(op.id)
    return [*tables, ceiling.values] if ceiling else tables


def _stored_factors(form: Form, multiplier: Array, shift: Array) -> list[NDArray[np.int32]]:
    """Those of AWAY in words too: the low bits of its multiplier stand above its shift."""
    if form is not Form.AWAY:
        return [multiplier, shift]
    low = multiplier & ((1 << AWAY_LOW_BITS) - 1)
    stored = shift - AWAY_LOW_BITS + (low << AWAY_SHIFT_BITS)
    return [(multiplier >> AWAY_LOW_BITS).astype(np.int32), stored.astype(np.int32)]


def layer_header(lowering: Lowering, op: QWeighted) -> NDArray[np.int32]:
    """The constants of the epilogue, with those of what is fused into it."""
    residual = lowering.residuals.get(op.id)
    lookup = lowering.lookups.get(op.id)
    return header(
        op.requantize,
        residual.addition if residual else None,
        lowering.isa.machine.tables.data(lookup.table) if lookup else None,
    )


def clamps(lowering: Lowering, op: QWeighted) -> bool:
    """Whether the kernel has to limit results beyond what i8 does."""
    residual = lowering.residuals.get(op.id)
    last = residual.addition if residual else op.requantize
    knows = op.form in UNCLAMPED or (lowering.isa.machine.unclamped and op.form is Form.NARROW)
    return not knows or (last.qmin, last.qmax) != (-128, 127)


def rectifies(lowering: Lowering, op: QWeighted) -> bool:
    """Whether the kernel may take results for unsigned bytes, less 128."""
    residual = lowering.residuals.get(op.id)
    last = residual.addition if residual else op.requantize
    knows = lowering.isa.machine.unclamped and op.form is Form.NARROW
    return knows and last.zero_point == -128


def shifts_right(lowering: Lowering, op: QWeighted) -> bool:
    """Whether no factor of the form tflite is 1/2 or more, so that every sum is rounded twice."""
    return op.form is Form.TFLITE and bool((lowering.graph.data(op.shift) < 0).all())


def other_strides(lowering: Lowering, op: QDense) -> tuple[int, ...]:
    """How the operand of a fused residual addition steps along the axes of the result."""
    residual = lowering.residuals.get(op.id)
    if residual is None:
        return (0,) * lowering.graph.type(op.output).rank
    return lowering.place(residual.other).layout.strides
