"""Give every float activation its real range, tightened by what its producer guarantees.

Ranges come from calibration or from batch-norm statistics. A fused clamp, a softmax or a sigmoid
bounds its result whatever the data, so the range is the intersection of the two: a statistic that
overshoots (mean + 6 std of a ReLU6) would waste levels that can't occur. A normalisation gets how
far its values reach before gamma and beta, of which its own range says little where gammas differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from qcomp.errors import PassError
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    EXCLUDES,
    NO_CLAMP,
    RELU,
    AbsMax,
    Attention,
    Binary,
    Clamp,
    ClampRange,
    Compare,
    Function,
    LogSoftmax,
    Mask,
    Normalize,
    Op,
    ScaleDown,
    ScaleUp,
    Softmax,
    Unary,
    Weighted,
)
from qcomp.ir.tensor import DType, Tensor, TensorId
from qcomp.passes.events import PassLog

_UNIT = ClampRange(0.0, 1.0)
_SIGNED_UNIT = ClampRange(-1.0, 1.0)

_BOUNDED_FUNCTIONS: Mapping[Function, ClampRange] = {
    Function.SIGMOID: _UNIT,
    Function.HARD_SIGMOID: _UNIT,
    Function.TANH: _SIGNED_UNIT,
    Function.ERF: _SIGNED_UNIT,
    Function.SOFTSIGN: _SIGNED_UNIT,
    Function.SIGN: _SIGNED_UNIT,
    Function.SIN: _SIGNED_UNIT,
    Function.COS: _SIGNED_UNIT,
    Function.ATAN: ClampRange(-math.pi / 2.0, math.pi / 2.0),
    Function.EXP: RELU,
    Function.ABS: RELU,
    Function.SQRT: RELU,
    Function.SOFTPLUS: RELU,
}


@dataclass(frozen=True)
class AnnotateRanges:
    """`ranges` has an interval for every f32 input and op result, by tensor id; `reaches` has the
    largest |z| of normalisations that are known.
    """

    name: ClassVar[str] = "annotate-ranges"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.ANNOTATED

    ranges: Mapping[TensorId, tuple[float, float]]
    reaches: Mapping[TensorId, float] = field(default_factory=dict)

    def run(self, graph: Graph, log: PassLog) -> None:
        activations = [
            t for t in graph.tensors() if not t.is_constant and t.type.dtype is DType.F32
        ]
        problems = [p for t in activations if (p := self._problem(t.id)) is not None]
        if problems:
            raise PassError("\n".join(problems))
        for tensor in activations:
            _annotate(graph, tensor, self.ranges[tensor.id], log)
        for op in graph.ops():
            if isinstance(op, Attention):
                _widen_masks(graph, op, log)
            if isinstance(op, Normalize) and self.reaches.get(op.id, 0.0) > 0.0:
                graph.replace_op(replace(op, reach=self.reaches[op.id]))
                log.note(f"%{op.id}: |z| up to {self.reaches[op.id]:.6g}", op=op.id)

    def _problem(self, id: TensorId) -> str | None:
        if id not in self.ranges:
            return f"%{id}: no range; expected one for every f32 input and result"
        low, high = self.ranges[id]
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            return f"%{id}: range ({low}, {high}); expected finite numbers, the lower one first"
        return None


def _annotate(graph: Graph, tensor: Tensor, measured: tuple[float, float], log: PassLog) -> None:
    producer = graph.producer(tensor.id)
    bound = NO_CLAMP if producer is None else guaranteed(producer)
    tight = ClampRange(*measured).intersect(bound)
    range = (float(tight.low), float(tight.high))
    graph.update_tensor(replace(tensor, range=range))
    was = "" if range == measured else f", tightened from ({measured[0]:.6g}, {measured[1]:.6g})"
    log.did(
        f"%{tensor.id}: ({range[0]:.6g}, {range[1]:.6g}){was}",
        tensor=tensor.id,
        low=range[0],
        high=range[1],
    )


def _widen_masks(graph: Graph, op: Attention, log: PassLog) -> None:
    """A mask that excluded nothing on all data may exclude on other data."""
    for kind, id in zip(op.masks, op.mask_operands, strict=True):
        tensor = graph.tensor(id)
        if kind is Mask.ADDED and tensor.range == (0.0, 0.0):
            graph.update_tensor(replace(tensor, range=(2 * EXCLUDES, 0.0)))
            log.did(f"%{id}: a mask that was 0, to ({2 * EXCLUDES:g}, 0)", tensor=id)


def guaranteed(op: Op) -> ClampRange:
    """An interval that contains the op's result for every input."""
    match op:
        case Clamp() | Weighted() | Binary() | Normalize() | ScaleUp():
            return op.clamp
        case LogSoftmax():
            return ClampRange(-math.inf, 0.0)
        case ScaleDown():
            return _SIGNED_UNIT
        case AbsMax():
            return RELU
        case Softmax() | Compare():
            return _UNIT
        case Unary():
            return _BOUNDED_FUNCTIONS.get(op.function, NO_CLAMP)
        case _:
            return NO_CLAMP
