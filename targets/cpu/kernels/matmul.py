"""The product of two activations, as data."""

from __future__ import annotations

from dataclasses import dataclass

from qcomp.quant.fixed_point import Requantize
from qcomp.targets.cpu.kernels.axis import Axis


@dataclass(frozen=True)
class MatMulSpec:
    """y[m, n] = requantize(sum over k of (a[m, k] - za) * (b[k, n] - zb)), at outer positions."""

    outer: tuple[tuple[int, int, int, int], ...]  # count; strides of a, b, y
    rows: Axis  # of a and y
    depth: int
    depth_stride: int  # between rows of b
    columns: int
    a_zero_point: int
    b_zero_point: int
    multiplier: int
    shift: int
    requantize: Requantize
