"""Give no integers to inputs on which a function is flat.

A value x that only saturating functions read (SiLU, sigmoid, tanh, hard-swish, GELU, ...) often
ranges far into the flat part, and 8 bits over all of it leave few steps where the function bends.
Let y = f(x) have the step s = width / 255 (or 65535, where x and y both have 16 bits). The range of
x shrinks to the smallest [a, b] with

    |f(x) - f(a)| <= s / 2 for x <= a,    |f(x) - f(b)| <= s / 2 for x >= b,

so saturation at a or b costs at most half a step of y. With several readers, the union of their
needs. A minimum or maximum with a constant needs no more than the range of its result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.config import QuantizationConfig
from qcomp.ir.evaluate.unary import FUNCTIONS
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Clamp, Maximum, Minimum, Op, Unary
from qcomp.ir.tensor import Tensor
from qcomp.passes.events import PassLog
from qcomp.passes.lib.same_scale import activation_bits

F64 = NDArray[np.float64]
Range = tuple[float, float]

_GRID = 4097
_WORTHWHILE = 0.02  # the share of the range that must be gained; every cut costs half a step


@dataclass(frozen=True)
class NarrowSaturatedRanges:
    """See the module."""

    name: ClassVar[str] = "narrow-saturated-ranges"
    needs: ClassVar[Form] = Form.ANNOTATED
    gives: ClassVar[Form] = Form.ANNOTATED

    config: QuantizationConfig

    def run(self, graph: Graph, log: PassLog) -> None:
        bits = activation_bits(graph, self.config)
        for tensor in graph.tensors():
            readers = graph.consumers(tensor.id)
            if tensor.is_constant or not any(_can_saturate(graph, op) for op in readers):
                continue
            if reason := _must_stay(graph, tensor, readers):
                log.skipped_tensor(tensor.id, reason)
                continue
            assert tensor.range is not None
            needs = [
                _needs(graph, tensor.range, op, min(bits[tensor.id], bits[op.output]))
                for op in readers
            ]
            low, high = min(n[0] for n in needs), max(n[1] for n in needs)
            width = tensor.range[1] - tensor.range[0]
            if high - low > (1.0 - _WORTHWHILE) * width:
                log.skipped_tensor(tensor.id, "no reader is flat at the ends")
                continue
            graph.update_tensor(replace(tensor, range=(low, high)))
            before = f"[{tensor.range[0]:.4g}, {tensor.range[1]:.4g}]"
            log.did(
                f"{tensor.id}: {before} to [{low:.4g}, {high:.4g}]",
                tensor=tensor.id,
                low=low,
                high=high,
            )


def _can_saturate(graph: Graph, op: Op) -> bool:
    if isinstance(op, Minimum | Maximum):
        return len(graph.activations(op)) == 1
    return isinstance(op, Unary | Clamp)


def _needs(graph: Graph, whole: Range, op: Op, bits: int) -> Range:
    """The part of a range that a reader needs, at so many bits."""
    if isinstance(op, Minimum | Maximum):
        found = graph.tensor(op.output).range
        assert found is not None
        low, high = max(whole[0], found[0]), min(whole[1], found[1])
        return (low, high) if low <= high else whole
    return _needed(whole, _real(op), _tolerance(graph, op, bits))


def _must_stay(graph: Graph, tensor: Tensor, readers: list[Op]) -> str | None:
    """The reason the range must stay, or None."""
    if graph.is_output(tensor.id):
        return "a graph output"
    for op in readers:
        if not _can_saturate(graph, op):
            return f"%{op.id} ({op.mnemonic}) reads all of it"
    return None


def _real(op: Op) -> Callable[[F64], F64]:
    if isinstance(op, Clamp):
        return lambda x: np.clip(x, op.clamp.low, op.clamp.high)
    assert isinstance(op, Unary)
    function = FUNCTIONS[op.function]
    return lambda x: np.asarray(function(x, op.alpha, op.beta), np.float64)


def _tolerance(graph: Graph, op: Op, bits: int) -> float:
    """Half a step of the reader's result, were it of so many bits."""
    found = graph.tensor(op.output).range
    assert found is not None
    width = max(found[1], 0.0) - min(found[0], 0.0)
    return width / float(2**bits - 1) / 2


def _needed(whole: Range, function: Callable[[F64], F64], tolerance: float) -> Range:
    """[a, b] within `whole` outside of which the function moves by at most the tolerance."""
    x = np.linspace(whole[0], whole[1], _GRID)
    with np.errstate(all="ignore"):
        y = function(x)
    if not np.isfinite(y).all():
        return whole
    first = _flat_until(y, tolerance)
    last = _GRID - 1 - _flat_until(y[::-1], tolerance)
    if first >= last:  # constant to within the tolerance
        return whole
    return float(x[first]), float(x[last])


def _flat_until(y: F64, tolerance: float) -> int:
    """The largest i with |y[j] - y[i]| <= tolerance for all j <= i."""
    spread = np.maximum(np.maximum.accumulate(y) - y, y - np.minimum.accumulate(y))
    return int(np.flatnonzero(spread <= tolerance)[-1])
