"""The largest sums of an integer op, and whether they fit: the terms of the certificate.

passes/certify_accumulators.py has the conditions; each module of integer_rules bounds the sums of
the ops that it makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QMatMul, QMul
from qcomp.ir.tensor import DType, TensorId
from qcomp.quant.fixed_point import I64, Form, Requantize

Ints = NDArray[np.object_]
"""Python integers, exact at any size."""


@dataclass(frozen=True)
class Epilogue:
    """The constants of a requantize, one multiplier and shift per channel or one for all."""

    requantize: Requantize
    multiplier: I64 | Ints
    shift: I64 | Ints

    def reach(self, largest: Ints, bits: int) -> list[int]:
        """What the form makes of the accumulators' magnitudes: the most that a lane must hold."""
        channels = np.broadcast(largest, self.multiplier, self.shift)
        return [self._reach(int(acc), int(m), int(s), bits) for acc, m, s in channels]

    def _reach(self, acc: int, multiplier: int, shift: int, bits: int) -> int:
        rounding = 1 << min(max(shift, 0), 62) >> 1
        match self.requantize.form:
            case Form.NARROW:
                return acc + rounding
            case Form.TFLITE:
                return (acc << min(max(shift, 0), 31)) + (1 << self.requantize.bits)
            case Form.QUOTIENT:
                return acc + (multiplier >> 1)
            case Form.WIDE if bits == 63:
                return acc * multiplier + rounding
        return acc

    def problems(self) -> Iterator[str]:
        form = self.requantize.form
        m_low, m_high, s_low, s_high = _CLAIMS[form]
        constants = np.broadcast(self.multiplier, self.shift)
        for channel, (m, s) in enumerate(constants):
            if not (m_low <= m < m_high and s_low <= s <= s_high):
                yield (
                    f"channel {channel}: multiplier {m} and shift {s}; form {form.value} expects "
                    f"{m_low} <= multiplier < {m_high} and {s_low} <= shift <= {s_high}"
                )


# multiplier in [low, high), shift in [low, high]; ONNX: the bits of a finite positive float32.
_CLAIMS: Mapping[Form, tuple[int, int, int, int]] = {
    Form.NARROW: (257, 2**15, 0, 30),
    Form.WIDE: (0, 2**31, 1, 62),
    Form.TFLITE: (0, 2**31, -31, 30),
    Form.AWAY: (0, 2**46, 16, 77),
    Form.ONNX: (0, 0x7F800000, 0, 0),
    Form.QUOTIENT: (1, 2**31, 0, 0),
}


@dataclass(frozen=True)
class Sums:
    """The largest magnitudes of an op's sums, one per channel or one for all: below 2^bits.

    `factors` are the multipliers of an op without a requantize: below 2^31 where sums have 64 bits.
    """

    largest: Ints
    epilogue: Epilogue | None = None
    bits: int = 31
    factors: tuple[int, ...] = ()

    @property
    def lane_bits(self) -> int:
        """The form TFLITE takes sums of 32 bits, whatever lanes they are in."""
        form = None if self.epilogue is None else self.epilogue.requantize.form
        return 31 if form is Form.TFLITE else self.bits

    def reach(self) -> list[int]:
        if self.epilogue is None:
            return [int(v) for v in self.largest]
        return self.epilogue.reach(self.largest, self.bits)

    def problems(self) -> Iterator[str]:
        for channel, reach in enumerate(self.reach()):
            if reach >= 2**self.lane_bits:
                yield (
                    f"channel {channel}: the sum can reach {reach}, "
                    f"expected less than 2^{self.lane_bits}"
                )
        for factor in self.factors:
            if abs(factor) >= 2**31:
                yield f"multiplier {factor}, expected less than 2^31"
        if self.epilogue is not None:
            yield from self.epilogue.problems()

    def head_room(self) -> float:
        return self.lane_bits - math.log2(max(*self.reach(), 1))


def product_of(graph: Graph, op: QMatMul | QMul) -> Ints:
    """The largest product of an element of `a` and one of `b`."""
    a = largest_centered(graph, op.a, op.a_zero_point)
    return exact(a * largest_centered(graph, op.b, op.b_zero_point))


def scalar_epilogue(requantize: Requantize, multiplier: int, shift: int) -> Epilogue:
    return Epilogue(requantize, exact(multiplier), exact(shift))


def sum_bits(graph: Graph, tensors: tuple[TensorId, ...]) -> int:
    """Of a sum's magnitude: 64-bit lanes where one of the tensors is i16 or i32."""
    wide = (DType.I16, DType.I32)
    return 63 if any(graph.type(t).dtype in wide for t in tensors) else 31


def largest_centered(graph: Graph, id: TensorId, zero_point: int) -> int:
    """The largest |q - zero_point| of a tensor's values."""
    tensor = graph.tensor(id)
    if tensor.data is not None:
        return int(np.abs(tensor.data.astype(np.int64) - zero_point).max(initial=0))
    assert tensor.qparams is not None, "the INTEGER form gives every activation qparams"
    return max(abs(tensor.qparams.qmin - zero_point), abs(tensor.qparams.qmax - zero_point))


def exact(value: int) -> Ints:
    """A bound for all channels, of any size."""
    return np.array([value], object)


BoundSums = Callable[[Graph, Any], Sums]
