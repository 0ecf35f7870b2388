"""Equalize the weight ranges of consecutive linear layers, channel by channel.

    y = W2 f(W1 x + b1) + b2 = (W2 S) f(S^-1 W1 x + S^-1 b1) + b2,   S = diag(s), s > 0
for each f that is positive-homogeneous per channel. With r1[i] the largest |W1| of output channel
i and r2[i] the largest |W2| of input channel i,
    s[i] = sqrt(r1[i] * r2[i]) / r2[i] = sqrt(r1[i] / r2[i])
makes both ranges sqrt(r1 * r2), which is the best for a quantizer with one scale per tensor. Pairs
that share a layer disturb each other, so the pairs are gone through again until s is 1.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019,
section 4.1. A ReLU6 in a chain is min(relu(x), 6), and its bound becomes 6 / s[i]: see `Relu6`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import RELU, RELU6, Clamp, Minimum
from qcomp.ir.tensor import TensorId
from qcomp.passes.base import PassLog
from qcomp.passes.dead_channels import Mask, channels_above, silence_dead_channels
from qcomp.passes.linear_pairs import LinearPair, linear_pair
from qcomp.passes.linear_weights import (
    F64,
    Linear,
    fits_float32,
    groups_of,
    input_ranges,
    output_ranges,
    per_input,
    per_output,
    scale_statistics,
    weight_and_bias,
    with_numbers,
)


class Relu6(enum.Enum):
    """What becomes of a clamp to (0, 6), which is homogeneous only up to 6.

    KEEP ends the chain there: right for weights with a scale per channel, which gain little.
    MINIMUM puts min(relu(x), 6 / s) there, with a constant per channel: exact, one op more.
    REPLACE_WITH_RELU drops the 6, as the paper does (section 5.1.1). Networks that were trained to
    saturate do not survive it: of 100 images a MobileNetV1 0.25 got 65 right before, 10 after.
    """

    KEEP = "keep"
    MINIMUM = "minimum"
    REPLACE_WITH_RELU = "replace-with-relu"


@dataclass(frozen=True)
class EqualizeCrossLayer:
    """`tolerance` bounds |s - 1| of an iteration that changes nothing more.

    `largest` bounds the factor of a channel, and its inverse, over all iterations. A channel whose
    r1 * r2 is below `weak` times the largest of the pair has s = 1: a factor that lifts vanishing
    weights lifts the bias too, and with it the value beyond all others. Below `dead` times the
    largest it is silenced first (dead_channels.py).
    """

    name: ClassVar[str] = "equalize-cross-layer"
    needs: ClassVar[Form] = Form.FLOAT
    gives: ClassVar[Form] = Form.FLOAT

    iterations: int = 20
    tolerance: float = 1e-3
    relu6: Relu6 = Relu6.KEEP
    largest: float = 1e8
    weak: float = 1e-6
    dead: float = 1e-10

    def run(self, graph: Graph, log: PassLog) -> None:
        pairs = self._pairs(graph, log)
        layers = {id: _Ranges.of(graph, id) for p in pairs for id in (p.first, p.second)}
        before = [_spread(layers, p) for p in pairs]
        factors = self._solve(layers, pairs, log)
        for pair, s, spread in zip(pairs, factors, before, strict=True):
            if reason := _unfit(graph, pair, s):
                log.skipped(pair.first, reason)
                continue
            if (s == 1.0).all():
                log.note(f"{pair.first} -> {pair.second} is equal already")
                continue
            _apply(graph, pair, s)
            for id in pair.relu6:
                _unbound(graph, id, s, self.relu6, log)
            log.did(
                f"{pair.first} -> {pair.second}: max/min channel range {spread} -> "
                f"{_spread(layers, pair)}, s in [{s.min():.4g}, {s.max():.4g}]"
            )

    def _pairs(self, graph: Graph, log: PassLog) -> list[LinearPair]:
        pairs = []
        for op in graph.ops():
            if not isinstance(op, Linear):
                continue
            pair = linear_pair(graph, op)
            if isinstance(pair, str):
                log.skipped(op.id, pair)
                continue
            if silenced := silence_dead_channels(graph, pair, self.dead):
                log.did(f"{op.id}: {silenced} dead channels become constants in {pair.second}")
            if pair.relu6 and self.relu6 is Relu6.KEEP:
                log.skipped(op.id, f"%{pair.relu6[0]} clamps to (0.0, 6.0), to be kept")
            else:
                pairs.append(pair)
        return pairs

    def _solve(
        self, layers: dict[TensorId, _Ranges], pairs: list[LinearPair], log: PassLog
    ) -> list[F64]:
        """The factors of each pair's channels; `layers` is left as the factors make it."""
        factors = [np.ones(layers[p.first].outputs) for p in pairs]
        strong = [channels_above(*_sides(layers, p), self.weak) for p in pairs]
        farthest, count = np.inf, 0
        while pairs and count < self.iterations and farthest >= self.tolerance:
            farthest, count = 0.0, count + 1
            for i, pair in enumerate(pairs):
                step = _ideal(layers, pair, strong[i])
                total = np.clip(factors[i] * step, 1.0 / self.largest, self.largest)
                step = total / factors[i]
                farthest = max(farthest, float(np.abs(step - 1.0).max()))
                layers[pair.first].divide_outputs(step)
                layers[pair.second].multiply_inputs(np.tile(step, pair.repeats))
                factors[i] = total
        if pairs:
            log.note(f"{count} iterations; the last changed a channel by {farthest:.3g}")
        if count == 1 and farthest < self.tolerance:
            return [np.ones_like(f) for f in factors]
        return factors


@dataclass(eq=False)
class _Ranges:
    """The largest |weight| over the kernel, [O, I]: all that the factors depend on."""

    largest: F64
    groups: int

    @staticmethod
    def of(graph: Graph, id: TensorId) -> _Ranges:
        op = graph.op(id)
        assert isinstance(op, Linear)
        weight, _ = weight_and_bias(graph, op)
        largest: F64 = np.abs(weight).max(axis=tuple(range(1, weight.ndim - 1)))
        return _Ranges(largest, groups_of(op))

    @property
    def outputs(self) -> int:
        return len(self.largest)

    def of_outputs(self) -> F64:
        return output_ranges(self.largest)

    def of_inputs(self, repeats: int) -> F64:
        """Of the input channels, each once: the largest over its repetitions."""
        ranges: F64 = input_ranges(self.largest, self.groups).reshape(repeats, -1).max(axis=0)
        return ranges

    def divide_outputs(self, s: F64) -> None:
        self.largest = self.largest / per_output(s, self.largest)

    def multiply_inputs(self, s: F64) -> None:
        self.largest = self.largest * per_input(s, self.largest, self.groups)


def _sides(layers: dict[TensorId, _Ranges], pair: LinearPair) -> tuple[F64, F64]:
    """r1 and r2."""
    return layers[pair.first].of_outputs(), layers[pair.second].of_inputs(pair.repeats)


def _ideal(layers: dict[TensorId, _Ranges], pair: LinearPair, strong: Mask) -> F64:
    r1, r2 = _sides(layers, pair)
    return np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=strong))


def _spread(layers: dict[TensorId, _Ranges], pair: LinearPair) -> str:
    """How unequal the ranges of both sides are: the largest over the smallest live one."""
    live = [r[r > 0.0] for r in _sides(layers, pair)]
    return " and ".join(f"{r.max() / r.min():.4g}" if r.size else "none" for r in live)


def _equalized(graph: Graph, pair: LinearPair, s: F64) -> tuple[tuple[F64, F64], tuple[F64, F64]]:
    """Weight and bias of the first op and of the second."""
    first, second = graph.op(pair.first), graph.op(pair.second)
    assert isinstance(first, Linear)
    assert isinstance(second, Linear)
    w1, b1 = weight_and_bias(graph, first)
    w2, b2 = weight_and_bias(graph, second)
    inputs = per_input(np.tile(s, pair.repeats), w2, groups_of(second))
    return (w1 / per_output(s, w1), b1 / s), (w2 * inputs, b2)


def _unfit(graph: Graph, pair: LinearPair, s: F64) -> str | None:
    first, second = _equalized(graph, pair, s)
    if fits_float32(*first, *second):
        return None
    return f"weights equalized with %{pair.second} are not finite in float32"


def _apply(graph: Graph, pair: LinearPair, s: F64) -> None:
    for id, numbers in zip((pair.first, pair.second), _equalized(graph, pair, s), strict=True):
        op = graph.op(id)
        assert isinstance(op, Linear)
        graph.set_inputs(op, with_numbers(graph, op, *numbers))
    for id in (pair.first, *pair.between):
        scale_statistics(graph, id, 1.0 / s)


def _unbound(graph: Graph, id: TensorId, s: F64, relu6: Relu6, log: PassLog) -> None:
    """The op clamps to (0, inf); the bound becomes a minimum behind it, under the op's id."""
    op = graph.op(id)
    assert isinstance(op, Linear | Clamp)
    if relu6 is Relu6.REPLACE_WITH_RELU:
        graph.replace_op(replace(op, clamp=RELU))
        log.did(f"{id}: ReLU6 becomes ReLU")
        return
    tensor = graph.tensor(id)
    bounds = np.tile(RELU6.high / s, tensor.type.shape[-1] // s.size)
    relu = graph.add_op(replace(op, output=graph.fresh_id(f"{id}.relu"), clamp=RELU))
    graph.update_tensor(replace(graph.tensor(relu), normal=tensor.normal))
    bound = graph.add_constant(f"{id}.bound", bounds.astype(np.float32))
    graph.replace_op(Minimum(inputs=(relu, bound), output=id), normal=None)
    log.did(f"{id}: ReLU6 becomes ReLU and a minimum per channel")
