"""Scale channels between linear layers so that integers put the least noise on the results.

    y = W2 f(W1 x + b1) + b2 = (W2 S) f(S^-1 W1 x + S^-1 b1) + b2,   S = diag(s), s > 0
for each f that is positive-homogeneous per channel. Nagel et al., "Data-Free Quantization Through
Weight Equalization and Bias Correction", ICCV 2019, section 4.1, choose s by the ranges of the
weights of two layers. Here s makes the noise of weights and values of all layers together least
(quantization_noise.py), and goes through sums, concatenations and products (channel_classes.py):
with weight scales per tensor MobileNetV1 0.25 then has 17.6 dB at its outputs instead of 12.3.

A clamp to (0, h) is min(relu(x), h), and its bound becomes h / s[i], a constant per channel, exact.
Where the moments say that no channel reaches h, it is left out. A gate x * g(x), such as SiLU, can
be opened (gates.py): its activations then have in effect one scale per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import Binary, Clamp, ClampRange, Minimum, Mul, Op, Unary, Weighted
from qcomp.ir.tensor import Mark, TensorId
from qcomp.passes.events import PassLog
from qcomp.passes.lib.channel_classes import ChannelClasses, channel_classes
from qcomp.passes.lib.dead_channels import silence_dead_channels
from qcomp.passes.lib.gate_choice import gates_worth_opening
from qcomp.passes.lib.gates import open_gate
from qcomp.passes.lib.linear_pairs import linear_pair
from qcomp.passes.lib.linear_weights import (
    F64,
    fits_float32,
    per_input,
    per_output,
    record_scale,
    weight_and_bias,
    with_numbers,
)
from qcomp.passes.lib.quantization_noise import (
    MomentsOf,
    NoiseProblem,
    Precision,
    least_noise_factors,
)
from qcomp.quant.moments import Moments

_WORTHWHILE_DB = 0.1


@dataclass(frozen=True)
class EqualizeCrossLayer:
    """`moments` measures the moments of all f32 activations of a float graph.

    `largest` bounds the factors. A channel whose r1 * r2 is below `dead` times the largest of its
    pair is silenced first (dead_channels.py). `opens_gates`: see gate_choice.py.
    """

    name: ClassVar[str] = "equalize-cross-layer"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    moments: MomentsOf
    precision: Precision
    opens_gates: bool = False
    largest: float = 1e8
    dead: float = 1e-10

    def run(self, graph: Graph, log: PassLog) -> None:
        self._silence(graph, log)
        moments = self.moments(graph)
        opened: frozenset[TensorId] = frozenset()
        if self.opens_gates:
            opened = gates_worth_opening(graph, moments, self.precision, self.largest, log)
        classes = channel_classes(graph, opened)
        for op in graph.ops():
            if isinstance(op, Weighted) and not classes.of[op.output].any():
                log.skipped(op.id, classes.why_fixed(op.output))
        problem = NoiseProblem.of(graph, classes, moments, self.precision)
        found = least_noise_factors(problem, largest=self.largest)
        log.note(
            f"noise expected: {found.before:.2f} dB before, {found.after:.2f} dB after",
            before_db=found.before,
            after_db=found.after,
        )
        if found.before - found.after >= _WORTHWHILE_DB:
            factors = _fitting(graph, classes, found.factors, log)
            _Scaling(graph, classes, factors, moments, log).apply()

    def _silence(self, graph: Graph, log: PassLog) -> None:
        for op in graph.ops():
            if not isinstance(op, Weighted):
                continue
            pair = linear_pair(graph, op)
            if pair is not None and (silenced := silence_dead_channels(graph, pair, self.dead)):
                log.did(
                    f"{op.id}: {silenced} dead channels become constants in {pair.second}",
                    op=op.id,
                    channels=silenced,
                )


def _fitting(graph: Graph, classes: ChannelClasses, factors: F64, log: PassLog) -> F64:
    """The factors, 1 for the classes of layers whose numbers would overflow."""
    factors = factors.copy()
    unfit = True
    while unfit:
        unfit = False
        for op in graph.ops():
            if isinstance(op, Weighted) and not fits_float32(*_scaled(graph, classes, factors, op)):
                log.skipped(op.id, "its scaled weights are not finite in float32")
                factors[classes.of[op.x]] = factors[classes.of[op.output]] = 1.0
                unfit = True
    return factors


def _scaled(graph: Graph, classes: ChannelClasses, factors: F64, op: Weighted) -> tuple[F64, F64]:
    """Weight and bias of a layer whose inputs and outputs are scaled."""
    weight, bias = weight_and_bias(graph, op)
    s = factors[classes.of[op.output]]
    inputs = per_input(factors[classes.of[op.x]], weight, op.groups)
    return weight * inputs / per_output(s, weight), bias / s


@dataclass(frozen=True, eq=False)
class _Scaling:
    """Divides the values of each class by its factor."""

    graph: Graph
    classes: ChannelClasses
    factors: F64
    moments: Mapping[TensorId, Moments]
    log: PassLog

    def apply(self) -> None:
        graph = self.graph
        for op in graph.ops():
            s = self._of(op.output)
            if isinstance(op, Weighted):
                self._scale_layer(op)
            if (s == 1.0).all():
                continue
            record_scale(graph, op.output, 1.0 / s)
            if isinstance(op, Binary) and not isinstance(op, Mul):
                self._scale_constants(op, s)
            if op.output in self.classes.bounded:
                self._unbound(graph.op(op.id), s)
            if op.output in self.classes.opened:
                assert isinstance(op, Unary)
                open_gate(graph, op, s)
                self.log.did(f"{op.id}: {op.function.value} is opened", op=op.id)

    def _of(self, id: TensorId) -> F64:
        of = self.classes.of.get(id)
        return np.ones(1) if of is None else self.factors[of]

    def _scale_layer(self, op: Weighted) -> None:
        inputs, outputs = self._of(op.x), self._of(op.output)
        if (inputs == 1.0).all() and (outputs == 1.0).all():
            return
        numbers = _scaled(self.graph, self.classes, self.factors, op)
        self.graph.set_inputs(op, with_numbers(self.graph, op, *numbers, Mark.EQUALIZED))
        self.log.did(
            f"{op.id}: inputs times s in {_interval(inputs)}, outputs over s in "
            f"{_interval(outputs)}",
            op=op.id,
            least=outputs.min(),
            largest=outputs.max(),
        )

    def _scale_constants(self, op: Binary, s: F64) -> None:
        scaled = []
        for id in op.inputs:
            if self.graph.is_constant(id):
                data = (self.graph.data(id).astype(np.float64) / s).astype(np.float32)
                origin = self.graph.tensor(id).marked(Mark.EQUALIZED)
                id = self.graph.add_constant(id, data, origin)
            scaled.append(id)
        self.graph.set_inputs(op, tuple(scaled))

    def _unbound(self, op: Op, s: F64) -> None:
        """The op clamps to (low, inf); the bound becomes a minimum behind it, under the op's id."""
        assert isinstance(op, Weighted | Clamp | Binary)
        graph, id, high = self.graph, op.output, op.clamp.high
        free = replace(op, clamp=ClampRange(op.clamp.low, float("inf")))
        if id in self.moments and self.moments[id].range[1] < high:
            graph.replace_op(free)
            self.log.did(f"{id}: its bound of {high:g}, which no value reaches, is left out", op=id)
            return
        tensor = graph.tensor(id)
        unbound = graph.add_op(replace(free, output=graph.fresh_id(f"{id}.relu")))
        graph.update_tensor(replace(graph.tensor(unbound), normal=tensor.normal))
        bound = graph.add_constant(f"{id}.bound", (high / s).astype(np.float32))
        graph.replace_op(Minimum(inputs=(unbound, bound), output=id), normal=None)
        self.log.did(f"{id}: its bound of {high:g} becomes a minimum per channel", op=id)


def _interval(s: F64) -> str:
    return f"[{s.min():.4g}, {s.max():.4g}]"
