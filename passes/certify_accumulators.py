"""Certify that no integer sum can overflow, from the actual weights, biases and ranges.

Per channel of a convolution or dense layer (DESIGN section 3.2)

    |bias| + sum_k |w_k| * max(|qmin - zero_point|, |qmax - zero_point|) + rounding < 2^31

with rounding = 2^(shift-1) in the NARROW form, which adds it to the accumulator, and 0 in the
others. Sums without weights are bounded by their number of terms; additions by their multipliers,
in the width of their lanes. Multipliers and shifts must be those that the form's own proof assumes.

With 16-bit values sums have 64 bits (those of a layer with weights where its bias has). There the
product of the WIDE form is what must fit, per channel:

    |acc| * multiplier + 2^(shift-1) < 2^63
The choosers of scales and constants see to all of this beforehand, so a failure here is a defect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qcomp.errors import PassError
from qcomp.ir.evaluate.dynamic import LARGEST, scale_parts
from qcomp.ir.evaluate.integer_linear import centered_weight
from qcomp.ir.exemptions import Exemptions, exemption
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.ops import (
    ArgMax,
    BroadcastTo,
    Concat,
    DepthToSpace,
    Domain,
    Gather,
    Interpolate,
    MaxPool2d,
    Op,
    Pad,
    QAdd,
    QAddWide,
    QAveragePool2d,
    QConv2d,
    QDense,
    QDenseBy,
    QDiv,
    QLogSoftmax,
    QMatMul,
    QMaximum,
    QMinimum,
    QMul,
    QPRelu,
    QReduceExtreme,
    QReduceSum,
    QRescale,
    QSoftmax,
    QuantizeBy,
    QWeighted,
    Reshape,
    Resize2d,
    ScaleOf,
    Slice,
    SpaceToDepth,
    Table,
    Tile,
    Transpose,
    ZeroStuff,
)
from qcomp.ir.tensor import Array, DType, TensorId
from qcomp.ir.text import format_op
from qcomp.passes.events import PassLog
from qcomp.quant.fixed_point import I64, Requantize
from qcomp.quant.fixed_point import Form as Arithmetic

Ints = NDArray[np.object_]
"""Python integers, exact at any size."""


@dataclass(frozen=True)
class CertifyAccumulators:
    """See the module."""

    name: ClassVar[str] = "certify-accumulators"
    needs: ClassVar[Form] = Form.INTEGER
    gives: ClassVar[Form] = Form.INTEGER

    def run(self, graph: Graph, log: PassLog) -> None:
        problems: list[str] = []
        for op in graph.ops():
            sums = _sums(graph, op)
            if sums is None:
                continue
            found = [*sums.problems()]
            if found:
                problems.append("\n  ".join([format_op(graph, op), *found]))
            else:
                bits = sums.head_room()
                log.note(f"{op.id}: {bits:.1f} bits of head-room", op=op.id, bits=bits)
        if problems:
            raise PassError("accumulators are not certified:\n" + "\n".join(problems))


def _sums(graph: Graph, op: Op) -> Sums | None:
    """The largest sums of an op; None for one that needs no certificate; else PassError."""
    if type(op) in RULES:
        return RULES[type(op)](graph, op)
    if exemption(EXEMPT, type(op)) is None:
        raise PassError(
            f"{format_op(graph, op)}\n  nothing bounds its sums; "
            "expected a row in RULES, or a line in EXEMPT, of certify_accumulators"
        )
    return None


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
            case Arithmetic.NARROW:
                return acc + rounding
            case Arithmetic.TFLITE:
                return acc << min(max(shift, 0), 31)
            case Arithmetic.WIDE if bits == 63:
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
_CLAIMS: Mapping[Arithmetic, tuple[int, int, int, int]] = {
    Arithmetic.NARROW: (257, 2**15, 0, 30),
    Arithmetic.WIDE: (0, 2**31, 1, 62),
    Arithmetic.TFLITE: (0, 2**31, -31, 30),
    Arithmetic.ONNX: (0, 0x7F800000, 0, 0),
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

    def reach(self) -> list[int]:
        if self.epilogue is None:
            return [int(v) for v in self.largest]
        return self.epilogue.reach(self.largest, self.bits)

    def problems(self) -> Iterator[str]:
        for channel, reach in enumerate(self.reach()):
            if reach >= 2**self.bits:
                yield (
                    f"channel {channel}: the sum can reach {reach}, "
                    f"expected less than 2^{self.bits}"
                )
        for factor in self.factors:
            if abs(factor) >= 2**31:
                yield f"multiplier {factor}, expected less than 2^31"
        if self.epilogue is not None:
            yield from self.epilogue.problems()

    def head_room(self) -> float:
        return self.bits - math.log2(max(*self.reach(), 1))


def _linear(graph: Graph, op: QWeighted) -> Sums:
    zero_point = () if op.weight_zero_point is None else (graph.data(op.weight_zero_point),)
    taps = _taps(centered_weight(graph.data(op.weight), *zero_point))
    bias = np.abs(graph.data(op.bias).astype(object))
    largest = bias + taps.astype(object) * _centered(graph, op.x, op.x_zero_point)
    multiplier = graph.data(op.multiplier).astype(np.int64)
    shift = graph.data(op.shift).astype(np.int64)
    bits = 63 if graph.type(op.bias).dtype is DType.I64 else 31
    return Sums(largest, Epilogue(op.requantize, multiplier, shift), bits)


def _taps(weight: Array) -> NDArray[np.int64]:
    """The sum of each output channel's |weight|."""
    magnitudes = np.abs(weight.astype(np.int64))
    return np.asarray(magnitudes.reshape(len(weight), -1).sum(axis=1))


def _dense_by(graph: Graph, op: QDenseBy) -> Sums:
    """The scale's shift is between that of the largest value which its tensor can hold and of 1."""
    scale = graph.producer(op.scale)
    assert isinstance(scale, ScaleOf), "the INTEGER form knows where a scale comes from"
    widest = max(_centered(graph, scale.x, scale.x_zero_point), 1)
    shift = graph.data(op.shift).astype(np.int64)
    shifts = [shift + scale_parts(n)[1] - 31 for n in (widest, 1)]
    multiplier = np.tile(graph.data(op.multiplier).astype(np.int64), 2)
    largest = np.tile(_taps(graph.data(op.weight)).astype(object) * LARGEST, 2)
    return Sums(largest, Epilogue(op.requantize, multiplier, np.concatenate(shifts)))


def _matmul(graph: Graph, op: QMatMul) -> Sums:
    depth = graph.type(op.a).shape[-1]
    return Sums(depth * _product(graph, op), _scalar_epilogue(op), _bits(graph, op.inputs))


def _mul(graph: Graph, op: QMul) -> Sums:
    return Sums(_product(graph, op), _scalar_epilogue(op))


def _rescale(graph: Graph, op: QRescale) -> Sums:
    return Sums(_one(_centered(graph, op.x, op.x_zero_point)), _scalar_epilogue(op))


def _reduce_sum(graph: Graph, op: QReduceSum) -> Sums:
    count = math.prod(graph.type(op.x).shape[a] for a in op.axes)
    largest = _one(count * _centered(graph, op.x, op.x_zero_point))
    return Sums(largest, _scalar_epilogue(op), _bits(graph, op.inputs))


def _average_pool(graph: Graph, op: QAveragePool2d) -> Sums:
    """The multiplier of count 0 meets only the sum 0, so no form asks anything of it."""
    largest = math.prod(op.kernel) * _centered(graph, op.x, op.x_zero_point)
    multiplier = graph.data(op.multiplier).astype(np.int64)[1:]
    epilogue = Epilogue(op.requantize, multiplier, _one(op.shift))
    return Sums(_one(largest), epilogue, _bits(graph, (op.x,)))


def _add(graph: Graph, op: QAdd) -> Sums:
    """The multipliers must fit the 16-bit lanes as well."""
    terms = [(128 * reach * m + 2**14) >> 15 for reach, m in _scaled_operands(graph, op)]
    multipliers = abs(op.a_multiplier), abs(op.b_multiplier)
    return Sums(_one(max(sum(terms) + (2**op.fraction_bits >> 1), *multipliers)), bits=15)


def _add_wide(graph: Graph, op: QAddWide) -> Sums:
    terms = [reach * m for reach, m in _scaled_operands(graph, op)]
    return Sums(
        _one(sum(terms) + (2**op.shift >> 1)),
        bits=_bits(graph, (*op.inputs, op.output)),
        factors=(op.a_multiplier, op.b_multiplier),
    )


def _div(graph: Graph, op: QDiv) -> Sums:
    n = _centered(graph, op.a, op.a_zero_point) * abs(op.multiplier)
    d = _centered(graph, op.b, op.b_zero_point) << op.shift
    wide = _bits(graph, (*op.inputs, op.output)) == 63
    return Sums(_one(max(n, d)), bits=61 if wide else 30)


def _prelu(graph: Graph, op: QPRelu) -> Sums:
    negative = np.abs(graph.data(op.negative_multiplier).astype(np.int64)).max(initial=0)
    multiplier = max(abs(op.positive_multiplier), int(negative))
    return Sums(
        _one(_centered(graph, op.x, op.x_zero_point) * multiplier + (2**op.shift >> 1)),
        bits=_bits(graph, (op.x, op.output)),
        factors=(multiplier,),
    )


def _interpolate(graph: Graph, op: Interpolate) -> Sums:
    """Of both terms by themselves, and of their sum, which is between two entries times 2^k."""
    table = graph.data(op.table).astype(np.int64)
    k = op.step_bits
    largest = (int(np.abs(table).max()) << k) + (1 << (k + 6))
    slope = int(np.abs(np.diff(table)).max()) * ((1 << k) - 1)
    return Sums(_one(max(largest, slope)))


def _softmax(graph: Graph, op: QSoftmax | QLogSoftmax) -> Sums:
    """The sum of the exponentials, each at most 2^16 of i8 and 2^30 of i16, and 32768 times it."""
    count = graph.type(op.x).shape[op.axis]
    largest = int(np.abs(graph.data(op.exp_table).astype(np.int64)).max())
    if graph.type(op.x).dtype is DType.I8:
        return Sums(_one(count * largest))
    return Sums(_one((count * (largest * largest + 2**29 >> 30)) << 15), bits=63)


def _product(graph: Graph, op: QMatMul | QMul) -> Ints:
    a, b = _centered(graph, op.a, op.a_zero_point), _centered(graph, op.b, op.b_zero_point)
    return _one(a * b)


def _scaled_operands(graph: Graph, op: QAdd | QAddWide) -> list[tuple[int, int]]:
    """Largest |q - zero_point| and |multiplier| of both operands."""
    return [
        (_centered(graph, op.a, op.a_zero_point), abs(op.a_multiplier)),
        (_centered(graph, op.b, op.b_zero_point), abs(op.b_multiplier)),
    ]


def _scalar_epilogue(op: QMatMul | QMul | QReduceSum | QRescale) -> Epilogue:
    return Epilogue(op.requantize, _one(op.multiplier), _one(op.shift))


def _bits(graph: Graph, tensors: tuple[TensorId, ...]) -> int:
    """Of a sum's magnitude: 64-bit lanes where one of the tensors is i16."""
    return 63 if any(graph.type(t).dtype is DType.I16 for t in tensors) else 31


def _centered(graph: Graph, id: TensorId, zero_point: int) -> int:
    """The largest |q - zero_point| of a tensor's values."""
    tensor = graph.tensor(id)
    if tensor.data is not None:
        return int(np.abs(tensor.data.astype(np.int64) - zero_point).max(initial=0))
    assert tensor.qparams is not None, "the INTEGER form gives every activation qparams"
    return max(abs(tensor.qparams.qmin - zero_point), abs(tensor.qparams.qmax - zero_point))


def _one(value: int) -> Ints:
    """Of any size, so that the bound itself is exact."""
    return np.array([value], object)


RULES: Mapping[type[Op], Callable[[Graph, Any], Sums]] = {
    QConv2d: _linear,
    QDense: _linear,
    QMatMul: _matmul,
    QMul: _mul,
    QRescale: _rescale,
    QReduceSum: _reduce_sum,
    QAveragePool2d: _average_pool,
    QAdd: _add,
    QAddWide: _add_wide,
    QDiv: _div,
    QPRelu: _prelu,
    Interpolate: _interpolate,
    QSoftmax: _softmax,
    QLogSoftmax: _softmax,
    QDenseBy: _dense_by,
}

EXEMPT: Exemptions = {
    Domain.FLOAT: "computes no integers",
    Domain.BORDER: "scales one value and saturates it",
    Table: "looks its results up",
    ScaleOf: "shifts 2^16 by at most 37",
    QuantizeBy: "shifts 2^16 by at most 38",
    QMinimum: "compares",
    QMaximum: "compares",
    QReduceExtreme: "compares",
    MaxPool2d: "compares",
    ArgMax: "compares; the target bounds the index",
    Resize2d: "weighs four neighbours by 2^11 twice: at most 2^15 * 2^22, in the lanes it has",
    Reshape: "copies integers",
    Transpose: "copies integers",
    Concat: "copies integers",
    Slice: "copies integers",
    Pad: "copies integers",
    Gather: "copies integers",
    BroadcastTo: "copies integers",
    Tile: "copies integers",
    DepthToSpace: "copies integers",
    SpaceToDepth: "copies integers",
    ZeroStuff: "copies integers",
}
