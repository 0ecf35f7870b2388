"""Give no integers to values that no reader tells apart.

A value x that only saturating functions read (SiLU, sigmoid, tanh, hard-swish, GELU, ...) often
ranges far into the flat part, and 8 bits over all of it leave few steps where the function bends.
Let y = f(x) have the step s = width / 255 (or 65535, where x and y both have 16 bits). The range of
x shrinks to the smallest [a, b] with

    |f(x) - f(a)| <= s / 2 for x <= a,    |f(x) - f(b)| <= s / 2 for x >= b,

so saturation at a or b costs at most half a step of y. With several readers, the union of their
needs. A minimum or maximum needs no more than the range of its result. Sums, products with a factor
of one sign, and what copies values need no more than is left of a result that was narrowed. Others
saturate at their ranges too; as these are estimates, that counts where it halves what is needed, as
of a mask beside scores. Constants are clipped likewise.

What an op needs is its row of qcomp.ir.saturation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from qcomp.config import QuantizationConfig
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Op
from qcomp.ir.saturation import SEEN, WHOLE, Interval, Reading, seen
from qcomp.ir.tensor import DType, Mark, Tensor, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.same_scale import activation_bits

_WORTHWHILE = 0.02  # the share of the range that must be gained; every cut costs half a step
_HALF = 0.5


@dataclass(frozen=True)
class NarrowSaturatedRanges:
    """See the module."""

    name: ClassVar[str] = "narrow-saturated-ranges"
    needs: ClassVar[Form] = Form.ANNOTATED
    gives: ClassVar[Form] = Form.ANNOTATED

    config: QuantizationConfig

    def run(self, graph: Graph, log: PassLog) -> None:
        narrowing = _Narrowing(graph, activation_bits(graph, self.config), log)
        for op in reversed(graph.ops()):
            narrowing.narrow(op.output)
        for id in graph.inputs.values():
            narrowing.narrow(id)
        for op in graph.ops():
            narrowing.clip_constants(op)


@dataclass
class _Narrowing:
    """`narrowed` are the tensors that were."""

    graph: Graph
    bits: dict[TensorId, int]
    log: PassLog
    narrowed: set[TensorId] = field(default_factory=set)

    def narrow(self, id: TensorId) -> None:
        """Narrow the range of an activation to the union of its readers' needs."""
        tensor, readers = self.graph.tensor(id), self.graph.consumers(id)
        if tensor.range is None or not readers:
            return
        needs = {op: self._need(op, id) for op in readers}
        low, high = min(n[0] for n in needs.values()), max(n[1] for n in needs.values())
        if reason := self._must_stay(tensor, needs):
            self.log.skipped_tensor(id, reason)
        elif high - low <= (1.0 - _WORTHWHILE) * _width(tensor.range):
            self.narrowed.add(id)
            self.graph.update_tensor(replace(tensor, range=(low, high)))
            before = f"[{tensor.range[0]:.4g}, {tensor.range[1]:.4g}]"
            message = f"{id}: {before} to [{low:.4g}, {high:.4g}]"
            self.log.did(message, tensor=id, low=low, high=high)

    def clip_constants(self, op: Op) -> None:
        """Constants of an op need no more of their values than its result does."""
        if not self._saturates(op):
            return
        for index, id in enumerate(op.inputs):
            if self.graph.is_constant(id) and self.graph.type(id).dtype is DType.F32:
                self._clip(op, index)

    def _clip(self, op: Op, index: int) -> None:
        id = op.inputs[index]
        data = self.graph.data(id)
        whole, (low, high) = self._interval(id), self._seen(op, index)
        if (low, high) == whole or high - low > (1.0 - _WORTHWHILE) * _width(whole):
            return
        origin = self.graph.tensor(id).marked(Mark.CLAMPED)
        clipped = np.clip(data, np.float32(low), np.float32(high))
        new = self.graph.add_constant(f"{id}.clipped", clipped, origin)
        self.graph.replace_op(self.graph.op(op.id).with_input(index, new))
        self.log.note(f"{id}: clipped to [{low:.4g}, {high:.4g}] for %{op.id}", op=op.id)

    def _must_stay(self, tensor: Tensor, needs: Mapping[Op, Interval]) -> str | None:
        """The reason why a range stays that some reader does not need all of, or None."""
        if all(need == tensor.range for need in needs.values()):
            return None
        if self.graph.is_output(tensor.id):
            return "a graph output"
        whole = (op for op, need in needs.items() if need == tensor.range)
        return next((f"%{op.id} ({op.mnemonic}) reads all of it" for op in whole), None)

    def _need(self, op: Op, id: TensorId) -> Interval:
        """The union of what an op needs of a tensor at each place where it reads it."""
        if not self._saturates(op):
            return self._interval(id)
        needs = [self._seen(op, i) for i, t in enumerate(op.inputs) if t == id]
        return min(n[0] for n in needs), max(n[1] for n in needs)

    def _seen(self, op: Op, index: int) -> Interval:
        """What an op tells apart of one operand."""
        reading = self._reading(op, index)
        need, saturated = seen(op, reading), seen(op, replace(reading, needed=reading.result))
        use = op.output in self.narrowed or _width(saturated) <= _HALF * _width(need)
        return saturated if use else need

    def _saturates(self, op: Op) -> bool:
        """Whether an op may leave something out; one that is kept in floats reads all."""
        return type(op) in SEEN and not self.graph.is_kept(op)

    def _reading(self, op: Op, index: int) -> Reading:
        """The tolerance is half a step of the result, were it as coarse as the operand."""
        result = self._interval(op.output)
        bits = min(self.bits.get(op.inputs[index], 8), self.bits[op.output])
        width = max(result[1], 0.0) - min(result[0], 0.0)
        return Reading(
            index=index,
            operands=tuple(self._interval(t) for t in op.inputs),
            result=result,
            needed=WHOLE,
            tolerance=width / float(2**bits - 1) / 2,
        )

    def _interval(self, id: TensorId) -> Interval:
        tensor = self.graph.tensor(id)
        if tensor.data is not None:
            return float(tensor.data.min()), float(tensor.data.max())
        assert tensor.range is not None
        return tensor.range


def _width(interval: Interval) -> float:
    return interval[1] - interval[0]
