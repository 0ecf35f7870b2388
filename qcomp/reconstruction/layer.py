"""A layer of a QDQ graph as its reconstruction sees it: read from the graph, and written back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Dequantize, FakeQuantConstant, Weighted
from qcomp.ir.tensor import Mark, constant
from qcomp.passes.events import PassLog
from qcomp.passes.lib.qdq import (
    operand_qparams,
    result_qparams,
    rounded_constant,
    rounding_grid,
    why_not_rounded,
)
from qcomp.quant.grid import Grid
from qcomp.quant.qparams import QParams
from qcomp.quant.scales import pow2_above
from qcomp.quant.weights import certified, snapped_scales

F64 = NDArray[np.float64]
Floats = NDArray[np.floating]


def suitable_layers(
    graph: Graph,
    mark: Mark,
    log: PassLog,
    unwanted: Callable[[Weighted], str | None] = lambda layer: None,
) -> list[Weighted]:
    """Those that a pass may change, in order; for the others the log has the reason."""
    layers = []
    for op in graph.ops():
        if not isinstance(op, Weighted):
            continue
        if reason := _unsuitable(graph, op, mark) or unwanted(op):
            log.skipped(op.id, reason)
        else:
            layers.append(op)
    return layers


def _unsuitable(graph: Graph, layer: Weighted, mark: Mark) -> str | None:
    """The reason why a layer must stay as it is, or None; `mark` is of the pass that asks."""
    if reason := why_not_rounded(graph, layer.weight) or why_not_rounded(graph, layer.bias):
        return reason
    weight, bias = rounded_constant(graph, layer.weight), rounded_constant(graph, layer.bias)
    if not isinstance(graph.producer(layer.x), Dequantize):
        return f"its operand %{layer.x} is not quantized"
    for id in (weight.output, bias.output, weight.scale, bias.scale):
        if graph.sole_consumer(id) is None:
            return f"%{id} has other users"
    for id in (weight.x, bias.x):
        if mark in graph.tensor(id).marks:
            return f"%{id} is done already"
    return None


@dataclass(frozen=True)
class QuantizedLayer:
    """One of the `suitable_layers`; `unrounded` is from the float graph.

    Scales that change are snapped, or powers of two, where the others are.
    """

    graph: Graph
    layer: Weighted
    float_graph: Graph
    snap: bool = False
    power_of_two: bool = False

    @property
    def _weight_op(self) -> FakeQuantConstant:
        return rounded_constant(self.graph, self.layer.weight)

    @property
    def _bias_op(self) -> FakeQuantConstant:
        return rounded_constant(self.graph, self.layer.bias)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The weight's shape, output channels first."""
        return self.graph.type(self.layer.weight).shape

    @property
    def grid(self) -> Grid:
        return rounding_grid(self.graph, self._weight_op)

    @property
    def unrounded(self) -> tuple[F64, F64]:
        """Weight [G, O / G, K] and bias [G, O / G] of the float network."""
        op = self.float_graph.op(self.layer.id)
        assert isinstance(op, Weighted)
        return self._matrices(self.float_graph.data(op.weight), self.float_graph.data(op.bias))

    @property
    def rounded(self) -> F64:
        """The weight as quantized [G, O / G, K]."""
        values = self.grid.values(self.graph.data(self._weight_op.x))
        return self._matrices(values, self.graph.data(self._bias_op.x))[0]

    @property
    def arithmetic(self) -> str:
        """What `adjusted` depends on besides the weight's grid, weight and bias."""
        return f"{self._operand} {self._result} {self.snap} {self.power_of_two}"

    @property
    def _operand(self) -> QParams:
        return operand_qparams(self.graph, self.layer.x)

    @property
    def _result(self) -> QParams:
        return result_qparams(self.graph, self.layer.output)

    def adjusted(self, factor: F64) -> F64:
        """Factors [G, O / G] on the scales as near as the arithmetic allows.

        One scale for all takes the mean; scales are certified, powers of two or snapped, as they
        were to begin with.
        """
        before = self.grid
        op = self.float_graph.op(self.layer.id)
        assert isinstance(op, Weighted)
        weight, bias = self.float_graph.data(op.weight), self.float_graph.data(op.bias)
        x, y = self._operand, self._result
        scale = before.scale * (factor.reshape(-1) if before.scale.size > 1 else factor.mean())
        if self.power_of_two:
            scale = pow2_above(scale / np.sqrt(2.0))
        scale = certified(
            replace(before, scale=scale),
            weight,
            bias,
            x.scale,
            y.scale,
            x_bits=x.bits,
            power_of_two=self.power_of_two,
        ).scale
        if self.snap and 16 not in (x.bits, y.bits):
            scale = snapped_scales(scale, x.scale, y.scale)
        return np.broadcast_to(scale / before.scale, factor.size).reshape(factor.shape)

    def write_weight(self, weight: F64, factor: F64) -> None:
        """Rounded values [G, O / G, K] on a grid whose scales are multiplied by `factor`."""
        grid, weight_op, bias_op = self.grid, self._weight_op, self._bias_op
        scale = grid.scale * (factor.reshape(-1) if grid.scale.size > 1 else factor.flat[0])
        values = weight.reshape(self.kernel).astype(np.float32)
        self.graph.update_tensor(constant(weight_op.scale, scale))
        self.graph.update_tensor(constant(bias_op.scale, scale * self._operand.scale))
        origin = self.graph.tensor(weight_op.x).marked(Mark.FITTED)
        id = self.graph.add_constant(f"{weight_op.x}.fitted", values, origin)
        self.graph.replace_op(weight_op.with_input(0, id))

    def write_bias(self, bias: F64) -> float:
        """The largest move, in real units."""
        op = self._bias_op
        before, after = self.graph.data(op.x), bias.reshape(-1).astype(np.float32)
        origin = self.graph.tensor(op.x).marked(Mark.CORRECTED)
        id = self.graph.add_constant(f"{op.x}.corrected", after, origin)
        self.graph.replace_op(op.with_input(0, id))
        return float(np.abs(after - before).max(initial=0.0))

    def _matrices(
        self, weight: NDArray[np.floating], bias: NDArray[np.floating]
    ) -> tuple[F64, F64]:
        groups = self.layer.groups
        return (
            np.asarray(weight, np.float64).reshape(groups, self.kernel[0] // groups, -1),
            np.asarray(bias, np.float64).reshape(groups, -1),
        )
