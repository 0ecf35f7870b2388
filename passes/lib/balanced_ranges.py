"""Factors between linear layers that make the ranges of their weights equal.

With r1[i] the largest |W1| of output channel i and r2[i] the largest |W2| of input channel i,
    s[i] = sqrt(r1[i] * r2[i]) / r2[i] = sqrt(r1[i] / r2[i])
makes both ranges sqrt(r1 * r2), which is the best for the weights' own precision with one scale per
tensor. Pairs that share a layer disturb each other, so the pairs are gone through again until s
is 1. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcomp.ir.graph import Graph
from qcomp.ir.ops import Weighted
from qcomp.ir.tensor import TensorId
from qcomp.passes.lib.dead_channels import Mask, channels_above
from qcomp.passes.lib.linear_pairs import LinearPair
from qcomp.passes.lib.linear_weights import (
    F64,
    input_ranges,
    output_ranges,
    per_input,
    per_output,
    weight_and_bias,
)


@dataclass(frozen=True)
class Rounds:
    """At most `iterations` rounds, until no factor moves by more than `tolerance`.

    `largest` bounds the factor of a channel, and its inverse, over all rounds. A channel whose
    r1 * r2 is below `weak` times the largest of the pair has s = 1: a factor that lifts vanishing
    weights lifts the bias too, and with it the value beyond all others.
    """

    iterations: int
    tolerance: float
    largest: float
    weak: float


class Ranges:
    """The largest |weight| over the kernel, [O, I], of the layers of some pairs."""

    def __init__(self, graph: Graph, pairs: Sequence[LinearPair]) -> None:
        self._layers = {id: _Layer.of(graph, id) for p in pairs for id in (p.first, p.second)}

    def channels(self, pair: LinearPair) -> int:
        return len(self._layers[pair.first].largest)

    def sides(self, pair: LinearPair) -> tuple[F64, F64]:
        """r1 and r2, [C]."""
        first, second = self._layers[pair.first], self._layers[pair.second]
        inputs = input_ranges(second.largest, second.groups)
        return output_ranges(first.largest), inputs.reshape(pair.repeats, -1).max(axis=0)

    def move(self, pair: LinearPair, s: F64) -> None:
        """Divide the outputs of the first layer by s, and multiply the inputs of the second."""
        first, second = self._layers[pair.first], self._layers[pair.second]
        first.largest = first.largest / per_output(s, first.largest)
        inputs = per_input(np.tile(s, pair.repeats), second.largest, second.groups)
        second.largest = second.largest * inputs

    def spread(self, pair: LinearPair) -> str:
        """How unequal the ranges of both sides are: the largest over the smallest live one."""
        live = [r[r > 0.0] for r in self.sides(pair)]
        return " and ".join(f"{r.max() / r.min():.4g}" if r.size else "none" for r in live)


@dataclass(eq=False)
class _Layer:
    largest: F64
    groups: int

    @staticmethod
    def of(graph: Graph, id: TensorId) -> _Layer:
        op = graph.op(id)
        assert isinstance(op, Weighted)
        weight, _ = weight_and_bias(graph, op)
        largest: F64 = np.abs(weight).max(axis=tuple(range(1, weight.ndim - 1)))
        return _Layer(largest, op.groups)


def balanced_factors(
    ranges: Ranges, pairs: Sequence[LinearPair], rounds: Rounds
) -> tuple[list[F64], int, float]:
    """The factors of each pair's channels, the rounds that it took, and what the last one moved.

    `ranges` is left as the factors make it.
    """
    factors = [np.ones(ranges.channels(pair)) for pair in pairs]
    strong = [channels_above(*ranges.sides(pair), rounds.weak) for pair in pairs]
    farthest, count = np.inf, 0
    while pairs and count < rounds.iterations and farthest >= rounds.tolerance:
        farthest, count = 0.0, count + 1
        for i, pair in enumerate(pairs):
            step = _ideal(ranges, pair, strong[i])
            total = np.clip(factors[i] * step, 1.0 / rounds.largest, rounds.largest)
            step = total / factors[i]
            farthest = max(farthest, float(np.abs(step - 1.0).max()))
            ranges.move(pair, step)
            factors[i] = total
    if count == 1 and farthest < rounds.tolerance:
        return [np.ones_like(s) for s in factors], count, farthest
    return factors, count, farthest


def _ideal(ranges: Ranges, pair: LinearPair, strong: Mask) -> F64:
    r1, r2 = ranges.sides(pair)
    return np.sqrt(np.divide(r1, r2, out=np.ones_like(r1), where=strong))
