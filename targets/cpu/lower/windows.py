"""Convolutions as windows that move over a tensor in memory.

Zeros (zero points) between the pixels of a transposed convolution are never stored where the
convolution is their only reader: what lies between two results that see pixels through the same
taps is one period, and each result of a period is a convolution of its own, a *phase*, of the
tensor without zeros by some of the taps. An ordinary convolution has one phase.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcomp.ir.graph import Graph
from qcomp.ir.ops import QConv2d, ZeroStuff
from qcomp.ir.tensor import Array, TensorId
from qcomp.targets.cpu.kernels.axis import Axis
from qcomp.targets.cpu.lower.context import Lowering
from qcomp.targets.cpu.lower.weight_parts import weight_parts
from qcomp.targets.cpu.memory import Halo
from qcomp.targets.cpu.program import Address, moved


@dataclass(frozen=True)
class Phase:
    """Along one axis: the results first, first + period, ... and the taps that they see.

    Result n reads the pixels start + n * advance + k * apart, with tap number k of `taps`.
    """

    first: int
    count: int
    period: int
    taps: tuple[int, ...]
    start: int
    advance: int
    apart: int

    @property
    def end(self) -> int:
        """Behind the last pixel that is read."""
        return self.start + (self.count - 1) * self.advance + (len(self.taps) - 1) * self.apart + 1


@dataclass(frozen=True, eq=False)
class Window:
    """A convolution as kernels see it; `taps` are the bytes to the tap below and to the right."""

    batch: Axis
    rows: Axis
    columns: Axis
    taps: tuple[int, int]
    parts: NDArray[np.int8]  # OHWI each, [P, O, H, W, I]: their sum is the weight
    source: Address  # of the first tap of the first window, maybe in the border
    result: Address
    others: tuple[Address, ...]  # the operand of a fused residual addition

    @property
    def weight(self) -> Array:
        """Of a layer that has it in one part."""
        assert len(self.parts) == 1
        return np.asarray(self.parts[0])

    def runs(self, width: int) -> tuple[tuple[tuple[int, int], ...], int]:
        """(count, stride) of the runs that a result reads, and how many taps lie in each.

        `width` is the bytes that it reads of a pixel; taps side by side without a gap are one run.
        """
        _, _, kh, kw, _ = self.parts.shape
        below, right = self.taps
        if kw == 1 or right == width:
            nested, taps = [(kh, below)], kw
        else:
            nested, taps = [(kh, below), (kw, right)], 1
        return tuple(s for s in nested if s[0] > 1), taps


def stuffing(graph: Graph, op: QConv2d) -> ZeroStuff | None:
    """The zeros that a convolution reads and that need not be stored."""
    zeros = graph.producer(op.x)
    if not isinstance(zeros, ZeroStuff) or graph.is_constant(zeros.x):
        return None
    same = graph.tensor(zeros.x).qparams == graph.tensor(op.x).qparams
    alone = graph.sole_consumer(op.x) is not None
    return zeros if alone and same and zeros.value == op.x_zero_point else None


def is_stored(graph: Graph, zeros: ZeroStuff) -> bool:
    """Whether zeros lie in memory."""
    reader = graph.sole_consumer(zeros.output)
    return not isinstance(reader, QConv2d) or stuffing(graph, reader) is None


def window_readers(graph: Graph, tensor: TensorId) -> Iterator[QConv2d]:
    """The convolutions whose windows move over a tensor in memory."""
    for op in graph.consumers(tensor):
        reader = graph.sole_consumer(op.output) if isinstance(op, ZeroStuff) else op
        if isinstance(reader, QConv2d) and _source(graph, reader) == tensor:
            yield reader


def border(graph: Graph, op: QConv2d) -> Halo:
    """What a convolution reads around its operand (or the operand of its zeros)."""
    rows, columns = _phases(graph, op)
    _, height, width, _ = graph.type(_source(graph, op)).shape
    (top, bottom), (left, right) = _outside(rows, height), _outside(columns, width)
    return Halo(top, left, bottom, right)


def windows(lowering: Lowering, op: QConv2d) -> list[Window]:
    """The phases of a convolution; together they write every result."""
    rows, columns = _phases(lowering.graph, op)
    return [_window(lowering, op, *phases) for phases in itertools.product(rows, columns)]


def _window(lowering: Lowering, op: QConv2d, rows: Phase, columns: Phase) -> Window:
    x, y = lowering.place(op.x), lowering.place(op.output)
    residual = lowering.residuals.get(op.id)
    z = lowering.place(residual.other) if residual else None
    parts = weight_parts(lowering.graph, op)
    _, row, pixel, _ = x.layout.strides
    if rows.taps and columns.taps:
        parts = parts[:, :, rows.taps][:, :, :, columns.taps]
        source = moved(x.start, rows.start * row + columns.start * pixel)
    else:  # one product by 0, of a pixel that is there
        parts, source = np.zeros((1, parts.shape[1], 1, 1, 1), np.int8), x.start
        row = pixel = 0

    def first(layout_strides: tuple[int, ...]) -> int:
        return rows.first * layout_strides[1] + columns.first * layout_strides[2]

    results = y.layout.strides
    other = z.layout.strides if z else (0, 0, 0)
    n = x.layout.shape[0]
    return Window(
        batch=Axis(n, x.layout.strides[0], results[0], other[0]),
        rows=_axis(rows, row, results[1], other[1]),
        columns=_axis(columns, pixel, results[2], other[2]),
        taps=(rows.apart * row, columns.apart * pixel),
        parts=parts,
        source=source,
        result=moved(y.start, first(results)),
        others=(moved(z.start, first(other)),) if z else (),
    )


def _axis(phase: Phase, src: int, dst: int, other: int) -> Axis:
    return Axis(phase.count, phase.advance * src, phase.period * dst, phase.period * other)


def _source(graph: Graph, op: QConv2d) -> TensorId:
    """The tensor that is stored."""
    zeros = stuffing(graph, op)
    return zeros.x if zeros else op.x


def _outside(phases: list[Phase], extent: int) -> tuple[int, int]:
    """How far windows reach over the beginning and the end of an axis."""
    seeing = [phase for phase in phases if phase.taps]
    before = max((-phase.start for phase in seeing), default=0)
    after = max((phase.end - extent for phase in seeing), default=0)
    return max(before, 0), max(after, 0)


def _phases(graph: Graph, op: QConv2d) -> tuple[list[Phase], list[Phase]]:
    """Of the rows and of the columns."""
    zeros = stuffing(graph, op)
    between = zeros.stride if zeros else (1, 1)
    results, kernel = graph.type(op.output).shape[1:3], graph.type(op.weight).shape[1:3]
    rows, columns = (
        phases(*axis)
        for axis in zip(
            results, kernel, op.stride, op.dilation, op.padding[:2], between, strict=True
        )
    )
    return rows, columns


def phases(
    results: int, kernel: int, stride: int, dilation: int, padding: int, between: int
) -> list[Phase]:
    """Along one axis: `padding` lies before, pixels are at multiples of `between`.

    Tap k of result i sees position i * stride + k * dilation - padding.
    """
    period = between // math.gcd(between, stride)
    found = []
    for first in range(min(period, results)):
        position = first * stride - padding
        taps = [k for k in range(kernel) if (position + k * dilation) % between == 0]
        found.append(
            Phase(
                first=first,
                count=-(-(results - first) // period),
                period=period,
                taps=tuple(taps),
                start=(position + taps[0] * dilation) // between if taps else 0,
                advance=period * stride // between,
                apart=dilation // math.gcd(between, dilation),
            )
        )
    return found
